/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writable layer as a stream: its parser, what is refused, and a root that is told and applied
 * again. In the box the layer is the whole root; what an overlay makes of it is the integration
 * test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/layer.h"
#include "agent/layer_links.h"
#include "agent_driver.h"
#include "base/fd.h"

static const char *no_box;

/* ---- the parser ---- */

static void head_add(struct buf *b)
{
	struct layer_head h = { .magic = LAYER_MAGIC, .version = LAYER_VERSION };
	assert_int_equal(buf_add(b, &h, sizeof(h)), 0);
}

static void rec_add(struct buf *b, struct layer_rec h, const void *body, size_t n)
{
	h.len = (uint32_t)n;
	assert_int_equal(buf_add(b, &h, sizeof(h)), 0);
	assert_int_equal(buf_add(b, body, n), 0);
}

static ptrdiff_t parse(struct layer_rec h, const void *body, size_t n, struct layer_item *it)
{
	static struct buf b = BUF_INIT(1u << 20);
	buf_done(&b);
	rec_add(&b, h, body, n);
	return layer_parse(buf_head(&b), buf_len(&b), it);
}

#define BODY(text) text, sizeof(text) /* with the literal's own NUL */

static void records_that_break_a_rule_are_refused(void **state)
{
	static const struct {
		struct layer_rec h;
		const char *body;
		size_t n;
	} bad[] = {
		{ { .type = 0 }, BODY("x") },
		{ { .type = 12 }, BODY("x") },
		{ { .type = LAYER_GONE }, BODY("") },
		{ { .type = LAYER_GONE, .flags = LAYER_F_IMAGE }, BODY("x") },
		{ { .type = LAYER_GONE, .size = 1 }, BODY("x") },
		{ { .type = LAYER_DATA, .flags = LAYER_F_IMAGE }, BODY("x") },
		{ { .type = LAYER_END }, BODY("x") },
		{ { .type = LAYER_END, .size = 1 }, "", 0 },
		{ { .type = LAYER_DIR, .flags = 2 }, BODY("x") },
		{ { .type = LAYER_DIR, .mode = 0755 }, BODY("x") },
		{ { .type = LAYER_DIR }, "x", 1 },
		{ { .type = LAYER_DIR }, BODY("x\0y") },
		{ { .type = LAYER_DIR }, BODY("/") },
		{ { .type = LAYER_DIR }, BODY("a/") },
		{ { .type = LAYER_DIR }, BODY("a//b") },
		{ { .type = LAYER_DIR }, BODY("a/../b") },
		{ { .type = LAYER_DIR }, BODY("..") },
		{ { .type = LAYER_DIR }, BODY(".") },
		{ { .type = LAYER_FILE }, BODY("") },
		{ { .type = LAYER_FILE, .mode = 010000 }, BODY("a") },
		{ { .type = LAYER_FILE, .mtime_nsec = 1000000000 }, BODY("a") },
		{ { .type = LAYER_FILE, .size = UINT64_MAX }, BODY("a") },
		{ { .type = LAYER_DATA }, "", 0 },
		{ { .type = LAYER_DATA, .size = INT64_MAX }, BODY("a") },
		{ { .type = LAYER_DATA, .uid = 1 }, BODY("a") },
		{ { .type = LAYER_LINK }, BODY("a") },
		{ { .type = LAYER_LINK }, BODY("a\0../b") },
		{ { .type = LAYER_LINK }, BODY("a\0") },
		{ { .type = LAYER_SYMLINK }, BODY("a\0") },
		{ { .type = LAYER_SYMLINK, .mode = 0777 }, BODY("a\0b") },
		{ { .type = LAYER_NAMES }, BODY("a\0a") },
		{ { .type = LAYER_NAMES }, BODY("b\0a") },
		{ { .type = LAYER_NAMES }, BODY("a/b") },
		{ { .type = LAYER_NAMES }, BODY("..") },
		{ { .type = LAYER_NAMES }, BODY("") },
		{ { .type = LAYER_NAMES }, "a", 1 },
		{ { .type = LAYER_XATTR }, BODY("trusted.overlay.opaque\0y") },
		{ { .type = LAYER_XATTR }, BODY("user.overlay.opaque\0y") },
		{ { .type = LAYER_XATTR }, BODY("security.capability\0y") },
		{ { .type = LAYER_XATTR }, BODY("user.") },
		{ { .type = LAYER_XATTR }, "user.x", 6 },
	};
	struct layer_item it;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse(bad[i].h, bad[i].body, bad[i].n, &it) != -EINVAL)
			fail_msg("case %zu is taken", i);
	char name[300];
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(parse((struct layer_rec){ .type = LAYER_FILE }, name, 257, &it), -EINVAL);
	name[255] = '\0';
	assert_true(parse((struct layer_rec){ .type = LAYER_FILE }, name, 256, &it) > 0);
}

static void a_record_is_taken_when_it_is_whole(void **state)
{
	struct buf b = BUF_INIT(4096);
	struct layer_item it;
	(void)state;
	rec_add(&b, (struct layer_rec){ .type = LAYER_SYMLINK, .uid = 7 }, BODY("a/b\0target"));
	for (size_t n = 0; n < buf_len(&b); n++)
		assert_int_equal(layer_parse(buf_head(&b), n, &it), 0);
	assert_int_equal(layer_parse(buf_head(&b), buf_len(&b), &it), buf_len(&b));
	assert_string_equal(it.path, "a/b");
	assert_string_equal(it.target, "target");
	assert_int_equal(it.h.uid, 7);
	buf_done(&b);
	/* What is too long is refused before it has come. */
	struct layer_rec h = { .type = LAYER_DATA, .len = LAYER_BODY_MAX + 1 };
	assert_int_equal(layer_parse((uint8_t *)&h, sizeof(h), &it), -EINVAL);
	struct layer_head head = { .magic = LAYER_MAGIC, .version = LAYER_VERSION + 1 };
	assert_int_equal(layer_parse_head((uint8_t *)&head, sizeof(head)), -EINVAL);
	assert_int_equal(layer_parse_head((uint8_t *)&head, sizeof(head) - 1), 0);
}

static void the_first_name_of_an_inode_is_remembered(void **state)
{
	struct layer_links l = { .slot = NULL };
	char path[32];
	int r;
	(void)state;
	for (uint64_t i = 1; i <= 1000; i++) {
		snprintf(path, sizeof(path), "p%u", (unsigned)i);
		assert_null(layer_links_see(&l, i * 64, path, &r));
		assert_int_equal(r, 0);
	}
	for (uint64_t i = 1; i <= 1000; i++) {
		snprintf(path, sizeof(path), "p%u", (unsigned)i);
		assert_string_equal(layer_links_see(&l, i * 64, "other", &r), path);
	}
	layer_links_done(&l);
}

static void names_come_sorted_and_whole(void **state)
{
	char dir[] = "/tmp/brig-names.XXXXXX", path[128], want[32];
	struct layer_names l;
	(void)state;
	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 600; i++) {
		snprintf(path, sizeof(path), "%s/n%03d", dir, (i * 7) % 600);
		close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	layer_names_init(&l);
	assert_int_equal(layer_names_read(&l, fd), 0);
	assert_int_equal(l.n, 600);
	for (int i = 0; i < 600; i++, l.next++) {
		snprintf(want, sizeof(want), "n%03d", i);
		assert_string_equal(layer_names_peek(&l), want);
		assert_int_equal(unlinkat(fd, want, 0), 0);
	}
	assert_null(layer_names_peek(&l));
	layer_names_done(&l);
	rmdir(dir);
}

/* ---- the agent ---- */

static int boxed(void **state)
{
	*state = NULL;
	if (!no_box)
		*state = drv_start(
			&(struct drv_options){ .boxed = true, .root_kib = 65536, .layer = true });
	return 0;
}

static int unboxed(void **state)
{
	return *state ? drv_stop(*state) : 0;
}

static struct agent_driver *agent(void **state)
{
	if (!*state) {
		print_message("skipped: %s\n", no_box);
		skip();
	}
	return *state;
}

static int import(struct agent_driver *d, const void *p, size_t n)
{
	drv_fs(d, 5, BRIG_FS_IMPORT, &(struct drv_fs){ .path = "/", .no_credit = true });
	return drv_fs_feed(d, 5, p, n);
}

static const char *sh(struct agent_driver *d, const char *script)
{
	return drv_out(drv_sh(d, 6, "", script));
}

static const char describe[] =
	"cd /; find . -xdev \\( -path ./proc -o -path ./usr -o -path ./dev \\) -prune -o "
	"\\( -type d -printf '%p %y %m %U %G %T@\\n' -o "
	"-printf '%p %y %m %U %G %s %l %T@ %n\\n' \\) | LC_ALL=C sort; cat home/user/f "
	"home/user/big | "
	"cksum";

static void a_root_is_told_and_applied_to_another(void **state)
{
	struct agent_driver *a = agent(state);
	struct agent_driver *b =
		drv_start(&(struct drv_options){ .boxed = true, .root_kib = 65536, .layer = true });
	sh(a, "cd /home/user; echo text >f; ln f g; ln -s f l; mkfifo -m 640 p; mkdir -p d/e; "
	      "head -c 2000000 /dev/urandom >big; chmod 2750 d; chown 1000:1001 d f; "
	      "touch -h -d '2001-01-01 UTC' l f d; rm /etc/group; mkdir /etc/group");
	sh(b, "mkdir -p /home/user/x/y; echo >/home/user/x/y/z; mkdir /home/user/f; echo "
	      ">/home/user/f/g");
	assert_int_equal(
		drv_fs_now(a, 4, BRIG_FS_EXPORT, &(struct drv_fs){ .path = "/", .regrant = true }),
		0);
	struct buf *out = &a->s[4].out[0];
	assert_int_equal(a->s[4].fs.bytes, buf_len(out));
	assert_true(a->s[4].eof);
	assert_int_equal(import(b, buf_head(out), buf_len(out)), 0);
	assert_int_equal(b->s[5].fs.bytes, buf_len(out));
	char *want = strdup(sh(a, describe));
	assert_string_equal(sh(b, describe), want);
	assert_non_null(strstr(want, "./home/user/g f 644 1000 1001 5"));
	free(want);
	/* Cut anywhere, it is refused. */
	for (size_t n = 0; n < buf_len(out); n += buf_len(out) / 13)
		assert_int_equal(import(b, buf_head(out), n), EINVAL);
	/* Slowly, a few bytes of credit at a time. */
	struct drv_stream *s =
		drv_fs(a, 7, BRIG_FS_EXPORT, &(struct drv_fs){ .path = "/", .credit = 10 });
	drv_sync(a);
	drv_sync(a);
	assert_true(s->total[0] <= 10 && !s->done);
	drv_close(a, 7);
	assert_int_equal(drv_stop(b), 0);
}

static void streams_that_break_a_rule_change_nothing_elsewhere(void **state)
{
	struct agent_driver *d = agent(state);
	static const struct {
		const char *what;
		struct layer_rec h[2];
		const char *body[2];
		size_t n[2];
		int err;
	} bad[] = {
		{ "DATA without a FILE", { { .type = LAYER_DATA } }, { "x" }, { 1 }, EINVAL },
		{ "XATTR without a FILE",
		  { { .type = LAYER_XATTR } },
		  { "user.x\0y" },
		  { 8 },
		  EINVAL },
		{ "NAMES without a DIR", { { .type = LAYER_NAMES } }, { "" }, { 0 }, EINVAL },
		{ "DIR without NAMES",
		  { { .type = LAYER_DIR }, { .type = LAYER_END } },
		  { "etc", "" },
		  { 4, 0 },
		  EINVAL },
		{ "DATA beyond the size",
		  { { .type = LAYER_FILE, .size = 1 }, { .type = LAYER_DATA } },
		  { "new", "xy" },
		  { 4, 2 },
		  EINVAL },
		{ "a parent that is not there",
		  { { .type = LAYER_FILE } },
		  { "no/file" },
		  { 8 },
		  ENOENT },
		{ "a parent that is a link",
		  { { .type = LAYER_FILE } },
		  { "bin/file" },
		  { 9 },
		  ENOTDIR },
		{ "a parent that is a file",
		  { { .type = LAYER_FILE } },
		  { "etc/group/x" },
		  { 12 },
		  ENOTDIR },
		{ "another mount", { { .type = LAYER_FILE } }, { "proc/x" }, { 7 }, EXDEV },
		{ "another mount's own", { { .type = LAYER_DIR } }, { "proc" }, { 5 }, EXDEV },
		{ "a file across mounts",
		  { { .type = LAYER_LINK } },
		  { "l\0usr/bin/env" },
		  { 14 },
		  EXDEV },
		{ "after the end",
		  { { .type = LAYER_END }, { .type = LAYER_END } },
		  { "", "" },
		  { 0, 0 },
		  EINVAL },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf b = BUF_INIT(1u << 16);
		head_add(&b);
		for (int k = 0; k < 2; k++)
			if (bad[i].h[k].type)
				rec_add(&b, bad[i].h[k], bad[i].body[k], bad[i].n[k]);
		int r = import(d, buf_head(&b), buf_len(&b));
		if (r != bad[i].err)
			fail_msg("%s: errno %d", bad[i].what, r);
		buf_done(&b);
	}
	/* The place of something mounted is left as it is. */
	struct buf b = BUF_INIT(1u << 16);
	head_add(&b);
	rec_add(&b, (struct layer_rec){ .type = LAYER_FILE, .mode = 0644, .size = 3 },
		BODY("dev/null"));
	rec_add(&b, (struct layer_rec){ .type = LAYER_DATA }, "abc", 3);
	rec_add(&b, (struct layer_rec){ .type = LAYER_END }, "", 0);
	assert_int_equal(import(d, buf_head(&b), buf_len(&b)), 0);
	buf_done(&b);
	assert_string_equal(sh(d, "stat -c %F /dev/null; ls /proc/1/comm"),
			    "character special file\n/proc/1/comm\n");
}

static void only_root_may(void **state)
{
	struct agent_driver *d = agent(state);
	const uint16_t types[] = { BRIG_FS_EXPORT, BRIG_FS_IMPORT };
	for (int i = 0; i < 2; i++) {
		struct drv_fs q = { .user = "user", .path = "/" };
		assert_int_equal(drv_fs_now(d, 8, types[i], &q), EPERM);
		q.user = "";
		q.path = "/etc";
		assert_int_equal(drv_fs_now(d, 8, types[i], &q), EINVAL);
	}
	struct agent_driver *bare = drv_start(&(struct drv_options){ .boxed = true });
	assert_int_equal(drv_fs_now(bare, 8, BRIG_FS_EXPORT, &(struct drv_fs){ .path = "/" }),
			 EOPNOTSUPP);
	assert_int_equal(drv_stop(bare), 0);
}

static void a_root_that_is_too_small_says_so(void **state)
{
	struct agent_driver *d = agent(state);
	static uint8_t data[LAYER_DATA_MAX];
	struct buf b = BUF_INIT(80u << 20);
	memset(data, 'x', sizeof(data));
	head_add(&b);
	rec_add(&b, (struct layer_rec){ .type = LAYER_FILE, .size = 70u << 20 },
		BODY("home/large"));
	for (uint64_t at = 0; at < 70u << 20; at += sizeof(data))
		rec_add(&b, (struct layer_rec){ .type = LAYER_DATA, .size = at }, data,
			sizeof(data));
	rec_add(&b, (struct layer_rec){ .type = LAYER_END }, "", 0);
	assert_int_equal(import(d, buf_head(&b), buf_len(&b)), ENOSPC);
	assert_string_equal(d->s[5].fs_text, "home/large");
	buf_done(&b);
}

int main(void)
{
	drv_can_box(&no_box);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_that_break_a_rule_are_refused),
		cmocka_unit_test(a_record_is_taken_when_it_is_whole),
		cmocka_unit_test(the_first_name_of_an_inode_is_remembered),
		cmocka_unit_test(names_come_sorted_and_whole),
#define T(name) cmocka_unit_test_setup_teardown(name, boxed, unboxed)
		T(a_root_is_told_and_applied_to_another),
		T(streams_that_break_a_rule_change_nothing_elsewhere),
		T(only_root_may),
		T(a_root_that_is_too_small_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
