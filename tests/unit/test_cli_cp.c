/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig cp: where a source ends up, and what a hostile sandbox can do to the host.
 *
 * The sandbox's side is a script: all its frames are in the socket before the client asks, which is
 * possible because the client numbers its operations 1, 2, 3 ...
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "cli/cp.h"
#include "cli/cp_path.h"

/* ---- paths ---- */

static void test_places(void **state)
{
	static const struct {
		const char *text, *id, *path; /* id NULL: refused */
	} rows[] = {
		{ "a:/x", "a", "/x" },	  { "a:x", "a", "x" },	      { "/a:b", "", "/a:b" },
		{ "./a:b", "", "./a:b" }, { "../a:b", "", "../a:b" }, { "d/a:b", "", "d/a:b" },
		{ "plain", "", "plain" }, { ":x", "", ":x" },	      { "a:b:c", "a", "b:c" },
		{ "-", "", "-" },	  { "a:", NULL, NULL },	      { "", NULL, NULL },
		{ "a:.", "a", "." },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct cp_place p;
		int r = cp_place_parse(rows[i].text, &p, &err);
		assert_int_equal(r, rows[i].id ? 0 : -1);
		if (r == 0) {
			assert_string_equal(p.id, rows[i].id);
			assert_string_equal(p.path, rows[i].path);
		}
	}
}

static void test_targets(void **state)
{
	static const struct {
		const char *src;
		bool is_dir;
		const char *dst;
		enum cp_kind kind;
		bool many;
		const char *name; /* "" = the destination itself, NULL = refused */
	} rows[] = {
		{ "/a/f", false, "d", CP_DIR, false, "f" },
		{ "/a/f", false, "d/", CP_DIR, true, "f" },
		{ "f", false, "g", CP_NONE, false, "" },
		{ "f", false, "g/", CP_NONE, false, NULL },
		{ "f", false, "g", CP_FILE, false, "" },
		{ "f", false, "g/", CP_FILE, false, NULL },
		{ "f", false, "g", CP_NONE, true, NULL },
		{ "f", false, "g", CP_FILE, true, NULL },
		{ "/a/dir", true, "d", CP_DIR, false, "dir" },
		{ "/a/dir/", true, "d", CP_DIR, false, "dir" },
		{ "/a/dir///", true, "d", CP_DIR, false, "dir" },
		{ "/a/dir/.", true, "d", CP_DIR, false, "" },
		{ "/a/dir/..", true, "d", CP_DIR, false, "" },
		{ "/", true, "d", CP_DIR, false, "" },
		{ ".", true, "d", CP_DIR, true, "" },
		{ "dir", true, "new", CP_NONE, false, "" },
		{ "dir", true, "new/", CP_NONE, false, "" },
		{ "dir", true, "file", CP_FILE, false, NULL },
		{ "dir", true, "new", CP_NONE, true, NULL },
		{ "/..", false, "d", CP_DIR, false, NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct cp_target t;
		int r = cp_target_find(rows[i].src, rows[i].is_dir, rows[i].dst, rows[i].kind,
				       rows[i].many, &t, &err);
		if ((r == 0) != (rows[i].name != NULL))
			fail_msg("%zu: '%s' to '%s' gave %d", i, rows[i].src, rows[i].dst, r);
		if (r < 0)
			continue;
		assert_int_equal(t.into, rows[i].name[0] != '\0');
		assert_string_equal(t.name, rows[i].name);
	}
}

static void test_split_and_join(void **state)
{
	char dir[32], name[256], joined[16];
	(void)state;
	assert_int_equal(cp_split("a", dir, sizeof(dir), name), 0);
	assert_string_equal(dir, ".");
	assert_string_equal(name, "a");
	assert_int_equal(cp_split("/a", dir, sizeof(dir), name), 0);
	assert_string_equal(dir, "/");
	assert_int_equal(cp_split("x//y/b//", dir, sizeof(dir), name), 0);
	assert_string_equal(dir, "x//y");
	assert_string_equal(name, "b");
	assert_int_equal(cp_split("x/..", dir, sizeof(dir), name), -1);
	assert_int_equal(cp_split(".", dir, sizeof(dir), name), -1);
	assert_int_equal(cp_split("", dir, sizeof(dir), name), -1);
	assert_int_equal(
		cp_split("0123456789012345678901234567890123456789/x", dir, sizeof(dir), name), -1);
	assert_int_equal(cp_join("/", "x", joined, sizeof(joined)), 0);
	assert_string_equal(joined, "/x");
	assert_int_equal(cp_join("/a", "x", joined, sizeof(joined)), 0);
	assert_string_equal(joined, "/a/x");
	assert_int_equal(cp_join("/0123456789", "abcd", joined, sizeof(joined)), -1);
}

static void test_names_from_the_wire(void **state)
{
	char longest[257];
	(void)state;
	memset(longest, 'a', 256);
	longest[255] = '\0';
	assert_true(fsop_name_ok("a"));
	assert_true(fsop_name_ok("..."));
	assert_true(fsop_name_ok(longest));
	longest[255] = 'a';
	longest[256] = '\0';
	assert_false(fsop_name_ok(longest));
	assert_false(fsop_name_ok(""));
	assert_false(fsop_name_ok("."));
	assert_false(fsop_name_ok(".."));
	assert_false(fsop_name_ok("/"));
	assert_false(fsop_name_ok("a/b"));
	assert_false(fsop_name_ok("../../etc/passwd"));
}

/* ---- a sandbox by script ---- */

struct script {
	int client, sandbox;
	uint32_t stream;
	struct fsop fs;
	char dir[64]; /* below it "d" is the destination and "canary" what must not change */
};

static int setup(void **state)
{
	struct script *s = calloc(1, sizeof(*s));
	int ends[2];
	char path[128];
	assert_non_null(s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	int size = 1 << 20;
	(void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	s->client = ends[0];
	s->sandbox = ends[1];
	s->fs = (struct fsop)FSOP_NONE;
	s->fs.conn.fd = ends[0];
	strcpy(s->dir, "/tmp/brig-cp-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(path, sizeof(path), "%s/d", s->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/canary", s->dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, "alive", 5), 5);
	close(fd);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct script *s = *state;
	char command[128];
	close(s->sandbox);
	fsop_done(&s->fs);
	snprintf(command, sizeof(command), "rm -rf %s", s->dir);
	int r = system(command);
	free(s);
	return r;
}

static void put(struct script *s, uint16_t type, uint16_t flags, const void *p, size_t n)
{
	struct brig_frame_hdr h = {
		.len = (uint32_t)n, .type = type, .flags = flags, .stream = s->stream
	};
	assert_int_equal(fd_write_full(s->sandbox, &h, sizeof(h)), 0);
	assert_int_equal(fd_write_full(s->sandbox, p, n), 0);
}

static void put_done(struct script *s, int err)
{
	struct {
		struct brig_fs_done m;
		char text[8];
	} d = { .m = { .err = err } };
	put(s, BRIG_FS_DONE, 0, &d, sizeof(d.m) + 1);
}

static void put_entry(struct script *s, const char *name, mode_t mode, uint64_t size,
		      const char *target)
{
	struct {
		struct brig_fs_entry m;
		char text[600];
	} e = { .m = { .mode = mode, .size = size, .mtime_sec = 1000000000 } };
	char *p = e.text;
	p += sprintf(p, "%s", name) + 1;
	p += sprintf(p, "%s", target) + 1;
	p += sprintf(p, "user") + 1;
	p += sprintf(p, "user") + 1;
	put(s, BRIG_FS_ENTRY, 0, &e, sizeof(e.m) + (size_t)(p - e.text));
}

/* The answer to STAT, which begins each copy. */
static void script_stat(struct script *s, mode_t mode, uint64_t size, const char *target)
{
	s->stream++;
	put_entry(s, "asked", mode, size, target);
	put_done(s, 0);
}

static void script_data(struct script *s, const char *text)
{
	s->stream++;
	put(s, BRIG_FS_DATA, 0, text, strlen(text));
	put(s, BRIG_FS_DATA, BRIG_FF_EOF, "", 0);
	put_done(s, 0);
}

static int copy_out(struct script *s, const char *dst, struct brig_err *err)
{
	struct cp_job j = { .fs = &s->fs, .bytes_left = 1 << 20, .files_left = 100 };
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", s->dir, dst);
	/* Nothing more will come. */
	shutdown(s->sandbox, SHUT_WR);
	*err = (struct brig_err)BRIG_ERR_INIT;
	return cp_out(&j, "/src", path, err);
}

static void check_file(struct script *s, const char *name, const char *want)
{
	char path[128], text[64] = "";
	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	ssize_t n = read(fd, text, sizeof(text) - 1);
	assert_true(n >= 0);
	assert_string_equal(text, want);
	close(fd);
}

static unsigned count_entries(struct script *s, const char *name)
{
	char path[128];
	unsigned n = 0;
	struct dirent *e;
	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	DIR *d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	closedir(d);
	return n;
}

/* What every hostile copy must leave: the canary, nothing beside it, no temporary file. */
static void check_contained(struct script *s)
{
	check_file(s, "canary", "alive");
	assert_int_equal(count_entries(s, "."), 2);
}

static void test_an_honest_tree_arrives(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	struct stat st;
	char path[128], target[64] = "";
	script_stat(s, S_IFDIR | 0750, 0, "");
	s->stream++;
	put_entry(s, "f", S_IFREG | 04640, 5, "");
	put_entry(s, "l", S_IFLNK | 0777, 0, "../../canary");
	put_entry(s, "fifo", S_IFIFO | 0666, 0, "");
	put_entry(s, "empty", S_IFREG | 0600, 0, "");
	put_done(s, 0);
	script_data(s, "hello");
	if (copy_out(s, "d", &err) < 0)
		fail_msg("%s", err.msg);
	check_file(s, "d/src/f", "hello");
	check_file(s, "d/src/empty", "");
	assert_int_equal(count_entries(s, "d/src"), 3);
	snprintf(path, sizeof(path), "%s/d/src/f", s->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640); /* no setuid */
	assert_int_equal(st.st_mtime, 1000000000);
	snprintf(path, sizeof(path), "%s/d/src", s->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	snprintf(path, sizeof(path), "%s/d/src/l", s->dir);
	assert_int_equal(readlink(path, target, sizeof(target) - 1), 12);
	assert_string_equal(target, "../../canary");
	check_contained(s);
}

static void test_names_that_leave_are_refused(void **state)
{
	static const char *const names[] = { "..", ".", "", "a/b", "../canary", "/etc/passwd" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct brig_err err;
		assert_int_equal(setup(state), 0);
		struct script *s = *state;
		script_stat(s, S_IFDIR | 0755, 0, "");
		s->stream++;
		put_entry(s, names[i], S_IFREG | 0600, 4, "");
		put_done(s, 0);
		script_data(s, "evil");
		assert_int_equal(copy_out(s, "d", &err), -1);
		assert_int_equal(err.code, BRIG_E_PROTOCOL);
		check_contained(s);
		teardown(state);
	}
	*state = NULL;
}

/* A link that this copy makes is not walked through by its next entry. */
static void test_a_link_then_a_directory_of_its_name(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	script_stat(s, S_IFDIR | 0755, 0, "");
	s->stream++;
	put_entry(s, "x", S_IFLNK | 0777, 0, s->dir);
	put_entry(s, "x", S_IFDIR | 0755, 0, "");
	put_done(s, 0);
	s->stream++;
	put_entry(s, "canary", S_IFREG | 0600, 4, "");
	put_done(s, 0);
	script_data(s, "evil");
	assert_int_equal(copy_out(s, "d", &err), -1);
	assert_true(err.sys == ENOTDIR || err.sys == ELOOP);
	check_contained(s);
}

static void test_a_link_then_a_file_of_its_name(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	char target[128];
	struct stat st;
	snprintf(target, sizeof(target), "%s/canary", s->dir);
	script_stat(s, S_IFDIR | 0755, 0, "");
	s->stream++;
	put_entry(s, "x", S_IFLNK | 0777, 0, target);
	put_entry(s, "x", S_IFREG | 0600, 4, "");
	put_done(s, 0);
	script_data(s, "evil");
	/* The link is replaced, not written through. */
	assert_int_equal(copy_out(s, "d", &err), 0);
	check_file(s, "d/src/x", "evil");
	snprintf(target, sizeof(target), "%s/d/src/x", s->dir);
	assert_int_equal(lstat(target, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	check_contained(s);
}

/* The same for a link that an earlier copy left behind. */
static void test_an_old_link_in_the_destination(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	char path[128], target[128];
	snprintf(path, sizeof(path), "%s/d/src", s->dir);
	snprintf(target, sizeof(target), "%s/canary", s->dir);
	assert_int_equal(symlink(target, path), 0);
	script_stat(s, S_IFREG | 0600, 4, "");
	script_data(s, "evil");
	assert_int_equal(copy_out(s, "d", &err), 0);
	check_file(s, "d/src", "evil");
	check_contained(s);
}

/* The control of the two above: a writer that opens by name does reach the canary here. */
static void test_control_a_naive_writer_escapes(void **state)
{
	struct script *s = *state;
	char path[128], target[128];
	snprintf(path, sizeof(path), "%s/d/src", s->dir);
	snprintf(target, sizeof(target), "%s/canary", s->dir);
	assert_int_equal(symlink(target, path), 0);
	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "evil", 4), 4);
	close(fd);
	check_file(s, "canary", "evil");
}

/* A place that the caller named is the caller's choice: written through, as with cp(1). */
static void test_the_callers_own_link_is_followed(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	char path[128];
	snprintf(path, sizeof(path), "%s/d/mine", s->dir);
	assert_int_equal(symlink("other", path), 0);
	snprintf(path, sizeof(path), "%s/d/other", s->dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	script_stat(s, S_IFREG | 0600, 4, "");
	script_data(s, "good");
	assert_int_equal(copy_out(s, "d/mine", &err), 0);
	check_file(s, "d/other", "good");
}

static void test_more_bytes_than_announced(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	script_stat(s, S_IFREG | 0600, 4, "");
	script_data(s, "five!");
	assert_int_equal(copy_out(s, "d", &err), -1);
	assert_int_equal(err.code, BRIG_E_PROTOCOL);
	assert_int_equal(count_entries(s, "d"), 0); /* no half file */
	check_contained(s);
}

static void test_bounds_of_the_job(void **state)
{
	struct brig_err err;
	struct script *s = *state;
	script_stat(s, S_IFREG | 0600, 1 << 21, "");
	assert_int_equal(copy_out(s, "d", &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	assert_string_not_equal(err.remedy, "");
	teardown(state);
	assert_int_equal(setup(state), 0);
	s = *state;
	script_stat(s, S_IFDIR | 0755, 0, "");
	s->stream++;
	for (int i = 0; i < 101; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%d", i);
		put_entry(s, name, S_IFREG | 0600, 0, "");
	}
	put_done(s, 0);
	assert_int_equal(copy_out(s, "d", &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	check_contained(s);
}

static void test_endless_depth(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	struct cp_job j = { .fs = &s->fs, .bytes_left = 1, .files_left = 100000 };
	char path[128];
	script_stat(s, S_IFDIR | 0755, 0, "");
	for (int i = 0; i < CP_DEPTH_MAX + 2; i++) {
		s->stream++;
		put_entry(s, "d", S_IFDIR | 0755, 0, "");
		put_done(s, 0);
	}
	snprintf(path, sizeof(path), "%s/d", s->dir);
	assert_int_equal(cp_out(&j, "/src", path, &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	check_contained(s);
}

static void test_the_sandboxs_errors_are_told(void **state)
{
	struct script *s = *state;
	struct brig_err err;
	s->stream++;
	put_done(s, ENOENT);
	assert_int_equal(copy_out(s, "d", &err), -1);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	assert_int_equal(err.sys, ENOENT);
	check_contained(s);
}

/* Frames that break the protocol, as the answer to STAT. */
static void test_malformed_answers(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t stream, len;
		int32_t err;
	} rows[] = {
		{ BRIG_FS_ENTRY, 1, 0, 0 },
		{ BRIG_FS_ENTRY, 1, 47, 0 },
		{ BRIG_FS_ENTRY, 1, 48, 0 },
		{ BRIG_FS_ENTRY, 1, 51, 0 },
		{ BRIG_FS_ENTRY, 1, 53, 0 },
		{ BRIG_FS_DONE, 1, 16, 0 },
		{ BRIG_FS_DONE, 1, 15, 0 },
		{ BRIG_FS_DONE, 1, 17, 0 }, /* success without an entry */
		{ BRIG_FS_DONE, 1, 17, -5 },
		{ BRIG_FS_DONE, 1, 17, 5000 },
		{ BRIG_FS_DONE, 2, 17, 2 },
		{ BRIG_FS_DATA, 1, 4, 0 },
		{ BRIG_STDOUT, 1, 8, 0 },
		{ BRIG_CL_END, 0, 4, 0 },
		{ BRIG_CL_REP, 0, 17, 0 },
		{ 999, 1, 0, 0 },
		{ BRIG_FS_ENTRY, 1, 300000, 0 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err;
		char payload[64] = { 0 };
		assert_int_equal(setup(state), 0);
		struct script *s = *state;
		struct brig_frame_hdr h = { .len = rows[i].len,
					    .type = rows[i].type,
					    .stream = rows[i].stream };
		memcpy(payload, &rows[i].err, sizeof(rows[i].err));
		assert_int_equal(fd_write_full(s->sandbox, &h, sizeof(h)), 0);
		if (rows[i].len <= sizeof(payload))
			assert_int_equal(fd_write_full(s->sandbox, payload, rows[i].len), 0);
		assert_int_equal(copy_out(s, "d", &err), -1);
		if (err.code != BRIG_E_PROTOCOL)
			fail_msg("%zu: %s: %s", i, brig_code_name(err.code), err.msg);
		check_contained(s);
		teardown(state);
	}
	*state = NULL;
}

static int teardown_rest(void **state)
{
	return *state ? teardown(state) : 0;
}

#define SCRIPT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define OWN_TEST(f) cmocka_unit_test_setup_teardown(f, NULL, teardown_rest)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_split_and_join),
		cmocka_unit_test(test_names_from_the_wire),
		SCRIPT_TEST(test_an_honest_tree_arrives),
		OWN_TEST(test_names_that_leave_are_refused),
		SCRIPT_TEST(test_a_link_then_a_directory_of_its_name),
		SCRIPT_TEST(test_a_link_then_a_file_of_its_name),
		SCRIPT_TEST(test_an_old_link_in_the_destination),
		SCRIPT_TEST(test_control_a_naive_writer_escapes),
		SCRIPT_TEST(test_the_callers_own_link_is_followed),
		SCRIPT_TEST(test_more_bytes_than_announced),
		SCRIPT_TEST(test_bounds_of_the_job),
		SCRIPT_TEST(test_endless_depth),
		SCRIPT_TEST(test_the_sandboxs_errors_are_told),
		OWN_TEST(test_malformed_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
