/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: what was written verifies, after a restart, a rotation and a power cut, too; each way
 * to change it is found, and named with its record; a disk without room loses no bytes of the chain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log.h"
#include "audit/scan.h"
#include "base/fd.h"
#include "brig/door_proto.h"

struct fixture {
	char path[64];
	int dir, logs;
	struct audit_key *key;
};

static int folder_make(void **state)
{
	static struct fixture f;
	struct brig_err err = BRIG_ERR_INIT;
	snprintf(f.path, sizeof(f.path), "/tmp/brig-audit-XXXXXX");
	assert_non_null(mkdtemp(f.path));
	f.dir = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(audit_key_open(f.dir, &f.key, &err), 0);
	*state = &f;
	return 0;
}

static void empty(int fd)
{
	DIR *d = fdopendir(fd);
	for (struct dirent *e; (e = readdir(d));)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static int folder_drop(void **state)
{
	struct fixture *f = *state;
	audit_key_free(f->key);
	int logs = openat(f->dir, AUDIT_FOLDER, O_RDONLY | O_DIRECTORY);
	if (logs >= 0)
		empty(logs);
	unlinkat(f->dir, AUDIT_FOLDER, AT_REMOVEDIR);
	empty(f->dir);
	return rmdir(f->path);
}

static struct audit_log *opened(struct fixture *f, uint64_t rotate, unsigned keep, uint64_t *torn)
{
	const struct audit_log_opts o = { .rotate_bytes = rotate, .keep_files = keep };
	struct brig_err err = BRIG_ERR_INIT;
	struct audit_log *l = NULL;
	uint64_t none;
	if (audit_log_open(f->dir, f->key, &o, &l, torn ? torn : &none, &err) < 0)
		fail_msg("%s", err.msg);
	return l;
}

static int add(struct audit_log *l, const char *what, const char *id)
{
	const struct audit_event e = { .what = what,
				       .id = id,
				       .outcome = "ok",
				       .status = 200,
				       .tenant = "t",
				       .key = "key1",
				       .peer = "127.0.0.1",
				       .request_id = "0123456789abcdef",
				       .uid = -1 };
	return audit_log_add(l, &e);
}

/* ---- the files as one text each ---- */

static char *slurp(struct fixture *f, uint64_t seq, size_t *ret_n)
{
	char name[128], file[AUDIT_FILE_NAME_MAX];
	struct stat st;
	audit_file_name(seq, file);
	snprintf(name, sizeof(name), AUDIT_FOLDER "/%s", file);
	AUTO_FD fd = openat(f->dir, name, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *text = malloc((size_t)st.st_size + 1);
	assert_non_null(text);
	assert_int_equal(fd_read_full(fd, text, (size_t)st.st_size), st.st_size);
	text[st.st_size] = '\0';
	*ret_n = (size_t)st.st_size;
	return text;
}

static void spew(struct fixture *f, uint64_t seq, const char *text, size_t n)
{
	char name[128], file[AUDIT_FILE_NAME_MAX];
	audit_file_name(seq, file);
	snprintf(name, sizeof(name), AUDIT_FOLDER "/%s", file);
	AUTO_FD fd = openat(f->dir, name, O_WRONLY | O_TRUNC | O_CREAT, 0600);
	assert_int_equal(fd_write_full(fd, text, n), 0);
}

static void scan_text(struct audit_scan *s, struct audit_key *key, const char *text, size_t n)
{
	memset(s, 0, sizeof(*s));
	s->check.key = key;
	/* In odd pieces: a line may come in any number of them. */
	for (size_t at = 0; at < n; at += 7)
		audit_scan_feed(s, text + at, n - at < 7 ? n - at : 7);
	audit_scan_end(s);
}

static void scan_folder(struct audit_scan *s, struct fixture *f)
{
	uint64_t *files;
	size_t n;
	AUTO_FD logs = openat(f->dir, AUDIT_FOLDER, O_RDONLY | O_DIRECTORY);
	assert_int_equal(audit_files(logs, &files, &n), 0);
	memset(s, 0, sizeof(*s));
	s->check.key = f->key;
	for (size_t i = 0; i < n; i++) {
		size_t len;
		char *text = slurp(f, files[i], &len);
		if (i)
			audit_scan_next(s);
		audit_scan_feed(s, text, len);
		free(text);
	}
	audit_scan_end(s);
	free(files);
}

/* The i-th line, from 1. */
static char *line_at(char *text, unsigned i)
{
	while (--i)
		text = strchr(text, '\n') + 1;
	return text;
}

static void ten(struct fixture *f)
{
	struct audit_log *l = opened(f, 0, 0, NULL);
	char id[16];
	for (unsigned i = 1; i <= 10; i++) {
		snprintf(id, sizeof(id), "box%u", i);
		assert_int_equal(add(l, "create", id), 0);
	}
	audit_log_close(l); /* and a head, the 11th */
}

static struct audit_scan scan; /* large */

static void a_log_goes_on_where_it_ended(void **state)
{
	struct fixture *f = *state;
	ten(f);
	ten(f);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_int_equal(scan.check.records, 22);
	assert_int_equal(scan.check.heads, 2);
	assert_int_equal(scan.check.signed_to, 22);
	assert_int_equal(scan.torn, 0);
	struct audit_log *l = opened(f, 0, 0, NULL);
	assert_false(audit_log_dirty(l)); /* it is headed already */
	audit_log_close(l);
	scan_folder(&scan, f);
	assert_int_equal(scan.check.records, 22);
}

static void every_change_is_found_and_named(void **state)
{
	struct fixture *f = *state;
	size_t n;
	ten(f);
	char *text = slurp(f, 1, &n), *bad = malloc(n + 1), *at, *next;
	/* A byte of a value, of every record. */
	for (unsigned i = 1; i <= 10; i++) {
		memcpy(bad, text, n + 1);
		at = strstr(line_at(bad, i), "box");
		at[0] = 'B';
		scan_text(&scan, f->key, bad, n);
		assert_int_equal(scan.why, AUDIT_HASH);
		assert_int_equal(scan.bad_line, i);
		assert_int_equal(scan.bad_seq, i);
	}
	/* A record is taken out. */
	at = line_at(text, 4);
	next = line_at(text, 5);
	memcpy(bad, text, (size_t)(at - text));
	memcpy(bad + (at - text), next, n - (size_t)(next - text));
	scan_text(&scan, f->key, bad, n - (size_t)(next - at));
	assert_int_equal(scan.why, AUDIT_GAP);
	assert_int_equal(scan.bad_line, 4);
	assert_int_equal(scan.bad_seq, 4);
	/* A record comes twice. */
	memcpy(bad, text, n + 1);
	char *twice = malloc(2 * n);
	size_t k = (size_t)(next - text);
	memcpy(twice, text, k);
	memcpy(twice + k, at, (size_t)(next - at));
	memcpy(twice + k + (next - at), next, n - k);
	scan_text(&scan, f->key, twice, n + (size_t)(next - at));
	assert_int_equal(scan.why, AUDIT_ORDER);
	assert_int_equal(scan.bad_line, 5);
	free(twice);
	/* The head's signature, and what it signs. */
	memcpy(bad, text, n + 1);
	at = strstr(bad, "\"sig\":\"") + 10;
	*at = *at == 'A' ? 'B' : 'A';
	scan_text(&scan, f->key, bad, n);
	assert_int_equal(scan.why, AUDIT_SIGNATURE);
	assert_int_equal(scan.bad_line, 11);
	memcpy(bad, text, n + 1);
	at = strstr(line_at(bad, 11), "\"time\":\"2") + 8;
	*at = '3';
	scan_text(&scan, f->key, bad, n);
	assert_int_equal(scan.why, AUDIT_SIGNATURE);
	/* What is no record. */
	memcpy(bad, text, n + 1);
	line_at(bad, 6)[0] = ' ';
	line_at(bad, 6)[1] = '[';
	scan_text(&scan, f->key, bad, n);
	assert_int_equal(scan.why, AUDIT_MALFORMED);
	assert_int_equal(scan.bad_line, 6);
	free(text);
	free(bad);
}

static void who_has_not_the_key_cannot_write_it_anew(void **state)
{
	struct fixture *f = *state, g;
	struct brig_err err = BRIG_ERR_INIT;
	size_t n;
	/* A whole log by another key: the chain is good, the heads are not. */
	snprintf(g.path, sizeof(g.path), "/tmp/brig-audit-XXXXXX");
	assert_non_null(mkdtemp(g.path));
	g.dir = open(g.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(audit_key_open(g.dir, &g.key, &err), 0);
	ten(&g);
	char *text = slurp(&g, 1, &n);
	scan_text(&scan, g.key, text, n);
	assert_int_equal(scan.why, AUDIT_GOOD);
	scan_text(&scan, f->key, text, n);
	assert_int_equal(scan.why, AUDIT_SIGNATURE);
	assert_non_null(strstr(scan.check.detail, audit_key_name(f->key)));
	/* Without a key the chain alone is looked at. */
	scan_text(&scan, NULL, text, n);
	assert_int_equal(scan.why, AUDIT_GOOD);
	free(text);
	void *s = &g;
	assert_int_equal(folder_drop(&s), 0);
	/* Or without heads at all: more than there can be in a true one. */
	char *many = malloc(300 * AUDIT_LINE_MAX);
	struct audit_chain chain = { .seq = 1 };
	const struct audit_event e = { .what = "create", .outcome = "ok", .uid = -1 };
	n = 0;
	for (unsigned i = 0; i < 2 * AUDIT_HEAD_RECORDS + 1; i++)
		n += audit_line(&chain, &e, 1700000000000000000u, many + n);
	scan_text(&scan, f->key, many, n);
	assert_int_equal(scan.why, AUDIT_SIGNATURE);
	assert_int_equal(scan.bad_line, 2 * AUDIT_HEAD_RECORDS + 1);
	free(many);
}

static void a_torn_end_is_told_and_cut_at_the_next_start(void **state)
{
	static const char *const tails[] = { "{\"seq\":12,\"ti", "\0\0\0\0\0\0\0\0" };
	struct fixture *f = *state;
	for (unsigned i = 0; i < 2; i++) {
		size_t n, k = i ? 3000 : strlen(tails[0]);
		uint64_t torn = 0;
		ten(f);
		char *text = slurp(f, 1, &n), *cut = calloc(1, n + k);
		memcpy(cut, text, n);
		if (!i)
			memcpy(cut + n, tails[0], k);
		scan_text(&scan, f->key, cut, n + k);
		assert_int_equal(scan.why, AUDIT_GOOD);
		assert_true(scan.torn > 0);
		spew(f, 1, cut, n + k);
		struct audit_log *l = opened(f, 0, 0, &torn);
		assert_int_equal(torn, k);
		assert_int_equal(add(l, "server.start", NULL), 0);
		audit_log_close(l);
		scan_folder(&scan, f);
		assert_int_equal(scan.why, AUDIT_GOOD);
		assert_int_equal(scan.torn, 0);
		free(text);
		free(cut);
	}
}

static void a_damaged_end_is_not_buried(void **state)
{
	struct fixture *f = *state;
	const struct audit_log_opts o = { 0 };
	struct brig_err err = BRIG_ERR_INIT;
	struct audit_log *l = NULL;
	uint64_t torn;
	ten(f);
	size_t n;
	char *text = slurp(f, 1, &n);
	line_at(text, 11)[0] = 'x';
	spew(f, 1, text, n);
	assert_int_equal(audit_log_open(f->dir, f->key, &o, &l, &torn, &err), -1);
	assert_int_equal(err.code, BRIG_E_CORRUPT);
	assert_true(err.remedy[0]);
	free(text);
}

static void the_chain_goes_on_over_files(void **state)
{
	struct fixture *f = *state;
	struct audit_log *l = opened(f, AUDIT_ROTATE_MIN, 0, NULL);
	uint64_t *files;
	size_t n;
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(audit_log_reserve(l, 1), 0);
		assert_int_equal(add(l, "run", "a"), 0);
	}
	audit_log_close(l);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_true(scan.file >= 4);
	assert_int_equal(scan.check.records - scan.check.heads, 2000);
	AUTO_FD logs = openat(f->dir, AUDIT_FOLDER, O_RDONLY | O_DIRECTORY);
	assert_int_equal(audit_files(logs, &files, &n), 0);
	/* A file in the middle is gone. */
	char name[AUDIT_FILE_NAME_MAX];
	audit_file_name(files[2], name);
	assert_int_equal(unlinkat(logs, name, 0), 0);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GAP);
	assert_int_equal(scan.bad_seq, files[2]);
	/* One that is not the last ends in half a line. */
	size_t len;
	char *text = slurp(f, files[0], &len);
	spew(f, files[0], text, len - 5);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_MALFORMED);
	free(text);
	free(files);
}

static void only_asked_for_old_files_go(void **state)
{
	struct fixture *f = *state;
	struct audit_log *l = opened(f, AUDIT_ROTATE_MIN, 2, NULL);
	uint64_t *files;
	size_t n;
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(audit_log_reserve(l, 1), 0);
		assert_int_equal(add(l, "run", "a"), 0);
	}
	audit_log_close(l);
	AUTO_FD logs = openat(f->dir, AUDIT_FOLDER, O_RDONLY | O_DIRECTORY);
	assert_int_equal(audit_files(logs, &files, &n), 0);
	assert_int_equal(n, 2);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_int_equal(scan.check.first, files[0]);
	size_t len;
	char *text = slurp(f, files[1], &len);
	assert_non_null(strstr(text, "\"what\":\"audit.drop\""));
	free(text);
	free(files);
}

static void without_room_nothing_half_stays(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, small;
	struct audit_log *l = opened(f, 0, 0, NULL);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	/* Somewhere in the middle of a line. */
	small.rlim_cur = 5000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	unsigned good = 0;
	int r;
	while ((r = add(l, "run", "a")) == 0)
		good++;
	assert_true(r == -EFBIG || r == -ENOSPC);
	assert_true(good > 5);
	assert_true(add(l, "run", "a") < 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_int_equal(scan.torn, 0);
	assert_int_equal(scan.check.records, good);
	/* There is room again, and the chain goes on. */
	assert_int_equal(audit_log_reserve(l, 1), 0);
	assert_int_equal(add(l, "audit.lost", NULL), 0);
	audit_log_close(l);
	scan_folder(&scan, f);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_int_equal(scan.check.records, good + 2);
}

static void reserved_room_is_there_when_the_disk_is_full(void **state)
{
	struct fixture *f = *state;
	struct audit_log *l = opened(f, 0, 0, NULL);
	char file[AUDIT_FILE_NAME_MAX], name[64];
	struct stat st;
	assert_int_equal(audit_log_reserve(l, 100), 0);
	audit_file_name(1, file);
	snprintf(name, sizeof(name), AUDIT_FOLDER "/%s", file);
	assert_int_equal(fstatat(f->dir, name, &st, 0), 0);
	assert_int_equal(st.st_size, 0); /* readers see what was written, no more */
	assert_true(st.st_blocks * 512 >= 100 * (blkcnt_t)AUDIT_LINE_MAX);
	assert_int_equal(add(l, "run", "a"), 0);
	audit_log_close(l);
	assert_int_equal(fstatat(f->dir, name, &st, 0), 0);
	assert_true(st.st_blocks * 512 < 100 * (blkcnt_t)AUDIT_LINE_MAX); /* given back */
}

static void no_text_of_a_client_changes_the_shape(void **state)
{
	struct audit_chain chain = { .seq = 1 };
	char line[AUDIT_LINE_MAX], big[4000];
	(void)state;
	memset(big, '\\', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	const struct audit_event e = { .what = "x\",\"seq\":9",
				       .id = "a\nb\x01\xff\"}",
				       .outcome = big,
				       .tenant = big,
				       .key = big,
				       .peer = big,
				       .request_id = big,
				       .operator= true,
				       .uid = INT64_MAX,
				       .status = 4294967295u,
				       .count = INT64_MAX };
	size_t n = audit_line(&chain, &e, UINT64_MAX, line);
	assert_true(n < AUDIT_LINE_MAX);
	scan_text(&scan, NULL, line, n);
	assert_int_equal(scan.why, AUDIT_GOOD);
	assert_null(memchr(line, '\\', n));
	assert_ptr_equal(memchr(line, '\n', n), line + n - 1);
}

static void the_key_is_made_once_and_kept_closed(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct audit_key *k = NULL;
	struct stat st;
	char pem[AUDIT_PEM_MAX];
	assert_int_equal(fstatat(f->dir, AUDIT_KEY_FILE, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(audit_key_open(f->dir, &k, &err), 0);
	assert_string_equal(audit_key_name(k), audit_key_name(f->key));
	audit_key_free(k);
	ssize_t n = fd_slurp_at(f->dir, AUDIT_PUB_FILE, pem, sizeof(pem));
	assert_true(n > 0);
	assert_int_equal(audit_key_public(pem, (size_t)n, &k, &err), 0);
	assert_string_equal(audit_key_name(k), audit_key_name(f->key));
	audit_key_free(k);
	/* Open to others, or no key: refused with what to do. */
	assert_int_equal(fchmodat(f->dir, AUDIT_KEY_FILE, 0640, 0), 0);
	assert_int_equal(audit_key_open(f->dir, &k, &err), -1);
	assert_int_equal(err.code, BRIG_E_DENIED);
	assert_int_equal(fchmodat(f->dir, AUDIT_KEY_FILE, 0600, 0), 0);
	AUTO_FD half = openat(f->dir, AUDIT_KEY_FILE, O_WRONLY | O_TRUNC);
	assert_int_equal(fd_write_full(half, "-----BEGIN PRIVATE KEY-----\n", 28), 0);
	assert_int_equal(audit_key_open(f->dir, &k, &err), -1);
	assert_int_equal(err.code, BRIG_E_CORRUPT);
	assert_true(err.remedy[0]);
}

static void a_note_of_brigd_is_checked(void **state)
{
	struct door_note m = { .what = "run", .id = "abc", .outcome = "ok", .uid = 7 }, got;
	(void)state;
	assert_true(door_note_read(&m, sizeof(m), &got));
	assert_memory_equal(&m, &got, sizeof(m));
	assert_false(door_note_read(&m, sizeof(m) - 1, &got));
	assert_false(door_note_read(&m, 0, &got));
	m.zero = 1;
	assert_false(door_note_read(&m, sizeof(m), &got));
	m.zero = 0;
	memset(m.id, 'x', sizeof(m.id)); /* not ended */
	assert_false(door_note_read(&m, sizeof(m), &got));
	memset(m.id, 0, sizeof(m.id));
	assert_true(door_note_read(&m, sizeof(m), &got));
	m.what[1] = '\n';
	assert_false(door_note_read(&m, sizeof(m), &got));
	m.what[0] = '\0';
	assert_false(door_note_read(&m, sizeof(m), &got));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, folder_make, folder_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_log_goes_on_where_it_ended),
		T(every_change_is_found_and_named),
		T(who_has_not_the_key_cannot_write_it_anew),
		T(a_torn_end_is_told_and_cut_at_the_next_start),
		T(a_damaged_end_is_not_buried),
		T(the_chain_goes_on_over_files),
		T(only_asked_for_old_files_go),
		T(without_room_nothing_half_stays),
		T(reserved_room_is_there_when_the_disk_is_full),
		T(no_text_of_a_client_changes_the_shape),
		T(the_key_is_made_once_and_kept_closed),
		cmocka_unit_test(a_note_of_brigd_is_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
