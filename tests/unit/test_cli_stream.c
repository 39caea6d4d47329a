/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_run() against a server that this test plays: live output, input by credit, signals, and a
 * server that breaks the wire. The client runs in a child, whose standard streams are pipes of
 * ours.
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/stream.h"

struct summary {
	int r, code, signal, out_error, has_rep, has_error, has_end;
	uint64_t lost;
	char msg[128];
};

struct rig {
	int server, in, out, err, report; /* our ends; out and err: what the client prints */
	pid_t pid;
	bool gaps, no_stdin, signals;
	int stdin_fd; /* instead of a pipe; -1 */
};

static void client(const struct rig *g, int sock, int report)
{
	struct conn c = CONN_NONE;
	const struct stream_opts o = { .stdin_fd = g->no_stdin ? -1 : 0,
				       .signals = g->signals,
				       .gaps = g->gaps };
	struct stream_result res = { .rep = NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct summary s;
	memset(&s, 0, sizeof(s));
	c.fd = sock;
	signal(SIGPIPE, SIG_IGN);
	s.r = stream_run(&c, &o, &res, &err);
	s.code = (int)err.code;
	s.signal = res.signal;
	s.out_error = res.out_error;
	s.lost = res.lost;
	s.has_rep = res.rep != NULL;
	s.has_error = res.error != NULL;
	s.has_end = res.end != NULL;
	snprintf(s.msg, sizeof(s.msg), "%.127s", err.msg);
	stream_result_done(&res);
	conn_done(&c);
	(void)fd_write_full(report, &s, sizeof(s));
	_exit(0);
}

static void start(struct rig *g)
{
	int sock[2], in[2], out[2], err[2], report[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC) |
				 pipe2(report, O_CLOEXEC),
			 0);
	g->pid = fork();
	assert_true(g->pid >= 0);
	if (g->pid == 0) {
		dup2(g->stdin_fd >= 0 ? g->stdin_fd : in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		close(sock[0]);
		close(in[1]);
		close(out[0]);
		close(err[0]);
		client(g, sock[1], report[1]);
	}
	close(sock[1]);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	close(report[1]);
	g->server = sock[0];
	g->in = in[1];
	g->out = out[0];
	g->err = err[0];
	g->report = report[0];
}

/* The client must end by itself within ten seconds. */
static struct summary finish(struct rig *g)
{
	struct summary s;
	struct pollfd p = { .fd = g->report, .events = POLLIN };
	int status;
	if (poll(&p, 1, 10000) != 1) {
		kill(g->pid, SIGKILL);
		waitpid(g->pid, &status, 0);
		fail_msg("the client hangs");
	}
	assert_int_equal(fd_read_full(g->report, &s, sizeof(s)), sizeof(s));
	assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	fd_close(&g->server);
	fd_close(&g->in);
	fd_close(&g->out);
	fd_close(&g->err);
	fd_close(&g->report);
	return s;
}

static size_t frame_make(char *at, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	struct brig_frame_hdr h = { .len = (uint32_t)n, .type = type, .stream = stream };
	memcpy(at, &h, sizeof(h));
	memcpy(at + sizeof(h), p, n);
	return sizeof(h) + n;
}

static void put(struct rig *g, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	char *buf = malloc(sizeof(struct brig_frame_hdr) + n);
	assert_int_equal(fd_write_full(g->server, buf, frame_make(buf, type, stream, p, n)), 0);
	free(buf);
}

static void put_text(struct rig *g, uint16_t type, const char *json)
{
	put(g, type, 0, json, strlen(json));
}

#define REP "{\"ok\":{\"id\":\"x\"}}"
#define END "{\"exit_code\":0,\"stop_reason\":\"exited\"}"

static void put_output(struct rig *g, uint16_t type, uint64_t offset, const void *p, size_t n)
{
	char *buf = malloc(n + 8);
	memcpy(buf, &offset, 8);
	memcpy(buf + 8, p, n);
	put(g, type, BRIG_CLIENT_STREAM, buf, n + 8);
	free(buf);
}

static void put_credit(struct rig *g, uint32_t chan, uint32_t bytes)
{
	struct brig_credit m = { .chan = chan, .bytes = bytes };
	put(g, BRIG_CREDIT, BRIG_CLIENT_STREAM, &m, sizeof(m));
}

/* The next frame of the client, within ten seconds. Returns its type; payload to buf. */
static int get(struct rig *g, struct brig_frame_hdr *h, void *buf, size_t cap)
{
	struct pollfd p = { .fd = g->server, .events = POLLIN };
	if (poll(&p, 1, 10000) != 1)
		fail_msg("no frame from the client");
	assert_int_equal(fd_read_full(g->server, h, sizeof(*h)), sizeof(*h));
	assert_true(h->len <= cap);
	assert_int_equal(fd_read_full(g->server, buf, h->len), h->len);
	assert_int_equal(h->stream, BRIG_CLIENT_STREAM);
	return h->type;
}

static void check_read(int fd, const char *want)
{
	char buf[256];
	size_t n = strlen(want);
	assert_int_equal(fd_read_full(fd, buf, n), n);
	assert_memory_equal(buf, want, n);
}

static void test_output_goes_where_it_belongs(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	put_output(&g, BRIG_STDOUT, 0, "one ", 4);
	put_output(&g, BRIG_STDERR, 0, "two", 3);
	put_output(&g, BRIG_STDOUT, 4, "", 0);
	put_output(&g, BRIG_STDOUT, 4, "three", 5);
	check_read(g.out, "one three");
	check_read(g.err, "two");
	put_text(&g, BRIG_CL_END, END);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_true(s.has_rep && s.has_end && !s.has_error);
	assert_int_equal(s.out_error | s.signal, 0);
}

static void test_an_end_without_a_reply(void **state)
{
	struct rig g = { .stdin_fd = -1 };
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_END, END);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_true(s.has_end && !s.has_rep);
}

static void test_an_error_reply(void **state)
{
	struct rig g = { .stdin_fd = -1 };
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, "{\"error\":{\"code\":\"busy\",\"message\":\"m\"}}");
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_true(s.has_error && !s.has_rep && !s.has_end);
}

/* A conversation that is cut anywhere ends in an error, and at once. */
static void test_every_truncation_is_an_error(void **state)
{
	char all[512];
	size_t n = 0;
	(void)state;
	n += frame_make(all + n, BRIG_CL_REP, 0, REP, strlen(REP));
	n += frame_make(all + n, BRIG_STDOUT, 1, "\0\0\0\0\0\0\0\0hello", 13);
	n += frame_make(all + n, BRIG_CL_END, 0, END, strlen(END));
	for (size_t cut = 0; cut <= n; cut++) {
		struct rig g = { .stdin_fd = -1, .no_stdin = true };
		start(&g);
		assert_int_equal(fd_write_full(g.server, all, cut), 0);
		shutdown(g.server, SHUT_WR);
		struct summary s = finish(&g);
		if ((s.r == 0) != (cut == n))
			fail_msg("cut at %zu of %zu: %d %s", cut, n, s.r, s.msg);
		if (cut < n)
			assert_int_equal(s.code, BRIG_E_UNAVAILABLE);
	}
}

static void test_frames_that_break_the_protocol(void **state)
{
	static const struct {
		bool rep; /* after a good reply */
		uint16_t type, flags;
		uint32_t stream, len;
		const char *payload;
	} rows[] = {
		{ false, BRIG_CL_REP, 0, 0, 2, "{}" },
		{ false, BRIG_CL_REP, 0, 0, 2, "[]" },
		{ false, BRIG_CL_REP, 0, 0, 4, "nope" },
		{ false, BRIG_CL_REP, 0, 0, 0, "" },
		{ false, BRIG_CL_REP, 0, 1, 9, "{\"ok\":{}}" },
		{ false, BRIG_CL_REP, 0, 0, 8, "{\"ok\":1}" },
		{ false, BRIG_CL_END, 0, 0, 1, "x" },
		{ false, BRIG_STDOUT, 0, 1, 8, "\0\0\0\0\0\0\0\0" }, /* before the reply */
		{ false, BRIG_CREDIT, 0, 1, 8, "\0\0\0\0\1\0\0\0" },
		{ false, 0xffff, 0, 0, 0, "" },
		{ false, BRIG_CL_REQ, 0, 0, 2, "{}" },
		{ false, BRIG_CL_REP, 0x8000, 0, 9, "{\"ok\":{}}" },
		{ false, BRIG_CL_REP, 0, 0, BRIG_FRAME_MAX + 1, NULL },
		{ false, BRIG_CL_REP, 0, 0, UINT32_MAX, NULL },
		{ true, BRIG_CL_REP, 0, 0, 9, "{\"ok\":{}}" },	     /* twice */
		{ true, BRIG_STDOUT, 0, 2, 8, "\0\0\0\0\0\0\0\0" },  /* another stream */
		{ true, BRIG_STDOUT, 0, 1, 7, "\0\0\0\0\0\0\0" },    /* no offset */
		{ true, BRIG_STDOUT, 0, 1, 9, "\1\0\0\0\0\0\0\0x" }, /* a gap */
		{ true, BRIG_STDOUT, 0, 1, 9, "\377\377\377\377\377\377\377\377x" },
		{ true, BRIG_CREDIT, 0, 1, 7, "\0\0\0\0\1\0\0" },
		{ true, BRIG_CREDIT, 0, 1, 8, "\1\0\0\0\1\0\0\0" }, /* not stdin */
		{ true, BRIG_CREDIT, 0, 1, 8, "\0\0\0\0\1\0\0\4" }, /* beyond the maximum */
		{ true, BRIG_CREDIT, 0, 0, 8, "\0\0\0\0\1\0\0\0" },
		{ true, BRIG_STDIN, 0, 1, 1, "x" },
		{ true, BRIG_EXEC, 0, 1, 0, "" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig g = { .stdin_fd = -1, .no_stdin = true };
		struct brig_frame_hdr h = { .len = rows[i].len,
					    .type = rows[i].type,
					    .flags = rows[i].flags,
					    .stream = rows[i].stream };
		start(&g);
		if (rows[i].rep)
			put_text(&g, BRIG_CL_REP, REP);
		assert_int_equal(fd_write_full(g.server, &h, sizeof(h)), 0);
		if (rows[i].payload)
			assert_int_equal(fd_write_full(g.server, rows[i].payload, rows[i].len), 0);
		/* The connection stays open: the client has to see it by itself. */
		struct summary s = finish(&g);
		if (s.r != -1 || s.code != BRIG_E_PROTOCOL)
			fail_msg("%zu: %d, %s", i, s.r, s.msg);
	}
}

/* More output than there is credit for. */
static void test_a_server_that_floods(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	char *block = calloc(1, BRIG_FRAME_MAX);
	uint64_t at = 0;
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	/* Nobody reads the client's output, so it grants nothing. */
	while (at + BRIG_FRAME_MAX - 8 <= BRIG_CLIENT_CREDIT) {
		put_output(&g, BRIG_STDOUT, at, block, BRIG_FRAME_MAX - 8);
		at += BRIG_FRAME_MAX - 8;
	}
	put_output(&g, BRIG_STDOUT, at, block, (size_t)(BRIG_CLIENT_CREDIT - at) + 1);
	struct summary s = finish(&g);
	assert_int_equal(s.r, -1);
	assert_int_equal(s.code, BRIG_E_PROTOCOL);
	free(block);
}

/* stdout is full to the brim of its credit; stderr still gets through, and so does what was kept.
 */
static void test_a_stalled_output_stops_only_itself(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	char *block = malloc(BRIG_FRAME_MAX), *back = malloc(BRIG_FRAME_MAX);
	uint64_t at = 0, got = 0;
	(void)state;
	for (size_t i = 0; i < BRIG_FRAME_MAX; i++)
		block[i] = (char)(i % 251);
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	while (at + 65536 <= BRIG_CLIENT_CREDIT) {
		put_output(&g, BRIG_STDOUT, at, block, 65536);
		at += 65536;
	}
	put_output(&g, BRIG_STDERR, 0, "through", 7);
	check_read(g.err, "through");
	put_text(&g, BRIG_CL_END, END);
	while (got < at) {
		assert_int_equal(fd_read_full(g.out, back, 65536), 65536);
		assert_memory_equal(back, block, 65536);
		got += 65536;
	}
	assert_int_equal(finish(&g).r, 0);
	free(block);
	free(back);
}

/* Credit comes back for what was written, and for no more. */
static void test_credit_follows_the_reader(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	struct brig_frame_hdr h;
	struct brig_credit m;
	char *block = calloc(1, 1 << 20);
	uint64_t at = 0, granted = 0;
	struct pollfd p;
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	for (int i = 0; i < 16; i++, at += 131072)
		put_output(&g, BRIG_STDOUT, at, block, 131072);
	/* 2 MiB sent, only a pipe of it written: no grant yet. */
	p = (struct pollfd){ .fd = g.server, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 100), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fd_read_full(g.out, block, 1 << 20), 1 << 20);
	while (granted < 2 << 20 && poll(&p, 1, 200) == 1) {
		assert_int_equal(get(&g, &h, &m, sizeof(m)), BRIG_CREDIT);
		assert_int_equal(m.chan, BRIG_CHAN_STDOUT);
		granted += m.bytes;
	}
	assert_true(granted >= 1 << 20 && granted <= 2 << 20);
	put_text(&g, BRIG_CL_END, END);
	assert_int_equal(finish(&g).r, 0);
	free(block);
}

static void test_input_waits_for_credit(void **state)
{
	struct rig g = { .stdin_fd = -1 };
	struct brig_frame_hdr h;
	char buf[64];
	struct pollfd p;
	(void)state;
	start(&g);
	assert_int_equal(write(g.in, "abcdefgh", 8), 8);
	put_text(&g, BRIG_CL_REP, REP);
	p = (struct pollfd){ .fd = g.server, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 100), 0);
	put_credit(&g, BRIG_CHAN_STDIN, 3);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_STDIN);
	assert_int_equal(h.len, 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(poll(&p, 1, 100), 0);
	put_credit(&g, BRIG_CHAN_STDIN, 100);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_STDIN);
	assert_memory_equal(buf, "defgh", 5);
	assert_int_equal(h.flags, 0);
	close(g.in);
	g.in = -1;
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_STDIN);
	assert_int_equal(h.len, 0);
	assert_int_equal(h.flags, BRIG_FF_EOF);
	put_text(&g, BRIG_CL_END, END);
	assert_int_equal(finish(&g).r, 0);
}

static void test_input_from_a_regular_file(void **state)
{
	char path[] = "/tmp/brig-stdin-XXXXXX", buf[64];
	struct rig g = { .stdin_fd = mkstemp(path) };
	struct brig_frame_hdr h;
	(void)state;
	unlink(path);
	assert_int_equal(write(g.stdin_fd, "file", 4), 4);
	lseek(g.stdin_fd, 0, SEEK_SET);
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	put_credit(&g, BRIG_CHAN_STDIN, 1000);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_STDIN);
	assert_memory_equal(buf, "file", 4);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_STDIN);
	assert_int_equal(h.flags, BRIG_FF_EOF);
	put_text(&g, BRIG_CL_END, END);
	assert_int_equal(finish(&g).r, 0);
	close(g.stdin_fd);
}

/* The flags of an inherited file belong to everybody who has it open. */
static void test_inherited_descriptors_stay_blocking(void **state)
{
	struct rig g = { .stdin_fd = -1 };
	char *block = calloc(1, 262144);
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	put_output(&g, BRIG_STDOUT, 0, block, 262136);
	put_output(&g, BRIG_STDERR, 0, "x", 1);
	check_read(g.err, "x");
	/* The pipe is full and the client has queued the rest by now. */
	for (int fd = 0; fd <= 2; fd++) {
		char path[64];
		char text[256];
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)g.pid, fd);
		assert_true(fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) > 0);
		const char *flags = strstr(text, "flags:");
		assert_non_null(flags);
		assert_int_equal(strtoul(flags + 6, NULL, 8) & O_NONBLOCK, 0);
	}
	put_text(&g, BRIG_CL_END, END);
	assert_int_equal(fd_read_full(g.out, block, 262136), 262136);
	assert_int_equal(finish(&g).r, 0);
	free(block);
}

static void test_a_reader_that_goes_away(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	struct brig_frame_hdr h;
	char buf[64];
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	close(g.out);
	g.out = -1;
	put_output(&g, BRIG_STDOUT, 0, "x", 1);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_CLOSE);
	put_text(&g, BRIG_CL_END, END);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.out_error, EPIPE);
	assert_true(s.has_end);
}

/* .. and a server that does not answer CLOSE: two seconds, then it is over. */
static void test_a_server_that_ignores_close(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true };
	uint64_t then = clock_now();
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, REP);
	close(g.out);
	g.out = -1;
	put_output(&g, BRIG_STDOUT, 0, "x", 1);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.out_error, EPIPE);
	assert_false(s.has_end);
	assert_true(clock_now() - then < 5 * SEC_NS);
}

static uint32_t expect_signal(struct rig *g)
{
	struct brig_frame_hdr h;
	uint32_t sig = 0;
	assert_int_equal(get(g, &h, &sig, sizeof(sig)), BRIG_SIGNAL);
	return sig;
}

/* Waits until the client runs its loop with the reply read: its answer to output is the sign. */
static void settle(struct rig *g)
{
	put_text(g, BRIG_CL_REP, REP);
	put_output(g, BRIG_STDERR, 0, "r", 1);
	check_read(g->err, "r");
}

static void test_signals_are_passed_on(void **state)
{
	static const int sigs[] = { SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	struct rig g = { .stdin_fd = -1, .no_stdin = true, .signals = true };
	(void)state;
	start(&g);
	settle(&g);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		kill(g.pid, sigs[i]);
		assert_int_equal(expect_signal(&g), sigs[i]);
	}
	put_text(&g, BRIG_CL_END, END);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.signal, 0);
}

static void test_interrupting_again_and_again(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true, .signals = true };
	struct brig_frame_hdr h;
	char buf[64];
	(void)state;
	start(&g);
	settle(&g);
	kill(g.pid, SIGINT);
	assert_int_equal(expect_signal(&g), SIGINT);
	kill(g.pid, SIGINT);
	assert_int_equal(get(&g, &h, buf, sizeof(buf)), BRIG_CLOSE);
	kill(g.pid, SIGINT);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.signal, SIGINT);
}

/* There is no command yet that could get it. */
static void test_a_signal_before_the_reply(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true, .signals = true };
	char path[64], text[2048];
	(void)state;
	start(&g);
	/* Until it has blocked the signal, it would simply die of it. */
	snprintf(path, sizeof(path), "/proc/%d/status", (int)g.pid);
	for (uint64_t end = clock_now() + 5 * SEC_NS; clock_now() < end;) {
		assert_true(fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) > 0);
		const char *blocked = strstr(text, "SigBlk:");
		if (strtoull(blocked + 7, NULL, 16) & (1u << (SIGTERM - 1)))
			break;
	}
	kill(g.pid, SIGTERM);
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.signal, SIGTERM);
}

static void test_logs_may_begin_anywhere(void **state)
{
	struct rig g = { .stdin_fd = -1, .no_stdin = true, .gaps = true };
	(void)state;
	start(&g);
	put_text(&g, BRIG_CL_REP, "{\"ok\":{}}");
	put_output(&g, BRIG_STDOUT, 1000, "a", 1);
	put_output(&g, BRIG_STDOUT, 1011, "b", 1);
	check_read(g.out, "ab");
	put_text(&g, BRIG_CL_END, "{}");
	struct summary s = finish(&g);
	assert_int_equal(s.r, 0);
	assert_int_equal(s.lost, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_goes_where_it_belongs),
		cmocka_unit_test(test_an_end_without_a_reply),
		cmocka_unit_test(test_an_error_reply),
		cmocka_unit_test(test_every_truncation_is_an_error),
		cmocka_unit_test(test_frames_that_break_the_protocol),
		cmocka_unit_test(test_a_server_that_floods),
		cmocka_unit_test(test_a_stalled_output_stops_only_itself),
		cmocka_unit_test(test_credit_follows_the_reader),
		cmocka_unit_test(test_input_waits_for_credit),
		cmocka_unit_test(test_input_from_a_regular_file),
		cmocka_unit_test(test_inherited_descriptors_stay_blocking),
		cmocka_unit_test(test_a_reader_that_goes_away),
		cmocka_unit_test(test_a_server_that_ignores_close),
		cmocka_unit_test(test_signals_are_passed_on),
		cmocka_unit_test(test_interrupting_again_and_again),
		cmocka_unit_test(test_a_signal_before_the_reply),
		cmocka_unit_test(test_logs_may_begin_anywhere),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
