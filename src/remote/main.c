/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-remote is what `brig` starts for each connection to a server elsewhere (src/cli/remote.c). It
 * has the rights of the caller and none of its own, a socket pair to brig, and the network. It
 * connects, asks for the upgrade with the API key, and from then on moves bytes both ways without
 * looking at them: what they mean is checked at both ends.
 *
 * For what is a request and an answer (--call), the head with the key is made here, the body comes from
 * brig, and the answer is handed over as it is.
 *
 * Memory is two buffers of a fixed size. Who does not read is not read for: a full buffer is not
 * filled, and the kernel's do the rest.
 *
 * The end: brig closes when it has what it wanted, or dies; then the connection is closed, and the
 * server ends what ran for it. If the connection breaks or the server closes it first, a word on why
 * is written to the file in memory that brig looks into if it still waits for something, what has
 * come is handed over, and only then the socket pair is closed.
 *
 * The key comes by the environment or a file, never by an argument, which every user could read.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "remote/greet.h"
#include "remote/wire.h"

#define PUMP_BYTES (256u * 1024u)
#define KEY_MAX 512u
#define ANSWER_S 30u
/* For what brig had sent when it closed. */
#define FLUSH_MS 2000u

struct remote {
	struct url url;
	struct wire *wire;
	int local, words;
	struct buf up, down; /* to the server; to brig */
	const char *method, *path; /* of --call; NULL: to be upgraded */
	long body;
	bool local_eof, wire_eof;
};

/* ---- the last words ---- */

static void tell(const struct remote *r, const struct brig_err *err)
{
	json_t *text = json_string(err->msg);
	json_t *o = json_pack("{s:s,s:o,s:n,s:s*,s:{},s:b}", "code", brig_code_name(err->code),
			      "message", text ? text : json_string("the server's message is no text"),
			      "cause", "remediation", err->remedy[0] ? err->remedy : NULL, "details",
			      "retryable", brig_code_retryable(err->code));
	char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (line && pwrite(r->words, line, strlen(line), 0) < 0)
		perror("brig-remote");
	free(line);
	json_decref(o);
}

static int lost(struct brig_err *err, int sys)
{
	brig_err_set(err, BRIG_E_UNAVAILABLE, sys,
		     "the connection to the server was lost before its answer was complete");
	return brig_fix(err, "see whether the server still runs, and `brig ls` for what is left");
}

/* ---- the key ---- */

static int key_read(char key[KEY_MAX], struct brig_err *err)
{
	const char *env = getenv("BRIG_API_KEY"), *path = getenv("BRIG_API_KEY_FILE");
	if (env && env[0]) {
		if (strlen(env) >= KEY_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0, "BRIG_API_KEY is too long");
		strcpy(key, env);
	} else if (path && path[0]) {
		ssize_t n = fd_slurp_at(AT_FDCWD, path, key, KEY_MAX);
		if (n < 0) {
			brig_err_set(err, BRIG_E_DENIED, (int)-n, "read BRIG_API_KEY_FILE '%.200s'",
				     path);
			return brig_fix(err, "check that the file is there, yours, and holds a key");
		}
	} else {
		brig_err_set(err, BRIG_E_DENIED, 0, "no API key is given for the server");
		return brig_fix(err, "set BRIG_API_KEY, or BRIG_API_KEY_FILE, to a key that `brig "
				     "key create` made on the server's machine");
	}
	return greet_key(key, err);
}

/* ---- the connection ---- */

static int open_wire(struct remote *r, struct brig_err *err)
{
	const char *text = getenv("BRIG_URL"), *ca = getenv("BRIG_CA_FILE");
	if (url_parse(text ? text : "", &r->url, err) < 0)
		return -1;
	if (!r->url.tls && !r->url.loopback) {
		brig_err_set(err, BRIG_E_DENIED, 0,
			     "http:// would send the API key in the clear to '%.200s'", r->url.host);
		return brig_fix(err, "use https://, or a tunnel that begins on this machine");
	}
	if (ca && ca[0] && access(ca, R_OK) < 0) {
		brig_err_set(err, BRIG_E_INVALID, errno, "read BRIG_CA_FILE '%.200s'", ca);
		return brig_fix(err, "set BRIG_CA_FILE (--cacert) to a file of PEM certificates");
	}
	return wire_open(&r->url, ca && ca[0] ? ca : NULL, r->local, &r->wire, err);
}

static int wire_put(struct remote *r)
{
	while (buf_len(&r->up)) {
		ssize_t n = wire_write(r->wire, buf_head(&r->up), buf_len(&r->up));
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		buf_consume(&r->up, (size_t)n);
	}
	return 0;
}

/* 1: something came; 0: nothing now, or the buffer is full; -errno. The end is wire_eof. */
static int wire_get(struct remote *r)
{
	int got = 0;
	while (!r->wire_eof && buf_len(&r->down) < PUMP_BYTES) {
		uint8_t *at;
		size_t room = PUMP_BYTES - buf_len(&r->down);
		if (buf_reserve(&r->down, room, &at) < 0)
			return -ENOMEM;
		ssize_t n = wire_read(r->wire, at, room);
		if (n == -EAGAIN)
			return got;
		if (n <= 0) {
			r->wire_eof = true;
			return n < 0 ? (int)n : got;
		}
		buf_commit(&r->down, (size_t)n);
		got = 1;
	}
	return got;
}

/* The head of one request; pump() does the rest. */
static int call(struct remote *r, struct brig_err *err)
{
	char key[KEY_MAX];
	if (key_read(key, err) < 0)
		return -1;
	int e = greet_call(&r->up, &r->url, key, r->method, r->path, (size_t)r->body);
	explicit_bzero(key, sizeof(key));
	return e < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -e, "ask the server") : 0;
}

static int greet(struct remote *r, struct brig_err *err)
{
	char key[KEY_MAX];
	struct greet g;
	uint64_t deadline = clock_now() + ANSWER_S * SEC_NS;
	int done = 0;
	if (key_read(key, err) < 0)
		return -1;
	if (greet_request(&r->up, &r->url, key) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "ask the server");
	explicit_bzero(key, sizeof(key));
	greet_init(&g);
	while (done == 0) {
		struct pollfd p[2] = { { .fd = wire_fd(r->wire), .events = POLLIN },
				       { .fd = r->local, .events = 0 } };
		/* An answer can be there also where the request could not be sent whole. */
		(void)wire_put(r);
		(void)wire_get(r);
		done = greet_answer(&g, &r->down, r->wire_eof, err);
		if (done)
			break;
		if (buf_len(&r->up))
			p[0].events |= POLLOUT;
		uint64_t now = clock_now();
		if (now >= deadline) {
			brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "no answer came within %u s",
				     ANSWER_S);
			done = brig_fix(err, "check BRIG_URL, and that `brig serve` runs there");
		} else if (poll(p, 2, (int)((deadline - now) / MS_NS) + 1) < 0 && errno != EINTR) {
			done = brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the server");
		} else if (p[1].revents) {
			exit(0); /* nobody waits any more */
		}
	}
	greet_done(&g);
	return done < 0 ? -1 : 0;
}

/* ---- both ways ---- */

static void local_put(struct remote *r)
{
	while (buf_len(&r->down)) {
		ssize_t n = send(r->local, buf_head(&r->down), buf_len(&r->down),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			r->local_eof = true;
			buf_consume(&r->down, buf_len(&r->down));
			return;
		}
		buf_consume(&r->down, (size_t)n);
	}
}

static int local_get(struct remote *r)
{
	while (!r->local_eof && buf_len(&r->up) < PUMP_BYTES) {
		uint8_t *at;
		size_t room = PUMP_BYTES - buf_len(&r->up);
		if (buf_reserve(&r->up, room, &at) < 0)
			return -ENOMEM;
		/* Descriptors (volumes) that should not be here are dropped by the kernel. */
		ssize_t n = recv(r->local, at, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			r->local_eof = true;
		else
			buf_commit(&r->up, (size_t)n);
	}
	return 0;
}

static int pump_wait(struct remote *r, uint64_t deadline)
{
	struct pollfd p[2] = { { .fd = r->local }, { .fd = wire_fd(r->wire) } };
	int ms = -1;
	if (!r->local_eof && buf_len(&r->up) < PUMP_BYTES)
		p[0].events |= POLLIN;
	if (buf_len(&r->down))
		p[0].events |= POLLOUT;
	if (!r->wire_eof && buf_len(&r->down) < PUMP_BYTES)
		p[1].events |= POLLIN;
	if (buf_len(&r->up))
		p[1].events |= POLLOUT;
	/* Closed by brig, it would be reported without end. */
	if (r->local_eof)
		p[0].fd = -1;
	if (r->wire_eof)
		p[1].fd = -1;
	if (deadline) {
		uint64_t now = clock_now();
		ms = now < deadline ? (int)((deadline - now) / MS_NS) + 1 : 0;
	}
	if (poll(p, 2, ms) < 0 && errno != EINTR)
		return -errno;
	/* brig has closed both directions: it died, or has all it wanted. While its bytes are not
	 * read because the server takes none, nothing else would tell. */
	if (p[0].fd >= 0 && (p[0].revents & (POLLHUP | POLLERR)) && buf_len(&r->up) == PUMP_BYTES)
		r->local_eof = true;
	return 0;
}

/* 0: brig has closed; -1: the server has, or the connection broke: err, and what came is handed
 * over. */
static int pump(struct remote *r, struct brig_err *err)
{
	uint64_t deadline = 0;
	int sys = 0;
	for (;;) {
		int got = wire_get(r);
		sys = got < 0 && got != -EAGAIN ? -got : sys;
		local_put(r);
		if (r->wire_eof && buf_len(&r->down) == 0)
			return lost(err, sys);
		if (local_get(r) < 0)
			return lost(err, ENOMEM);
		int put = r->wire_eof ? 0 : wire_put(r);
		/* What it said before may still lie here: the reader finds the end. */
		if (put < 0 || r->wire_eof)
			buf_consume(&r->up, buf_len(&r->up));
		if (r->local_eof) {
			uint64_t now = clock_now();
			deadline = deadline ? deadline : now + FLUSH_MS * MS_NS;
			if (buf_len(&r->up) == 0 || now >= deadline)
				return 0;
		}
		int w = pump_wait(r, deadline);
		if (w < 0)
			return lost(err, -w);
	}
}

static int number(const char *text)
{
	size_t n = strspn(text, "0123456789");
	return n >= 1 && n <= 8 && !text[n] ? atoi(text) : -1;
}

static int options(struct remote *r, int argc, char **argv)
{
	r->body = -1;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--fd") == 0)
			r->local = number(argv[i + 1]);
		else if (strcmp(argv[i], "--words-fd") == 0)
			r->words = number(argv[i + 1]);
		else if (strcmp(argv[i], "--call") == 0)
			r->method = argv[i + 1];
		else if (strcmp(argv[i], "--path") == 0)
			r->path = argv[i + 1];
		else if (strcmp(argv[i], "--body") == 0)
			r->body = number(argv[i + 1]);
		else
			return -1;
	}
	if (argc != (r->method ? 11 : 5) || r->local < 3 || r->words < 3 ||
	    fcntl(r->local, F_GETFD) < 0 || fcntl(r->words, F_GETFD) < 0)
		return -1;
	return r->method && (!r->path || r->path[0] != '/' || r->body < 0) ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct remote r = { .local = -1,
			    .words = -1,
			    /* buf_reserve() asks for the room that is left, no more. */
			    .up = BUF_INIT(PUMP_BYTES),
			    .down = BUF_INIT(PUMP_BYTES) };
	struct brig_err err = BRIG_ERR_INIT;
	const struct rlimit none = { 0, 0 };
	if (options(&r, argc, argv) < 0) {
		fputs("brig-remote is started by brig\n", stderr);
		return 2;
	}
	/* The key is in this memory. */
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	int code = open_wire(&r, &err);
	if (code == 0)
		code = r.method ? call(&r, &err) : greet(&r, &err);
	if (code < 0)
		(void)brig_ctx(&err, "reach '%.200s'", r.url.base[0] ? r.url.base : "BRIG_URL");
	else
		code = pump(&r, &err);
	if (code < 0)
		tell(&r, &err);
	buf_done(&r.up);
	buf_done(&r.down);
	wire_close(r.wire);
	return code < 0;
}
