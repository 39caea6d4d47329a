/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, files, ends and headers of envd, as E2B's clients compare them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "api/envd_entry.h"

static void paths_are_what_the_client_means(void **state)
{
	static const struct {
		const char *asked, *want;
	} rows[] = {
		{ "/a/b", "/a/b" },
		{ "a/b", "/home/user/a/b" },
		{ "", "/home/user" },
		{ ".", "/home/user" },
		{ "~", "/home/user" },
		{ "~/", "/home/user" },
		{ "~/x", "/home/user/x" },
		{ "../x", "/home/x" },
		{ "../../../..", "/" },
		{ "/", "/" },
		{ "//a//b/", "/a/b" },
		{ "/a/./b/../c", "/a/c" },
		{ "/..", "/" },
		{ "a~", "/home/user/a~" },
		{ "/~x", "/~x" },
		{ "...", "/home/user/..." },
	};
	char path[PATH_MAX];
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(envd_path(rows[i].asked, "/home/user", path, &err), 0);
		assert_string_equal(path, rows[i].want);
	}
	assert_int_equal(envd_path("~root/x", "/home/user", path, &err), -1);
	char *longer = malloc(2 * PATH_MAX);
	memset(longer, 'a', 2 * PATH_MAX);
	longer[2 * PATH_MAX - 1] = '\0';
	assert_int_equal(envd_path(longer, "/", path, &err), -1);
	free(longer);
	assert_int_equal(envd_path_join("/", "x", path), 0);
	assert_string_equal(path, "/x");
	assert_int_equal(envd_path_join("/a", "", path), 0);
	assert_string_equal(path, "/a");
	assert_string_equal(envd_path_base("/a/b"), "b");
	assert_string_equal(envd_path_base("/"), "/");
}

static void trees_are_ordered_depth_first(void **state)
{
	static const char *const order[] = { "/d",	 "/d/a",  "/d/a/b", "/d/a/b/c",	  "/d/a-b",
					     "/d/a.txt", "/d/a0", "/d/b",   "/d/\xc3\xa4" };
	(void)state;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
			assert_int_equal(envd_path_compare(order[i], order[k]), i < k ? -1 : i > k);
}

static void permissions_are_gos(void **state)
{
	static const struct {
		uint32_t mode;
		const char *want;
	} rows[] = {
		{ S_IFREG | 0644, "-rw-r--r--" },
		{ S_IFDIR | 0755, "drwxr-xr-x" },
		{ S_IFDIR | 01777, "dtrwxrwxrwx" },
		{ S_IFLNK | 0777, "Lrwxrwxrwx" },
		{ S_IFREG | 04755, "urwxr-xr-x" },
		{ S_IFREG | 06711, "ugrwx--x--x" },
		{ S_IFCHR | 0666, "Dcrw-rw-rw-" },
		{ S_IFBLK | 0660, "Drw-rw----" },
		{ S_IFIFO | 0600, "prw-------" },
		{ S_IFSOCK | 0700, "Srwx------" },
		{ 0, "----------" },
	};
	char perm[ENVD_PERMISSIONS_MAX];
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		envd_permissions(rows[i].mode, perm);
		assert_string_equal(perm, rows[i].want);
	}
}

static void times_have_a_year_of_four_digits(void **state)
{
	char text[ENVD_TIME_MAX];
	int64_t t = 0;
	(void)state;
	envd_time(1795541659, 5, text);
	assert_string_equal(text, "2026-11-24T17:34:19.000000005Z");
	envd_time(INT64_MAX, 5, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
	envd_time(-1, 999999999, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999999999Z");
	envd_http_date(1795541659, text);
	assert_string_equal(text, "Tue, 24 Nov 2026 17:34:19 GMT");
	assert_int_equal(envd_http_date_parse(text, &t), 0);
	assert_int_equal(t, 1795541659);
	assert_int_equal(envd_http_date_parse("yesterday", &t), -EINVAL);
}

/* A frame of FS_ENTRY. */
static size_t entry_make(uint8_t *buf, uint32_t mode, const char *const *strings, unsigned n)
{
	struct brig_fs_entry e = { .size = 42, .mtime_sec = 1795541659, .mode = mode };
	uint8_t *at = buf + sizeof(e);
	memcpy(buf, &e, sizeof(e));
	for (unsigned i = 0; i < n; i++)
		at = (uint8_t *)stpcpy((char *)at, strings[i]) + 1;
	return (size_t)(at - buf);
}

static json_t *entry_json(uint32_t mode, const char *const *strings, unsigned n, const char *path)
{
	uint8_t buf[4096];
	struct envd_entry e;
	struct frame f = { .h = { .type = BRIG_FS_ENTRY }, .payload = buf };
	f.h.len = (uint32_t)entry_make(buf, mode, strings, n);
	assert_int_equal(envd_entry_parse(&f, &e), 0);
	return envd_entry_json(&e, path);
}

static const char *text(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void entries_have_all_fields(void **state)
{
	static const char *const strings[] = {
		"a.txt", "", "user", "1234", "author", "me", "k", ""
	};
	json_t *o = entry_json(S_IFREG | 0640, strings, 8, "/d/a.txt");
	(void)state;
	assert_string_equal(text(o, "name"), "a.txt");
	assert_string_equal(text(o, "type"), "FILE_TYPE_FILE");
	assert_string_equal(text(o, "path"), "/d/a.txt");
	assert_string_equal(text(o, "size"), "42");
	assert_int_equal(json_integer_value(json_object_get(o, "mode")), 0640);
	assert_string_equal(text(o, "permissions"), "-rw-r-----");
	assert_string_equal(text(o, "owner"), "user");
	assert_string_equal(text(o, "group"), "1234");
	assert_string_equal(text(o, "modifiedTime"), "2026-11-24T17:34:19.000000000Z");
	assert_null(json_object_get(o, "symlinkTarget"));
	assert_string_equal(text(json_object_get(o, "metadata"), "author"), "me");
	assert_string_equal(text(json_object_get(o, "metadata"), "k"), "");
	json_decref(o);
}

static void links_show_their_target(void **state)
{
	static const char *const strings[] = { "l", "/etc/passwd", "user", "user" };
	static const char *const dangling[] = { "l", "/d/l", "user", "user" };
	json_t *o = entry_json(S_IFREG | 0644, strings, 4, "/d/l");
	(void)state;
	assert_string_equal(text(o, "type"), "FILE_TYPE_FILE");
	assert_string_equal(text(o, "permissions"), "Lrwxrwxrwx");
	assert_string_equal(text(o, "symlinkTarget"), "/etc/passwd");
	assert_null(json_object_get(o, "metadata"));
	json_decref(o);
	o = entry_json(0, dangling, 4, "/d/l");
	assert_string_equal(text(o, "type"), "FILE_TYPE_UNSPECIFIED");
	assert_string_equal(text(o, "symlinkTarget"), "/d/l");
	json_decref(o);
}

static void entries_that_are_no_text_are_not_told(void **state)
{
	static const char *const strings[] = { "\xff", "", "user", "user" };
	static const char *const meta[] = { "a", "", "user", "user", "k", "\xff", "odd" };
	uint8_t buf[4096];
	struct envd_entry e;
	struct frame f = { .payload = buf };
	(void)state;
	assert_null(entry_json(S_IFREG, strings, 4, "/\xff"));
	json_t *o = entry_json(S_IFREG, meta, 7, "/a");
	assert_int_equal(json_object_size(json_object_get(o, "metadata")), 0);
	json_decref(o);
	f.h.len = (uint32_t)entry_make(buf, 0, strings, 3);
	assert_int_equal(envd_entry_parse(&f, &e), -EPROTO);
	f.h.len = 10;
	assert_int_equal(envd_entry_parse(&f, &e), -EPROTO);
}

static void ends_are_told_in_gos_words(void **state)
{
	struct envd_exit x;
	json_t *o = json_pack("{s:i,s:n,s:s}", "exit_code", 0, "signal", "stop_reason", "exited");
	(void)state;
	envd_exit_of(o, &x);
	assert_true(x.exited && x.code == 0 && !x.error[0]);
	assert_string_equal(x.status, "exit status 0");
	json_object_set_new(o, "exit_code", json_integer(3));
	envd_exit_of(o, &x);
	assert_true(x.exited && x.code == 3);
	assert_string_equal(x.error, "exit status 3");
	json_object_set_new(o, "stop_reason", json_string("out_of_memory"));
	envd_exit_of(o, &x);
	assert_true(!x.exited && x.code == -1);
	assert_string_equal(x.status, "signal: killed");
	json_object_set_new(o, "stop_reason", json_string("signaled"));
	json_object_set_new(o, "signal", json_string("SIGABRT"));
	json_object_set_new(o, "evidence", json_pack("{s:b}", "core", 1));
	envd_exit_of(o, &x);
	assert_string_equal(x.error, "signal: aborted (core dumped)");
	json_object_set_new(o, "signal", json_string("SIG40"));
	json_object_del(o, "evidence");
	envd_exit_of(o, &x);
	assert_string_equal(x.error, "signal: SIG40");
	json_decref(o);
	envd_exit_of(NULL, &x);
	assert_true(!x.exited && x.code == -1);
}

static void the_user_is_that_of_basic_authentication(void **state)
{
	char user[ENVD_USER_MAX];
	(void)state;
	assert_int_equal(envd_basic_user("Basic cm9vdDo=", user), 0);
	assert_string_equal(user, "root");
	assert_int_equal(envd_basic_user("basic dXNlcjpwYXNz", user), 0);
	assert_string_equal(user, "user");
	assert_int_equal(envd_basic_user("Basic cm9vdA==", user), 0);
	assert_string_equal(user, "root");
	assert_int_equal(envd_basic_user("Bearer cm9vdDo=", user), -EINVAL);
	assert_int_equal(envd_basic_user("Basic !", user), -EINVAL);
	assert_int_equal(envd_basic_user("Basic AAAA", user), -EINVAL); /* NULs */
	assert_true(envd_user_sane("user") && envd_user_sane("www-data") &&
		    envd_user_sane("a.b_c"));
	assert_false(envd_user_sane("") || envd_user_sane("a:b") || envd_user_sane("-a") ||
		     envd_user_sane("a b") || envd_user_sane("../x"));
}

static void homes_are_those_of_passwd(void **state)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
				     "broken\n"
				     "rel:x:1:1::home:/bin/sh\n"
				     "user2:x:1001:1001:::/bin/sh\n"
				     "user:x:1000:1000::/home/user:/bin/bash";
	char home[64];
	(void)state;
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "root", home, 64), 0);
	assert_string_equal(home, "/root");
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "user", home, 64), 0);
	assert_string_equal(home, "/home/user");
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "user", home, 5), -ENOENT);
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "rel", home, 64), -ENOENT);
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "user2", home, 64), -ENOENT);
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "broken", home, 64), -ENOENT);
	assert_int_equal(envd_passwd_home(passwd, sizeof(passwd) - 1, "nobody", home, 64), -ENOENT);
	assert_int_equal(envd_passwd_home(NULL, 0, "root", home, 64), -ENOENT);
}

static void ranges_are_one_or_none(void **state)
{
	static const struct {
		const char *header;
		uint64_t size;
		int ret;
		uint64_t first, n;
	} rows[] = {
		{ "bytes=0-0", 10, 1, 0, 1 },
		{ "bytes=2-5", 10, 1, 2, 4 },
		{ "bytes=5-", 10, 1, 5, 5 },
		{ "bytes=-3", 10, 1, 7, 3 },
		{ "bytes=-30", 10, 1, 0, 10 },
		{ "bytes=8-99", 10, 1, 8, 2 },
		{ "Bytes=0-", 1, 1, 0, 1 },
		{ "bytes=10-", 10, -1, 0, 0 },
		{ "bytes=-0", 10, -1, 0, 0 },
		{ "bytes=0-", 0, -1, 0, 0 },
		{ "bytes=5-2", 10, 0, 0, 0 },
		{ "bytes=0-1,3-4", 10, 0, 0, 0 },
		{ "lines=0-1", 10, 0, 0, 0 },
		{ "bytes=", 10, 0, 0, 0 },
		{ "bytes=a-b", 10, 0, 0, 0 },
		{ "bytes=0-1x", 10, 0, 0, 0 },
		{ "bytes=99999999999999999999-", 10, 0, 0, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t first = 0, n = 0;
		assert_int_equal(envd_range(rows[i].header, rows[i].size, &first, &n), rows[i].ret);
		if (rows[i].ret == 1) {
			assert_int_equal(first, rows[i].first);
			assert_int_equal(n, rows[i].n);
		}
	}
}

static void types_and_names_of_downloads(void **state)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{ "a.txt", "inline; filename=a.txt" },
		{ "a b", "inline; filename=\"a b\"" },
		{ "a\"\\", "inline; filename=\"a\\\"\\\\\"" },
		{ "\xc3\xa4.txt", "inline; filename*=utf-8''%C3%A4%2Etxt" },
		{ "a\nb", "inline; filename*=utf-8''a%0Ab" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *d = envd_disposition(rows[i].name);
		assert_string_equal(d, rows[i].want);
		free(d);
	}
	assert_string_equal(envd_type_by_name("/x/A.PNG"), "image/png");
	assert_null(envd_type_by_name("/x.png/file"));
	assert_string_equal(envd_type_by_content("text", 4), "text/plain; charset=utf-8");
	assert_string_equal(envd_type_by_content("a\0b", 3), "application/octet-stream");
	assert_string_equal(envd_type_by_content("%PDF-1", 6), "application/pdf");
	assert_string_equal(envd_type_by_content("", 0), "text/plain; charset=utf-8");
}

static void identity_is_acceptable_unless_refused(void **state)
{
	(void)state;
	assert_false(envd_identity_refused("gzip, deflate"));
	assert_false(envd_identity_refused(""));
	assert_false(envd_identity_refused("identity;q=0.5, *;q=0"));
	assert_true(envd_identity_refused("gzip, identity;q=0"));
	assert_true(envd_identity_refused("gzip;q=1.0, *;q=0"));
	assert_true(envd_identity_refused("identity; q=0.000"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_what_the_client_means),
		cmocka_unit_test(trees_are_ordered_depth_first),
		cmocka_unit_test(permissions_are_gos),
		cmocka_unit_test(times_have_a_year_of_four_digits),
		cmocka_unit_test(entries_have_all_fields),
		cmocka_unit_test(links_show_their_target),
		cmocka_unit_test(entries_that_are_no_text_are_not_told),
		cmocka_unit_test(ends_are_told_in_gos_words),
		cmocka_unit_test(the_user_is_that_of_basic_authentication),
		cmocka_unit_test(homes_are_those_of_passwd),
		cmocka_unit_test(ranges_are_one_or_none),
		cmocka_unit_test(types_and_names_of_downloads),
		cmocka_unit_test(identity_is_acceptable_unless_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
