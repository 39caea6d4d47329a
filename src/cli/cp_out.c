/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Copies out of a sandbox with the caller's rights, which makes this the place where a hostile
 * sandbox could write to the host. Therefore:
 *
 *   - The destination that the caller named is resolved as the caller wrote it, links included.
 *     Everything below it is opened relative to a descriptor of its directory, by one plain name
 *     (fsop.h refuses others), never through a symbolic link: not one that was there, and not one
 *     that this very copy made.
 *   - A file is written under a temporary name and renamed, so a link or file of that name is
 *     replaced and never written through, and a copy that fails leaves no half file behind.
 *   - Links are made as data and not looked at. Set-id bits are dropped: the files belong to the
 *     caller, and a setuid program of the caller's must not come out of a sandbox. Devices, pipes
 *     and sockets are skipped.
 *   - A file yields at most as many bytes as its entry announced; all of it is counted against the
 *     job's bounds, and directories nest at most CP_DEPTH_MAX deep.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cp.h"
#include "cli/cp_path.h"

int cp_count(struct cp_job *j, uint64_t bytes, struct brig_err *err)
{
	if (j->files_left == 0 || bytes > j->bytes_left) {
		brig_err_set(err, BRIG_E_LIMIT, 0, "more %s than this copy may move",
			     j->files_left ? "bytes" : "files");
		return brig_fix(err, "raise --max-size or --max-files if you trust what is there");
	}
	j->files_left--;
	j->bytes_left -= bytes;
	return 0;
}

static int host_fail(const char *what, const char *name, struct brig_err *err)
{
	int sys = errno;
	return brig_fail(err, sys == EACCES || sys == EPERM ? BRIG_E_DENIED : BRIG_E_UNAVAILABLE,
			 sys, "%s '%.200s'", what, name);
}

static void temp_name(char ret[32])
{
	uint64_t r = 0;
	/* Only to be unused: O_EXCL decides. */
	(void)!getrandom(&r, sizeof(r), GRND_NONBLOCK);
	snprintf(ret, 32, ".brig-cp-%016llx", (unsigned long long)r);
}

static void set_times(int fd, const struct fs_node *n)
{
	/* The sandbox's word for its own files; a time that this file system cannot hold is no
	 * failure. */
	const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
				       { .tv_sec = n->mtime_sec, .tv_nsec = (long)n->mtime_nsec } };
	(void)futimens(fd, t);
}

static int out_file(struct cp_job *j, const char *src, const struct fs_node *n, int at,
		    const char *name, struct brig_err *err)
{
	char temp[32];
	AUTO_FD fd = -1;
	for (int tries = 0; fd < 0 && tries < 16; tries++) {
		temp_name(temp);
		fd = openat(at, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd < 0)
		return host_fail("write", name, err);
	int r = fsop_read(j->fs, src, n->size, fd, err);
	if (r == 0 && fchmod(fd, n->mode & 0777) < 0)
		r = host_fail("set the mode of", name, err);
	if (r == 0)
		set_times(fd, n);
	if (r == 0 && renameat(at, temp, at, name) < 0)
		r = host_fail("write", name, err);
	if (r < 0)
		unlinkat(at, temp, 0);
	return r;
}

static int out_link(const struct fs_node *n, int at, const char *name, struct brig_err *err)
{
	struct stat st;
	if (!n->target[0])
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the link '%.200s' has no target", name);
	if (symlinkat(n->target, at, name) == 0)
		return 0;
	/* Replace a file or link, as a file would; unlink never follows. */
	if (errno == EEXIST && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !S_ISDIR(st.st_mode) && unlinkat(at, name, 0) == 0 &&
	    symlinkat(n->target, at, name) == 0)
		return 0;
	return host_fail("make the link", name, err);
}

static int out_entry(struct cp_job *j, const char *src, const struct fs_node *n, int at,
		     const char *name, unsigned depth, struct brig_err *err);

static int out_entries(struct cp_job *j, const char *src, int dir, unsigned depth,
		       struct brig_err *err)
{
	struct fs_list l = { .v = NULL };
	char path[FSOP_PATH_MAX + 1];
	if (depth >= CP_DEPTH_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "directories nest more than %d deep",
				 CP_DEPTH_MAX);
	if (fsop_list(j->fs, src, j->files_left, &l, err) < 0)
		return -1;
	int r = 0;
	for (size_t i = 0; i < l.n && r == 0; i++) {
		if (cp_join(src, l.v[i].name, path, sizeof(path)) < 0)
			r = brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "'%.100s' in the sandbox",
				      src);
		else
			r = out_entry(j, path, &l.v[i], dir, l.v[i].name, depth + 1, err);
	}
	fs_list_done(&l);
	return r;
}

static int out_dir(struct cp_job *j, const char *src, const struct fs_node *n, int at,
		   const char *name, unsigned depth, struct brig_err *err)
{
	/* Ours alone until it is complete. */
	bool made = mkdirat(at, name, 0700) == 0;
	if (!made && errno != EEXIST)
		return host_fail("make the directory", name, err);
	AUTO_FD dir = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return host_fail("use the directory", name, err);
	if (out_entries(j, src, dir, depth, err) < 0)
		return -1;
	if (made && fchmod(dir, n->mode & 0777) < 0)
		return host_fail("set the mode of", name, err);
	if (made)
		set_times(dir, n);
	return 0;
}

/* One thing of the sandbox as the entry `name` of a directory of ours. */
static int out_entry(struct cp_job *j, const char *src, const struct fs_node *n, int at,
		     const char *name, unsigned depth, struct brig_err *err)
{
	if (cp_count(j, S_ISREG(n->mode) ? n->size : 0, err) < 0)
		return -1;
	switch (n->mode & S_IFMT) {
	case S_IFREG:
		return out_file(j, src, n, at, name, err);
	case S_IFDIR:
		return out_dir(j, src, n, at, name, depth, err);
	case S_IFLNK:
		return out_link(n, at, name, err);
	default:
		cli_note("not copied: '%s' is no file, directory or link", src);
		j->skipped++;
		return 0;
	}
}

/* A destination that exists and is no directory: the caller's own choice is written through, be it
 * a link or /dev/null. */
static int out_over(struct cp_job *j, const char *src, const struct fs_node *n, const char *dst,
		    struct brig_err *err)
{
	if (!S_ISREG(n->mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.200s' exists, and '%.200s' is no file",
				 dst, src);
	AUTO_FD fd = open(dst, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return host_fail("write", dst, err);
	return cp_count(j, n->size, err) < 0 ? -1 : fsop_read(j->fs, src, n->size, fd, err);
}

static int out_to(struct cp_job *j, const char *src, const struct fs_node *n, const char *dst,
		  enum cp_kind kind, const struct cp_target *t, struct brig_err *err)
{
	char dir[4096], name[256];
	if (kind == CP_DIR) {
		AUTO_FD at = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (at < 0)
			return host_fail("use the directory", dst, err);
		return t->into ? out_entry(j, src, n, at, t->name, 0, err)
			       : out_entries(j, src, at, 0, err);
	}
	if (kind == CP_FILE)
		return out_over(j, src, n, dst, err);
	if (cp_split(dst, dir, sizeof(dir), name) < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.200s' cannot be made", dst);
	AUTO_FD at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return host_fail("use the directory", dir, err);
	return out_entry(j, src, n, at, name, 0, err);
}

int cp_out(struct cp_job *j, const char *src, const char *dst, struct brig_err *err)
{
	struct fs_node n = { .name = NULL };
	struct cp_target t;
	struct stat st;
	enum cp_kind kind = CP_NONE;
	size_t len = strlen(src);
	if (stat(dst, &st) == 0)
		kind = S_ISDIR(st.st_mode) ? CP_DIR : CP_FILE;
	else if (errno != ENOENT)
		return host_fail("look at", dst, err);
	/* With a slash behind it, a link means what it points to. */
	bool follow = j->follow || (len > 1 && src[len - 1] == '/');
	if (fsop_stat(j->fs, src, follow, &n, err) < 0)
		return -1;
	int r = cp_target_find(src, S_ISDIR(n.mode), dst, kind, j->many, &t, err);
	if (r == 0)
		r = out_to(j, src, &n, dst, kind, &t, err);
	fs_node_done(&n);
	return r;
}
