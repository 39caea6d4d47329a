/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

static int append(json_t *array, const char *name, size_t n, const char *entry,
		  struct brig_err *err)
{
	json_t *v = json_string(entry), *old;
	size_t i;
	if (!v)
		return brig_fail(err, BRIG_E_INVALID, 0, "variable '%.*s' is not valid UTF-8",
				 (int)(n < 64 ? n : 64), name);
	json_array_foreach(array, i, old)
	{
		const char *s = json_string_value(old);
		if (strncmp(s, name, n) == 0 && s[n] == '=') {
			json_array_set_new(array, i, v);
			return 0;
		}
	}
	if (json_array_append_new(array, v) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the environment");
	return 0;
}

int env_add(json_t *array, const char *entry, struct brig_err *err)
{
	size_t n = strcspn(entry, "=");
	if (n == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "variable '%.64s' has no name", entry);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)entry[i] <= 0x20 || entry[i] == 0x7f)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "variable name '%.*s' contains white space",
					 (int)(n < 64 ? n : 64), entry);
	if (entry[n] == '=')
		return append(array, entry, n, entry, err);
	const char *value = getenv(entry);
	if (!value)
		return 0;
	size_t size = n + strlen(value) + 2;
	AUTO_FREE char *full = malloc(size);
	if (!full)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the environment");
	memcpy(full, entry, n);
	full[n] = '=';
	strcpy(full + n + 1, value);
	return append(array, entry, n, full, err);
}

int env_add_text(json_t *array, const char *name, char *text, size_t n, struct brig_err *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	char *p = text, *end = text + n;
	if (n >= 3 && memcmp(p, bom, 3) == 0)
		p += 3;
	for (unsigned line = 1; p < end; line++) {
		char *nl = memchr(p, '\n', (size_t)(end - p));
		char *next = nl ? nl + 1 : end, *stop = nl ? nl : end;
		if (stop > p && stop[-1] == '\r')
			stop--;
		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if (p < stop && *p != '#') {
			size_t len = (size_t)(stop - p);
			if (memchr(p, '\0', len))
				return brig_fail(err, BRIG_E_INVALID, 0,
						 "%.200s, line %u: contains a NUL byte", name,
						 line);
			if (len > ENV_LINE_MAX)
				return brig_fail(err, BRIG_E_INVALID, 0,
						 "%.200s, line %u: longer than %u KiB", name, line,
						 ENV_LINE_MAX / 1024);
			*stop = '\0'; /* the byte of the newline, or the one kept free behind */
			if (env_add(array, p, err) < 0)
				return brig_ctx(err, "%.200s, line %u", name, line);
		}
		p = next;
	}
	return 0;
}

int env_add_file(json_t *array, const char *path, struct brig_err *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		brig_err_set(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, errno,
			     "open --env-file '%.256s'", path);
		return brig_fix(err, "check the path and its permissions");
	}
	AUTO_FREE char *text = malloc(ENV_FILE_MAX + 2);
	if (!text)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read --env-file '%.256s'", path);
	ssize_t n = fd_read_full(fd, text, ENV_FILE_MAX + 1);
	if (n < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, (int)-n, "read --env-file '%.256s'",
				 path);
	if ((size_t)n > ENV_FILE_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--env-file '%.256s' is larger than %u KiB", path,
				 ENV_FILE_MAX / 1024);
	return env_add_text(array, path, text, (size_t)n, err);
}

int env_build(const struct strlist *files, const struct strlist *entries, bool tty, json_t **ret,
	      bool *ret_usage, struct brig_err *err)
{
	json_t *array = json_array();
	int r = array ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the environment");
	*ret_usage = false;
	/* The least of all, so that anything else replaces it. */
	if (r == 0 && tty)
		r = env_add(array, "TERM", err);
	for (size_t i = 0; r == 0 && i < files->n; i++) {
		r = env_add_file(array, files->v[i], err);
		*ret_usage = r < 0 && err->code == BRIG_E_INVALID;
	}
	for (size_t i = 0; r == 0 && i < entries->n; i++) {
		r = env_add(array, entries->v[i], err);
		if (r < 0)
			brig_err_prefix(err, "--env");
		*ret_usage = r < 0 && err->code == BRIG_E_INVALID;
	}
	if (r < 0) {
		json_decref(array);
		return -1;
	}
	*ret = array;
	return 0;
}
