/* SPDX-License-Identifier: Apache-2.0 */
/* match.c: what a path and a host name say; pure functions over what anybody may have sent. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "api/call.h"

/* arg is filled from the segments that "{}" stands for. */
static bool path_matches(const char *pattern, const char *path,
			 char arg[CALL_ARGS_MAX][CALL_ARG_MAX])
{
	unsigned n = 0;
	while (*pattern) {
		if (pattern[0] == '{' && pattern[1] == '}') {
			size_t len = strcspn(path, "/");
			if (len == 0 || len >= CALL_ARG_MAX || n == CALL_ARGS_MAX)
				return false;
			memcpy(arg[n], path, len);
			arg[n++][len] = '\0';
			pattern += 2;
			path += len;
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return *path == '\0';
}

int route_match(const struct route *table, const char *method, const char *path,
		const struct route **ret, char arg[CALL_ARGS_MAX][CALL_ARG_MAX])
{
	int r = -ENOENT;
	for (; table->method; table++) {
		if (!path_matches(table->path, path, arg))
			continue;
		if (strcmp(table->method, method) == 0) {
			*ret = table;
			return 0;
		}
		r = -EPERM;
	}
	return r;
}

int route_port(const char *text, size_t n, unsigned *ret)
{
	unsigned v = 0;
	if (n < 1 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)text[i]))
			return -EINVAL;
		v = v * 10 + (unsigned)(text[i] - '0');
	}
	*ret = v;
	return v >= 1 && v <= 65535 ? 0 : -EINVAL;
}

int route_host_label(const char *host, unsigned *ret_port, char ret_id[ROUTE_ID_MAX])
{
	size_t digits = strspn(host, "0123456789");
	if (host[digits] != '-' || route_port(host, digits, ret_port) < 0)
		return -EINVAL;
	const char *id = host + digits + 1;
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789");
	/* What follows a second '-' means nothing; a bare label is no host of ours. */
	if (n == 0 || n >= ROUTE_ID_MAX || !strchr(id, '.') || (id[n] != '.' && id[n] != '-'))
		return -EINVAL;
	memcpy(ret_id, id, n);
	ret_id[n] = '\0';
	return 0;
}
