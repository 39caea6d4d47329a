/* SPDX-License-Identifier: Apache-2.0 */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

int path_open_beneath(int root, const char *rel, int flags, mode_t mode)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
				.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	while (*rel == '/')
		rel++;
	long r = syscall(SYS_openat2, root, *rel ? rel : ".", &how, sizeof(how));
	return r < 0 ? -errno : (int)r;
}

int path_mkdirs_beneath(int root, const char *rel, uid_t uid, gid_t gid)
{
	AUTO_FD at = path_open_beneath(root, ".", O_PATH | O_DIRECTORY, 0);
	if (at < 0)
		return at;
	while (*rel) {
		char name[256];
		size_t n = strcspn(rel, "/");
		if (n == 0) {
			rel++;
			continue;
		}
		if (n >= sizeof(name))
			return -ENAMETOOLONG;
		memcpy(name, rel, n);
		name[n] = '\0';
		rel += n;
		int next = path_open_beneath(at, name, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			if (mkdirat(at, name, 0755) < 0 ||
			    fchownat(at, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
				return -errno;
			next = path_open_beneath(at, name, O_PATH | O_DIRECTORY, 0);
		}
		if (next < 0)
			return next;
		fd_close(&at);
		at = next;
	}
	return fd_steal(&at);
}

int path_is_clean(const char *p, size_t max)
{
	if (p[0] != '/' || strlen(p) >= max)
		return 0;
	if (p[1] == '\0')
		return 1;
	while (*p) {
		size_t n = strcspn(++p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		p += n;
	}
	return 1;
}
