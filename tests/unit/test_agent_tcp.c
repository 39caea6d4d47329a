/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to ports: data, credit and ends in both directions, with this test as the server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/tcp.h"
#include "agent_driver.h"
#include "base/clock.h"
#include "base/fd.h"

#define MIB (1u << 20)

static struct agent_driver *d;
static int listener = -1;
static unsigned port;

static int listen_at(int family, int backlog)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr *at = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, at, len) < 0 || listen(fd, backlog) < 0 ||
	    getsockname(fd, at, &len) < 0) {
		fd_close(&fd);
		return -1;
	}
	port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static int setup(void **state)
{
	(void)state;
	/* In this order: the agent is a copy of this process, with all that is open. */
	d = drv_start(NULL);
	listener = listen_at(AF_INET, 200);
	return listener < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&listener);
	return drv_stop(d);
}

/* A stream that is connected; the server's end. */
static int connected(uint32_t id, uint32_t credit)
{
	struct drv_stream *s = drv_tcp(d, id, port, credit);
	drv_until(d, &s->started);
	assert_int_equal(s->tcp.err, 0);
	assert_int_equal(s->tcp.credit, TCP_WINDOW);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* n bytes at the server, with the channel served meanwhile. */
static void server_reads(int fd, uint8_t *p, size_t n)
{
	uint64_t until = clock_now() + 10 * SEC_NS;
	while (n) {
		ssize_t got = recv(fd, p, n, MSG_DONTWAIT);
		if (got < 0) {
			assert_int_equal(errno, EAGAIN);
			drv_pump(d, 5);
		} else {
			assert_true(got > 0);
			p += got;
			n -= (size_t)got;
		}
		assert_true(clock_now() < until);
	}
}

static void until_total(struct drv_stream *s, uint64_t n)
{
	uint64_t until = clock_now() + 10 * SEC_NS;
	while (s->total[0] < n) {
		assert_true(drv_pump(d, 100));
		assert_true(clock_now() < until);
	}
}

static void each_direction_ends_on_its_own(void **state)
{
	uint8_t buf[16];
	(void)state;
	int fd = connected(1, MIB);
	struct drv_stream *s = &d->s[1];
	drv_tcp_send(d, 1, "ping", 4, true);
	server_reads(fd, buf, 4);
	assert_memory_equal(buf, "ping", 4);
	assert_int_equal(recv(fd, buf, 1, 0), 0);
	assert_int_equal(send(fd, "pong", 4, 0), 4);
	until_total(s, 4);
	assert_false(s->done);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	drv_until(d, &s->done);
	assert_int_equal(s->tcp_done.err, 0);
	assert_true(s->eof);
	assert_string_equal(drv_out(s), "pong");
	close(fd);
}

static void nobody_listens(void **state)
{
	unsigned free_port = port;
	(void)state;
	fd_close(&listener);
	struct drv_stream *s = drv_tcp(d, 1, free_port, 0);
	drv_until(d, &s->started);
	assert_int_equal(s->tcp.err, ECONNREFUSED);
	/* The stream is free again. */
	listener = listen_at(AF_INET, 1);
	close(connected(1, 0));
	drv_close(d, 1);
	drv_sync(d);
}

static void the_other_loopback_is_tried(void **state)
{
	(void)state;
	fd_close(&listener);
	listener = listen_at(AF_INET6, 1);
	if (listener < 0) {
		print_message("skipped: this host has no IPv6\n");
		skip();
	}
	close(connected(1, 0));
}

static void requests_out_of_range_are_refused(void **state)
{
	static const struct brig_tcp cases[] = { { .port = 0 },
						 { .port = 65536 },
						 { .port = 1, .credit = BRIG_CREDIT_MAX + 1 } };
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct drv_stream *s = drv_tcp(d, 1, cases[i].port, cases[i].credit);
		drv_until(d, &s->started);
		assert_int_equal(s->tcp.err, EINVAL);
	}
}

static void a_server_is_read_as_far_as_credit_goes(void **state)
{
	static uint8_t data[300000];
	(void)state;
	int fd = connected(1, 1000);
	struct drv_stream *s = &d->s[1];
	assert_true(send(fd, data, sizeof(data), MSG_DONTWAIT) > 1000);
	until_total(s, 1000);
	drv_sync(d);
	assert_int_equal(s->total[0], 1000);
	drv_credit(d, 1, BRIG_CHAN_TCP, 500);
	until_total(s, 1500);
	drv_sync(d);
	assert_int_equal(s->total[0], 1500);
	/* A broken connection is not told before its bytes were read, and costs no time meanwhile.
	 */
	close(fd);
	drv_sync(d);
	assert_false(s->done);
}

/* As much as the sockets take and the window on top of it; then no more is granted. */
static uint64_t fill_up(struct drv_stream *s)
{
	static const uint8_t data[10000];
	uint64_t sent = 0, until = clock_now() + 10 * SEC_NS;
	for (;;) {
		size_t n = s->may_send < 10000 ? (size_t)s->may_send : 10000;
		if (n == 0) {
			drv_sync(d);
			if (s->may_send == 0)
				break;
			continue;
		}
		drv_tcp_send(d, 1, data, n, false);
		sent += n;
		assert_true(clock_now() < until);
	}
	return sent;
}

static void a_server_that_does_not_read_holds_back_the_host(void **state)
{
	static uint8_t back[BRIG_FRAME_MAX];
	(void)state;
	int fd = connected(1, 0);
	struct drv_stream *s = &d->s[1];
	uint64_t sent = fill_up(s);
	assert_true(sent > TCP_WINDOW);
	/* Nothing was lost on the way. */
	for (uint64_t at = 0; at < sent;) {
		size_t n = sent - at < 10000 ? (size_t)(sent - at) : 10000;
		server_reads(fd, back, n);
		at += n;
	}
	assert_true(s->may_send == 0 || s->may_send >= TCP_WINDOW / 4);
	uint64_t until = clock_now() + 10 * SEC_NS;
	while (s->may_send < TCP_WINDOW / 2) {
		drv_pump(d, 10);
		assert_true(clock_now() < until);
	}
	close(fd);
}

static void an_answer_is_read_although_the_server_takes_no_more(void **state)
{
	static uint8_t data[100000];
	struct linger hard = { .l_onoff = 1 };
	(void)state;
	int fd = connected(1, MIB);
	struct drv_stream *s = &d->s[1];
	assert_int_equal(send(fd, "too much", 8, 0), 8);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	until_total(s, 8);
	close(fd); /* a reset */
	drv_until(d, &s->done);
	assert_int_equal(s->tcp_done.err, ECONNRESET);
	assert_string_equal(drv_out(s), "too much");

	fd = connected(1, MIB);
	assert_int_equal(send(fd, "bye", 3, 0), 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	until_total(s, 3);
	close(fd);
	/* The first bytes cross the server's end, what follows finds it gone. */
	while (!s->done && s->may_send >= 1000) {
		drv_tcp_send(d, 1, data, 1000, false);
		drv_pump(d, 1);
	}
	drv_until(d, &s->done);
	assert_true(s->tcp_done.err == EPIPE || s->tcp_done.err == ECONNRESET);
	assert_string_equal(drv_out(s), "bye");
}

static void close_of_the_host_closes_the_socket(void **state)
{
	uint8_t byte;
	(void)state;
	int fd = connected(1, MIB);
	drv_close(d, 1);
	drv_sync(d);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_true(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

static void connections_have_a_maximum(void **state)
{
	int fd[BRIG_TCP_MAX];
	uint8_t byte;
	(void)state;
	for (uint32_t i = 0; i < BRIG_TCP_MAX; i++)
		fd[i] = connected(i + 1, 0);
	struct drv_stream *s = drv_tcp(d, BRIG_TCP_MAX + 1, port, 0);
	drv_until(d, &s->started);
	assert_int_equal(s->tcp.err, EMFILE);
	for (uint32_t i = 0; i < BRIG_TCP_MAX; i++) {
		drv_tcp_send(d, i + 1, "x", 1, false);
		server_reads(fd[i], &byte, 1);
	}
	drv_close(d, 1);
	close(connected(BRIG_TCP_MAX + 1, 0));
	for (uint32_t i = 0; i < BRIG_TCP_MAX; i++)
		close(fd[i]);
}

static void rules_of_a_connection_are_kept(void **state)
{
	static const uint8_t data[1];
	struct brig_credit wrong = { .chan = BRIG_CHAN_FS, .bytes = 1 };
	struct brig_credit much = { .chan = BRIG_CHAN_TCP, .bytes = BRIG_CREDIT_MAX };
	(void)state;
	for (int i = 0; i < 5; i++) {
		int fd = connected(1, 1);
		switch (i) {
		case 0: /* more than was granted */
			fill_up(&d->s[1]);
			drv_send(d, BRIG_TCP_DATA, 0, 1, data, 1);
			break;
		case 1: /* data after its end */
			drv_send(d, BRIG_TCP_DATA, BRIG_FF_EOF, 1, NULL, 0);
			drv_send(d, BRIG_TCP_DATA, 0, 1, data, 1);
			break;
		case 2:
			drv_send(d, BRIG_CREDIT, 0, 1, &wrong, sizeof(wrong));
			break;
		case 3:
			drv_send(d, BRIG_CREDIT, 0, 1, &much, sizeof(much));
			break;
		default: /* the data of another kind of stream */
			drv_send(d, BRIG_FS_DATA, 0, 1, data, 1);
			break;
		}
		int r = drv_wait_end(d);
		if (r != 1)
			fail_msg("case %d: the agent ended with %d", i, r);
		close(fd);
		d = drv_start(NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(each_direction_ends_on_its_own),
		T(nobody_listens),
		T(the_other_loopback_is_tried),
		T(requests_out_of_range_are_refused),
		T(a_server_is_read_as_far_as_credit_goes),
		T(a_server_that_does_not_read_holds_back_the_host),
		T(an_answer_is_read_although_the_server_takes_no_more),
		T(close_of_the_host_closes_the_socket),
		T(connections_have_a_maximum),
		T(rules_of_a_connection_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
