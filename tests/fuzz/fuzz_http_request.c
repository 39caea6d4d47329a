/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client could send to a listening socket of brig-api: the first byte says where the bytes
 * are cut in two (256ths of their length), the rest is sent over a real connection, which is then
 * closed. Handlers answer at once, from the collected body, as a stream, or not at all.
 *
 * Oracle: each request that began is gone when its client is; no handler sees a path without its
 * slash, a body beyond its maximum, or bytes after its answer; the loop comes to rest.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX 64u
#define ROUNDS_MAX 2000u
#define REST_NS (5 * SEC_NS)

static struct ev ev;
static struct http *server;
static struct sockaddr_in at = { .sin_family = AF_INET };
static unsigned begun, gone;

static void must(int ok)
{
	if (!ok)
		abort();
}

static int header_seen(void *ctx, const char *name, const char *value)
{
	(void)ctx;
	must(name[0] && !strpbrk(name, " \t\r\n:") && !strpbrk(value, "\r\n"));
	return 0;
}

static void begin(struct http_req *r)
{
	begun++;
	must(http_path(r)[0] == '/' && http_target(r)[0] == '/');
	must(strlen(http_path(r)) <= strlen(http_target(r)));
	must(strlen(http_id(r)) == 16 && http_method(r)[0]);
	http_headers(r, header_seen, NULL);
	(void)http_query(r, "q");
}

static void begin_answer(struct http_req *r)
{
	begin(r);
	http_answer_header(r, "X-Path", http_path(r));
	http_reply(r, 404, "text/plain", "no", 2);
	must(http_answered(r));
}

static void piece(struct http_req *r, const void *p, size_t n)
{
	must(!http_answered(r) && n > 0);
	if (memchr(p, '!', n))
		http_reply_empty(r, 400);
	else if (memchr(p, '?', n))
		http_abort(r);
}

static void ready_collected(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	size_t n;
	json_t *v;
	const char *text = http_body(r, &n);
	must(!http_answered(r) && n <= BODY_MAX && text[n] == '\0');
	if (http_body_json(r, &v, &err) < 0)
		api_fail(r, &err);
	else
		http_reply_json(r, 200, v);
}

static void ready_stream(struct http_req *r)
{
	must(!http_answered(r));
	http_stream_begin(r, 200, "text/plain", -1);
	http_stream_write(r, "text", 4);
	if (http_query(r, "end"))
		http_stream_end(r);
}

static void count_gone(struct http_req *r)
{
	(void)r;
	gone++;
}

static const struct http_handler *route(void *ctx, struct http_req *r, void **ret_ctx)
{
	static const struct http_handler answers = { .begin = begin_answer, .gone = count_gone };
	static const struct http_handler collects = {
		.begin = begin, .body_max = BODY_MAX, .ready = ready_collected, .gone = count_gone
	};
	static const struct http_handler streams = {
		.begin = begin, .body = piece, .ready = ready_stream, .gone = count_gone
	};
	static const struct http_handler waits = { .begin = begin, .gone = count_gone };
	(void)ctx;
	(void)ret_ctx;
	switch (http_path(r)[1]) {
	case 'j':
		return &collects;
	case 's':
		return &streams;
	case 'w':
		return &waits;
	default:
		return &answers;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	socklen_t len = sizeof(at);
	struct http_options o = { .listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
				  .route = route };
	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(ev_init(&ev) == 0);
	must(bind(o.listen_fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	must(listen(o.listen_fd, 16) == 0);
	must(getsockname(o.listen_fd, (struct sockaddr *)&at, &len) == 0);
	must(http_open(&ev, &o, &server, NULL) == 0);
	return 0;
}

/* Runs the loop until it has nothing to do. */
static void rest(void)
{
	for (unsigned i = 0, quiet = 0; i < ROUNDS_MAX && quiet < 3; i++)
		quiet = ev_round(&ev, 0) > 0 || ev.tasks ? 0 : quiet + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Without it the closed sockets of many inputs would use up all ports. */
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	if (size < 1)
		return 0;
	size_t n = size - 1, cut = n * data[0] / 256;
	begun = gone = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	(void)send(fd, data + 1, cut, MSG_DONTWAIT | MSG_NOSIGNAL);
	rest();
	(void)send(fd, data + 1 + cut, n - cut, MSG_DONTWAIT | MSG_NOSIGNAL);
	rest();
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(fd);
	uint64_t deadline = clock_now() + REST_NS;
	while (http_requests(server) && clock_now() < deadline)
		ev_round(&ev, 10);
	must(http_requests(server) == 0 && begun == gone);
	return 0;
}
