/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Whoever comes first makes it, under a lock of the folder; the others wait. A file gets its name when it is
 * whole: the RAM disk by a rename, the disk by a link of what had no name. What a crash leaves has none.
 *
 * A RAM disk is known by what it was made of: path, inode, size and time of kernel modules and programs.
 *
 * The disk is an ext4 image, because every kernel can mount one and mke2fs is everywhere; without a journal,
 * since nothing is ever written to it. The names and contents of an image are a tenant's, and mke2fs was not
 * written for hostile ones: it runs under an id of its own, with nothing but the right to read every file,
 * without a network, and the one file that it can write is the one that it was given.
 */
#include "engine/microvm/tier/prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define DISK_NAME "microvm-1.ext4" /* the number: of how it is made */
#define BLOCK 4096u
#define DEPTH_MAX 512
/* Beside contents: metadata of the file system for each inode, and what there is at least. */
#define INODE_BYTES 320u
#define DISK_LEAST (8u << 20)

static int no_room(struct brig_err *err, int e, const char *what)
{
	brig_fail(err, BRIG_E_EXHAUSTED, e, "%s", what);
	return brig_fix(err, "free space in the data folder (df, df -i), or set BRIG_DATA");
}

/* ---- programs ---- */

/* With nothing but CAP_DAC_READ_SEARCH. */
static int become_reader(uint32_t uid)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct read[2] = { { .effective = 1u << CAP_DAC_READ_SEARCH,
							  .permitted = 1u << CAP_DAC_READ_SEARCH,
							  .inheritable = 1u << CAP_DAC_READ_SEARCH } };
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (cap != CAP_DAC_READ_SEARCH && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
	    setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
	    syscall(SYS_capset, &head, read) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* In a mount namespace of its own: the layers of an image, the lowest first, as one tree at MERGED. */
#define MERGED "/sys" /* a folder that every host has, covered for the one program that runs there */
static int merge(const struct image_trees *t)
{
	char lower[4096] = "lowerdir=";
	size_t n = strlen(lower);
	for (unsigned i = t->n; i-- > 0;)
		n += (size_t)snprintf(lower + n, n < sizeof(lower) ? sizeof(lower) - n : 0, "/proc/self/fd/%d%s", t->fd[i],
				      i ? ":" : "");
	if (n >= sizeof(lower))
		return -E2BIG;
	return mount("overlay", MERGED, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, lower) < 0 ? -errno : 0;
}

/* A program that reads what a tenant made. */
struct reader {
	uint32_t uid;
	const struct image_trees *trees;
	int file; /* the one that it writes */
};

static int reader_begin(const struct reader *r)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	int e = r->trees->n > 1 ? merge(r->trees) : fd_set_cloexec(r->trees->fd[0], 0);
	if (e == 0)
		e = fd_set_cloexec(r->file, 0);
	return e < 0 ? e : become_reader(r->uid);
}

/* Runs a program to its end; its last words go into err. reader NULL: as we are; folder: a descriptor that it may
 * have, -1 = none. */
static int program_run(char *const argv[], const struct reader *reader, int folder, struct brig_err *err)
{
	char word[256] = "";
	int out[2];
	pid_t self = getpid();
	if (pipe2(out, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start %s", argv[0]);
	pid_t pid = fork();
	if (pid == 0) {
		char *const env[] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, (char[]){ "LC_ALL=C" },
				      (char[]){ "MKE2FS_CONFIG=/dev/null" }, NULL };
		dup2(out[1], 1);
		dup2(out[1], 2);
		if (folder >= 0)
			fd_set_cloexec(folder, 0);
		/* The death signal is forgotten with a change of ids, so it comes last. */
		if ((reader && reader_begin(reader) < 0) || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != self)
			_exit(126);
		execve(argv[0], argv, env);
		_exit(127);
	}
	close(out[1]);
	if (pid < 0) {
		close(out[0]);
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start %s", argv[0]);
	}
	/* All of it, so that the program does not wait; the last of it is kept. */
	char part[256];
	for (ssize_t n; (n = read(out[0], part, sizeof(part) - 1)) > 0;) {
		part[n] = '\0';
		snprintf(word, sizeof(word), "%s", part);
	}
	close(out[0]);
	int status = -1;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	word[strcspn(word, "\n")] = '\0';
	brig_fail(err, BRIG_E_INTERNAL, 0, "%s failed (%s %d): %.200s", argv[0],
		  WIFEXITED(status) ? "exit code" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
		  word);
	return brig_fix(err, "look whether the data folder is full; run it again");
}

/* ---- the initial RAM disk ---- */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	for (const uint8_t *b = p; n--; b++)
		h = (h ^ *b) * 1099511628211ull; /* FNV-1a: no adversary, the files are the operator's */
	return h;
}

static int mix_file(uint64_t *h, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	const uint64_t of[] = { st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
				(uint64_t)st.st_mtim.tv_nsec };
	*h = mix(mix(*h, path, strlen(path) + 1), of, sizeof(of));
	return 0;
}

static int folder_locked(int at, const char *name, struct brig_err *err)
{
	if (name[0] != '.' && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return no_room(err, errno, "make a folder for guests in the data folder");
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		return fd;
	int e = errno;
	fd_close(&fd);
	return no_room(err, e, "lock a folder for guests in the data folder");
}

int prepare_initrd(const struct microvm_host *h, int data, struct brig_err *err)
{
	char name[64], out[96];
	char modules[512 + 20], init[512], agent[512];
	uint64_t key = 14695981039346656037ull;
	snprintf(modules, sizeof(modules), "%s/modules.builtin", h->modules);
	int r = mix_file(&key, modules);
	if (r == 0 && (r = mix_file(&key, h->kernel)) == 0 && (r = mix_file(&key, h->init)) == 0 &&
	    (r = mix_file(&key, h->agent)) == 0)
		r = mix_file(&key, h->pack);
	if (r < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, -r, "look at what a guest of kernel %s is made of", h->release);
		return brig_fix(err, "unpack the whole package of the kernel; install brig completely");
	}
	snprintf(name, sizeof(name), "initrd-%016llx", (unsigned long long)key);
	AUTO_FD dir = folder_locked(data, "guest", err);
	if (dir < 0)
		return -1;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		return fd;
	snprintf(modules, sizeof(modules), "%s", h->modules);
	snprintf(init, sizeof(init), "%s", h->init);
	snprintf(agent, sizeof(agent), "%s", h->agent);
	snprintf(out, sizeof(out), "/proc/self/fd/%d/%s", dir, name);
	char pack[512];
	snprintf(pack, sizeof(pack), "%s", h->pack);
	char *const argv[] = { pack, modules, init, agent, out, NULL };
	if (program_run(argv, NULL, dir, err) < 0)
		return -1;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? no_room(err, errno, "open the initial RAM disk") : fd;
}

/* ---- the disk of an image ---- */

struct measure {
	uint64_t blocks, inodes;
};

/* What lies below dir (owned). */
static int tree_measure(int dir, int depth, struct measure *m)
{
	DIR *d = fdopendir(dir);
	int r = 0;
	if (!d) {
		r = -errno;
		close(dir);
		return r;
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = -errno;
			break;
		}
		m->inodes++;
		m->blocks += ((uint64_t)st.st_size + BLOCK - 1) / BLOCK + 1;
		if (!S_ISDIR(st.st_mode))
			continue;
		int sub = depth ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		r = depth == 0 ? -ELOOP : sub < 0 ? -errno : tree_measure(sub, depth - 1, m);
	}
	closedir(d);
	return r;
}

static int disk_make(const struct microvm_host *h, const struct image_trees *t, int file, uint32_t uid,
		     struct brig_err *err)
{
	const struct reader reader = { .uid = uid, .trees = t, .file = file };
	struct measure m = { 0 };
	char tree[40], to[40], inodes[24], mke2fs[sizeof(h->mke2fs)];
	int r = 0;
	for (unsigned i = 0; r == 0 && i < t->n; i++)
		r = tree_measure(openat(t->fd[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), DEPTH_MAX, &m);
	if (r < 0)
		return brig_fail(err, BRIG_E_CORRUPT, -r, "look through the image");
	m.inodes += 64;
	/* A sparse file: what is too much costs nothing. */
	uint64_t bytes = (m.blocks * BLOCK + m.inodes * INODE_BYTES) * 17 / 16 + DISK_LEAST;
	if (fchown(file, uid, uid) < 0 || ftruncate(file, (off_t)(bytes & ~(uint64_t)(BLOCK - 1))) < 0)
		return no_room(err, errno, "make the disk of the image");
	snprintf(tree, sizeof(tree), t->n > 1 ? MERGED : "/proc/self/fd/%d", t->fd[0]);
	snprintf(to, sizeof(to), "/proc/self/fd/%d", file);
	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)m.inodes);
	snprintf(mke2fs, sizeof(mke2fs), "%s", h->mke2fs);
	char *const argv[] = { mke2fs,
			       (char[]){ "-q" }, (char[]){ "-F" },
			       (char[]){ "-t" }, (char[]){ "ext4" },
			       (char[]){ "-b" }, (char[]){ "4096" },
			       (char[]){ "-I" }, (char[]){ "256" },
			       (char[]){ "-m" }, (char[]){ "0" },
			       (char[]){ "-O" }, (char[]){ "none,extent,filetype,large_file,huge_file,dir_index,dir_nlink,"
							   "extra_isize,flex_bg,sparse_super,ext_attr,uninit_bg" },
			       (char[]){ "-E" }, (char[]){ "root_owner=0:0,lazy_itable_init=1" },
			       (char[]){ "-N" }, inodes,
			       (char[]){ "-d" }, tree, to, NULL };
	if (program_run(argv, &reader, -1, err) < 0)
		return -1;
	return fchown(file, 0, 0) < 0 || fchmod(file, 0400) < 0 ? no_room(err, errno, "keep the disk of the image") : 0;
}

int prepare_disk(const struct microvm_host *h, int data, const struct image_trees *t, uint32_t uid,
		 struct brig_err *err)
{
	char self[40], path[128];
	snprintf(path, sizeof(path), "images/%.95s", t->digest);
	AUTO_FD image = openat(data, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (image < 0)
		return no_room(err, errno, "open the image's folder");
	AUTO_FD dir = folder_locked(image, ".", err);
	if (dir < 0)
		return -1;
	int fd = openat(dir, DISK_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		return fd;
	AUTO_FD file = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file < 0)
		return no_room(err, errno, "make the disk of the image");
	if (disk_make(h, t, file, uid, err) < 0)
		return brig_ctx(err, "make a disk of the image");
	snprintf(self, sizeof(self), "/proc/self/fd/%d", file);
	if (linkat(AT_FDCWD, self, dir, DISK_NAME, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
		return no_room(err, errno, "keep the disk of the image");
	fd = openat(dir, DISK_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? no_room(err, errno, "open the disk of the image") : fd;
}
