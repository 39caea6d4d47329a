/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Copies into a sandbox with the caller's rights on the host and the sandbox user's inside. Below
 * the source that the caller named nothing is followed: a link is copied as a link, so a tree never
 * carries more than it holds. Whatever the sandbox answers can at worst make the copy fail.
 *
 * Files keep their permission bits. Directories get u+rwx besides, for the entries must be written
 * into them and the protocol has no change of mode afterwards. A file that exists is overwritten in
 * place and keeps its mode, as with cp(1).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cp.h"
#include "cli/cp_path.h"

static int host_fail(const char *what, const char *name, struct brig_err *err)
{
	int sys = errno;
	enum brig_code code = sys == ENOENT		      ? BRIG_E_NOT_FOUND
			      : sys == EACCES || sys == EPERM ? BRIG_E_DENIED
							      : BRIG_E_UNAVAILABLE;
	return brig_fail(err, code, sys, "%s '%.200s'", what, name);
}

static int in_link(struct cp_job *j, int at, const char *name, const char *dst,
		   struct brig_err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(at, name, target, sizeof(target) - 1);
	if (n < 0)
		return host_fail("read the link", name, err);
	target[n] = '\0';
	if (fsop_symlink(j->fs, target, dst, err) == 0)
		return 0;
	if (err->sys != EEXIST)
		return -1;
	/* Not recursive: a directory in its place is an error. */
	if (fsop_remove(j->fs, dst, err) < 0)
		return -1;
	return fsop_symlink(j->fs, target, dst, err);
}

static int in_entry(struct cp_job *j, int at, const char *name, const char *shown, const char *dst,
		    bool follow, unsigned depth, struct brig_err *err);

/* Takes over dir. */
static int in_entries(struct cp_job *j, int dir, const char *shown, const char *dst, unsigned depth,
		      struct brig_err *err)
{
	char from[PATH_MAX], to[FSOP_PATH_MAX + 1];
	struct dirent *e;
	int r = 0;
	DIR *d = depth < CP_DEPTH_MAX ? fdopendir(dir) : NULL;
	if (!d) {
		r = depth < CP_DEPTH_MAX
			    ? host_fail("list", shown, err)
			    : brig_fail(err, BRIG_E_LIMIT, 0, "directories nest more than %d deep",
					CP_DEPTH_MAX);
		close(dir);
		return r;
	}
	while (r == 0) {
		errno = 0;
		e = readdir(d);
		if (!e)
			break;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (cp_join(shown, e->d_name, from, sizeof(from)) < 0 ||
		    cp_join(dst, e->d_name, to, sizeof(to)) < 0)
			r = brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "copy '%.200s'", shown);
		else
			r = in_entry(j, dirfd(d), e->d_name, from, to, false, depth + 1, err);
	}
	if (r == 0 && errno) /* of the readdir() that ended the loop */
		r = host_fail("list", shown, err);
	closedir(d);
	return r;
}

/* One thing of a directory of ours as the path dst inside. */
static int in_entry(struct cp_job *j, int at, const char *name, const char *shown, const char *dst,
		    bool follow, unsigned depth, struct brig_err *err)
{
	struct stat st;
	/* O_NONBLOCK: a pipe must not hold us until it is known to be one. */
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
	if (fstatat(at, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return host_fail("look at", shown, err);
	if (cp_count(j, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, err) < 0)
		return -1;
	if (S_ISLNK(st.st_mode))
		return in_link(j, at, name, dst, err);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		cli_note("not copied: '%s' is no file, directory or link", shown);
		j->skipped++;
		return 0;
	}
	AUTO_FD fd = openat(at, name, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return host_fail("open", shown, err);
	if (S_ISREG(st.st_mode))
		return fsop_write(j->fs, dst, st.st_mode & 07777, fd, err);
	if (fsop_mkdir(j->fs, dst, (st.st_mode & 07777) | 0700, err) < 0)
		return -1;
	return in_entries(j, fd_steal(&fd), shown, dst, depth, err);
}

static int kind_inside(struct cp_job *j, const char *dst, enum cp_kind *ret, struct brig_err *err)
{
	struct fs_node n = { .name = NULL };
	*ret = CP_NONE;
	if (fsop_stat(j->fs, dst, true, &n, err) < 0)
		return err->sys == ENOENT ? 0 : -1;
	*ret = S_ISDIR(n.mode) ? CP_DIR : CP_FILE;
	fs_node_done(&n);
	return 0;
}

int cp_in(struct cp_job *j, const char *src, const char *dst, struct brig_err *err)
{
	char to[FSOP_PATH_MAX + 1];
	struct cp_target t;
	struct stat st;
	enum cp_kind kind;
	size_t len = strlen(src);
	/* With a slash behind it, a link means what it points to. */
	bool follow = j->follow || (len > 1 && src[len - 1] == '/');
	if (fstatat(AT_FDCWD, src, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return host_fail("look at", src, err);
	bool is_dir = S_ISDIR(st.st_mode);
	if (kind_inside(j, dst, &kind, err) < 0 ||
	    cp_target_find(src, is_dir, dst, kind, j->many, &t, err) < 0)
		return -1;
	int r = t.into ? cp_join(dst, t.name, to, sizeof(to))
		       : (snprintf(to, sizeof(to), "%s", dst) >= (int)sizeof(to) ? -1 : 0);
	if (r < 0)
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "copy to '%.200s'", dst);
	if (is_dir && kind == CP_DIR && !t.into) {
		int dir = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return dir < 0 ? host_fail("open", src, err) : in_entries(j, dir, src, to, 0, err);
	}
	return in_entry(j, AT_FDCWD, src, src, to, follow, 0, err);
}
