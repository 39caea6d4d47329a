/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk output of a command, which the agent passes on by reference: every byte, what is kept of it for
 * a host that attaches again, and commands that do odd things to their pipe.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_driver.h"
#include "base/clock.h"
#include "base/fd.h"

#define MIB (1u << 20)
#define SIZE (24u * MIB)
#define RING (256u * 1024u)

static uint8_t *data;
static char path[] = "/tmp/brig-bulk-XXXXXX";

/* A byte stream in which every position differs from its neighbours far and near. */
static int setup(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	data = malloc(SIZE);
	assert_non_null(data);
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	assert_int_equal(fd_write_full(fd, data, SIZE), 0);
	return close(fd);
}

static int teardown(void **state)
{
	(void)state;
	free(data);
	return unlink(path);
}

static struct agent_driver *plain(void)
{
	return drv_start(&(struct drv_options){ 0 });
}

/* Starts a script in whose text %s is the file. */
static struct drv_stream *start(struct agent_driver *d, const char *script, struct drv_exec e)
{
	static char user[16], text[256];
	const char *const argv[] = { "/bin/sh", "-c", text, NULL };
	snprintf(user, sizeof(user), "%u", getuid());
	const char *at = strstr(script, "FILE");
	snprintf(text, sizeof(text), "%.*s%s%s", at ? (int)(at - script) : 0, script,
		 at ? path : "", at ? at + 4 : script);
	e.user = user;
	e.argv = argv;
	struct drv_stream *s = drv_exec(d, 1, &e);
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, 0);
	return s;
}

/* Without credit at first: then ring and pipe are full, and what follows is bulk for certain. */
static void let_it_fill(struct agent_driver *d)
{
	for (int i = 0; i < 30; i++)
		drv_pump(d, 10);
}

static unsigned pipes_of(pid_t pid)
{
	char dir[32], link[64];
	unsigned n = 0;
	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	DIR *fds = opendir(dir);
	assert_non_null(fds);
	for (struct dirent *e; (e = readdir(fds));) {
		ssize_t k = readlinkat(dirfd(fds), e->d_name, link, sizeof(link));
		n += k > 5 && memcmp(link, "pipe:", 5) == 0;
	}
	closedir(fds);
	return n;
}

static void until_total(struct agent_driver *d, const struct drv_stream *s, uint64_t total)
{
	uint64_t until = clock_now() + 20 * SEC_NS;
	while (s->total[0] < total) {
		drv_pump(d, 100);
		assert_true(clock_now() < until);
	}
	assert_true(s->total[0] == total);
}

static void came(struct drv_stream *s, size_t from, size_t n)
{
	assert_int_equal(buf_len(&s->out[0]), n);
	assert_memory_equal(buf_head(&s->out[0]), data + from, n);
}

/* Writers that fill pages, half fill them, and make packets of which few fit into a pipe. */
static void output_is_whole_however_it_is_written(void **state)
{
	static const char *const scripts[] = {
		"cat FILE",
		"cat FILE >&1; exit",
		"dd if=FILE bs=1M 2>/dev/null",
		"dd if=FILE bs=2100 2>/dev/null",
		"dd if=FILE bs=70001 2>/dev/null",
		"exec $PACKETS FILE",
	};
	static char env[256] = "PACKETS=";
	(void)state;
	assert_true(readlink("/proc/self/exe", env + 8, sizeof(env) - 9) > 0);
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		struct agent_driver *d = plain();
		struct drv_stream *s =
			start(d, scripts[i],
			      (struct drv_exec){
				      .credit = { 0, MIB },
				      .regrant = true,
				      .env = (const char *const[]){ "PATH=/usr/bin:/bin", env, NULL } });
		let_it_fill(d);
		drv_credit(d, 1, BRIG_CHAN_STDOUT, 4 * MIB);
		until_total(d, s, SIZE);
		drv_until(d, &s->exited);
		came(s, 0, SIZE);
		assert_int_equal(s->exit.stdout_bytes, SIZE);
		assert_int_equal(drv_stop(d), 0);
	}
}

/* The command stands still after bulk; the last `ring` bytes can be had again from any offset. */
static void what_went_by_reference_is_kept(void **state)
{
	static const uint32_t back[] = { 1, 5000, 100000, RING - 1, RING };
	(void)state;
	struct agent_driver *d = plain();
	unsigned before;
	char script[160];
	snprintf(script, sizeof(script), "head -c 8388608 FILE; read x; exec tail -c +8388609 %s",
		 path);
	struct drv_stream *s = start(
		d, script,
		(struct drv_exec){ .flags = BRIG_EXEC_STDIN, .credit = { 0, MIB } });
	before = pipes_of(d->pid);
	let_it_fill(d);
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 2 * SIZE);
	until_total(d, s, 8 * MIB);
	came(s, 0, 8 * MIB);
	/* Ours, and that of the channel: it did go by reference. */
	assert_int_equal(pipes_of(d->pid), before + 4);
	for (size_t i = 0; i < sizeof(back) / sizeof(back[0]); i++) {
		struct brig_reattach m = { .stdout_offset = 8 * MIB - back[i],
					   .credit_stdout = 2 * SIZE,
					   .credit_stderr = MIB };
		buf_done(&s->out[0]);
		s->total[0] = 0;
		s->next[0] = m.stdout_offset;
		s->credit[0] = m.credit_stdout;
		drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
		until_total(d, s, back[i]);
		came(s, 8 * MIB - back[i], back[i]);
	}
	/* And it goes on from there. */
	buf_done(&s->out[0]);
	s->total[0] = 0;
	drv_stdin(d, 1, "\n", 1, true);
	drv_until(d, &s->exited);
	came(s, 8 * MIB, SIZE - 8 * MIB);
	assert_int_equal(s->exit.stdout_bytes, SIZE);
	/* Its pipes are given back when the stream is closed. */
	drv_close(d, 1);
	drv_sync(d);
	assert_true(pipes_of(d->pid) < before);
	assert_int_equal(drv_stop(d), 0);
}

/* Nobody reads any more, in the middle of it: the command goes on, and its end is kept. */
static void a_reader_that_detaches(void **state)
{
	(void)state;
	struct agent_driver *d = plain();
	struct drv_stream *s = start(d, "cat FILE", (struct drv_exec){ .credit = { 0, MIB } });
	let_it_fill(d);
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 3000001);
	until_total(d, s, 3000001);
	came(s, 0, 3000001);
	drv_send(d, BRIG_DETACH, 0, 1, NULL, 0);
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.stdout_bytes, SIZE);
	struct brig_reattach m = { .credit_stdout = MIB, .credit_stderr = MIB };
	buf_done(&s->out[0]);
	s->exited = false;
	s->gaps = true;
	s->total[0] = 0;
	s->credit[0] = MIB;
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	drv_until(d, &s->exited);
	came(s, SIZE - RING, RING);
	assert_int_equal(drv_stop(d), 0);
}

/* A command can read its own output away. It gets what it asks for, and no frame is left half. */
static void a_command_that_reads_its_own_pipe(void **state)
{
	(void)state;
	struct agent_driver *d = plain();
	struct drv_stream *s =
		start(d, "for i in 1 2 3 4 5 6; do cat FILE; done & cat </proc/self/fd/1 >/dev/null & wait $!",
		      (struct drv_exec){ .credit = { 0, MIB }, .regrant = true, .discard = true });
	let_it_fill(d);
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 4 * MIB);
	for (int i = 0; i < 20; i++) {
		drv_pump(d, 10);
		drv_sync(d);
	}
	drv_close(d, 1);
	drv_sync(d);
	(void)s;
	assert_int_equal(drv_stop(d), 0);
}

#define PACKET 1500u
/* $PACKETS: the file, after two mebibytes in packets (pipe2(2), O_DIRECT): so few bytes to a buffer that
 * what should be kept of them does not fit. */
static int packets(const char *file)
{
	static char piece[2 * MIB];
	int fd = open(file, O_RDONLY);
	size_t n = sizeof(piece);
	ssize_t r;
	while ((r = fd_read_full(fd, piece, n)) > 0) {
		if (fd_write_full(1, piece, (size_t)r) < 0)
			return 1;
		if (n != PACKET && fcntl(1, F_SETFL, O_DIRECT) < 0)
			return 1;
		n = PACKET;
	}
	return r < 0;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return packets(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_is_whole_however_it_is_written),
		cmocka_unit_test(what_went_by_reference_is_kept),
		cmocka_unit_test(a_reader_that_detaches),
		cmocka_unit_test(a_command_that_reads_its_own_pipe),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
