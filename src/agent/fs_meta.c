/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The attributes of a file in the writable layer are kept by its tmpfs, which can do so since Linux
 * 6.6; on an older kernel setting them answers EOPNOTSUPP and there are none to list. They are read
 * and written with the credentials of the user, so the kernel's rule holds: who may write the file
 * may set them, who may read it sees them.
 *
 * A tenant may set such attributes too. What is then too much for one answer, or no string, is left
 * out.
 */
#include "agent/fs_meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "brig/agent_proto.h"

/* XATTR_LIST_MAX and XATTR_NAME_MAX of the kernel. */
#define LIST_MAX 65536
#define NAME_CAP 256

#define PREFIX BRIG_FS_XATTR_PREFIX
#define PREFIX_LEN (sizeof(PREFIX) - 1)
_Static_assert(PREFIX_LEN + BRIG_FS_META_KEY_MAX == NAME_CAP - 1, "a key fits a name");

int fs_meta_check(const char *p, const char *end, uint64_t n)
{
	size_t all = 0;
	if (n > BRIG_FS_META_PAIRS)
		return -EINVAL;
	while (n--) {
		const char *key = p, *value = memchr(p, 0, (size_t)(end - p));
		if (!value++ || !memchr(value, 0, (size_t)(end - value)))
			return -EINVAL;
		p = value + strlen(value) + 1;
		all += strlen(key) + strlen(value);
		if (!key[0] || strlen(key) > BRIG_FS_META_KEY_MAX || all > BRIG_FS_META_MAX)
			return -EINVAL;
	}
	return p == end ? 0 : -EINVAL;
}

/* Names of all attributes, each with its NUL; the length, or -errno. Memory is the caller's. */
static ssize_t names_get(int fd, char **ret)
{
	ssize_t n = flistxattr(fd, NULL, 0);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	char *list = malloc(LIST_MAX);
	if (!list)
		return -ENOMEM;
	n = flistxattr(fd, list, LIST_MAX);
	*ret = list;
	return n < 0 ? -errno : n;
}

static bool is_ours(const char *name)
{
	return strncmp(name, PREFIX, PREFIX_LEN) == 0;
}

static bool is_wanted(const char *key, const char *pairs, uint64_t n)
{
	for (; n--; pairs += strlen(pairs) + 1) {
		if (strcmp(key, pairs) == 0)
			return true;
		pairs += strlen(pairs) + 1;
	}
	return false;
}

int fs_meta_set(int fd, const char *pairs, uint64_t n)
{
	AUTO_FREE char *list = NULL;
	const char *p = pairs;
	char name[NAME_CAP];
	for (uint64_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), PREFIX "%s", p);
		p += strlen(p) + 1;
		if (fsetxattr(fd, name, p, strlen(p), 0) < 0)
			return -errno;
		p += strlen(p) + 1;
	}
	ssize_t len = names_get(fd, &list);
	if (len < 0)
		return len == -EOPNOTSUPP ? 0 : (int)len; /* has none, and none are wanted */
	for (const char *at = list; at && at < list + len; at += strlen(at) + 1)
		if (is_ours(at) && !is_wanted(at + PREFIX_LEN, pairs, n) &&
		    fremovexattr(fd, at) < 0 && errno != ENODATA)
			return -errno;
	return 0;
}

size_t fs_meta_get(const struct stat *st, int dirfd, const char *name, uint8_t *buf)
{
	AUTO_FREE char *list = NULL;
	size_t used = 0, all = 0;
	unsigned pairs = 0;
	/* The others have none; a FIFO or a device could act by being opened. */
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	AUTO_FD fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t len = names_get(fd, &list);
	for (const char *at = list; at && at < list + len; at += strlen(at) + 1) {
		char value[BRIG_FS_META_MAX];
		size_t key = strlen(at) - (is_ours(at) ? PREFIX_LEN : 0);
		if (!is_ours(at) || key == 0 || pairs == BRIG_FS_META_PAIRS)
			continue;
		ssize_t n = fgetxattr(fd, at, value, sizeof(value));
		if (n < 0 || memchr(value, 0, (size_t)n) ||
		    all + key + (size_t)n > BRIG_FS_META_MAX)
			continue;
		memcpy(buf + used, at + PREFIX_LEN, key + 1);
		used += key + 1;
		memcpy(buf + used, value, (size_t)n);
		used += (size_t)n;
		buf[used++] = '\0';
		all += key + (size_t)n;
		pairs++;
	}
	return used;
}
