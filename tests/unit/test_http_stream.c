/* SPDX-License-Identifier: Apache-2.0 */
/* Streamed answers, broken ones, and connections that become something else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http_driver.h"

static struct buf head = BUF_INIT(REPLY_MAX), body = BUF_INIT(REPLY_MAX), raw = BUF_INIT(REPLY_MAX);

static int stream_open(const char *target)
{
	char text[256];
	unsigned ready = drv->ready;
	int fd = client_open();
	snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
	client_text(fd, text);
	until(drv->last && drv->ready == ready + 1);
	buf_consume(&raw, buf_len(&raw));
	return fd;
}

static bool raw_has(const char *text)
{
	return buf_len(&raw) && memmem(buf_head(&raw), buf_len(&raw), text, strlen(text));
}

static void raw_take(int fd, const char *mark)
{
	uint64_t deadline = driver_deadline();
	while (!raw_has(mark)) {
		ssize_t n = client_pull(fd, &raw);
		assert_true(n > 0 || n == -EAGAIN);
		if (n < 0)
			driver_wait(deadline, mark, __FILE__, __LINE__);
	}
}

static void write_text(const char *text)
{
	http_stream_write(drv->last, text, strlen(text));
}

/* ---- streams ---- */

static void each_write_is_a_chunk_and_leaves_in_its_round(void **state)
{
	(void)state;
	int fd = stream_open("/stream");
	raw_take(fd, "\r\n\r\n");
	buf_consume(&raw, buf_len(&raw));
	for (int i = 0; i < 50; i++) {
		char text[32], want[64];
		snprintf(text, sizeof(text), "event %d", i);
		int n = snprintf(want, sizeof(want), "%zx\r\n%s\r\n", strlen(text), text);
		write_text(text);
		driver_round();
		assert_int_equal(client_pull(fd, &raw), n);
		assert_memory_equal(buf_head(&raw), want, (size_t)n);
		buf_consume(&raw, (size_t)n);
	}
	http_stream_end(drv->last);
	write_text("behind the end");
	driver_round();
	assert_int_equal(client_pull(fd, &raw), 5);
	assert_memory_equal(buf_head(&raw), "0\r\n\r\n", 5);
	until(drv->gone == 1);
	/* The connection goes on. */
	client_text(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(client_answer(fd, NULL, NULL), 200);
	client_close(fd);
}

static void a_stream_that_does_not_wait_is_whole(void **state)
{
	(void)state;
	static char block[300000];
	int fd = stream_open("/stream");
	size_t total = 0;
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7);
	for (size_t n = 1; n < sizeof(block); n = n * 3 + 1) {
		http_stream_write(drv->last, block, n);
		total += n;
	}
	http_stream_end(drv->last);
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	assert_int_equal(buf_len(&body), total);
	size_t at = 0;
	for (size_t n = 1; n < sizeof(block); at += n, n = n * 3 + 1)
		assert_memory_equal(buf_head(&body) + at, block, n);
	client_close(fd);
	until(drv->gone == 1);
}

static void a_slow_client_pushes_back_and_drains(void **state)
{
	(void)state;
	static char block[65536];
	int fd = stream_open("/stream");
	while (http_stream_queued(drv->last) <= HTTP_QUEUE_HIGH) {
		http_stream_write(drv->last, block, sizeof(block));
		driver_round();
	}
	assert_int_equal(drv->drained, 0);
	raw_take(fd, "\r\n\r\n");
	uint64_t deadline = driver_deadline();
	while (drv->drained == 0) {
		buf_consume(&raw, buf_len(&raw));
		ssize_t n = client_pull(fd, &raw);
		assert_true(n > 0 || n == -EAGAIN);
		driver_wait(deadline, "drained", __FILE__, __LINE__);
	}
	assert_true(http_stream_queued(drv->last) < HTTP_QUEUE_LOW);
	assert_int_equal(drv->drained, 1);
	client_close(fd);
	until(drv->gone == 1);
}

static void a_client_that_never_reads_is_dropped(void **state)
{
	(void)state;
	static char block[1024 * 1024];
	int fd = stream_open("/stream");
	for (int i = 0; drv->last && i < 200; i++) {
		http_stream_write(drv->last, block, sizeof(block));
		if (!http_answered(drv->last))
			break;
		driver_round();
	}
	until(drv->gone == 1);
	close(fd);
}

static void a_stream_of_known_size_has_its_length(void **state)
{
	(void)state;
	int fd = stream_open("/sized?n=10");
	write_text("01234");
	driver_round();
	write_text("56789 and more");
	http_stream_end(drv->last);
	assert_int_equal(client_answer(fd, &head, &body), 200);
	assert_non_null(strstr((char *)buf_head(&head), "Content-Length: 10\r\n"));
	assert_int_equal(buf_len(&body), 10);
	assert_memory_equal(buf_head(&body), "0123456789", 10);
	until(drv->gone == 1);
	client_text(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(client_answer(fd, NULL, NULL), 200);
	client_close(fd);
	/* None at all: nothing is left to wait for. */
	fd = client_open();
	client_text(fd, "GET /sized?n=0 HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	assert_int_equal(buf_len(&body), 0);
	client_close(fd);
	/* One that ends too soon is no whole answer. */
	fd = stream_open("/sized?n=10");
	write_text("01234");
	http_stream_end(drv->last);
	raw_take(fd, "01234");
	client_end(fd);
	until(drv->gone == 3 + 1);
}

static void a_large_stream_of_known_size_is_whole(void **state)
{
	(void)state;
	static char block[100000];
	int fd = stream_open("/sized?n=5000000");
	memset(block, 'z', sizeof(block));
	for (int i = 0; i < 50; i++)
		http_stream_write(drv->last, block, sizeof(block));
	http_stream_end(drv->last);
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	assert_int_equal(buf_len(&body), 5000000);
	client_close(fd);
	until(drv->gone == 1);
}

static void a_head_of_a_stream_has_no_body(void **state)
{
	(void)state;
	static const char *const targets[] = { "/stream", "/sized?n=7" };
	int fd = client_open();
	for (int i = 0; i < 2; i++) {
		char text[128];
		unsigned gone = drv->gone;
		snprintf(text, sizeof(text), "HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
		buf_consume(&raw, buf_len(&raw));
		client_text(fd, text);
		until(drv->gone == gone + 1);
		raw_take(fd, "\r\n\r\n");
		assert_memory_equal(buf_head(&raw) + buf_len(&raw) - 4, "\r\n\r\n", 4);
		assert_true(i == 0 || raw_has("Content-Length: 7\r\n"));
		client_text(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
		assert_int_equal(client_answer(fd, NULL, NULL), 200);
	}
	client_close(fd);
}

static void an_old_client_gets_a_stream_to_its_end(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /stream HTTP/1.0\r\n\r\n");
	until(drv->last && drv->ready == 1);
	write_text("all of it");
	http_stream_end(drv->last);
	buf_consume(&raw, buf_len(&raw));
	raw_take(fd, "\r\n\r\nall of it");
	assert_false(raw_has("chunked"));
	assert_int_equal(client_end(fd), 0);
}

/* ---- clients that leave, answers that break ---- */

static void a_client_that_leaves_a_stream_is_noticed_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		unsigned gone = drv->gone;
		int fd = stream_open("/stream");
		if (i)
			write_text("some");
		raw_take(fd, i ? "some" : "\r\n\r\n");
		client_close(fd);
		driver_round();
		driver_round();
		driver_round();
		assert_int_equal(drv->gone, gone + 1);
	}
}

static void a_client_that_leaves_while_the_socket_is_full_is_noticed(void **state)
{
	(void)state;
	static char block[1024 * 1024];
	int fd = stream_open("/stream");
	for (int i = 0; i < 16; i++) {
		http_stream_write(drv->last, block, sizeof(block));
		driver_round();
	}
	assert_true(http_stream_queued(drv->last) > 0);
	client_close(fd);
	until(drv->gone == 1);
}

static void a_complete_answer_reaches_a_client_that_only_stopped_sending(void **state)
{
	(void)state;
	static char block[8 * 1024 * 1024];
	int fd = stream_open("/stream");
	http_stream_write(drv->last, block, sizeof(block));
	http_stream_end(drv->last);
	driver_round();
	shutdown(fd, SHUT_WR);
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	assert_int_equal(buf_len(&body), sizeof(block));
	client_close(fd);
	until(drv->gone == 1);
}

static void an_abort_breaks_a_stream(void **state)
{
	(void)state;
	static const char *const targets[] = { "/stream", "/sized?n=100" };
	for (int i = 0; i < 4; i++) {
		int fd = stream_open(targets[i % 2]);
		write_text("begun");
		raw_take(fd, "begun");
		if (i >= 2)
			write_text("queued");
		http_abort(drv->last);
		assert_true(http_answered(drv->last));
		write_text("dropped");
		http_stream_end(drv->last);
		until(drv->gone == (unsigned)i + 1);
		while (client_pull(fd, &raw) > 0)
			;
		assert_false(raw_has("\r\n0\r\n\r\n") || raw_has("dropped"));
		client_close(fd);
	}
}

static void an_abort_breaks_a_full_stream(void **state)
{
	(void)state;
	static char block[1024 * 1024];
	int fd = stream_open("/stream");
	for (int i = 0; i < 16; i++) {
		http_stream_write(drv->last, block, sizeof(block));
		driver_round();
	}
	http_abort(drv->last);
	until(drv->gone == 1);
	close(fd);
}

static void an_abort_without_an_answer_gives_none(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	http_abort(drv->last);
	http_reply_empty(drv->last, 204);
	until(drv->gone == 1);
	assert_true(client_pull(fd, &raw) <= 0);
	client_close(fd);
	fd = client_open();
	client_text(fd, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->gone == 2);
	assert_true(client_pull(fd, &raw) <= 0);
	client_close(fd);
}

/* ---- upgrades ---- */

static void an_upgraded_connection_belongs_to_its_new_owner(void **state)
{
	(void)state;
	char text[16];
	int fd = client_open();
	client_text(fd, "GET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "
			"test\r\n\r\nearly");
	until(drv->up != NULL);
	assert_int_equal(drv->gone_before_up, 1);
	assert_int_equal(drv->nearly, 5);
	assert_memory_equal(drv->early, "early", 5);
	buf_consume(&raw, buf_len(&raw));
	raw_take(fd, "\r\n\r\n");
	assert_true(raw_has("HTTP/1.1 101 "));
	assert_true(raw_has("Upgrade: test\r\n"));
	client_text(fd, "ping");
	until(recv(drv->up_fd, text, 4, MSG_PEEK) == 4);
	assert_int_equal(recv(drv->up_fd, text, sizeof(text), 0), 4);
	assert_memory_equal(text, "ping", 4);
	assert_int_equal(recv(drv->up_fd, text, sizeof(text), 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(send(drv->up_fd, "pong", 4, 0), 4);
	raw_take(fd, "pong");
	http_upgrade_close(drv->up);
	assert_int_equal(client_end(fd), 0);
	until(http_requests(drv->h) == 0);
	assert_int_equal(drv->gone, 1);
}

static void an_upgrade_that_fails_is_told(void **state)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		int fd = client_open();
		if (i == 2) {
			client_text(fd, "GET /up HTTP/1.0\r\n\r\n");
		} else {
			client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
			until(drv->last && drv->ready == i + 1);
			http_answer_header(drv->last, "Upgrade", "test");
			if (i == 0) {
				setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
				client_close(fd);
			} else {
				http_abort(drv->last);
			}
			http_reply_upgrade(drv->last, driver_upgraded, drv);
		}
		until(drv->gone == i + 1);
		if (i)
			client_close(fd);
		/* After an abort it was no answer any more. */
		assert_int_equal(drv->ups, i == 0 ? 1 : i);
		assert_int_equal(drv->up_fd, -1);
		assert_null(drv->up);
		assert_int_equal(drv->gone_before_up, i == 1 ? 1 : i + 1);
	}
	http_upgrade_close(NULL);
}

static void an_upgrade_outlives_the_server_without_harm(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /up HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->up != NULL);
	struct http_upgrade *up = drv->up;
	driver_stop();
	http_upgrade_close(up);
	close(fd);
	driver_start(NULL, NULL);
}

/* ---- everything at once ---- */

static uint32_t dice_state;

static uint32_t dice(uint32_t n)
{
	dice_state = dice_state * 1664525u + 1013904223u;
	return (dice_state >> 8) % n;
}

static unsigned ups_open;

static void up_any(void *ctx, int fd, const void *early, size_t n, struct http_upgrade *u)
{
	(void)ctx;
	(void)early;
	(void)n;
	assert_int_equal(fd < 0, u == NULL);
	ups_open--;
	if (fd >= 0)
		(void)send(fd, "up", 2, MSG_NOSIGNAL);
	http_upgrade_close(u);
}

static void handler_does_something(struct http_req *r)
{
	static const char block[50000];
	switch (dice(10)) {
	case 0:
		http_reply(r, 200, "text/plain", block, dice(sizeof(block)));
		break;
	case 1:
		http_stream_begin(r, 200, "text/plain", dice(2) ? -1 : (int64_t)dice(100000));
		break;
	case 2:
		http_stream_end(r);
		break;
	case 3:
		if (dice(4) == 0)
			http_abort(r);
		break;
	case 4:
		http_body_hold(r, dice(2));
		break;
	case 5:
		if (dice(8) == 0 && !http_answered(r)) {
			http_answer_header(r, "Upgrade", "test");
			ups_open++;
			http_reply_upgrade(r, up_any, drv);
		}
		break;
	default:
		http_stream_write(r, block, dice(sizeof(block)));
	}
}

static void client_does_something(int *fd)
{
	static const char *const texts[] = {
		"GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /later HTTP/1.0\r\n\r\n",
		"HEAD /later HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345",
		"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n12345",
		"POST /later HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
		"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
		"0\r\n\r\n",
		"junk",
	};
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	char in[20000];
	if (*fd < 0)
		*fd = client_open();
	switch (dice(12)) {
	case 0:
		if (dice(2))
			setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		close(*fd);
		*fd = -1;
		break;
	case 1:
		if (dice(4) == 0)
			shutdown(*fd, SHUT_WR);
		break;
	case 2:
	case 3: {
		const char *text = texts[dice(sizeof(texts) / sizeof(texts[0]))];
		(void)send(*fd, text, dice(4) ? strlen(text) : dice((uint32_t)strlen(text)),
			   MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	}
	default:
		(void)recv(*fd, in, dice(sizeof(in)), MSG_DONTWAIT);
	}
}

/* The library may not see a client's end among the headers; their time is what counts then. */
static int setup_hasty(void **state)
{
	(void)state;
	driver_head_ms = 500;
	driver_start(NULL, NULL);
	driver_head_ms = 0;
	return 0;
}

static void any_mix_of_clients_leaves_nothing(void **state)
{
	(void)state;
	enum { CLIENTS = 60, STEPS = 60000 };
	int fd[CLIENTS];
	memset(fd, -1, sizeof(fd));
	dice_state = 12345;
	ups_open = 0;
	for (int i = 0; i < STEPS; i++) {
		client_does_something(&fd[dice(CLIENTS)]);
		for (unsigned k = dice(3); k && drv->nlive; k--)
			handler_does_something(drv->live[dice(drv->nlive)]);
		if (dice(2))
			driver_round();
	}
	assert_true(drv->gone > 1000);
	for (int i = 0; i < CLIENTS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	/* What still holds its body is let go. */
	for (unsigned i = 0; i < drv->nlive; i++)
		http_body_hold(drv->live[i], false);
	until(http_requests(drv->h) == 0);
	assert_int_equal(drv->nlive, 0);
	assert_int_equal(ups_open, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, driver_setup, driver_teardown)
	const struct CMUnitTest tests[] = {
		T(each_write_is_a_chunk_and_leaves_in_its_round),
		T(a_stream_that_does_not_wait_is_whole),
		T(a_slow_client_pushes_back_and_drains),
		T(a_client_that_never_reads_is_dropped),
		T(a_stream_of_known_size_has_its_length),
		T(a_large_stream_of_known_size_is_whole),
		T(a_head_of_a_stream_has_no_body),
		T(an_old_client_gets_a_stream_to_its_end),
		T(a_client_that_leaves_a_stream_is_noticed_at_once),
		T(a_client_that_leaves_while_the_socket_is_full_is_noticed),
		T(a_complete_answer_reaches_a_client_that_only_stopped_sending),
		T(an_abort_breaks_a_stream),
		T(an_abort_breaks_a_full_stream),
		T(an_abort_without_an_answer_gives_none),
		T(an_upgraded_connection_belongs_to_its_new_owner),
		T(an_upgrade_that_fails_is_told),
		T(an_upgrade_outlives_the_server_without_harm),
		cmocka_unit_test_setup_teardown(any_mix_of_clients_leaves_nothing, setup_hasty,
						driver_teardown),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_done(&head);
	buf_done(&body);
	buf_done(&raw);
	return r;
}
