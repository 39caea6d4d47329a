/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client could send to envd beside forms: messages, and the texts of headers and queries.
 *
 * Oracle: a message is taken as a whole or refused with an error of the client; a path that is
 * accepted is absolute and clean; a range lies in its file; a home is absolute.
 */
#include <stdlib.h>
#include <string.h>

#include "api/connect.h"
#include "api/envd_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void messages(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct buf b = BUF_INIT(size + 1);
	struct connect_frame f;
	json_t *v = NULL;
	const char *s = NULL;
	uint32_t n = 0;
	if (connect_parse_one((const char *)data, size, &v, &err) == 0) {
		must(json_is_object(v));
		(void)connect_str(v, "cmd", &s, &err);
		(void)connect_u32(v, "pid", &n, &err);
		json_decref(v);
	} else {
		must(err.code == BRIG_E_INVALID || err.code == BRIG_E_LIMIT);
	}
	must(buf_add(&b, data, size) == 0);
	while (connect_frame_peek(&b, &f, &err) == 1) {
		must(f.n <= buf_len(&b));
		buf_consume(&b, connect_frame_size(&f));
	}
	buf_done(&b);
}

static void paths(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[PATH_MAX], again[PATH_MAX];
	if (envd_path(text, "/home/user", path, &err) < 0)
		return;
	must(path[0] == '/' && !strstr(path, "//") && strlen(path) < PATH_MAX);
	must(path[1] == '\0' || path[strlen(path) - 1] != '/');
	must(envd_path(path, "/", again, &err) == 0 && strcmp(path, again) == 0);
	must(envd_path_compare(path, again) == 0);
	must(envd_path_base(path)[0] != '\0');
}

static void entries(const uint8_t *data, size_t size)
{
	struct frame f = { .h = { .len = (uint32_t)size }, .payload = data };
	struct envd_entry e;
	if (envd_entry_parse(&f, &e) == 0)
		json_decref(envd_entry_json(&e, "/x"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char home[128], user[ENVD_USER_MAX];
	uint64_t first, n;
	int64_t t;
	if (size > 65536)
		return 0;
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	messages(data, size);
	paths(text);
	entries(data, size);
	if (envd_passwd_home(text, size, "user", home, sizeof(home)) == 0)
		must(home[0] == '/' && strlen(home) < sizeof(home));
	if (envd_basic_user(text, user) == 0)
		must(strlen(user) < sizeof(user));
	if (envd_range(text, 1000, &first, &n) == 1)
		must(n > 0 && first < 1000 && n <= 1000 - first);
	(void)envd_http_date_parse(text, &t);
	(void)envd_identity_refused(text);
	(void)envd_type_by_content(data, size);
	(void)envd_type_by_name(text);
	free(envd_disposition(text));
	free(text);
	return 0;
}
