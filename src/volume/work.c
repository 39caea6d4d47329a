/* SPDX-License-Identifier: Apache-2.0 */
/* work.c: what is done with one volume, in a process of its own; work.h has the theory of operation. */
#include "volume/work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"

#define NEW ".new-"
/* How long the last mount of a sandbox that has ended may take to go. */
#define BUSY_NS (2 * SEC_NS)

struct name {
	char text[VOLUME_ID + 8];
};

static struct name name_of(const char *prefix, const char *id)
{
	struct name n;
	snprintf(n.text, sizeof(n.text), "%s%.16s", prefix, id);
	return n;
}

static int image_open(int folder, const char *id, int flags, struct brig_err *err)
{
	struct stat st;
	AUTO_FD fd = openat(folder, name_of("", id).text, flags | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "volume '%.16s' is not on the disk", id);
		return brig_fix(err, "somebody removed its file from the data folder: restore it, or remove the volume");
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open volume '%.16s'", id);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077)) {
		brig_fail(err, BRIG_E_DENIED, 0, "the file of volume '%.16s' is not root's alone", id);
		return brig_fix(err, "somebody else may have written to it; if it is yours, chown root and chmod 600");
	}
	return fd_steal(&fd);
}

static int folder_sync(int folder, struct brig_err *err)
{
	AUTO_FD dir = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 || fsync(dir) < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, errno, "write to the data folder")
					 : 0;
}

/* ---- mounting ---- */

static int mount_device(const char *path, int writable)
{
	AUTO_FD fs = mntfd_fsopen("ext4");
	int r = fs < 0 ? fs : mntfd_fsconfig_str(fs, "source", path);
	if (r >= 0)
		r = mntfd_fsconfig_flag(fs, writable ? "rw" : "ro");
	/* What is removed inside is given back to the host. */
	if (r >= 0 && writable)
		r = mntfd_fsconfig_flag(fs, "discard");
	return r < 0 ? r
		     : mntfd_fsmount(fs, MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV |
						 (writable ? 0 : MNTFD_ATTR_RDONLY));
}

static int mount_image(int folder, const char *instance, const char *id, int writable, struct brig_err *err)
{
	struct stat st;
	char path[32];
	uint64_t deadline = clock_now() + BUSY_NS;
	AUTO_FD image = image_open(folder, id, O_RDWR, err);
	if (image < 0)
		return -1;
	if (fstat(image, &st) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at volume '%.16s'", id);
	int sealed = !(st.st_mode & 0200), r;
	if (sealed && writable) {
		brig_fail(err, BRIG_E_STATE, 0, "volume '%.16s' is a snapshot: nobody may write to it", id);
		return brig_fix(err, "attach it read-only (:ro), or write to a clone of it");
	}
	for (;;) {
		AUTO_FD loop = loop_open(image, sealed, instance, id, path, err);
		if (loop < 0)
			return -1;
		(void)FAILPOINT("volume.loop");
		r = mount_device(path, writable);
		/* The mount of a sandbox that wrote to it, or read it, is about to go. */
		if (r != -EBUSY || clock_now() > deadline)
			break;
		usleep(1000);
	}
	(void)FAILPOINT("volume.mounted");
	if (r >= 0)
		return r;
	brig_fail(err, r == -ENODEV ? BRIG_E_UNSUPPORTED : r == -EBUSY ? BRIG_E_BUSY : BRIG_E_CORRUPT, -r,
		  "mount volume '%.16s' (ext4)", id);
	if (r == -ENODEV)
		return brig_fix(err, "this kernel has no ext4: modprobe ext4");
	return r == -EBUSY ? brig_fix(err, "a sandbox that had it is being removed; try again")
			   : brig_fix(err, "the kernel's log says why; with the server stopped, `e2fsck -f` on its "
					   "file in the folder volumes of the data folder repairs damage");
}

/* A new volume becomes one for the writable layer. The mode is its mark, and the last to be set. */
static int layer_make(int mnt, struct brig_err *err)
{
	AUTO_FD root = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0 && (unlinkat(root, "lost+found", AT_REMOVEDIR) == 0 || errno == ENOENT) &&
	    (mkdirat(root, "u", 0755) == 0 || errno == EEXIST) &&
	    (mkdirat(root, "o", 0755) == 0 || errno == EEXIST) &&
	    fchownat(root, "u", 0, 0, AT_SYMLINK_NOFOLLOW) == 0 && fchmodat(root, "u", 0755, 0) == 0 &&
	    fchownat(root, "o", VOLUME_UNGIVEN, VOLUME_UNGIVEN, AT_SYMLINK_NOFOLLOW) == 0 &&
	    syncfs(root) == 0 && fchmod(root, VOLUME_ROOT_MODE) == 0)
		return 0;
	return brig_fail(err, BRIG_E_INTERNAL, errno, "prepare a volume for what is written at /");
}

static int do_open(int folder, const char *instance, const struct volume_ask *a, int *ret_mount,
		   struct brig_err *err)
{
	struct stat st;
	AUTO_FD mnt = mount_image(folder, instance, a->id, a->writable, err);
	if (mnt < 0)
		return -1;
	if (fstat(mnt, &st) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at volume '%.16s'", a->id);
	int layer = st.st_uid == VOLUME_UNGIVEN && (st.st_mode & 07777) == VOLUME_ROOT_MODE;
	if (layer && !a->root) {
		brig_fail(err, BRIG_E_STATE, 0, "volume '%.16s' holds what sandboxes wrote at /", a->id);
		return brig_fix(err, "attach it at /, or attach another volume here");
	}
	if (a->root && !layer && st.st_uid != VOLUME_UNGIVEN) {
		brig_fail(err, BRIG_E_STATE, 0, "volume '%.16s' has been attached elsewhere than at /", a->id);
		return brig_fix(err, "attach a new one at /: brig volume create");
	}
	if (a->root && !layer && layer_make(mnt, err) < 0)
		return -1;
	/* No tenant has been there yet: what mkfs.ext4 made for its repair goes, because programs look whether
	 * a folder is empty. */
	if (a->writable && !a->root && st.st_uid == VOLUME_UNGIVEN) {
		AUTO_FD root = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (root < 0 || (unlinkat(root, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT) ||
		    fchown(root, a->uid, a->gid) < 0 || fchmod(root, 0755) < 0)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "give volume '%.16s' to its user", a->id);
	}
	*ret_mount = fd_steal(&mnt);
	return 0;
}

static int do_stat(int folder, const char *instance, const struct volume_ask *a, struct volume_told *t,
		   struct brig_err *err)
{
	struct statfs s;
	AUTO_FD mnt = mount_image(folder, instance, a->id, a->writable, err);
	if (mnt < 0)
		return -1;
	if (fstatfs(mnt, &s) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at volume '%.16s'", a->id);
	t->bytes = (uint64_t)s.f_blocks * (uint64_t)s.f_bsize;
	t->used_bytes = (uint64_t)(s.f_blocks - s.f_bfree) * (uint64_t)s.f_bsize;
	t->inodes = s.f_files;
	t->used_inodes = s.f_files - s.f_ffree;
	return 0;
}

/* ---- making ---- */

static int run_mkfs(const struct volume_ask *a, int image, struct brig_err *err)
{
	static const char *const programs[] = { "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4" };
	const char *program = NULL;
	char inodes[24];
	int status = 0;
	for (unsigned i = 0; i < 2 && !program; i++)
		if (access(programs[i], X_OK) == 0)
			program = programs[i];
	if (!program) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "volumes need mkfs.ext4, which this machine has not");
		return brig_fix(err, "install it: apt-get install e2fsprogs");
	}
	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)a->inodes);
	pid_t pid = fork();
	if (pid == 0) {
		/* -m 0: no blocks are kept back for a root that does not exist inside. -b: small file systems
		 * would have smaller blocks, and a loop device over a file that shares blocks has no smaller
		 * ones than that file's (direct I/O). */
		const char *argv[] = { "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-e", "remount-ro", "-N", inodes, "-E",
				       "root_owner=100000:100000,nodiscard,lazy_itable_init=1", "/proc/self/fd/3", NULL };
		char *envp[] = { NULL };
		int away = fcntl(image, F_DUPFD, 16);
		if (away < 0 || dup2(away, 3) < 0 || fd_close_from(4) < 0)
			_exit(126);
		execve(program, (char *const *)(uintptr_t)argv, envp);
		_exit(126);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	brig_fail(err, BRIG_E_UNAVAILABLE, 0, "%s made no file system (status %d)", program, status);
	return brig_fix(err, "ask for more bytes or fewer files; the server's log has its message");
}

static int new_open(int folder, const char *id, struct brig_err *err)
{
	struct stat st;
	struct name n = name_of(NEW, id);
	if (fstatat(folder, name_of("", id).text, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return brig_fail(err, BRIG_E_EXISTS, 0, "volume '%.16s' exists already", id);
	(void)unlinkat(folder, n.text, 0);
	int fd = openat(folder, n.text, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	(void)FAILPOINT("volume.new");
	return fd < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make volume '%.16s'", id) : fd;
}

/* It is whole: to the disk, and then its name. */
static int new_keep(int folder, const char *id, int fd, struct brig_err *err)
{
	if (fsync(fd) < 0 || renameat(folder, name_of(NEW, id).text, folder, name_of("", id).text) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "keep volume '%.16s'", id);
	(void)FAILPOINT("volume.renamed");
	return folder_sync(folder, err);
}

static int do_make(int folder, const struct volume_ask *a, struct brig_err *err)
{
	struct statfs s;
	AUTO_FD fd = new_open(folder, a->id, err);
	if (fd < 0)
		return -1;
	/* A limit and no reservation: but what could never be filled is a mistake. */
	if (fstatfs(fd, &s) == 0 && a->bytes > (uint64_t)s.f_blocks * (uint64_t)s.f_bsize) {
		brig_fail(err, BRIG_E_LIMIT, 0, "a volume of %llu MiB, on a disk of %llu MiB",
			  (unsigned long long)(a->bytes >> 20),
			  (unsigned long long)((uint64_t)s.f_blocks * (uint64_t)s.f_bsize >> 20));
		return brig_fix(err, "ask for a smaller --size");
	}
	if (ftruncate(fd, (off_t)a->bytes) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make volume '%.16s'", a->id);
	return run_mkfs(a, fd, err) < 0 ? -1 : new_keep(folder, a->id, fd, err);
}

/* ---- copying ---- */

/* Holes stay holes. */
static int copy_blocks(int from, int to, off_t size)
{
	off_t at = 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	for (;;) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		off_t end = lseek(from, data, SEEK_HOLE);
		if (end < 0)
			return -errno;
		for (off_t in = data, out = data; in < end;) {
			ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);
			if (n <= 0)
				return n < 0 ? -errno : -EIO;
		}
		at = end;
	}
}

static int clone_blocks(const struct volume_ask *a, int from, int to, struct brig_err *err)
{
	struct stat st;
	/* All at once, whatever is written meanwhile: what the copy shows is a moment, as a power cut would
	 * leave it, and that is what a journal is for. */
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (a->writable) {
		brig_fail(err, BRIG_E_STATE, 0, "a sandbox may write to the volume, and the file system of the data "
						"folder cannot copy a file in one moment");
		return brig_fix(err, "remove that sandbox first, or put the data folder on XFS or Btrfs");
	}
	int r = fstat(from, &st) < 0 ? -errno : copy_blocks(from, to, st.st_size);
	if (r == 0)
		return 0;
	brig_fail(err, r == -ENOSPC ? BRIG_E_EXHAUSTED : BRIG_E_UNAVAILABLE, -r, "copy the volume");
	return r == -ENOSPC ? brig_fix(err, "free space in the file system of the data folder") : -1;
}

/* What the sandbox that has it has written so far is on the disk. */
static int settle(int folder, const char *instance, const char *id, struct brig_err *err)
{
	AUTO_FD mnt = mount_image(folder, instance, id, 1, err);
	AUTO_FD root = mnt < 0 ? -1 : openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mnt >= 0 && (root < 0 || syncfs(root) < 0))
		brig_fail(err, BRIG_E_UNAVAILABLE, errno, "write volume '%.16s' to the disk", id);
	return err->code == BRIG_E_OK ? 0 : -1;
}

static int do_clone(int folder, const char *instance, const struct volume_ask *a, struct brig_err *err)
{
	if (a->writable && settle(folder, instance, a->from, err) < 0)
		return -1;
	AUTO_FD from = image_open(folder, a->from, O_RDONLY, err);
	AUTO_FD to = from < 0 ? -1 : new_open(folder, a->id, err);
	if (to < 0 || clone_blocks(a, from, to, err) < 0 || new_keep(folder, a->id, to, err) < 0)
		return -1;
	/* Its journal is replayed once, while that may still be written. */
	if (settle(folder, instance, a->id, err) < 0 ||
	    fchmod(to, a->seal ? 0400 : 0600) < 0 || fsync(to) < 0) {
		(void)unlinkat(folder, name_of("", a->id).text, 0);
		return err->code == BRIG_E_OK ? brig_fail(err, BRIG_E_UNAVAILABLE, errno, "finish the copy")
					      : brig_ctx(err, "finish the copy");
	}
	return 0;
}

static int do_remove(int folder, const struct volume_ask *a, struct brig_err *err)
{
	(void)unlinkat(folder, name_of(NEW, a->id).text, 0);
	if (unlinkat(folder, name_of("", a->id).text, 0) < 0 && errno != ENOENT)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "remove volume '%.16s'", a->id);
	(void)FAILPOINT("volume.removed");
	return folder_sync(folder, err);
}

void volume_sweep(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, NEW, strlen(NEW)) == 0)
			unlinkat(folder, e->d_name, 0);
	if (d)
		closedir(d);
}

int volume_work(int folder, const char *instance, const struct volume_ask *a, struct volume_told *t,
		int *ret_mount, struct brig_err *err)
{
	int r = -1;
	*ret_mount = -1;
	switch (a->verb) {
	case VOLUME_OPEN:
		return do_open(folder, instance, a, ret_mount, err);
	case VOLUME_STAT:
		return do_stat(folder, instance, a, t, err);
	case VOLUME_REMOVE:
		return do_remove(folder, a, err);
	case VOLUME_MAKE:
		r = do_make(folder, a, err);
		break;
	case VOLUME_CLONE:
		r = do_clone(folder, instance, a, err);
		break;
	}
	if (r < 0)
		(void)unlinkat(folder, name_of(NEW, a->id).text, 0);
	return r;
}
