/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h: one line per event on standard error: time, level, key=value, the sandbox first.
 *
 *   2026-01-31T12:00:00.123Z level=warn sandbox=a1b2c3d4e5f6g7h8 msg="agent broke the protocol: .."
 *
 * or the same as one JSON object per line, for programs that collect logs:
 *
 *   {"time":"2026-01-31T12:00:00.123Z","level":"warn","sandbox":"a1b2c3d4e5f6g7h8","msg":".."}
 *
 * Only the edge that handles an error logs it. Text that came from outside is escaped, so that a
 * sandbox can forge neither a line nor a field nor a terminal sequence.
 */
#ifndef BRIG_DAEMON_LOG_H
#define BRIG_DAEMON_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG__N_LEVELS };

enum log_format { LOG_TEXT, LOG_JSON };

struct log {
	int fd;
	enum log_level level;
	enum log_format format;
};

/* sb is a sandbox id or NULL. */
void log_line(const struct log *log, enum log_level level, const char *sb, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* -1 if the name is none of error, warn, info, debug. */
int log_level_parse(const char *name, enum log_level *ret);
const char *log_level_name(enum log_level level);
/* -1 if the name is neither text nor json. */
int log_format_parse(const char *name, enum log_format *ret);
/* Appends text at out[at], escaped for a quoted value of that format (every byte beyond printable
 * ASCII), cut where cap would be passed, without a terminator; returns the new length. */
size_t log_quote(enum log_format format, char *out, size_t at, size_t cap, const char *text);

/* UTC with milliseconds from nanoseconds of CLOCK_REALTIME: no time zone file is looked at. */
#define STAMP_MAX 32
void stamp_utc(uint64_t realtime_ns, char ret[STAMP_MAX]);

#endif
