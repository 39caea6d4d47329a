/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };
_Static_assert(sizeof(level_names) / sizeof(level_names[0]) == LOG__N_LEVELS, "one name per level");

int log_level_parse(const char *name, enum log_level *ret)
{
	for (unsigned i = 0; i < LOG__N_LEVELS; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

int log_format_parse(const char *name, enum log_format *ret)
{
	if (strcmp(name, "text") != 0 && strcmp(name, "json") != 0)
		return -1;
	*ret = name[0] == 't' ? LOG_TEXT : LOG_JSON;
	return 0;
}

void stamp_utc(uint64_t realtime_ns, char ret[STAMP_MAX])
{
	uint64_t sec = realtime_ns / SEC_NS;
	unsigned ms = (unsigned)(realtime_ns % SEC_NS / MS_NS);
	unsigned day = (unsigned)(sec / 86400), left = (unsigned)(sec % 86400);
	/* Civil date from a day count, in years that begin in March so that the leap day is last.
	 */
	unsigned z = day + 719468, era = z / 146097, doe = z % 146097;
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	unsigned d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
	unsigned y = yoe + era * 400 + (m <= 2);
	snprintf(ret, STAMP_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", y % 10000, m, d,
		 left / 3600, left / 60 % 60, left % 60, ms);
}

size_t log_quote(enum log_format format, char *out, size_t at, size_t cap, const char *text)
{
	for (; *text && at + 7 < cap; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\') {
			out[at++] = '\\';
			out[at++] = (char)c;
		} else if (c < 0x20 || c >= 0x7f) {
			at += (size_t)snprintf(out + at, cap - at,
					       format == LOG_JSON ? "\\u%04x" : "\\x%02x", c);
		} else {
			out[at++] = (char)c;
		}
	}
	return at;
}

void log_line(const struct log *log, enum log_level level, const char *sb, const char *fmt, ...)
{
	if (level > log->level)
		return;
	char msg[1024], line[2048], stamp[STAMP_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	stamp_utc(clock_ns(CLOCK_REALTIME), stamp);
	size_t at;
	if (log->format == LOG_JSON)
		at = (size_t)snprintf(line, sizeof(line),
				      "{\"time\":\"%s\",\"level\":\"%s\"%s%.32s%s,\"msg\":\"",
				      stamp, level_names[level], sb ? ",\"sandbox\":\"" : "",
				      sb ? sb : "", sb ? "\"" : "");
	else
		at = (size_t)snprintf(line, sizeof(line), "%s level=%s%s%.32s msg=\"", stamp,
				      level_names[level], sb ? " sandbox=" : "", sb ? sb : "");
	at = log_quote(log->format, line, at, sizeof(line) - 3, msg);
	line[at++] = '"';
	if (log->format == LOG_JSON)
		line[at++] = '}';
	line[at++] = '\n';
	/* A log that cannot be written must not stop the daemon. */
	ssize_t ignored = write(log->fd, line, at);
	(void)ignored;
}
