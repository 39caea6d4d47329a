/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The log is a pipe or a terminal that somebody else reads, and this process has one thread: a
 * reader that stands still must not stop the service. So a line is written only when poll() says
 * that there is room (of a pipe: for PIPE_BUF bytes, which no line exceeds); otherwise it is
 * counted, and the next line that finds room is preceded by one that tells how many are missing.
 */
#include "api/reqlog.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define TARGET_MAX 1600u /* escaped */
#define WORD_MAX 96u

static enum log_level level_of(unsigned status)
{
	return status == 500 ? LOG_ERROR : status > 500 ? LOG_WARN : LOG_INFO;
}

/* `name` and a quoted value. */
static size_t add_text(enum log_format format, char *out, size_t at, const char *name,
		       const char *value, size_t max)
{
	at += (size_t)snprintf(out + at, REQLOG_LINE_MAX - at,
			       format == LOG_JSON ? ",\"%s\":\"" : " %s=\"", name);
	at = log_quote(format, out, at, at + max, value);
	out[at++] = '"';
	out[at] = '\0';
	return at;
}

size_t reqlog_format(enum log_format format, uint64_t now_ns, const struct reqlog_line *l,
		     char out[REQLOG_LINE_MAX])
{
	char stamp[STAMP_MAX], path[TARGET_MAX];
	const char *level = log_level_name(level_of(l->status));
	bool json = format == LOG_JSON;
	stamp_utc(now_ns, stamp);
	/* A full URL may carry a name and a password before its host; such a target is refused. */
	snprintf(path, sizeof(path), "%.*s",
		 l->target[0] == '/' ? (int)strcspn(l->target, "?#") : 0, l->target);
	size_t at = (size_t)snprintf(out, REQLOG_LINE_MAX,
				     json ? "{\"time\":\"%s\",\"level\":\"%s\"" : "%s level=%s",
				     stamp, level);
	at = add_text(format, out, at, "request_id", l->id, WORD_MAX);
	at = add_text(format, out, at, "method", l->method, WORD_MAX);
	at = add_text(format, out, at, "path", path, TARGET_MAX);
	at += (size_t)snprintf(
		out + at, REQLOG_LINE_MAX - at,
		json ? ",\"status\":%u,\"ms\":%llu.%03u,\"bytes_in\":%llu,\"bytes_out\":"
		       "%llu"
		     : " status=%u ms=%llu.%03u bytes_in=%llu bytes_out=%llu",
		l->status, (unsigned long long)(l->took_ns / MS_NS),
		(unsigned)(l->took_ns % MS_NS / 1000), (unsigned long long)l->bytes_in,
		(unsigned long long)l->bytes_out);
	at = add_text(format, out, at, "key", l->key, WORD_MAX);
	at = add_text(format, out, at, "sandbox", l->box, WORD_MAX);
	at = add_text(format, out, at, "client", l->client, WORD_MAX);
	at += (size_t)snprintf(out + at, REQLOG_LINE_MAX - at,
			       json ? ",\"complete\":%s}\n" : " complete=%s\n",
			       l->whole ? "true" : "false");
	return at;
}

static bool has_room(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	return poll(&p, 1, 0) != 0; /* an error is the write's to meet */
}

void reqlog_request(void *ctx, const struct http_req *r, const struct http_facts *f)
{
	struct api *a = ctx;
	unsigned status = http_status(r);
	char line[REQLOG_LINE_MAX];
	if ((!a->log_requests && status != 500) || level_of(status) > a->log.level)
		return;
	if (!has_room(a->log.fd)) {
		a->log_dropped++;
		return;
	}
	if (a->log_dropped) {
		unsigned long long n = a->log_dropped;
		a->log_dropped = 0;
		log_line(&a->log, LOG_WARN, NULL,
			 "%llu lines about requests are missing: the log was not read fast enough",
			 n);
		if (!has_room(a->log.fd)) {
			a->log_dropped = 1;
			return;
		}
	}
	const struct reqlog_line l = { .id = http_id(r),
				       .method = f->method,
				       .target = f->line,
				       .key = f->key,
				       .box = f->box,
				       .client = http_peer(r),
				       .status = status,
				       .took_ns = clock_now() - f->began_ns,
				       .bytes_in = f->bytes_in,
				       .bytes_out = f->bytes_out,
				       .whole = f->whole };
	size_t n = reqlog_format(a->log.format, clock_ns(CLOCK_REALTIME), &l, line);
	ssize_t ignored = write(a->log.fd, line, n);
	(void)ignored;
}
