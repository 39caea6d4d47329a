/* SPDX-License-Identifier: Apache-2.0 */
/* The image store: names, settings, digests, what is in use, what is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_image_tar.h"

#include <sys/file.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "image/archive.h"
#include "image/config.h"
#include "image/copy.h"
#include "image/digest.h"
#include "image/import.h"
#include "image/inodes.h"
#include "image/names.h"
#include "image/publish.h"
#include "image/seal.h"
#include "image/stage.h"
#include "image/store.h"
#include "image/tree.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* --- names and settings ------------------------------------------------------------------------
 */

static void names_of_images(void **state)
{
	static const char *const good[] = {
		"a",
		"base",
		"0",
		"a.b_c-d",
		"host",
		"my-image.v2",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};
	static const char *const bad[] = {
		"",
		".",
		"..",
		"-a",
		"_a",
		".a",
		"A",
		"a/b",
		"a b",
		"a\n",
		"\xc3\xa9",
		("sha256:" HEX),
		"a\x01",
		"../names/x",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!image_name_ok(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (image_name_ok(bad[i]))
			fail_msg("%s", bad[i]);
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(import_check_name("host", &err), -1);
	assert_non_null(strstr(err.msg, "built-in"));
}

static void digests_have_two_spellings_and_no_third(void **state)
{
	struct image_digest d;
	(void)state;
	assert_int_equal(image_digest_parse("sha256:" HEX, &d), 0);
	assert_string_equal(d.dir, "sha256-" HEX);
	assert_int_equal(image_digest_parse("sha256-" HEX, &d), 0);
	assert_string_equal(d.text, "sha256:" HEX);
	static const char *const bad[] = {
		"",
		"sha256",
		"sha256:",
		("sha256:" HEX "0"),
		("sha256/" HEX),
		("sha512:" HEX),
		HEX,
		"sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"sha256:../3456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(image_digest_parse(bad[i], &d), -EINVAL);
}

static void printed_names_fit_whatever_the_room(void **state)
{
	char name[300], out[64];
	(void)state;
	memset(name, '\x01', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (size_t cap = 1; cap <= sizeof(out); cap++) {
		memset(out, '#', sizeof(out));
		image_name_print(name, out, cap);
		assert_true(strnlen(out, cap) < cap);
		assert_true(cap == sizeof(out) || out[cap] == '#');
	}
	assert_string_equal(image_name_print("a\\b\x9b", out, sizeof(out)), "a\\x5cb\\x9b");
	snprintf(name, sizeof(name), "%0200d/the-end", 0);
	assert_non_null(strstr(image_name_print(name, out, sizeof(out)), "/the-end"));
}

#define CONFIG(user, env, more)                                                                  \
	"{\"name\":\"base\",\"digest\":\"sha256:" HEX "\",\"created\":\"2026-01-02T03:04:05Z\"," \
	"\"size_bytes\":7,\"files\":3,\"arch\":\"amd64\",\"user\":" user ",\"env\":" env         \
	",\"workdir\":\"/home/user\"" more "}"
#define USER "{\"name\":\"user\",\"uid\":1000,\"gid\":1000,\"home\":\"/home/user\"}"

static void settings_survive_being_written_and_read(void **state)
{
	struct image_config a, b;
	struct brig_err err = BRIG_ERR_INIT;
	static const char text[] = CONFIG(USER, "{\"Z\":\"=\",\"A_1\":\"x y\",\"EMPTY\":\"\"}", "");
	(void)state;
	if (image_config_parse(text, sizeof(text) - 1, &a, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(a.env_n, 3);
	assert_string_equal(a.env[0], "A_1=x y");
	assert_string_equal(a.env[2], "Z==");
	assert_null(a.env[3]);
	assert_int_equal(image_config_setenv(&a, "Z", "other"), 0);
	assert_int_equal(a.env_n, 3);
	json_t *json = image_config_json(&a);
	char *again = json_dumps(json, 0);
	assert_int_equal(image_config_parse(again, strlen(again), &b, &err), 0);
	assert_string_equal(b.env[2], "Z=other");
	assert_int_equal(b.user.uid, 1000);
	assert_string_equal(b.digest.dir, "sha256-" HEX);
	free(again);
	json_decref(json);
	image_config_done(&a);
	image_config_done(&b);
}

static void bad_settings_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"name\":1}",
		CONFIG(USER, "{}", ",\"extra\":1"),
		CONFIG(USER, "{}", ",\"workdir\":\"/x\""), /* twice */
		CONFIG(USER, "[]", ""),
		CONFIG(USER, "{\"1A\":\"x\"}", ""),
		CONFIG(USER, "{\"A=B\":\"x\"}", ""),
		CONFIG(USER, "{\"\":\"x\"}", ""),
		CONFIG(USER, "{\"A\":1}", ""),
		CONFIG("{\"name\":\"u\",\"uid\":65536,\"gid\":0,\"home\":\"/\"}", "{}", ""),
		CONFIG("{\"name\":\"u\",\"uid\":-1,\"gid\":0,\"home\":\"/\"}", "{}", ""),
		CONFIG("{\"name\":\"u\",\"uid\":0,\"gid\":0,\"home\":\"relative\"}", "{}", ""),
		CONFIG("{\"name\":\"u\",\"uid\":0,\"gid\":0,\"home\":\"/a/../b\"}", "{}", ""),
		CONFIG("{\"name\":\"u\",\"uid\":0,\"home\":\"/\"}", "{}", ""),
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct image_config c;
		struct brig_err err = BRIG_ERR_INIT;
		if (image_config_parse(bad[i], strlen(bad[i]), &c, &err) == 0)
			fail_msg("%s", bad[i]);
		assert_int_equal(err.code, BRIG_E_CORRUPT);
	}
}

static void many_inodes_are_told_apart(void **state)
{
	struct inodes m = { .slots = NULL };
	(void)state;
	for (uintptr_t i = 1; i <= 5000; i++) {
		void **v = inodes_at(&m, i % 3, i * 4096);
		assert_non_null(v);
		assert_null(*v);
		*v = malloc(8);
		memcpy(*v, &i, sizeof(i));
	}
	for (uintptr_t i = 1; i <= 5000; i++)
		assert_memory_equal(*inodes_at(&m, i % 3, i * 4096), &i, sizeof(i));
	assert_null(*inodes_at(&m, 4, 4096));
	inodes_done(&m);
}

/* --- digests -----------------------------------------------------------------------------------
 */

struct fixture {
	struct scratch s;
	char data[80];
	struct publisher p;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct brig_err err = BRIG_ERR_INIT;
	scratch_make(&f->s);
	snprintf(f->data, sizeof(f->data), "%s/root/data", f->s.path);
	f->p = (struct publisher)PUBLISHER_INIT;
	if (publisher_open(f->data, &f->p, &err) < 0) {
		print_error("%s\n", err.msg);
		return -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int ok = scratch_canary_intact(&f->s);
	publisher_close(&f->p);
	scratch_drop(&f->s);
	free(f);
	return ok ? 0 : -1;
}

static void hex_of(int root, char hex[IMAGE_DIGEST_LEN + 1])
{
	struct tree_digest d;
	struct image_digest text;
	struct brig_err err = BRIG_ERR_INIT;
	if (digest_tree(root, false, 1000, &d, &err) < 0)
		fail_msg("%s", err.msg);
	image_digest_from_bytes(d.sha256, &text);
	memcpy(hex, text.text, sizeof(text.text));
}

/* Worked out by hand from the description in digest.h, with sha256sum:
 *   printf 'brig-tree-1\nd 0755 0 0 0 - 1:. 0:\nf 0640 0 0 3 SUM 1:a 0:\nd 0700 0 0 0 - 1:b 0:\n
 *           l 0777 0 0 0 - 3:b/l 5:../to\n' | sha256sum     (one line; SUM = sha256 of "abc") */
static void the_digest_is_what_its_description_says(void **state)
{
	struct fixture *f = *state;
	char got[IMAGE_DIGEST_LEN + 1];
	assert_int_equal(mkdirat(f->s.root, "t", 0755), 0);
	int root = openat(f->s.root, "t", O_PATH | O_DIRECTORY | O_CLOEXEC);
	scratch_file(root, "a", "abc");
	assert_int_equal(mkdirat(root, "b", 0700), 0);
	assert_int_equal(symlinkat("../to", root, "b/l"), 0);
	hex_of(root, got);
	assert_string_equal(
		got, "sha256:e08653534cce5e9ea08e49cd237fa5910034a9ebbf6c7822c390d864f1c8600a");
	close(root);
}

/* Each of these is another tree, and none may have the digest of another. */
static void every_part_of_a_tree_is_in_its_digest(void **state)
{
	struct fixture *f = *state;
	char seen[12][IMAGE_DIGEST_LEN + 1];
	assert_int_equal(mkdirat(f->s.root, "t", 0755), 0);
	int root = openat(f->s.root, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int n = 0;
	hex_of(root, seen[n++]);
	scratch_file(root, "a", "abc");
	hex_of(root, seen[n++]);
	assert_int_equal(renameat(root, "a", root, "b"), 0);
	hex_of(root, seen[n++]);
	assert_int_equal(fchmodat(root, "b", 0600, 0), 0);
	hex_of(root, seen[n++]);
	int fd = openat(root, "b", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "abd", 3), 3);
	hex_of(root, seen[n++]);
	assert_int_equal(ftruncate(fd, 4), 0);
	hex_of(root, seen[n++]);
	close(fd);
	assert_int_equal(symlinkat("x", root, "l"), 0);
	hex_of(root, seen[n++]);
	unlinkat(root, "l", 0);
	assert_int_equal(symlinkat("y", root, "l"), 0);
	hex_of(root, seen[n++]);
	unlinkat(root, "l", 0);
	assert_int_equal(mkdirat(root, "l", 0755), 0);
	hex_of(root, seen[n++]);
	assert_int_equal(fchmod(root, 0711), 0);
	hex_of(root, seen[n++]);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++)
			if (strcmp(seen[i], seen[k]) == 0)
				fail_msg("%d and %d", i, k);
	/* What is not in it: times, and which names share a file. */
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	char again[IMAGE_DIGEST_LEN + 1], linked[IMAGE_DIGEST_LEN + 1];
	assert_int_equal(utimensat(root, "b", times, 0), 0);
	hex_of(root, again);
	assert_string_equal(again, seen[n - 1]);
	scratch_file(root, "m", "abd");
	assert_int_equal(fchmodat(root, "m", 0600, 0), 0);
	fd = openat(root, "m", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4), 0);
	close(fd);
	hex_of(root, again);
	unlinkat(root, "m", 0);
	assert_int_equal(linkat(root, "b", root, "m", 0), 0);
	hex_of(root, linked);
	assert_string_equal(again, linked);
	close(root);
}

static void what_no_stored_tree_has_has_no_digest(void **state)
{
	struct fixture *f = *state;
	struct tree_digest d;
	struct brig_err err = BRIG_ERR_INIT;
	int root = f->s.root;
	assert_int_equal(mkdirat(root, "t", 0755), 0);
	int t = openat(root, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scratch_file(t, "su", "x");
	assert_int_equal(fchmodat(t, "su", 04755, 0), 0);
	assert_int_equal(digest_tree(t, false, 100, &d, &err), -1);
	assert_non_null(strstr(err.msg, "setuid"));
	unlinkat(t, "su", 0);
	assert_int_equal(mkfifoat(t, "p", 0600), 0);
	assert_int_equal(digest_tree(t, false, 100, &d, &err), -1);
	assert_non_null(strstr(err.msg, "neither file"));
	unlinkat(t, "p", 0);
	scratch_file(t, "1", "");
	scratch_file(t, "2", "");
	assert_int_equal(digest_tree(t, false, 1, &d, &err), -1);
	assert_int_equal(digest_tree(t, false, 2, &d, &err), 0);
	assert_int_equal(d.files, 2);
	close(t);
}

/* --- copying a directory -----------------------------------------------------------------------
 */

static int copy_into(struct fixture *f, int from, int to, const struct tree_limits *max,
		     struct tree_stats *stats, struct brig_err *err)
{
	struct tree t;
	struct stat st;
	assert_int_equal(fstat(f->p.store.data, &st), 0);
	struct copy_source src = { .fd = from, .avoid_dev = st.st_dev, .avoid_ino = st.st_ino };
	tree_init(&t, to, false, max);
	int r = copy_tree(&src, &t, err);
	if (r == 0)
		r = tree_finish(&t, err);
	*stats = t.stats;
	tree_done(&t);
	return r;
}

static void a_copy_has_the_digest_of_its_source(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct tree_stats stats;
	const struct tree_limits max = { 1 << 26, 1000 };
	char a[IMAGE_DIGEST_LEN + 1], b[IMAGE_DIGEST_LEN + 1];
	assert_int_equal(mkdirat(f->s.root, "from", 0751), 0);
	assert_int_equal(mkdirat(f->s.root, "to", 0755), 0);
	int from = openat(f->s.root, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = openat(f->s.root, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scratch_file(from, "f", "text");
	assert_int_equal(linkat(from, "f", from, "again", 0), 0);
	assert_int_equal(symlinkat("/canary", from, "out"), 0);
	assert_int_equal(mkdirat(from, "d", 0500), 0);
	int big = openat(from, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(big, "x", 1, 10 << 20), 1);
	assert_int_equal(ftruncate(big, 20 << 20), 0);
	close(big);
	hex_of(from, a);
	assert_int_equal(mkfifoat(from, "fifo", 0600), 0);
	if (copy_into(f, from, to, &max, &stats, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(stats.devices, 1);
	hex_of(to, b);
	assert_string_equal(a, b);
	struct stat st, other;
	assert_int_equal(fstatat(to, "sparse", &st, 0), 0);
	assert_true(st.st_blocks * 512 < 10 << 20);
	assert_int_equal(fstatat(to, "f", &st, 0), 0);
	assert_int_equal(fstatat(to, "again", &other, 0), 0);
	assert_int_equal(st.st_ino, other.st_ino);
	close(from);
	close(to);
}

static void a_source_that_holds_the_store_is_refused(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct tree_stats stats;
	const struct tree_limits max = { 1 << 20, 1000 };
	assert_int_equal(mkdirat(f->s.root, "to", 0755), 0);
	int from = openat(f->s.root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = openat(f->s.root, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(copy_into(f, from, to, &max, &stats, &err), -1);
	assert_non_null(strstr(err.msg, "is the image store"));
	close(from);
	close(to);
}

static void a_copy_is_limited_like_an_archive(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct tree_stats stats;
	const struct tree_limits bytes = { 3, 1000 }, names = { 100, 2 };
	assert_int_equal(mkdirat(f->s.root, "from", 0755), 0);
	assert_int_equal(mkdirat(f->s.root, "to", 0755), 0);
	int from = openat(f->s.root, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = openat(f->s.root, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scratch_file(from, "f", "text");
	assert_int_equal(copy_into(f, from, to, &bytes, &stats, &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	scratch_file(from, "g", "");
	scratch_file(from, "h", "");
	assert_int_equal(copy_into(f, from, to, &names, &stats, &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	close(from);
	close(to);
}

/* --- sealing -----------------------------------------------------------------------------------
 */

static int seal_root(struct fixture *f)
{
	assert_int_equal(mkdirat(f->s.root, "t", 0755), 0);
	int t = openat(f->s.root, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(t, "etc", 0755), 0);
	scratch_file(t, "etc/passwd",
		     "root:x:0:0:root:/root:/bin/sh\n"
		     "broken\n"
		     "far:x:70000:1:::/bin/sh\n"
		     "up:x:5:5::/a/../../etc:/bin/sh\n"
		     "user:x:1000:1001:A User,,,:/home/user:/bin/bash\n"
		     "last:x:7:8::/:/bin/sh");
	return t;
}

static void users_are_looked_up_in_the_image(void **state)
{
	static const struct {
		const char *who, *name, *home;
		unsigned uid, gid;
	} good[] = {
		{ NULL, "root", "/root", 0, 0 },
		{ "user", "user", "/home/user", 1000, 1001 },
		{ "1000", "user", "/home/user", 1000, 1001 },
		{ "1000:5", "user", "/home/user", 1000, 5 },
		{ "last", "last", "/", 7, 8 },
		{ "up", "up", "/", 5, 5 }, /* a home that is none */
		{ "4000", "", "/", 4000, 4000 },
		{ "4000:1", "", "/", 4000, 1 },
	};
	static const char *const bad[] = { "",	     "nobody", "far",	     "broken", "1000:",
					   "1000:x", "65536",  "1000:65536", "-1",     "user:x" };
	struct fixture *f = *state;
	int t = seal_root(f);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct seal_facts facts;
		struct seal_options o = { .user = good[i].who, .max_entries = 100 };
		if (seal_tree(t, &o, &facts, &err) < 0)
			fail_msg("%s: %s", good[i].who, err.msg);
		assert_string_equal(facts.user_name, good[i].name);
		assert_string_equal(facts.user_home, good[i].home);
		assert_int_equal(facts.uid, good[i].uid);
		assert_int_equal(facts.gid, good[i].gid);
		assert_int_equal(seal_check(&facts, NULL), 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct seal_facts facts;
		struct seal_options o = { .user = bad[i], .max_entries = 100 };
		if (seal_tree(t, &o, &facts, &err) == 0)
			fail_msg("%s", bad[i]);
	}
	close(t);
}

static void mount_points_are_made_or_must_be_directories(void **state)
{
	static const char *const points[] = { "proc", "sys", "dev", "tmp", "run", "etc" };
	struct fixture *f = *state;
	struct seal_facts facts;
	struct seal_options o = { .max_entries = 100 };
	struct stat st;
	int t = seal_root(f);
	assert_int_equal(seal_tree(t, &o, &facts, NULL), 0);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(fstatat(t, points[i], &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(st.st_mode, S_IFDIR | (i == 3 ? 01777 : 0755));
	}
	for (size_t i = 0; i < 5; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		unlinkat(t, points[i], AT_REMOVEDIR);
		assert_int_equal(symlinkat("etc", t, points[i]), 0);
		assert_int_equal(seal_tree(t, &o, &facts, &err), -1);
		assert_non_null(strstr(err.msg, "is a symbolic link"));
		unlinkat(t, points[i], 0);
		scratch_file(t, points[i], "");
		assert_int_equal(seal_tree(t, &o, &facts, &err), -1);
		assert_non_null(strstr(err.msg, "is no directory"));
		unlinkat(t, points[i], 0);
	}
	close(t);
}

static void a_lying_report_is_refused(void **state)
{
	const struct seal_facts honest = {
		.arch = "amd64", .user_name = "user", .user_home = "/home/user", .uid = 1, .gid = 2
	};
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	assert_int_equal(seal_check(&honest, &err), 0);
	for (int i = 0; i < 8; i++) {
		struct seal_facts lie = honest;
		switch (i) {
		case 0:
			memset(lie.arch, 'a', sizeof(lie.arch));
			break;
		case 1:
			memset(lie.user_name, 'a', sizeof(lie.user_name));
			break;
		case 2:
			memset(lie.user_home, '/', sizeof(lie.user_home));
			break;
		case 3:
			memcpy(lie.user_home, "/a/../b", 8);
			break;
		case 4:
			lie.uid = 65536;
			break;
		case 5:
			lie.gid = UINT32_MAX;
			break;
		case 6:
			memcpy(lie.user_name, "a\nb", 4);
			break;
		default:
			lie.tree.size_bytes = UINT64_MAX;
			break;
		}
		if (seal_check(&lie, &err) == 0)
			fail_msg("%d", i);
		assert_int_equal(err.code, BRIG_E_PROTOCOL);
	}
}

/* --- the store ---------------------------------------------------------------------------------
 */

/* Stores an image with one file of this text, without confinement: that has its own test. */
static void put_image(struct fixture *f, const char *name, const char *text, bool new_config,
		      bool *ret_reused, struct image_digest *ret)
{
	struct stage s;
	struct brig_err err = BRIG_ERR_INIT;
	struct tree_digest d;
	struct image_digest was;
	struct image_config c = {
		.created = "2026-01-02T03:04:05Z", .arch = "amd64", .user.home = "/", .workdir = "/"
	};
	assert_int_equal(stage_new(f->p.tmp, &s, &err), 0);
	int root = publish_prepare(&f->p, &s, &err);
	assert_true(root >= 0);
	scratch_file(root, "f", text);
	assert_int_equal(digest_tree(root, false, 10, &d, &err), 0);
	image_digest_from_bytes(d.sha256, &c.digest);
	snprintf(c.name, sizeof(c.name), "%s", name);
	c.size_bytes = d.size_bytes;
	if (publish_image(&f->p, &s, &c, new_config, ret_reused, &was, &err) < 0)
		fail_msg("%s", err.msg);
	*ret = c.digest;
	close(root);
	stage_drop(&s);
}

static void an_image_is_found_by_name_and_by_digest(void **state)
{
	struct fixture *f = *state;
	struct image_digest d;
	bool reused = true;
	char text[8] = "", prefix[13];
	put_image(f, "one", "first", false, &reused, &d);
	assert_false(reused);
	memcpy(prefix, d.text + 7, 12);
	prefix[12] = '\0';
	const char *refs[] = { "one", d.text, d.dir, prefix, d.text + 7 };
	for (size_t i = 0; i < 4; i++) {
		struct store s;
		struct store_image image;
		struct brig_err err = BRIG_ERR_INIT;
		assert_int_equal(store_open(f->data, &s, &err), 0);
		if (store_lookup(&s, refs[i], &image, &err) < 0)
			fail_msg("%s: %s", refs[i], err.msg);
		assert_string_equal(image.config.name, "one");
		int fd = openat(image.dir, "rootfs/f", O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, text, sizeof(text)), 5);
		close(fd);
		store_image_done(&image);
		store_close(&s);
	}
	struct store_image image;
	struct brig_err err = BRIG_ERR_INIT;
	static const char *const none[] = { "two", ("sha256:" HEX), "0123456789ab", "../one", "" };
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(store_lookup(&f->p.store, none[i], &image, &err), -1);
		assert_int_equal(err.code, BRIG_E_NOT_FOUND);
		assert_true(err.remedy[0] != '\0');
	}
	assert_int_equal(store_lookup(&f->p.store, "host", &image, &err), -1);
	assert_int_equal(err.code, BRIG_E_INVALID);
}

static void equal_trees_are_stored_once(void **state)
{
	struct fixture *f = *state;
	struct image_digest a, b, c;
	bool reused;
	struct names d;
	put_image(f, "one", "same", false, &reused, &a);
	put_image(f, "two", "same", false, &reused, &b);
	assert_true(reused);
	assert_string_equal(a.text, b.text);
	put_image(f, "two", "other", false, &reused, &c);
	assert_false(reused);
	int fd = openat(f->p.store.images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(names_read(fd, 100, &d), 0);
	assert_int_equal(d.n, 2);
	names_done(&d);
	close(fd);
	fd = openat(f->p.tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(names_read(fd, 100, &d), 0);
	assert_int_equal(d.n, 0);
	names_done(&d);
	close(fd);
}

static void an_image_in_use_stays(void **state)
{
	struct fixture *f = *state;
	struct image_digest d;
	struct store_image image;
	struct publish_removed gone;
	struct brig_err err = BRIG_ERR_INIT;
	bool reused;
	put_image(f, "one", "x", false, &reused, &d);
	assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), 0);
	/* A duplicate holds the lock as well, as one that was sent to another process does. */
	int held = fcntl(image.lock, F_DUPFD_CLOEXEC, 3);
	store_image_done(&image);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(publish_remove(&f->p, i ? d.text : "one", &gone, &err), -1);
		assert_int_equal(err.code, BRIG_E_BUSY);
		assert_true(err.remedy[0] != '\0');
	}
	assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), 0);
	store_image_done(&image);
	close(held);
	assert_int_equal(publish_remove(&f->p, "one", &gone, &err), 0);
	assert_true(gone.image);
	assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), -1);
	assert_int_equal(store_lookup(&f->p.store, d.text, &image, &err), -1);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
}

static void names_go_one_by_one_and_the_image_with_the_last(void **state)
{
	struct fixture *f = *state;
	struct image_digest d;
	struct store_image image;
	struct publish_removed gone;
	struct brig_err err = BRIG_ERR_INIT;
	bool reused;
	put_image(f, "one", "x", false, &reused, &d);
	put_image(f, "two", "x", false, &reused, &d);
	assert_int_equal(publish_remove(&f->p, "one", &gone, &err), 0);
	assert_false(gone.image);
	assert_int_equal(store_lookup(&f->p.store, "two", &image, &err), 0);
	store_image_done(&image);
	assert_int_equal(publish_remove(&f->p, "two", &gone, &err), 0);
	assert_true(gone.image);
	put_image(f, "one", "x", false, &reused, &d);
	put_image(f, "two", "x", false, &reused, &d);
	assert_int_equal(publish_remove(&f->p, d.text, &gone, &err), 0);
	assert_int_equal(publish_remove(&f->p, "one", &gone, &err), -1);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	assert_int_equal(publish_remove(&f->p, "host", &gone, &err), -1);
}

static void a_broken_image_is_named_and_can_be_repaired_or_removed(void **state)
{
	struct fixture *f = *state;
	struct image_digest d;
	struct store_image image;
	struct publish_removed gone;
	struct brig_err err = BRIG_ERR_INIT;
	bool reused;
	char path[200];
	static const char *const parts[] = { "config.json", ".lock" };
	for (int i = 0; i < 2; i++) {
		put_image(f, "one", "x", false, &reused, &d);
		snprintf(path, sizeof(path), "%s/%s", d.dir, parts[i]);
		assert_int_equal(unlinkat(f->p.store.images, path, 0), 0);
		assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), -1);
		assert_int_equal(err.code, BRIG_E_CORRUPT);
		assert_non_null(strstr(err.remedy, "brig image rm"));
		put_image(f, "one", "x", false, &reused, &d);
		assert_false(reused);
		assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), 0);
		store_image_done(&image);
		assert_int_equal(unlinkat(f->p.store.images, path, 0), 0);
		assert_int_equal(publish_remove(&f->p, "one", &gone, &err), 0);
	}
	/* A name with rubbish in it. */
	put_image(f, "one", "x", false, &reused, &d);
	int fd = openat(f->p.store.names, "one", O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "sha256-../../x\n", 15), 15);
	close(fd);
	assert_int_equal(store_lookup(&f->p.store, "one", &image, &err), -1);
	assert_int_equal(err.code, BRIG_E_CORRUPT);
	assert_int_equal(publish_remove(&f->p, "one", &gone, &err), 0);
	/* A name that leads to nothing. */
	put_image(f, "one", "x", false, &reused, &d);
	assert_int_equal(publish_remove(&f->p, d.text, &gone, &err), 0);
	fd = openat(f->p.store.names, "one", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(write(fd, d.dir, strlen(d.dir)) > 0);
	close(fd);
	assert_int_equal(publish_remove(&f->p, "one", &gone, &err), 0);
	assert_int_equal(faccessat(f->p.store.names, "one", F_OK, 0), -1);
}

static void a_store_that_others_can_change_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store s;
	struct brig_err err = BRIG_ERR_INIT;
	static const unsigned modes[] = { 0775, 0757, 0777 };
	for (int i = 0; i < 3; i++) {
		assert_int_equal(chmod(f->data, modes[i]), 0);
		assert_int_equal(store_open(f->data, &s, &err), -1);
		assert_int_equal(err.code, BRIG_E_DENIED);
	}
	assert_int_equal(chmod(f->data, 0755), 0);
	assert_int_equal(store_open(f->data, &s, &err), 0);
	store_close(&s);
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(f->data, 12345, 0), 0);
	assert_int_equal(store_open(f->data, &s, &err), -1);
	assert_int_equal(err.code, BRIG_E_DENIED);
}

static void only_the_daemon_gets_through_to_images(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	assert_int_equal(fstatat(f->p.store.data, "images", &st, 0), 0);
	if (geteuid() == 0) {
		assert_int_equal(st.st_mode & 07777, 0710);
		assert_int_equal(st.st_gid, 0x70000000);
	} else {
		assert_int_equal(st.st_mode & 07777, 0700);
	}
	/* Somebody opened it up: the next writer closes it. */
	assert_int_equal(fchmodat(f->p.store.data, "images", 0755, 0), 0);
	publisher_close(&f->p);
	assert_int_equal(publisher_open(f->data, &f->p, NULL), 0);
	assert_int_equal(fstatat(f->p.store.data, "images", &st, 0), 0);
	assert_int_equal(st.st_mode & 0007, 0);
}

/* --- leftovers ---------------------------------------------------------------------------------
 */

struct sweep_seen {
	unsigned live, stale, removed, unknown;
};

static void count_state(void *ctx, const char *name, enum stage_state state, int error)
{
	struct sweep_seen *seen = ctx;
	(void)name;
	assert_int_equal(error, 0);
	seen->live += state == STAGE_LIVE;
	seen->stale += state == STAGE_STALE;
	seen->removed += state == STAGE_REMOVED;
	seen->unknown += state == STAGE_UNKNOWN;
}

static void leftovers_go_and_what_is_at_work_stays(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct stage live, dead;
	struct sweep_seen seen = { 0 };
	assert_int_equal(stage_new(f->p.tmp, &live, &err), 0);
	assert_int_equal(stage_new(f->p.tmp, &dead, &err), 0);
	/* A tree that its maker closed to everybody, itself included. */
	assert_int_equal(mkdirat(dead.dir, "image", 0755), 0);
	assert_int_equal(mkdirat(dead.dir, "image/d", 0755), 0);
	scratch_file(dead.dir, "image/d/f", "x");
	assert_int_equal(symlinkat("../../../../../canary", dead.dir, "image/d/s"), 0);
	assert_int_equal(fchmodat(dead.dir, "image/d", 0, 0), 0);
	assert_int_equal(fchmodat(dead.dir, "image", 0, 0), 0);
	fd_close(&dead.dir); /* what death does to a lock */
	assert_int_equal(mkdirat(f->p.tmp, "foreign", 0755), 0);

	assert_int_equal(stage_sweep(f->p.tmp, 0, count_state, &seen, &err), 0);
	assert_int_equal(seen.live, 1);
	assert_int_equal(seen.stale, 1);
	assert_int_equal(seen.unknown, 1);
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(stage_sweep(f->p.tmp, 1, count_state, &seen, &err), 0);
	assert_int_equal(seen.live, 1);
	assert_int_equal(seen.removed, 1);
	assert_int_equal(seen.unknown, 1);
	assert_int_equal(faccessat(f->p.tmp, dead.name, F_OK, 0), -1);
	assert_int_equal(faccessat(f->p.tmp, "foreign", F_OK, 0), 0);
	stage_drop(&live);
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(stage_sweep(f->p.tmp, 1, count_state, &seen, &err), 0);
	assert_int_equal(seen.live + seen.stale + seen.removed, 0);
}

static int prepare(void **state)
{
	(void)state;
	umask(022);
	return import_prepare(NULL);
}

int main(void)
{
#define FIXED(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_images),
		cmocka_unit_test(digests_have_two_spellings_and_no_third),
		cmocka_unit_test(printed_names_fit_whatever_the_room),
		cmocka_unit_test(settings_survive_being_written_and_read),
		cmocka_unit_test(bad_settings_are_refused),
		cmocka_unit_test(many_inodes_are_told_apart),
		FIXED(the_digest_is_what_its_description_says),
		FIXED(every_part_of_a_tree_is_in_its_digest),
		FIXED(what_no_stored_tree_has_has_no_digest),
		FIXED(a_copy_has_the_digest_of_its_source),
		FIXED(a_source_that_holds_the_store_is_refused),
		FIXED(a_copy_is_limited_like_an_archive),
		FIXED(users_are_looked_up_in_the_image),
		FIXED(mount_points_are_made_or_must_be_directories),
		cmocka_unit_test(a_lying_report_is_refused),
		FIXED(an_image_is_found_by_name_and_by_digest),
		FIXED(equal_trees_are_stored_once),
		FIXED(an_image_in_use_stays),
		FIXED(names_go_one_by_one_and_the_image_with_the_last),
		FIXED(a_broken_image_is_named_and_can_be_repaired_or_removed),
		FIXED(a_store_that_others_can_change_is_refused),
		FIXED(only_the_daemon_gets_through_to_images),
		FIXED(leftovers_go_and_what_is_at_work_stays),
	};
	return cmocka_run_group_tests_name("image store", tests, prepare, NULL);
}
