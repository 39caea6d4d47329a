/* SPDX-License-Identifier: Apache-2.0 */
/* The properties of src/base that everything else leans on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/path.h"

static void error_reads_from_the_outside_in(void **state)
{
	(void)state;
	struct brig_err e = BRIG_ERR_INIT;
	assert_int_equal(brig_fail(&e, BRIG_E_NOT_FOUND, ENOENT, "open image '%s'", "nope"), -1);
	assert_int_equal(brig_ctx(&e, "create sandbox '%s'", "a1"), -1);
	assert_string_equal(e.msg, "create sandbox 'a1': open image 'nope': No such file or directory");
	assert_string_equal(brig_code_name(e.code), "not_found");
	assert_int_equal(brig_code_from_name("not_found"), BRIG_E_NOT_FOUND);
	brig_fail(NULL, BRIG_E_INTERNAL, 0, "nobody wants to know"); /* must not crash */
}

static void error_keeps_room_for_a_cause_behind_a_long_context(void **state)
{
	(void)state;
	struct brig_err e = BRIG_ERR_INIT;
	char longer[2000];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	brig_fail(&e, BRIG_E_INTERNAL, EIO, "%s", longer);
	brig_ctx(&e, "%s", longer);
	assert_true(strlen(e.msg) < sizeof(e.msg));
}

static void buffer_refuses_more_than_its_maximum(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(1000);
	char block[600] = { 0 };
	assert_int_equal(buf_add(&b, block, 600), 0);
	assert_int_equal(buf_add(&b, block, 401), -ENOBUFS);
	buf_consume(&b, 300);
	assert_int_equal(buf_add(&b, block, 401), 0);
	assert_int_equal(buf_len(&b), 701);
	uint8_t *at;
	assert_int_equal(buf_reserve(&b, SIZE_MAX, &at), -ENOBUFS);
	buf_done(&b);
}

static void buffer_keeps_order_over_many_appends_and_consumes(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(1 << 16);
	unsigned in = 0, out = 0;
	srandom(1);
	for (int round = 0; round < 5000; round++) {
		for (long n = random() % 40; n > 0; n--) {
			uint8_t c = (uint8_t)(in++ * 7);
			assert_int_equal(buf_add(&b, &c, 1), 0);
		}
		for (long n = random() % 40; n > 0 && buf_len(&b); n--) {
			assert_int_equal(*buf_head(&b), (uint8_t)(out++ * 7));
			buf_consume(&b, 1);
		}
	}
	buf_done(&b);
}

static void frame_survives_any_split(void **state)
{
	(void)state;
	struct buf all = BUF_INIT(1 << 20);
	assert_int_equal(frame_add(&all, BRIG_STDIN, BRIG_FF_EOF, 7, "abc", 3, "defg", 4), 0);
	assert_int_equal(frame_add(&all, BRIG_PING, 0, 0, NULL, 0, NULL, 0), 0);
	size_t total = buf_len(&all);
	for (size_t cut = 0; cut <= total; cut++) {
		struct buf b = BUF_INIT(1 << 20);
		struct frame f;
		int seen = 0;
		for (int part = 0; part < 2; part++) {
			size_t from = part ? cut : 0, to = part ? total : cut;
			assert_int_equal(buf_add(&b, buf_head(&all) + from, to - from), 0);
			while (frame_peek(&b, &f) == 1) {
				if (seen++ == 0) {
					assert_int_equal(f.h.type, BRIG_STDIN);
					assert_int_equal(f.h.flags, BRIG_FF_EOF);
					assert_int_equal(f.h.stream, 7);
					assert_memory_equal(f.payload, "abcdefg", 7);
				}
				buf_consume(&b, frame_size(&f));
			}
		}
		assert_int_equal(seen, 2);
		buf_done(&b);
	}
	buf_done(&all);
}

static void frame_header_that_breaks_a_rule_is_refused(void **state)
{
	(void)state;
	struct brig_frame_hdr bad[] = {
		{ .len = BRIG_FRAME_MAX + 1, .type = BRIG_STDIN, .stream = 1 },
		{ .len = UINT32_MAX, .type = BRIG_STDIN, .stream = 1 },
		{ .len = 0, .type = BRIG_STDIN, .flags = 0x8000, .stream = 1 },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf b = BUF_INIT(1 << 20);
		struct frame f;
		buf_add(&b, &bad[i], sizeof(bad[i]));
		assert_int_equal(frame_peek(&b, &f), -EPROTO);
		buf_done(&b);
	}
	struct buf b = BUF_INIT(1 << 20);
	char big[16] = { 0 };
	assert_int_equal(frame_add(&b, BRIG_STDIN, 0, 1, big, BRIG_FRAME_MAX, big, 1), -EMSGSIZE);
	buf_done(&b);
}

static void string_without_end_is_not_a_string(void **state)
{
	(void)state;
	const uint8_t data[] = { 'a', 0, 'b' };
	const uint8_t *at = data, *end = data + sizeof(data);
	assert_string_equal(frame_str(&at, end), "a");
	assert_null(frame_str(&at, end));
	at = end;
	assert_null(frame_str(&at, end));
}

static void every_frame_has_one_name_and_direction(void **state)
{
	(void)state;
	assert_string_equal(frame_name(BRIG_EXEC), "EXEC");
	assert_null(frame_name(9999));
	assert_int_equal(frame_dir(BRIG_STDOUT), FRAME_DIR_A);
	assert_int_equal(frame_dir(BRIG_CREDIT), FRAME_DIR_B);
	assert_int_equal(frame_dir(0), 0);
}

static void descriptors_beyond_what_is_expected_are_not_kept(void **state)
{
	(void)state;
	int sv[2], got[2], send[3];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	for (int i = 0; i < 3; i++)
		send[i] = open("/dev/null", O_RDONLY);
	int highest = dup(0);
	close(highest);
	assert_int_equal(fd_send(sv[0], "x", 1, send, 3), 0);
	char c;
	unsigned n = 2;
	assert_int_equal(fd_recv(sv[1], &c, 1, got, &n, 0), -EMSGSIZE);
	int after = dup(0);
	assert_int_equal(after, highest); /* nothing stayed open */
	close(after);
	assert_int_equal(fd_send(sv[0], "x", 1, send, 2), 0);
	n = 2;
	assert_int_equal(fd_recv(sv[1], &c, 1, got, &n, 0), 1);
	assert_int_equal(n, 2);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	for (int i = 0; i < 3; i++)
		close(send[i]);
	close(got[0]);
	close(got[1]);
	close(sv[0]);
	close(sv[1]);
}

/* A directory tree with every kind of way out: <root>/in/{file,up->..,abs->/etc,loop}. */
struct tree {
	char dir[64];
	int fd;
};

static int tree_setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));
	char path[128];
	snprintf(t->dir, sizeof(t->dir), "/tmp/brig-path-XXXXXX");
	if (!t || !mkdtemp(t->dir))
		return -1;
	snprintf(path, sizeof(path), "%s/in", t->dir);
	if (mkdir(path, 0755) < 0)
		return -1;
	t->fd = open(path, O_PATH | O_DIRECTORY);
	if (symlinkat("..", t->fd, "up") < 0 || symlinkat("/etc", t->fd, "abs") < 0 ||
	    symlinkat("file", t->fd, "link") < 0 || mkdirat(t->fd, "sub", 0755) < 0)
		return -1;
	int f = openat(t->fd, "file", O_CREAT | O_WRONLY, 0644);
	close(f);
	snprintf(path, sizeof(path), "%s/outside", t->dir);
	close(open(path, O_CREAT | O_WRONLY, 0644));
	*state = t;
	return 0;
}

static int tree_teardown(void **state)
{
	struct tree *t = *state;
	char cmd[128];
	close(t->fd);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", t->dir);
	int r = system(cmd); /* our own fixed path */
	free(t);
	return r;
}

static void path_never_leaves_its_root(void **state)
{
	struct tree *t = *state;
	static const char *const out[] = { "..", "../outside", "up", "up/outside", "abs", "abs/passwd",
					   "sub/../../outside", "link", "/../outside" };
	for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++)
		assert_true(path_open_beneath(t->fd, out[i], O_RDONLY, 0) < 0);
	/* The control: without the guard the same path does lead out. */
	int naive = openat(t->fd, "up/outside", O_RDONLY);
	assert_true(naive >= 0);
	close(naive);
	int fd = path_open_beneath(t->fd, "/file", O_RDONLY, 0);
	assert_true(fd >= 0);
	close(fd);
}

static void directories_are_not_made_through_links(void **state)
{
	struct tree *t = *state;
	assert_true(path_mkdirs_beneath(t->fd, "up/made", getuid(), getgid()) < 0);
	assert_true(path_mkdirs_beneath(t->fd, "abs/made", getuid(), getgid()) < 0);
	assert_int_equal(faccessat(t->fd, "../made", F_OK, 0), -1);
	int fd = path_mkdirs_beneath(t->fd, "/sub//a/b", getuid(), getgid());
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(faccessat(t->fd, "sub/a/b", F_OK, 0), 0);
}

static void clean_paths(void **state)
{
	(void)state;
	static const char *const good[] = { "/", "/a", "/a/b.c", "/a/..b", "/..a/b", "/a/..." };
	static const char *const bad[] = { "", "a", "/a//b", "/a/", "/./a", "/a/..", "/..", "//" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(path_is_clean(good[i], 100), 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(path_is_clean(bad[i], 100), 0);
	assert_int_equal(path_is_clean("/aaaa", 5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_reads_from_the_outside_in),
		cmocka_unit_test(error_keeps_room_for_a_cause_behind_a_long_context),
		cmocka_unit_test(buffer_refuses_more_than_its_maximum),
		cmocka_unit_test(buffer_keeps_order_over_many_appends_and_consumes),
		cmocka_unit_test(frame_survives_any_split),
		cmocka_unit_test(frame_header_that_breaks_a_rule_is_refused),
		cmocka_unit_test(string_without_end_is_not_a_string),
		cmocka_unit_test(every_frame_has_one_name_and_direction),
		cmocka_unit_test(descriptors_beyond_what_is_expected_are_not_kept),
		cmocka_unit_test_setup_teardown(path_never_leaves_its_root, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(directories_are_not_made_through_links, tree_setup,
						tree_teardown),
		cmocka_unit_test(clean_paths),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
