/* SPDX-License-Identifier: Apache-2.0 */
#include "http_driver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/fd.h"

#define DEADLINE_NS (10 * SEC_NS)

struct http_driver *drv;
unsigned driver_head_ms, driver_body_ms;
bool driver_unix;

/* ---- handlers ---- */

static void count_gone(struct http_req *r)
{
	unsigned i = 0;
	drv->gone++;
	if (drv->last == r)
		drv->last = NULL;
	while (i < drv->nlive && drv->live[i] != r)
		i++;
	assert_true(i < drv->nlive); /* begun, and not gone before */
	drv->live[i] = drv->live[--drv->nlive];
}

static void begin(struct http_req *r)
{
	assert_true(drv->nlive < DRIVER_LIVE_MAX);
	drv->begun++;
	drv->last = r;
	drv->live[drv->nlive++] = r;
}

static void hello_begin(struct http_req *r)
{
	begin(r);
	http_answer_header(r, "X-Test", "yes");
	http_answer_header(r, "X-Bad", "a\r\nX-Worse: b");
	http_answer_header(r, "X-Bad: a\nX-Worse", "b");
	http_answer_header(r, "Transfer-Encoding", "chunked");
	http_answer_header(r, "Content-Length", "7");
	http_answer_header(r, "Connection", "Keep-Alive, X-Test");
	http_reply(r, 200, "text/plain", "hello", 5);
}

static void early_begin(struct http_req *r)
{
	begin(r);
	http_reply(r, 401, "text/plain", "no", 2);
}

static void count_ready(struct http_req *r)
{
	(void)r;
	drv->ready++;
}

static void echo_ready(struct http_req *r)
{
	size_t n;
	const char *p = http_body(r, &n);
	drv->ready++;
	assert_int_equal(p[n], 0);
	http_reply(r, 200, "application/octet-stream", p, n);
}

static void json_ready(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *v;
	if (http_body_json(r, &v, &err) < 0)
		api_fail(r, &err);
	else
		http_reply_json(r, 200, v);
}

static void show_begin(struct http_req *r)
{
	const char *q = http_query(r, "q"), *h = http_header(r, "x-show");
	begin(r);
	http_reply_json(r, 200,
			json_pack("{s:s,s:s,s:s,s:s,s:s?,s:s?,s:s}", "method", http_method(r),
				  "path", http_path(r), "target", http_target(r), "raw",
				  http_query_raw(r), "q", q, "header", h, "peer", http_peer(r)));
}

static void piece(struct http_req *r, const void *p, size_t n)
{
	drv->pieces++;
	assert_int_equal(buf_add(&drv->got, p, n), 0);
	if (drv->hold_after && buf_len(&drv->got) >= drv->hold_after)
		http_body_hold(r, true);
}

static void done_ready(struct http_req *r)
{
	drv->ready++;
	http_reply_empty(r, 204);
}

static void stream_ready(struct http_req *r)
{
	drv->ready++;
	http_stream_begin(r, 200, "text/plain", -1);
}

static void sized_ready(struct http_req *r)
{
	drv->ready++;
	http_stream_begin(r, 200, "text/plain", atoi(http_query(r, "n")));
}

static void abort_ready(struct http_req *r)
{
	drv->ready++;
	http_abort(r);
}

static void count_drained(struct http_req *r)
{
	(void)r;
	drv->drained++;
}

void driver_upgraded(void *ctx, int fd, const void *early, size_t n, struct http_upgrade *u)
{
	assert_ptr_equal(ctx, drv);
	assert_true(n <= sizeof(drv->early));
	drv->up_fd = fd;
	drv->up = u;
	drv->ups++;
	if (n)
		memcpy(drv->early, early, n);
	drv->nearly = n;
	drv->gone_before_up = drv->gone;
}

static void up_ready(struct http_req *r)
{
	drv->ready++;
	http_answer_header(r, "Upgrade", "test");
	http_reply_upgrade(r, driver_upgraded, drv);
}

static void missing_begin(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	begin(r);
	brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "nothing is at '%.64s'", http_path(r));
	api_fail(r, &err);
}

static void e2b_begin(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	begin(r);
	if (http_query(r, "text")) {
		api_fail_e2b_text(r, 401, "no key '%s'", "x\xff");
		return;
	}
	brig_err_set(&err, BRIG_E_BUSY, EAGAIN, "wait");
	brig_err_remedy(&err, "do wait");
	api_fail_e2b(r, 0, &err);
}

static const struct route {
	const char *path;
	struct http_handler handler;
} routes[] = {
	{ "/hello", { .begin = hello_begin, .gone = count_gone } },
	{ "/early", { .begin = early_begin, .ready = count_ready, .gone = count_gone } },
	{ "/echo", { .begin = begin, .ready = echo_ready, .gone = count_gone } },
	{ "/small", { .begin = begin, .body_max = 10, .ready = echo_ready, .gone = count_gone } },
	{ "/json", { .begin = begin, .ready = json_ready, .gone = count_gone } },
	{ "/show it", { .begin = show_begin, .gone = count_gone } },
	{ "/e2b", { .begin = e2b_begin, .gone = count_gone } },
	{ "/later", { .begin = begin, .ready = count_ready, .gone = count_gone } },
	{ "/body", { .begin = begin, .body = piece, .ready = done_ready, .gone = count_gone } },
	{ "/stream",
	  { .begin = begin, .ready = stream_ready, .drained = count_drained, .gone = count_gone } },
	{ "/sized", { .begin = begin, .ready = sized_ready, .gone = count_gone } },
	{ "/abort", { .begin = begin, .ready = abort_ready, .gone = count_gone } },
	{ "/up", { .begin = begin, .ready = up_ready, .gone = count_gone } },
};

static const struct http_handler *route(void *ctx, struct http_req *r, void **ret_ctx)
{
	static const struct http_handler missing = { .begin = missing_begin, .gone = count_gone };
	assert_ptr_equal(ctx, drv);
	*ret_ctx = drv;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (strcmp(routes[i].path, http_path(r)) == 0)
			return &routes[i].handler;
	return &missing;
}

/* ---- the server ---- */

void driver_start(const char *cert_pem, const char *key_pem)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const sa_family_t un = AF_UNIX; /* without a path: the kernel finds a name */
	struct brig_err err = BRIG_ERR_INIT;
	drv = calloc(1, sizeof(*drv));
	assert_non_null(drv);
	drv->got = (struct buf)BUF_INIT(REPLY_MAX);
	drv->up_fd = -1;
	assert_int_equal(ev_init(&drv->ev), 0);
	int fd = socket(driver_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (driver_unix)
		assert_int_equal(bind(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	else
		assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 128), 0);
	drv->at_len = sizeof(drv->at);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&drv->at, &drv->at_len), 0);
	struct http_options o = {
		.listen_fd = fd,
		.cert_pem = cert_pem,
		.key_pem = key_pem,
		.route = route,
		.ctx = drv,
		.head_ms = driver_head_ms,
		.body_ms = driver_body_ms,
	};
	int r = http_open(&drv->ev, &o, &drv->h, &err);
	if (r < 0)
		print_message("%s\n", err.msg);
	assert_int_equal(r, 0);
}

void driver_stop(void)
{
	http_close(drv->h);
	assert_int_equal(drv->begun, drv->gone);
	ev_round(&drv->ev, 0);
	ev_done(&drv->ev);
	buf_done(&drv->got);
	free(drv);
	drv = NULL;
}

int driver_setup(void **state)
{
	(void)state;
	driver_start(NULL, NULL);
	return 0;
}

int driver_teardown(void **state)
{
	(void)state;
	driver_stop();
	return 0;
}

void driver_round(void)
{
	assert_true(ev_round(&drv->ev, 0) >= 0);
}

uint64_t driver_deadline(void)
{
	return clock_now() + DEADLINE_NS;
}

void driver_wait(uint64_t deadline, const char *what, const char *file, int line)
{
	/* Clients are not in the loop: look at them every millisecond. */
	assert_true(ev_round(&drv->ev, 1) >= 0);
	if (clock_now() > deadline) {
		print_message("never came true: %s\n", what);
		_fail(file, line);
	}
}

/* ---- clients ---- */

int client_open(void)
{
	int fd = socket(drv->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&drv->at, drv->at_len), 0);
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

void client_send(int fd, const void *p, size_t n)
{
	uint64_t deadline = driver_deadline();
	const char *at = p;
	while (n) {
		ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
		if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* what the server said about it is the test's matter */
		assert_true(k >= 0 || errno == EAGAIN);
		if (k < 0) {
			driver_wait(deadline, "room to send", __FILE__, __LINE__);
			continue;
		}
		at += k;
		n -= (size_t)k;
	}
}

void client_text(int fd, const char *text)
{
	client_send(fd, text, strlen(text));
}

ssize_t client_pull(int fd, struct buf *b)
{
	ssize_t n = buf_read_fd(b, fd, 65536);
	return n;
}

/* Reads until b holds n bytes. */
static void need(int fd, struct buf *b, size_t n)
{
	uint64_t deadline = driver_deadline();
	while (buf_len(b) < n) {
		ssize_t k = client_pull(fd, b);
		if (k == -EAGAIN)
			driver_wait(deadline, "more of the answer", __FILE__, __LINE__);
		else
			assert_true(k > 0);
	}
}

/* Reads up to and with the first occurrence of mark, and returns the length. */
static size_t need_mark(int fd, struct buf *b, const char *mark)
{
	for (;;) {
		void *at = buf_len(b) ? memmem(buf_head(b), buf_len(b), mark, strlen(mark)) : NULL;
		if (at)
			return (size_t)((uint8_t *)at - buf_head(b)) + strlen(mark);
		need(fd, b, buf_len(b) + 1);
	}
}

/* What was read beyond an answer, of the one connection that pipelines. */
static struct buf beyond = BUF_INIT(REPLY_MAX);
static int beyond_fd = -1;

static void head_value(const char *head, const char *name, char *ret, size_t n)
{
	const char *at = strcasestr(head, name);
	ret[0] = '\0';
	if (at)
		snprintf(ret, n, "%.*s", (int)strcspn(at + strlen(name), "\r"), at + strlen(name));
}

unsigned client_answer(int fd, struct buf *head, struct buf *body)
{
	char text[4096], value[64];
	unsigned status = 0;
	if (beyond_fd != fd) {
		buf_done(&beyond);
		beyond_fd = fd;
	}
	struct buf *b = &beyond;
	size_t n = need_mark(fd, b, "\r\n\r\n");
	assert_true(n < sizeof(text));
	memcpy(text, buf_head(b), n);
	text[n] = '\0';
	buf_consume(b, n);
	assert_int_equal(sscanf(text, "HTTP/1.1 %u ", &status), 1);
	if (head) {
		buf_consume(head, buf_len(head));
		assert_int_equal(buf_add_str(head, text), 0);
	}
	if (body)
		buf_consume(body, buf_len(body));
	head_value(text, "\r\nTransfer-Encoding: ", value, sizeof(value));
	if (strcmp(value, "chunked") == 0) {
		for (;;) {
			n = need_mark(fd, b, "\r\n");
			size_t k = strtoul((const char *)buf_head(b), NULL, 16);
			buf_consume(b, n);
			need(fd, b, k + 2);
			if (body)
				assert_int_equal(buf_add(body, buf_head(b), k), 0);
			assert_memory_equal(buf_head(b) + k, "\r\n", 2);
			buf_consume(b, k + 2);
			if (k == 0)
				return status;
		}
	}
	head_value(text, "\r\nContent-Length: ", value, sizeof(value));
	n = strtoul(value, NULL, 10);
	need(fd, b, n);
	if (body)
		assert_int_equal(buf_add(body, buf_head(b), n), 0);
	buf_consume(b, n);
	return status;
}

void client_close(int fd)
{
	close(fd);
	if (beyond_fd == fd) {
		buf_done(&beyond);
		beyond_fd = -1;
	}
}

int client_end(int fd)
{
	struct buf b = BUF_INIT(REPLY_MAX);
	uint64_t deadline = driver_deadline();
	ssize_t n;
	do {
		n = client_pull(fd, &b);
		if (n == -EAGAIN)
			driver_wait(deadline, "the end of the connection", __FILE__, __LINE__);
	} while (n > 0 || n == -EAGAIN);
	buf_done(&b);
	client_close(fd);
	return n < 0 ? (int)-n : 0;
}
