/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile archives against archive.c and tree.c, without the process wall around them: what holds
 * here holds by name resolution and limits alone.
 *
 * Each escape is also given to an extractor that trusts what it reads (naive_unpack), and must
 * succeed there: a trick that fails against that one too would prove nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_image_tar.h"

#include "base/err.h"
#include "image/archive.h"
#include "image/tree.h"

static const struct tree_limits small = { .bytes = 64 << 20, .entries = 1000 };

struct unpacked {
	int rc;
	struct brig_err err;
	struct tree_stats stats;
};

static struct unpacked unpack(struct scratch *s, struct tar *t, const struct tree_limits *max)
{
	struct unpacked u = { .err = BRIG_ERR_INIT };
	struct tree tree;
	tree_init(&tree, s->root, geteuid() == 0, max);
	u.rc = archive_unpack_mem(buf_len(&t->b) ? buf_head(&t->b) : (const void *)"",
				  buf_len(&t->b), ARCHIVE_RATIO_DEFAULT, &tree, &u.err);
	if (u.rc == 0)
		u.rc = tree_finish(&tree, &u.err);
	u.stats = tree.stats;
	tree_done(&tree);
	return u;
}

/* --- escapes -----------------------------------------------------------------------------------
 */

/* What an extractor does that trusts names: plain calls, in the root directory. */
static void naive_unpack(const struct scratch *s, struct tar *t)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(back >= 0 && fchdir(s->root) == 0);
	assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
	assert_int_equal(archive_read_open_memory(a, buf_head(&t->b), buf_len(&t->b)), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(e), *link = archive_entry_hardlink(e);
		char data[512];
		ssize_t n = 0;
		int fd;
		if (link) {
			unlink(name);
			if (linkat(AT_FDCWD, link, AT_FDCWD, name, AT_SYMLINK_FOLLOW) < 0)
				continue;
		} else if (archive_entry_filetype(e) == AE_IFLNK) {
			rmdir(name);
			if (symlink(archive_entry_symlink(e), name) < 0)
				continue;
		} else if (archive_entry_filetype(e) == AE_IFDIR) {
			if (mkdir(name, 0755) < 0 && errno != EEXIST)
				continue;
			assert_true(chmod(name, archive_entry_perm(e)) == 0 || errno != EPERM);
		} else if ((fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) >= 0) {
			n = archive_read_data(a, data, sizeof(data));
			assert_true(n >= 0 && write(fd, data, (size_t)n) == n);
			close(fd);
		}
	}
	archive_read_free(a);
	assert_int_equal(fchdir(back), 0);
	close(back);
}

#define ENTRY(...) tar_add(t, (struct tar_entry){ __VA_ARGS__ })
#define NEW_FILE(path) ENTRY(.name = path, .data = "evil", .size = 4)
#define DIR_(path) ENTRY(.name = path, .type = '5', .mode = 0755)
#define SYMLINK(path, to) ENTRY(.name = path, .type = '2', .link = to, .mode = 0777)
#define HARDLINK(path, to) ENTRY(.name = path, .type = '1', .link = to)

static void make_dotdot(struct tar *t, const struct scratch *s)
{
	(void)s;
	NEW_FILE("../canary/new");
}

static void make_inner_dotdot(struct tar *t, const struct scratch *s)
{
	(void)s;
	DIR_("d");
	NEW_FILE("d/../../canary/new");
}

static void make_absolute(struct tar *t, const struct scratch *s)
{
	char name[100];
	snprintf(name, sizeof(name), "%s/canary/new", s->path);
	NEW_FILE(name);
}

static void make_below_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	SYMLINK("s", "../canary");
	NEW_FILE("s/new");
}

static void make_below_absolute_symlink(struct tar *t, const struct scratch *s)
{
	char to[100];
	snprintf(to, sizeof(to), "%s/canary", s->path);
	SYMLINK("s", to);
	NEW_FILE("s/new");
}

/* Neither link alone leaves the root. */
static void make_symlink_chain(struct tar *t, const struct scratch *s)
{
	(void)s;
	DIR_("a");
	DIR_("a/b");
	SYMLINK("a/up", "..");
	SYMLINK("out", "a/up/../canary");
	NEW_FILE("out/new");
}

static void make_dir_becomes_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	DIR_("d");
	SYMLINK("d", "../canary");
	NEW_FILE("d/new");
}

static void make_write_through_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	SYMLINK("f", "../canary/secret");
	NEW_FILE("f");
}

static void make_mode_through_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	SYMLINK("s", "../canary");
	ENTRY(.name = "s", .type = '5', .mode = 0777);
}

static void make_hardlink_outside(struct tar *t, const struct scratch *s)
{
	(void)s;
	HARDLINK("h", "../canary/secret");
}

static void make_hardlink_absolute(struct tar *t, const struct scratch *s)
{
	char to[100];
	snprintf(to, sizeof(to), "%s/canary/secret", s->path);
	HARDLINK("h", to);
}

static void make_hardlink_below_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	SYMLINK("s", "../canary");
	HARDLINK("h", "s/secret");
}

/* The link is made to the link, and what is written later goes through it. */
static void make_hardlink_to_symlink(struct tar *t, const struct scratch *s)
{
	(void)s;
	SYMLINK("s", "../canary/secret");
	HARDLINK("h", "s");
	NEW_FILE("h");
}

static const struct escape {
	const char *what;
	void (*make)(struct tar *t, const struct scratch *s);
	const char *refusal; /* NULL = harmless here, and accepted */
} escapes[] = {
	{ "..", make_dotdot, "has '..' in its name" },
	{ ".. behind a directory", make_inner_dotdot, "has '..' in its name" },
	{ "absolute", make_absolute, NULL },
	{ "file below a symlink", make_below_symlink, "lies below a symbolic link" },
	{ "file below an absolute symlink", make_below_absolute_symlink,
	  "lies below a symbolic link" },
	{ "two symlinks", make_symlink_chain, "lies below a symbolic link" },
	{ "directory replaced by a symlink", make_dir_becomes_symlink,
	  "lies below a symbolic link" },
	{ "write through a symlink", make_write_through_symlink, NULL },
	{ "mode through a symlink", make_mode_through_symlink, NULL },
	{ "hard link to ..", make_hardlink_outside, "has '..' in its name" },
	{ "hard link to an absolute path", make_hardlink_absolute,
	  "is a hard link to what is not" },
	{ "hard link below a symlink", make_hardlink_below_symlink,
	  "is a hard link to what is not" },
	{ "hard link to a symlink", make_hardlink_to_symlink, "is a hard link to what is not" },
};

static void must_not_reach_outside_of_the_root(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
		struct scratch s;
		struct tar t = { BUF_INIT(1 << 20) };
		scratch_make(&s);
		escapes[i].make(&t, &s);
		tar_end(&t);
		struct unpacked u = unpack(&s, &t, &small);
		if (!scratch_canary_intact(&s))
			fail_msg("%s: the canary changed", escapes[i].what);
		if (escapes[i].refusal ? u.rc == 0 || !strstr(u.err.msg, escapes[i].refusal)
				       : u.rc < 0)
			fail_msg("%s: %d, %s", escapes[i].what, u.rc, u.err.msg);
		if (escapes[i].refusal)
			assert_int_equal(u.err.code, BRIG_E_INVALID);
		buf_done(&t.b);
		scratch_drop(&s);
	}
}

/* The control of the test above. */
static void each_escape_succeeds_against_an_extractor_that_trusts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
		struct scratch s;
		struct tar t = { BUF_INIT(1 << 20) };
		scratch_make(&s);
		assert_true(scratch_canary_intact(&s));
		escapes[i].make(&t, &s);
		tar_end(&t);
		naive_unpack(&s, &t);
		if (scratch_canary_intact(&s))
			fail_msg("%s: is no escape at all", escapes[i].what);
		buf_done(&t.b);
		scratch_drop(&s);
	}
}

/* --- what becomes of entries -------------------------------------------------------------------
 */

struct box {
	struct scratch s;
	struct tar t;
	struct unpacked u;
};

static int box_setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));
	b->t.b = (struct buf)BUF_INIT(256 << 20);
	scratch_make(&b->s);
	*state = b;
	return 0;
}

static int box_teardown(void **state)
{
	struct box *b = *state;
	int ok = scratch_canary_intact(&b->s);
	buf_done(&b->t.b);
	scratch_drop(&b->s);
	free(b);
	return ok ? 0 : -1;
}

static void box_unpack(struct box *b)
{
	tar_end(&b->t);
	b->u = unpack(&b->s, &b->t, &small);
}

static void assert_refused(struct box *b, enum brig_code code, const char *why)
{
	if (b->u.rc == 0 || b->u.err.code != code || !strstr(b->u.err.msg, why))
		fail_msg("want %s (%s), got %d: %s", why, brig_code_name(code), b->u.rc,
			 b->u.err.msg);
}

static void assert_accepted(struct box *b)
{
	if (b->u.rc < 0)
		fail_msg("%s", b->u.err.msg);
}

static void assert_content(struct box *b, const char *name, const char *want)
{
	char got[256] = "";
	int fd = openat(b->s.root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	assert_true(read(fd, got, sizeof(got) - 1) >= 0);
	close(fd);
	assert_string_equal(got, want);
}

static struct stat stat_of(struct box *b, const char *name)
{
	struct stat st;
	if (fstatat(b->s.root, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: %s", name, strerror(errno));
	return st;
}

static void absolute_names_land_inside(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	NEW_FILE("//x/./y//z");
	box_unpack(b);
	assert_accepted(b);
	assert_content(b, "x/y/z", "evil");
	assert_int_equal(stat_of(b, "x").st_mode & 07777, 0755);
}

static void the_last_of_equal_names_wins(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "f", .data = "first", .size = 5);
	ENTRY(.name = "./f", .data = "last", .size = 4, .mode = 0600);
	ENTRY(.name = "d", .type = '5', .mode = 0700);
	ENTRY(.name = "d/in", .data = "in", .size = 2);
	ENTRY(.name = "d/", .type = '5', .mode = 0511);
	SYMLINK("l", "one");
	SYMLINK("l", "two");
	box_unpack(b);
	assert_accepted(b);
	assert_content(b, "f", "last");
	assert_int_equal(stat_of(b, "f").st_mode & 07777, 0600);
	assert_int_equal(stat_of(b, "d").st_mode & 07777, 0511);
	char to[8] = "";
	assert_int_equal(readlinkat(b->s.root, "l", to, sizeof(to)), 3);
	assert_string_equal(to, "two");
}

static void replacing_one_name_leaves_its_other_names_alone(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "a", .data = "shared", .size = 6);
	HARDLINK("b", "a");
	ENTRY(.name = "a", .data = "own", .size = 3);
	box_unpack(b);
	assert_accepted(b);
	assert_content(b, "a", "own");
	assert_content(b, "b", "shared");
}

static void a_hard_link_to_itself_keeps_the_file(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "a", .data = "kept", .size = 4);
	HARDLINK("./a", "a");
	box_unpack(b);
	assert_accepted(b);
	assert_content(b, "a", "kept");
}

static void a_full_directory_is_not_replaced(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	NEW_FILE("d/f");
	SYMLINK("d", "/etc");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "would replace a directory that is not empty");
}

static void a_file_is_no_directory(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	NEW_FILE("f");
	NEW_FILE("f/g");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "lies below something that is no directory");
}

static void a_closed_directory_can_still_be_filled(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "-r", .type = '5', .mode = 0001);
	NEW_FILE("-r/o/f");
	ENTRY(.name = "-r/o", .type = '5', .mode = 0100);
	box_unpack(b);
	assert_accepted(b);
	assert_int_equal(stat_of(b, "-r").st_mode & 07777, 0001);
}

static void devices_are_left_out_and_counted(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "dev/null", .type = '3', .mode = 0666);
	ENTRY(.name = "dev/sda", .type = '4', .mode = 0660);
	ENTRY(.name = "pipe", .type = '6');
	NEW_FILE("f");
	box_unpack(b);
	assert_accepted(b);
	assert_int_equal(b->u.stats.devices, 3);
	assert_int_equal(faccessat(b->s.root, "dev/null", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(faccessat(b->s.root, "pipe", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_content(b, "f", "evil");
}

static void setuid_setgid_and_extended_attributes_do_not_survive(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const char caps[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	char value[64];
	ENTRY(.name = "su", .data = "x", .size = 1, .mode = 06755);
	ENTRY(.name = "sg", .type = '5', .mode = 02775);
	ENTRY(.name = "tmp", .type = '5', .mode = 01777);
	tar_pax(t, "SCHILY.xattr.security.capability", caps, sizeof(caps) - 1);
	NEW_FILE("cap");
	tar_pax(t, "SCHILY.xattr.user.x", "1", 1);
	NEW_FILE("user");
	box_unpack(b);
	assert_accepted(b);
	assert_int_equal(stat_of(b, "su").st_mode & 07777, 0755);
	assert_int_equal(stat_of(b, "sg").st_mode & 07777, 0775);
	assert_int_equal(stat_of(b, "tmp").st_mode & 07777, 01777);
	assert_int_equal(b->u.stats.stripped, 2);
	for (int i = 0; i < 2; i++) {
		int fd = openat(b->s.root, i ? "user" : "cap", O_RDONLY | O_CLOEXEC);
		assert_int_equal(flistxattr(fd, value, sizeof(value)), 0);
		close(fd);
	}
}

static void owners_are_kept_for_root(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "f", .uid = 1000, .gid = 65535);
	ENTRY(.name = "d/", .type = '5', .uid = 65535, .gid = 7, .mode = 0755);
	ENTRY(.name = "l", .type = '2', .link = "x", .uid = 12, .gid = 13);
	box_unpack(b);
	assert_accepted(b);
	unsigned me = geteuid();
	assert_int_equal(stat_of(b, "f").st_uid, me ? me : 1000);
	assert_int_equal(stat_of(b, "f").st_gid, me ? getegid() : 65535);
	assert_int_equal(stat_of(b, "d").st_uid, me ? me : 65535);
	assert_int_equal(stat_of(b, "l").st_gid, me ? getegid() : 13);
}

static void foreign_owners_are_refused(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const uint64_t ids[] = { 65536, 1u << 31, UINT32_MAX, 1ull << 50 };
	for (size_t i = 0; i < 2 * sizeof(ids) / sizeof(ids[0]); i++) {
		buf_consume(&t->b, buf_len(&t->b));
		ENTRY(.name = "f", .uid = i % 2 ? ids[i / 2] : 0, .gid = i % 2 ? 0 : ids[i / 2]);
		box_unpack(b);
		assert_refused(b, BRIG_E_INVALID, "id outside of 0 to 65535");
	}
}

/* --- sizes -------------------------------------------------------------------------------------
 */

static void a_huge_size_in_a_header_is_refused_at_once(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const uint64_t sizes[] = { (64 << 20) + 1, 1ull << 40, 1ull << 62 };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		buf_consume(&t->b, buf_len(&t->b));
		ENTRY(.name = "f", .data = "x", .size = 1, .claim = sizes[i]);
		box_unpack(b);
		assert_refused(b, BRIG_E_LIMIT, "bytes in all");
	}
	/* Negative in two's complement, if anybody should think so. */
	buf_consume(&t->b, buf_len(&t->b));
	ENTRY(.name = "f", .data = "x", .size = 1, .claim = UINT64_MAX);
	box_unpack(b);
	assert_int_equal(b->u.rc, -1);
	assert_int_equal(b->u.stats.bytes, 0);
}

static void files_add_up_to_the_limit(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	size_t half = 32 << 20;
	char *data = calloc(1, half);
	ENTRY(.name = "a", .data = data, .size = half);
	ENTRY(.name = "a", .data = data, .size = half); /* replacing gives nothing back */
	size_t exact = buf_len(&t->b);
	box_unpack(b);
	assert_accepted(b);
	/* The same and one byte more. */
	struct tar more = { BUF_INIT(256 << 20) };
	assert_int_equal(buf_add(&more.b, buf_head(&t->b), exact), 0);
	tar_add(&more, (struct tar_entry){ .name = "c", .data = "x", .size = 1 });
	tar_end(&more);
	b->u = unpack(&b->s, &more, &small);
	assert_refused(b, BRIG_E_LIMIT, "bytes in all");
	buf_done(&more.b);
	free(data);
}

static void a_sparse_bomb_counts_with_its_full_size(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const char pax[] = "22 GNU.sparse.major=1\n"
				  "22 GNU.sparse.minor=0\n"
				  "25 GNU.sparse.name=bomb2\n"
				  "37 GNU.sparse.realsize=1099511627776\n";
	static const char map[512] = "1\n1099511627775\n1\n";
	ENTRY(.name = "pax", .type = 'x', .data = pax, .size = sizeof(pax) - 1);
	char body[513];
	memcpy(body, map, 512);
	body[512] = 'x';
	ENTRY(.name = "GNUSparseFile.0/bomb", .data = body, .size = sizeof(body));
	box_unpack(b);
	assert_refused(b, BRIG_E_LIMIT, "1099511627776 bytes: more than 67108864 bytes in all");
}

static void a_small_sparse_file_keeps_its_holes(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const char pax[] = "22 GNU.sparse.major=1\n"
				  "22 GNU.sparse.minor=0\n"
				  "23 GNU.sparse.name=hol\n"
				  "32 GNU.sparse.realsize=16777216\n";
	char body[512 + 512] = "1\n16776704\n512\n";
	memset(body + 512, 'e', 512);
	ENTRY(.name = "pax", .type = 'x', .data = pax, .size = sizeof(pax) - 1);
	ENTRY(.name = "GNUSparseFile.0/hol", .data = body, .size = sizeof(body));
	box_unpack(b);
	assert_accepted(b);
	struct stat st = stat_of(b, "hol");
	assert_int_equal(st.st_size, 16777216);
	assert_true(st.st_blocks < 2048);
	assert_int_equal(b->u.stats.bytes, 16777216);
}

static void entries_are_limited(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	for (unsigned i = 0; i < small.entries; i++) {
		char name[16];
		snprintf(name, sizeof(name), "f%u", i);
		ENTRY(.name = name);
	}
	size_t n = buf_len(&t->b);
	box_unpack(b);
	assert_accepted(b);
	buf_consume(&t->b, buf_len(&t->b));
	for (unsigned i = 0; i <= small.entries; i++)
		ENTRY(.name = "same"); /* a name written again costs as much as a new one */
	assert_true(buf_len(&t->b) > n);
	box_unpack(b);
	assert_refused(b, BRIG_E_LIMIT, "more than 1000 entries");
}

/* An entry whose name implies 47 directories. */
static void add_deep(struct tar *t, unsigned i)
{
	char name[100];
	size_t n = (size_t)snprintf(name, sizeof(name), "r%02u", i);
	while (n < 96)
		n += (size_t)snprintf(name + n, sizeof(name) - n, "/d");
	NEW_FILE(name);
}

static void implied_directories_count_as_entries(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	for (unsigned i = 0; i < 10; i++)
		add_deep(t, i);
	box_unpack(b);
	assert_accepted(b);
	assert_int_equal(b->u.stats.entries, 10 * 48);
	buf_consume(&t->b, buf_len(&t->b));
	for (unsigned i = 10; i < 40; i++)
		add_deep(t, i);
	box_unpack(b);
	assert_refused(b, BRIG_E_LIMIT, "more than 1000 entries");
}

typedef int (*filter_fn)(struct archive *);
static const struct {
	const char *name;
	filter_fn write;
} filters[] = {
	{ "gzip", archive_write_add_filter_gzip },
	{ "bzip2", archive_write_add_filter_bzip2 },
	{ "xz", archive_write_add_filter_xz },
	{ "zstd", archive_write_add_filter_zstd },
};

static void compressed_archives_are_read(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		buf_consume(&t->b, buf_len(&t->b));
		ENTRY(.name = "f", .data = filters[i].name, .size = strlen(filters[i].name));
		tar_end(t);
		tar_compress(t, filters[i].write);
		b->u = unpack(&b->s, t, &small);
		assert_accepted(b);
		assert_content(b, "f", filters[i].name);
	}
}

static void a_bomb_meets_the_ratio_whatever_packed_it(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	const struct tree_limits wide = { .bytes = 1ull << 40, .entries = 1000 };
	size_t n = 100 << 20;
	char *zeros = calloc(1, n);
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		buf_consume(&t->b, buf_len(&t->b));
		ENTRY(.name = "bomb", .data = zeros, .size = n);
		tar_end(t);
		tar_compress(t, filters[i].write);
		assert_true(buf_len(&t->b) < n / ARCHIVE_RATIO_DEFAULT);
		b->u = unpack(&b->s, t, &wide);
		assert_refused(b, BRIG_E_LIMIT, "unpacks to more than 250 times its size");
		assert_true((uint64_t)stat_of(b, "bomb").st_blocks * 512 < n);
		unlinkat(b->s.root, "bomb", 0);
	}
	free(zeros);
}

/* A device's data is nobody's, but it must be unpacked to get past it. */
static void a_bomb_in_a_skipped_entry_meets_the_ratio(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	size_t n = 100 << 20;
	char *data = malloc(n);
	memset(data, 'z', n); /* zeros could be the end of the archive */
	NEW_FILE("target");
	tar_pax(t, "comment", "pax", 3); /* of the formats, this one gives links a body */
	ENTRY(.name = "link", .type = '1', .link = "target", .data = data, .size = n);
	NEW_FILE("after");
	tar_end(t);
	tar_compress(t, archive_write_add_filter_gzip);
	b->u = unpack(&b->s, t, &small);
	assert_refused(b, BRIG_E_LIMIT, "unpacks to more than 250 times its size");
	assert_int_equal(faccessat(b->s.root, "after", F_OK, 0), -1);
	free(data);
}

static void one_compression_is_enough(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	NEW_FILE("f");
	tar_end(t);
	tar_compress(t, archive_write_add_filter_gzip);
	tar_compress(t, archive_write_add_filter_gzip);
	b->u = unpack(&b->s, t, &small);
	assert_refused(b, BRIG_E_INVALID, "compressed more than once");
}

/* libarchive would start `lzop` or `gzip` from the PATH for these. */
static void no_program_is_started_to_unpack(void **state)
{
	struct box *b = *state;
	static const struct {
		const char *bytes;
		size_t n;
	} magic[] = {
		{ "\x89LZO\0\r\n\x1a\n", 9 }, { "LRZI\0\6", 6 },       { "\x1f\x9d\x90", 3 },
		{ "LZIP\1\x17", 6 },	      { "begin 644 x\n", 12 },
	};
	for (size_t i = 0; i < sizeof(magic) / sizeof(magic[0]); i++) {
		buf_consume(&b->t.b, buf_len(&b->t.b));
		assert_int_equal(buf_add(&b->t.b, magic[i].bytes, magic[i].n), 0);
		box_unpack(b);
		assert_refused(b, BRIG_E_CORRUPT, "Unrecognized archive format");
	}
}

/* Any of these formats would bring its own parser, and mtree files of the host by name. */
static void only_tar_is_an_archive(void **state)
{
	struct box *b = *state;
	static const char *const heads[] = {
		"PK\3\4\24\0\0\0\0\0",
		"070701",
		"#mtree\n./x type=file contents=/etc/shadow\n",
		"7z\xbc\xaf\x27\x1c",
		"Rar!\x1a\7\1",
		"!<arch>\n",
		"xar!",
		"MSCF",
	};
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		buf_consume(&b->t.b, buf_len(&b->t.b));
		assert_int_equal(buf_add(&b->t.b, heads[i], strlen(heads[i])), 0);
		box_unpack(b);
		assert_refused(b, BRIG_E_CORRUPT, "Unrecognized archive format");
	}
}

/* --- names -------------------------------------------------------------------------------------
 */

static void long_and_deep_names_are_refused(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	char *name = malloc(8192);
	memset(name, 'n', 256);
	tar_pax(t, "path", name, 256);
	NEW_FILE("x");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "a component of more than 255 bytes");

	buf_consume(&t->b, buf_len(&t->b));
	for (unsigned i = 0; i < 257; i++)
		memcpy(name + 2 * i, "d/", 2);
	tar_pax(t, "path", name, 2 * 257 - 1);
	NEW_FILE("x");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "more than 256 directories deep");

	buf_consume(&t->b, buf_len(&t->b));
	memset(name, 'c', 8192);
	for (unsigned i = 200; i < 8192; i += 200)
		name[i] = '/';
	tar_pax(t, "path", name, 4097);
	NEW_FILE("x");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "a name of more than 4095 bytes");

	buf_consume(&t->b, buf_len(&t->b));
	tar_pax(t, "path", name, 4000);
	NEW_FILE("x");
	box_unpack(b);
	assert_accepted(b);
	free(name);
}

static void messages_hold_no_byte_that_a_terminal_obeys(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	NEW_FILE("../\x1b]0;owned\x07\n\x7f");
	box_unpack(b);
	assert_refused(b, BRIG_E_INVALID, "../\\x1b]0;owned\\x07\\x0a\\x7f");
	for (const char *c = b->u.err.msg; *c; c++)
		assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void names_are_bytes_and_stay_what_they_are(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	static const char *const names[] = {
		"e\xcc\x81 decomposed",
		"\xc3\xa9 composed",
		"\xff\xfe no UTF-8",
		"ctl \x01",
	};
	for (size_t i = 0; i < 4; i++) {
		NEW_FILE(names[i]);
		if (i == 2)
			continue;
		char pax[64];
		int n = snprintf(pax, sizeof(pax), "pax %s", names[i]);
		tar_pax(t, "path", pax, (size_t)n);
		NEW_FILE("x");
	}
	box_unpack(b);
	assert_accepted(b);
	for (size_t i = 0; i < 4; i++) {
		char pax[64];
		assert_content(b, names[i], "evil");
		snprintf(pax, sizeof(pax), "pax %s", names[i]);
		if (i != 2)
			assert_content(b, pax, "evil");
	}
}

static void the_root_itself_is_only_a_directory(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	ENTRY(.name = "./", .type = '5', .mode = 0711);
	box_unpack(b);
	assert_accepted(b);
	assert_int_equal(stat_of(b, ".").st_mode & 07777, 0711);
	for (int type = 0; type < 3; type++) {
		buf_consume(&t->b, buf_len(&t->b));
		ENTRY(.name = ".", .type = "120"[type], .link = "x");
		box_unpack(b);
		assert_int_equal(b->u.rc, -1);
	}
}

/* --- broken archives ---------------------------------------------------------------------------
 */

static void a_cut_archive_is_an_error(void **state)
{
	struct box *b = *state;
	struct tar *t = &b->t;
	char data[2000] = { 0 };
	ENTRY(.name = "f", .data = data, .size = sizeof(data));
	size_t whole = buf_len(&t->b);
	for (size_t n = 0; n < whole - 48; n += 97) { /* 48: padding, which nobody reads */
		struct tar cut = { BUF_INIT(1 << 20) };
		assert_int_equal(buf_add(&cut.b, buf_head(&t->b), n), 0);
		b->u = unpack(&b->s, &cut, &small);
		assert_refused(b, BRIG_E_CORRUPT, "the archive cannot be read");
		buf_done(&cut.b);
	}
}

static void a_cut_compressed_archive_is_an_error(void **state)
{
	struct box *b = *state;
	char data[5000];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		struct tar t = { BUF_INIT(1 << 20) };
		tar_add(&t, (struct tar_entry){ .name = "f", .data = data, .size = sizeof(data) });
		tar_end(&t);
		tar_compress(&t, filters[i].write);
		struct tar cut = { BUF_INIT(1 << 20) };
		assert_int_equal(buf_add(&cut.b, buf_head(&t.b), buf_len(&t.b) / 2), 0);
		b->u = unpack(&b->s, &cut, &small);
		if (b->u.rc == 0)
			fail_msg("%s", filters[i].name);
		buf_done(&cut.b);
		buf_done(&t.b);
	}
}

static int prepare(void **state)
{
	(void)state;
	umask(022);
	return archive_prepare(NULL);
}

int main(void)
{
#define BOX(f) cmocka_unit_test_setup_teardown(f, box_setup, box_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(must_not_reach_outside_of_the_root),
		cmocka_unit_test(each_escape_succeeds_against_an_extractor_that_trusts),
		BOX(absolute_names_land_inside),
		BOX(the_last_of_equal_names_wins),
		BOX(replacing_one_name_leaves_its_other_names_alone),
		BOX(a_hard_link_to_itself_keeps_the_file),
		BOX(a_full_directory_is_not_replaced),
		BOX(a_file_is_no_directory),
		BOX(a_closed_directory_can_still_be_filled),
		BOX(devices_are_left_out_and_counted),
		BOX(setuid_setgid_and_extended_attributes_do_not_survive),
		BOX(owners_are_kept_for_root),
		BOX(foreign_owners_are_refused),
		BOX(a_huge_size_in_a_header_is_refused_at_once),
		BOX(files_add_up_to_the_limit),
		BOX(a_sparse_bomb_counts_with_its_full_size),
		BOX(a_small_sparse_file_keeps_its_holes),
		BOX(entries_are_limited),
		BOX(implied_directories_count_as_entries),
		BOX(compressed_archives_are_read),
		BOX(a_bomb_meets_the_ratio_whatever_packed_it),
		BOX(a_bomb_in_a_skipped_entry_meets_the_ratio),
		BOX(one_compression_is_enough),
		BOX(no_program_is_started_to_unpack),
		BOX(only_tar_is_an_archive),
		BOX(long_and_deep_names_are_refused),
		BOX(messages_hold_no_byte_that_a_terminal_obeys),
		BOX(names_are_bytes_and_stay_what_they_are),
		BOX(the_root_itself_is_only_a_directory),
		BOX(a_cut_archive_is_an_error),
		BOX(a_cut_compressed_archive_is_an_error),
	};
	return cmocka_run_group_tests_name("image archive", tests, prepare, NULL);
}
