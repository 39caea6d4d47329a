/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An output of every kind, written and spliced to in turn, by a reader that is sometimes quick and
 * sometimes not: the order of the bytes, and whether the source is told to wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/out.h"

#define QUEUE (8u * 1024u * 1024u)

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 2654435761u >> 11);
}

/* Checks what the reader's end holds, at most n bytes. */
static uint64_t drain(int fd, uint64_t got, size_t n)
{
	static uint8_t buf[65536];
	while (n) {
		ssize_t r = read(fd, buf, n < sizeof(buf) ? n : sizeof(buf));
		if (r <= 0)
			break;
		for (ssize_t i = 0; i < r; i++)
			if (buf[i] != byte_at(got + (uint64_t)i))
				fail_msg("wrong byte at %llu", (unsigned long long)got + (unsigned)i);
		got += (uint64_t)r;
		n -= (size_t)r;
	}
	return got;
}

/* 24 MiB in pieces of all sizes, some through a socket, others from memory. */
static void mixed(int fd, int reader)
{
	static uint8_t piece[300000];
	struct out o;
	int sock[2];
	uint64_t made = 0, got = 0;
	unsigned seed = 5, spliced = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sock), 0);
	fcntl(reader, F_SETFL, O_NONBLOCK);
	out_init(&o, fd, QUEUE);
	while (made < 24u << 20) {
		size_t n = (size_t)rand_r(&seed) % (seed % 3 ? sizeof(piece) : 500) + 1;
		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(made + i);
		if (out_splices(&o) && seed % 4) {
			ssize_t put = send(sock[1], piece, n, 0), left;
			assert_true(put > 0);
			n = (size_t)put;
			for (left = put; left;) {
				ssize_t r = out_splices(&o) ? out_splice(&o, sock[0], (size_t)left)
							    : -EOPNOTSUPP;
				if (r > 0) {
					left -= r;
					spliced++;
				} else if (r == 0) {
					assert_true(out_waits(&o));
					got = drain(reader, got, 100000);
					out_flush(&o);
				} else {
					assert_int_equal(r, -EOPNOTSUPP);
					r = recv(sock[0], piece, (size_t)left, 0);
					assert_int_equal(r, left);
					assert_int_equal(out_write(&o, piece, (size_t)left), 0);
					left = 0;
				}
			}
		} else {
			assert_int_equal(out_write(&o, piece, n), 0);
		}
		made += n;
		/* Now and then it catches up. */
		unsigned turns = seed % 7 == 0 || buf_len(&o.queue) > QUEUE / 2 ? 1000 : seed % 5;
		while (turns-- && out_waits(&o)) {
			got = drain(reader, got, (size_t)rand_r(&seed) % 600000);
			out_flush(&o);
		}
	}
	while (out_queued(&o)) {
		got = drain(reader, got, SIZE_MAX);
		out_flush(&o);
	}
	got = drain(reader, got, SIZE_MAX);
	assert_int_equal(o.error, 0);
	assert_true(got == made && o.total == made);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(spliced > 0, S_ISFIFO(st.st_mode));
	out_done(&o);
	close(sock[0]);
	close(sock[1]);
}

static void a_pipe(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	mixed(p[1], p[0]);
	/* Blocking as it was. */
	assert_int_equal(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
	assert_in_range(fcntl(p[1], F_GETPIPE_SZ), 65536, 262144);
	close(p[0]);
	close(p[1]);
}

/* One that was opened by its name knows no RWF_NOWAIT. */
static void a_fifo(void **state)
{
	char path[64];
	(void)state;
	snprintf(path, sizeof(path), "/tmp/brig-out-%d", (int)getpid());
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	int r = open(path, O_RDONLY | O_NONBLOCK), w = open(path, O_WRONLY);
	unlink(path);
	assert_true(r >= 0 && w >= 0);
	mixed(w, r);
	close(r);
	close(w);
}

static void a_socket(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	mixed(p[1], p[0]);
	close(p[0]);
	close(p[1]);
}

static void a_file(void **state)
{
	char path[] = "/tmp/brig-out-XXXXXX";
	int w = mkstemp(path);
	(void)state;
	assert_true(w >= 0);
	int r = open(path, O_RDONLY);
	unlink(path);
	mixed(w, r);
	close(r);
	close(w);
}

static void a_reader_is_slow_until_it_has_caught_up(void **state)
{
	static uint8_t block[200000];
	struct out o;
	int p[2];
	(void)state;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = byte_at(i);
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	out_init(&o, p[1], QUEUE);
	assert_true(out_holds(&o, clock_now()) == 0);
	assert_int_equal(out_write(&o, block, sizeof(block)), 0);
	uint64_t now = clock_now();
	assert_true(out_holds(&o, now) == now + OUT_PACE_NS);
	assert_true(out_holds(&o, now + OUT_PACE_NS - 1) == now + OUT_PACE_NS);
	/* It keeps the pace .. */
	uint64_t got = drain(p[0], 0, 65536);
	out_flush(&o);
	assert_true(out_holds(&o, now + OUT_PACE_NS) == now + 2 * OUT_PACE_NS);
	/* .. and then it does not. */
	assert_true(out_holds(&o, now + 2 * OUT_PACE_NS) == 0);
	assert_true(o.slow && out_waits(&o));
	while (out_queued(&o)) {
		got = drain(p[0], got, 65536);
		out_flush(&o);
	}
	assert_true(out_holds(&o, now + 3 * OUT_PACE_NS) == 0);
	assert_false(o.slow);
	out_done(&o);
	close(p[0]);
	close(p[1]);
}

static void a_pipe_without_a_reader(void **state)
{
	struct out o;
	int p[2], sock[2];
	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	out_init(&o, p[1], QUEUE);
	assert_int_equal(send(sock[1], "abc", 3, 0), 3);
	assert_int_equal(out_splice(&o, sock[0], 3), 3);
	assert_int_equal(out_splice(&o, sock[0], 3), -EAGAIN);
	close(p[0]);
	assert_int_equal(send(sock[1], "abc", 3, 0), 3);
	assert_int_equal(out_splice(&o, sock[0], 3), -EOPNOTSUPP);
	assert_int_equal(out_write(&o, "abc", 3), 0);
	assert_int_equal(o.error, EPIPE);
	assert_false(out_splices(&o) || out_waits(&o));
	out_done(&o);
	close(p[1]);
	close(sock[0]);
	close(sock[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pipe),
		cmocka_unit_test(a_fifo),
		cmocka_unit_test(a_socket),
		cmocka_unit_test(a_file),
		cmocka_unit_test(a_reader_is_slow_until_it_has_caught_up),
		cmocka_unit_test(a_pipe_without_a_reader),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
