/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cp_path.h"

#include <stdio.h>
#include <string.h>

int cp_place_parse(const char *text, struct cp_place *ret, struct brig_err *err)
{
	const char *colon = strchr(text, ':');
	*ret = (struct cp_place){ .path = text };
	if (!text[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "an empty path");
	if (text[0] == '.' || text[0] == '/' || !colon || colon == text)
		return 0;
	size_t n = (size_t)(colon - text);
	if (memchr(text, '/', n))
		return 0;
	if (n >= sizeof(ret->id))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'%.64s...' is too long for a sandbox's name", text);
	if (!colon[1]) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.140s' names no path in the sandbox", text);
		return brig_fix(err, "give SANDBOX:PATH, or ./%.100s for a file of that name",
				text);
	}
	memcpy(ret->id, text, n);
	ret->id[n] = '\0';
	ret->path = colon + 1;
	return 0;
}

/* The last part without trailing slashes, and its length. */
static const char *last_part(const char *path, size_t *ret_len)
{
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start && path[start - 1] != '/')
		start--;
	*ret_len = end - start;
	return path + start;
}

static bool is_dots(const char *s, size_t n)
{
	return (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.');
}

int cp_split(const char *path, char *dir, size_t cap, char name[256])
{
	size_t n;
	const char *last = last_part(path, &n);
	if (n == 0 || n > 255 || is_dots(last, n))
		return -1;
	memcpy(name, last, n);
	name[n] = '\0';
	size_t head = (size_t)(last - path);
	while (head > 1 && path[head - 1] == '/')
		head--;
	int r = head ? snprintf(dir, cap, "%.*s", (int)head, path) : snprintf(dir, cap, ".");
	return r < 0 || (size_t)r >= cap ? -1 : 0;
}

int cp_join(const char *dir, const char *name, char *ret, size_t cap)
{
	size_t n = strlen(dir);
	int r = snprintf(ret, cap, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
	return r < 0 || (size_t)r >= cap ? -1 : 0;
}

int cp_target_find(const char *src, bool src_is_dir, const char *dst, enum cp_kind dst_kind,
		   bool many, struct cp_target *ret, struct brig_err *err)
{
	struct cp_target t = { .into = false };
	size_t n, dst_len = strlen(dst);
	const char *last = last_part(src, &n);
	bool slash = dst_len && dst[dst_len - 1] == '/';
	if (dst_kind == CP_DIR) {
		/* "dir/." means what is in it, and "/" and ".." have no name of their own. */
		if (n && !is_dots(last, n)) {
			if (n >= sizeof(t.name))
				return brig_fail(err, BRIG_E_INVALID, 0, "'%.64s...' is too long",
						 last);
			memcpy(t.name, last, n);
			t.name[n] = '\0';
			t.into = true;
		} else if (!src_is_dir) {
			return brig_fail(err, BRIG_E_INVALID, 0, "'%.200s' is no name of a file",
					 src);
		}
	} else if (many) {
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "several sources need a directory, and '%.200s' is none", dst);
	} else if (dst_kind == CP_FILE && (src_is_dir || slash)) {
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.200s' is no directory", dst);
	} else if (dst_kind == CP_NONE && slash && !src_is_dir) {
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "the directory '%.200s' does not exist",
				 dst);
	}
	*ret = t;
	return 0;
}
