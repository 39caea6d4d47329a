/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs.c: what a sandbox sees as its file system.
 *
 * Theory of operation
 * -------------------
 * The template (once per stage) is one small tmpfs that becomes "/" of the stage:
 *     /usr /alt      the host's /usr and /etc/alternatives, detached copies, read-only (host image)
 *     /skel          a synthetic skeleton, the root of the host image
 *     /w /p /d       where a child puts its writable layer, its proc and its /dev
 *     /v             a volume that has the writable layer instead of /w, until the root is mounted
 *     /i /l /r       .. the image as it is stored, its id-mapped copy, the finished root
 *     /k /m          .. the same for an image of several layers: /k/0 is the lowest, /m/0 its copy
 *     /b /dev /tmp   where a keeper of runsc puts what runsc needs (engine/gvisor/keeper.h)
 * Then the host's own tree is detached: from here on no path leads back to it.
 *
 * A child, still as root of the outer user namespace, in its own copy of that (short) mount table, first
 * does what only its slot decides (rootfs_prepare):
 *     /w   tmpfs, charged to the sandbox (it has joined its cgroup); sized when the request is known
 *     /p   proc of its pid namespace, with masks
 *     /d   a minimal /dev with its own devpts and shm
 * and when the request is known (rootfs_build, in the child or by the stage in its mount namespace):
 *     /l   the image, id-mapped so that its file owners are those of this sandbox (or /m/0, /m/1, ..)
 *     /r   overlay of these and /w: the root; /p and /d move to their places in it
 * then home, the resolver and volumes, and moves the whole over "/". All mounts are owned by the outer user
 * namespace, so even a root inside that finds a way to call mount(2) may not change or undo one of
 * them.
 *
 * The overlay's options are relative names: /proc/self/mountinfo inside shows "lowerdir=l", not where
 * the host keeps its images. Targets inside the image are opened without following any link, and no
 * tenant process has run in this root before, so nothing can be swapped in between.
 *
 * Not done: /sys is not mounted (it describes the host); /dev/mqueue and /dev/hugepages do not exist.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "base/path.h"
#include "brig/net.h"
#include "engine/container/rootfs.h"
#include "engine/container/stage.h"

#define RO_ATTRS (MNTFD_ATTR_RDONLY | MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV)

/* The whole of /dev beside links and directories. Major and minor: Documentation/admin-guide/devices. */
static const struct {
	const char *name;
	unsigned major, minor;
} nodes[] = { { "null", 1, 3 },	  { "zero", 1, 5 },    { "full", 1, 7 },
	      { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
#define N_NODES (sizeof(nodes) / sizeof(nodes[0]))

static const struct {
	const char *name, *target;
} dev_links[] = { { "fd", "/proc/self/fd" },
		  { "stdin", "/proc/self/fd/0" },
		  { "stdout", "/proc/self/fd/1" },
		  { "stderr", "/proc/self/fd/2" },
		  { "ptmx", "pts/ptmx" } };
#define N_LINKS (sizeof(dev_links) / sizeof(dev_links[0]))

/* Inodes of the writable layer that are ours, not the tenant's: its directories and /dev. */
#define OWN_INODES (8u + N_NODES + N_LINKS)
_Static_assert(OWN_INODES == ROOTFS_OWN_INODES, "told to those who measure");

int stage_fail(struct stage_step *st, int err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(st->text, sizeof(st->text), fmt, ap);
	va_end(ap);
	return err < 0 ? err : -EIO;
}

/* ---- template ---- */

static int write_file(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	return fd_write_full(fd, text, strlen(text));
}

/* The host image: /usr of the host and an /etc that says nothing about the host. */
static int make_skeleton(int ld_cache)
{
	static const char *const dirs[] = { "etc", "usr", "proc", "sys", "dev", "tmp", "run", "var",
					    "var/tmp", "home", "home/user", "root", "mnt", "opt",
					    "srv", "var/lib", "var/cache", "var/log",
					    "etc/alternatives" };
	static const struct {
		const char *path, *text;
	} files[] = {
		{ "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"
				"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
				"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
				"user:x:1000:1000:user:/home/user:/bin/bash\n" },
		{ "etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nsudo:x:27:user\n"
			       "nogroup:x:65534:\nuser:x:1000:\n" },
		{ "etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n" },
		{ "etc/hostname", "sandbox\n" },
		{ "etc/resolv.conf", "" },
		{ "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"
				       "services: files\nprotocols: files\n" },
		{ "etc/os-release", "PRETTY_NAME=\"brig host image\"\nNAME=\"brig\"\nID=brig\n" },
		{ "etc/profile", "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n" },
		{ "etc/shells", "/bin/sh\n/bin/bash\n" },
	};
	static const char *const merged[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
	if (mkdir("skel", 0755) < 0 || chdir("skel") < 0)
		return -errno;
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return -errno;
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int r = write_file(files[i].path, files[i].text);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < sizeof(merged) / sizeof(merged[0]); i++) {
		char target[32], probe[32];
		snprintf(target, sizeof(target), "usr/%s", merged[i]);
		snprintf(probe, sizeof(probe), "../usr/%s", merged[i]);
		if (access(probe, F_OK) == 0 && symlink(target, merged[i]) < 0)
			return -errno;
	}
	if (chown("home/user", 1000, 1000) < 0 && errno != EINVAL) /* EINVAL: rootless with one id */
		return -errno;
	if (chmod("tmp", 01777) < 0 || chmod("var/tmp", 01777) < 0 || chmod("root", 0700) < 0)
		return -errno;
	if (ld_cache >= 0) {
		/* Only a list of library files below /usr; without it every program start searches. */
		AUTO_FD out = open("etc/ld.so.cache", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		char block[16384]; /* a small stack limit is the caller's right */
		ssize_t n;
		while (out >= 0 && (n = fd_read_full(ld_cache, block, sizeof(block))) > 0)
			if (fd_write_full(out, block, (size_t)n) < 0)
				break;
	}
	return chdir("/") < 0 ? -errno : 0;
}

/* Rootless only: device nodes cannot be made, so the host's are kept as files to bind. */
static int keep_host_nodes(int *fds)
{
	for (unsigned i = 0; i < N_NODES; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/%s", nodes[i].name);
		fds[i] = mntfd_clone(AT_FDCWD, path, 0);
		if (fds[i] < 0)
			return fds[i];
	}
	return 0;
}

static int attach_at(int fd, const char *path)
{
	AUTO_FD target = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (target < 0)
		return -errno;
	return mntfd_attach(fd, target);
}

int rootfs_template(int rootless, struct stage_step *st)
{
	static const char *const dirs[] = { "v",   "usr", "alt", "w",	 "p",	   "d",	  "i",
					    "l",   "r",	  "old", "hostdev", "proc",
					    "k",   "m",	  "b",	 "dev",	   "tmp" };
	int node_fd[N_NODES];
	int r;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return stage_fail(st, -errno, "make the mount namespace private");
	AUTO_FD usr = mntfd_clone(AT_FDCWD, "/usr", 0);
	if (usr < 0)
		return stage_fail(st, usr, "clone the mount of /usr");
	struct mntfd_attr ro = { .set = RO_ATTRS };
	if ((r = mntfd_setattr(usr, 0, &ro)) < 0)
		return stage_fail(st, r, "make /usr read-only");
	/* Symbolic links from /usr/bin through here back into /usr are part of how Debian's /usr works
	 * (awk, cc, pager, ..), not configuration of this host. Both may be absent on a minimal host. */
	AUTO_FD alternatives = mntfd_clone(AT_FDCWD, "/etc/alternatives", 0);
	if (alternatives >= 0 && (r = mntfd_setattr(alternatives, 0, &ro)) < 0)
		return stage_fail(st, r, "make /etc/alternatives read-only");
	AUTO_FD ld_cache = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
	if (rootless && (r = keep_host_nodes(node_fd)) < 0)
		return stage_fail(st, r, "keep the host's device nodes");
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") < 0 ||
	    chdir("/tmp") < 0)
		return stage_fail(st, -errno, "mount the template");
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return stage_fail(st, -errno, "make template directory %s", dirs[i]);
	for (unsigned i = 0; i < JAIL_LAYERS_MAX; i++) {
		char stored[16], copy[16];
		snprintf(stored, sizeof(stored), "k/%u", i);
		snprintf(copy, sizeof(copy), "m/%u", i);
		if (mkdir(stored, 0755) < 0 || mkdir(copy, 0755) < 0)
			return stage_fail(st, -errno, "make template directory %s", stored);
	}
	/* A user namespace may mount a new proc only where it can see a whole one. */
	if (rootless && mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL) < 0)
		return stage_fail(st, -errno, "keep proc");
	if (syscall(SYS_pivot_root, ".", "old") < 0 || chdir("/") < 0)
		return stage_fail(st, -errno, "enter the template");
	if (umount2("/old", MNT_DETACH) < 0)
		return stage_fail(st, -errno, "detach the host's tree");
	rmdir("/old");
	if ((r = attach_at(usr, "/usr")) < 0)
		return stage_fail(st, r, "attach /usr");
	for (unsigned i = 0; rootless && i < N_NODES; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/hostdev/%s", nodes[i].name);
		r = write_file(path, "");
		if (r < 0 || (r = attach_at(node_fd[i], path)) < 0)
			return stage_fail(st, r, "keep device node %s", nodes[i].name);
		close(node_fd[i]);
	}
	if (alternatives >= 0 && (r = attach_at(alternatives, "/alt")) < 0)
		return stage_fail(st, r, "attach /etc/alternatives");
	if ((r = make_skeleton(ld_cache)) < 0)
		return stage_fail(st, r, "make the host image");
	return 0;
}

/* ---- child, first step ---- */

static int writable_layer(const struct stage_clone *c, int rootless, struct stage_step *st)
{
	/* No MS_NODEV here: /dev below is a directory of this file system. Nothing of it is reachable
	 * inside except through mounts that carry their own flags. The size is a placeholder.
	 *
	 * No huge=within_size, though large writes would be three times as fast: a byte that is written into
	 * a hole of a large file then takes 2 MiB of the disk and memory limits (Linux 6.18), and a sparse
	 * file that fits without would not. */
	if (mount("tmpfs", "/w", "tmpfs", MS_NOSUID, "mode=0755,size=1m,nr_inodes=64") < 0)
		return stage_fail(st, -errno, "mount the writable layer");
	if (mkdir("/w/u", 0755) < 0 || mkdir("/w/o", 0755) < 0 || mkdir("/w/d", 0755) < 0 ||
	    mkdir("/w/d/pts", 0755) < 0 || mkdir("/w/d/shm", 0755) < 0 || mkdir("/w/s", 01777) < 0 ||
	    mkdir("/w/e", 0555) < 0 || chown("/w/u", c->host_uid, c->host_gid) < 0)
		return stage_fail(st, -errno, "prepare the writable layer");
	for (unsigned i = 0; i < N_NODES; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/w/d/%s", nodes[i].name);
		if (rootless) {
			int r = write_file(path, "");
			if (r < 0)
				return stage_fail(st, r, "make %s", path);
		} else if (mknod(path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
			return stage_fail(st, -errno, "make device node %s", nodes[i].name);
	}
	for (unsigned i = 0; i < N_LINKS; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/w/d/%s", dev_links[i].name);
		if (symlink(dev_links[i].target, path) < 0)
			return stage_fail(st, -errno, "make %s", path);
	}
	return 0;
}

static int mount_dev(const struct stage_clone *c, int rootless, struct stage_step *st)
{
	int r = 0;
	char text[32];
	AUTO_FD dev = mntfd_clone(AT_FDCWD, "/w/d", 0);
	struct mntfd_attr da = { .set = MNTFD_ATTR_NOSUID | MNTFD_ATTR_NOEXEC };
	if (dev < 0 || (r = mntfd_setattr(dev, 0, &da)) < 0 || (r = attach_at(dev, "/d")) < 0)
		return stage_fail(st, dev < 0 ? dev : r, "mount /dev");
	for (unsigned i = 0; rootless && i < N_NODES; i++) {
		char from[32], to[32];
		snprintf(from, sizeof(from), "/hostdev/%s", nodes[i].name);
		snprintf(to, sizeof(to), "/d/%s", nodes[i].name);
		if (mount(from, to, NULL, MS_BIND, NULL) < 0)
			return stage_fail(st, -errno, "bind device node %s", nodes[i].name);
	}
	AUTO_FD tfs = mntfd_fsopen("devpts");
	if (tfs < 0)
		return stage_fail(st, tfs, "open devpts");
	mntfd_fsconfig_str(tfs, "ptmxmode", "0666");
	mntfd_fsconfig_str(tfs, "mode", "0620");
	/* gid 5 is tty in Debian's base-passwd; only with a range of ids does it exist inside. */
	snprintf(text, sizeof(text), "%u", c->host_gid + (c->flags & STAGE_F_RANGE ? 5u : 0u));
	mntfd_fsconfig_str(tfs, "gid", text);
	mntfd_fsconfig_str(tfs, "max", "256");
	AUTO_FD pts = mntfd_fsmount(tfs, MNTFD_ATTR_NOSUID | MNTFD_ATTR_NOEXEC);
	if (pts < 0 || (r = attach_at(pts, "/d/pts")) < 0)
		return stage_fail(st, pts < 0 ? pts : r, "mount /dev/pts");
	AUTO_FD shm = mntfd_clone(AT_FDCWD, "/w/s", 0);
	struct mntfd_attr sa = { .set = MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV };
	if (shm < 0 || (r = mntfd_setattr(shm, 0, &sa)) < 0 || (r = attach_at(shm, "/d/shm")) < 0)
		return stage_fail(st, shm < 0 ? shm : r, "mount /dev/shm");
	/* Last, because the mount points above are on it. */
	struct mntfd_attr ra = { .set = MNTFD_ATTR_RDONLY };
	AUTO_FD top = open("/d", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || (r = mntfd_setattr(top, 0, &ra)) < 0)
		return stage_fail(st, top < 0 ? -errno : r, "make /dev read-only");
	return 0;
}

/* /p is our own proc mount: these names are the kernel's. */
static int mask_proc(struct stage_step *st)
{
	char path[64];
	for (unsigned i = 0; i < sizeof(rootfs_masked_files) / sizeof(rootfs_masked_files[0]); i++) {
		snprintf(path, sizeof(path), "/p/%s", rootfs_masked_files[i]);
		if (mount("/d/null", path, NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
			return stage_fail(st, -errno, "mask /proc/%s", rootfs_masked_files[i]);
	}
	for (unsigned i = 0; i < sizeof(rootfs_masked_dirs) / sizeof(rootfs_masked_dirs[0]); i++) {
		snprintf(path, sizeof(path), "/p/%s", rootfs_masked_dirs[i]);
		if (mount("/w/e", path, NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
			return stage_fail(st, -errno, "mask /proc/%s", rootfs_masked_dirs[i]);
	}
	for (unsigned i = 0; i < sizeof(rootfs_readonly_dirs) / sizeof(rootfs_readonly_dirs[0]); i++) {
		snprintf(path, sizeof(path), "/p/%s", rootfs_readonly_dirs[i]);
		AUTO_FD fd = mntfd_clone(AT_FDCWD, path, 0);
		if (fd == -ENOENT)
			continue;
		struct mntfd_attr a = { .set = RO_ATTRS | MNTFD_ATTR_NOEXEC };
		int r = fd;
		if (fd < 0 || (r = mntfd_setattr(fd, 0, &a)) < 0 || (r = attach_at(fd, path)) < 0)
			return stage_fail(st, r, "make /proc/%s read-only", rootfs_readonly_dirs[i]);
	}
	return 0;
}

/*
 * What the agent reads for FS_EXPORT. A detached copy of the mount, because the agent resolves paths of
 * the tenant: from a descriptor of /w/u itself, /proc/self/fd/N/../.. would lead to what the root
 * covers, with the host's /usr in it. From the root of a mount that is attached nowhere, ".." stays.
 */
static int layer_keep(struct stage_fds *f, struct stage_step *st)
{
	struct mntfd_attr a = { .set = RO_ATTRS | MNTFD_ATTR_NOEXEC };
	f->layer = mntfd_clone(AT_FDCWD, "/w/u", 0);
	int r = f->layer < 0 ? f->layer : mntfd_setattr(f->layer, 0, &a);
	return r < 0 ? stage_fail(st, r, "keep the writable layer for the agent") : 0;
}

int rootfs_prepare(const struct stage_clone *c, struct stage_fds *f, int rootless,
		   struct stage_step *st)
{
	int r;
	bool gvisor = (c->flags & STAGE_F_GVISOR) != 0;
	if ((r = writable_layer(c, rootless, st)) < 0 || (!gvisor && (r = layer_keep(f, st)) < 0) ||
	    (r = mount_dev(c, rootless, st)) < 0)
		return r;
	/* Its kernel has a /proc and a /dev of its own; these are runsc's. No masks: a bind mount of it in
	 * another user namespace would be refused. */
	if (gvisor && (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ||
		       mount("/d", "/dev", NULL, MS_BIND, NULL) < 0))
		return stage_fail(st, -errno, "mount what runsc needs");
	if (gvisor)
		return 0;
	AUTO_FD pfs = mntfd_fsopen("proc");
	AUTO_FD proc = pfs < 0 ? pfs
			       : mntfd_fsmount(pfs, MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV |
							    MNTFD_ATTR_NOEXEC);
	if (proc < 0 || (r = attach_at(proc, "/p")) < 0)
		return stage_fail(st, proc < 0 ? proc : r, "mount proc");
	return FAILPOINT_IS("weaken.mounts") ? 0 : mask_proc(st);
}

/* ---- second step ---- */

static int size_layer(const struct stage_enter *e, struct stage_step *st)
{
	char opt[96];
	snprintf(opt, sizeof(opt), "size=%" PRIu64 ",nr_inodes=%" PRIu64, e->spec.disk_bytes,
		 e->spec.inodes + OWN_INODES);
	if (mount(NULL, "/w", NULL, MS_REMOUNT | MS_NOSUID, opt) < 0)
		return stage_fail(st, -errno, "limit the writable layer (%s)", opt);
	return 0;
}

/* Puts an id-mapped copy of a lower layer on `place`. 1 = done, 0 = it cannot be mapped. */
static int map_lower(const char *lower, const char *place, int userns, struct stage_step *st)
{
	AUTO_FD tree = mntfd_clone(AT_FDCWD, lower, 0);
	if (tree < 0)
		return stage_fail(st, tree, "clone the image");
	struct mntfd_attr a = { .set = RO_ATTRS | MNTFD_ATTR_IDMAP, .userns_fd = (uint64_t)userns };
	int r = mntfd_setattr(tree, 0, &a);
	/* EINVAL: this file system cannot be mapped (tmpfs, that is the skeleton of the host image, before
	 * Linux 6.3). Its files then belong to nobody, and root inside may not change them: less
	 * comfortable, not less safe. */
	if (r == -EINVAL || r == -EOPNOTSUPP)
		return 0;
	if (r < 0 || (r = attach_at(tree, place)) < 0)
		return stage_fail(st, r, "map the owners of the image");
	return 1;
}

/* Puts the trees of the image on /i, or, if there are several, on /k/0, /k/1, .. */
static int place_layers(const struct stage_fds *f, struct stage_step *st)
{
	char place[16] = "/i";
	for (unsigned i = 0; i < f->n_layers; i++) {
		struct mntfd_attr ro = { .set = RO_ATTRS };
		int r = mntfd_setattr(f->layer_tree[i], 0, &ro);
		if (f->n_layers > 1)
			snprintf(place, sizeof(place), "/k/%u", i);
		if (r < 0 || (r = attach_at(f->layer_tree[i], place)) < 0)
			return stage_fail(st, r, "attach the image");
	}
	return 0;
}

/*
 * Whether overlay takes mapped layers of the store, which an image has shown: then those of the next are
 * mapped as they come, without a copy that would only be needed if it did not. In the stage; a child that
 * builds its own root knows what the stage knew when it was cloned.
 */
static int layers_map;

/* Puts the trees of the image on /m/0, /m/1, .., mapped. */
static int place_mapped(const struct stage_fds *f, struct stage_step *st)
{
	char place[16];
	for (unsigned i = 0; i < f->n_layers; i++) {
		struct mntfd_attr a = { .set = RO_ATTRS | MNTFD_ATTR_IDMAP,
					.userns_fd = (uint64_t)f->userns };
		int r = mntfd_setattr(f->layer_tree[i], 0, &a);
		snprintf(place, sizeof(place), "/m/%u", i);
		if (r < 0 || (r = attach_at(f->layer_tree[i], place)) < 0)
			return stage_fail(st, r, "map the owners of the image");
	}
	return 0;
}

/* Their mapped copies: on /l, or on /m/0, /m/1, .. 1 = done, 0 = one of them cannot be mapped. */
static int map_layers(const struct stage_fds *f, struct stage_step *st)
{
	if (f->n_layers <= 1)
		return map_lower(f->n_layers ? "i" : "skel", "/l", f->userns, st);
	for (unsigned i = 0; i < f->n_layers; i++) {
		char from[16], to[16];
		snprintf(from, sizeof(from), "k/%u", i);
		snprintf(to, sizeof(to), "/m/%u", i);
		int r = map_lower(from, to, f->userns, st);
		if (r <= 0)
			return r;
	}
	return 1;
}

#define LOWER_MAX (JAIL_LAYERS_MAX * 6u + 64u)

/* What follows "lowerdir=": the topmost layer comes first. */
static void lower_names(const struct stage_fds *f, int mapped, char ret[LOWER_MAX])
{
	size_t at = 0;
	if (f->n_layers <= 1)
		snprintf(ret, LOWER_MAX, "%s", mapped ? "l" : f->n_layers ? "i" : "skel");
	for (unsigned i = f->n_layers > 1 ? f->n_layers : 0; i-- > 0;)
		at += (size_t)snprintf(ret + at, LOWER_MAX - at, "%s%c/%u", at ? ":" : "",
				       mapped ? 'm' : 'k', i);
}

/* The volume that has the writable layer, on /v. 1 = there is one. Its two directories were made by root, and
 * nobody inside has ever seen them (volume/work.h); that they are no links is looked at all the same. */
static int place_volume(const struct stage_enter *e, const struct stage_fds *f, struct stage_step *st)
{
	for (unsigned i = 0; i < f->n_volumes; i++) {
		int r;
		if (e->spec.volumes[i].path[1])
			continue;
		if ((r = attach_at(f->volume[i], "/v")) < 0)
			return stage_fail(st, r, "attach the volume of the writable layer");
		AUTO_FD upper = open("/v/u", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		AUTO_FD work = open("/v/o", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (upper < 0 || work < 0)
			return stage_fail(st, -errno, "open the volume of the writable layer");
		return 1;
	}
	return 0;
}

/*
 * What the agent compares the writable layer with (LAYER_F_IMAGE): the same trees as the root's lower layers, with
 * their owners, detached and read-only. Nothing in it that the sandbox could not read before it changed anything.
 * A host that cannot make it has sandboxes all the same.
 */
static void base_keep(struct stage_fds *f, const char *lower, int rootless)
{
	struct mntfd_attr a = { .set = RO_ATTRS | MNTFD_ATTR_NOEXEC };
	if (f->n_layers <= 1) {
		f->base = mntfd_clone(AT_FDCWD, lower, 0);
	} else {
		AUTO_FD fs = mntfd_fsopen("overlay");
		if (fs < 0 || mntfd_fsconfig_str(fs, "lowerdir", lower) < 0 ||
		    (rootless && mntfd_fsconfig_flag(fs, "userxattr") < 0))
			return;
		f->base = mntfd_fsmount(fs, 0);
	}
	if (f->base >= 0 && mntfd_setattr(f->base, 0, &a) < 0)
		fd_close(&f->base);
	if (f->base < 0)
		f->base = -1;
}

static int root_overlay(const struct stage_enter *e, struct stage_fds *f, int rootless,
			struct stage_step *st)
{
	char lower[LOWER_MAX], opt[LOWER_MAX + 128];
	/* Some hosts have these on: a directory of the image that is renamed, or a file whose mode is
	 * changed, would then leave only a note in the writable layer, and FS_EXPORT would tell it without
	 * its contents. In a user namespace they are off by themselves. */
	const char *more = rootless ? ",userxattr" : ",redirect_dir=off,metacopy=off";
	int direct = layers_map && f->n_layers > 1 && e->flags & STAGE_F_IDMAP;
	int mapped = direct, r = direct ? place_mapped(f, st) : place_layers(f, st);
	int kept = r < 0 ? r : place_volume(e, f, st);
	if (kept < 0)
		return kept;
	const char *w = kept ? "v" : "w";
	if (!direct && e->flags & STAGE_F_IDMAP && (mapped = map_layers(f, st)) < 0)
		return mapped;
	/* Before Linux 5.19 overlay refuses a mapped lower layer: as above, unmapped then. */
	for (; mapped >= 0; mapped--) {
		lower_names(f, mapped, lower);
		snprintf(opt, sizeof(opt), "lowerdir=%s,upperdir=%s/u,workdir=%s/o%s", lower, w, w, more);
		if (mount("overlay", "/r", "overlay", MS_NOSUID | MS_NODEV, opt) == 0) {
			layers_map |= mapped && f->n_layers;
			base_keep(f, lower, rootless);
			/* Overlay has mounts of its own of its layers. */
			return kept && umount2("/v", MNT_DETACH) < 0 ? stage_fail(st, -errno, "leave the volume")
								     : 0;
		}
		if (errno != EINVAL || direct)
			break;
	}
	return stage_fail(st, -errno, "mount the root (overlay, %.100s)", opt);
}

/* Attaches a mount (detached, or to be moved) on a directory of the image that must exist and must not
 * be a link. */
static int attach_in_root(int root, int fd, const char *rel, struct stage_step *st)
{
	AUTO_FD target = path_open_beneath(root, rel, O_PATH | O_DIRECTORY, 0);
	if (target < 0)
		return stage_fail(st, target, "open /%s of the image (it must be a directory)", rel);
	int r = mntfd_attach(fd, target);
	return r < 0 ? stage_fail(st, r, "attach /%s", rel) : 0;
}

/* Moves a prepared mount, with all that is mounted on it. */
static int move_in_root(int root, const char *from, const char *rel, struct stage_step *st)
{
	AUTO_FD fd = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return stage_fail(st, -errno, "open %s", from);
	return attach_in_root(root, fd, rel, st);
}

/* One directory of the host, as an overlay of its own per sandbox: locks and leases on its files are
 * not shared with the host or with other sandboxes, and its source is not shown. */
static int host_dir(int root, const char *lower, const char *rel, struct stage_step *st)
{
	char opt[32];
	snprintf(opt, sizeof(opt), "lowerdir=%s:w/e", lower);
	/* A place of its own under each name: "/i" is free, the host image has no stored one. */
	if (mount("overlay", "/i", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, opt) < 0)
		return stage_fail(st, -errno, "mount the host's %s", rel);
	return move_in_root(root, "/i", rel, st);
}

static int attach_volumes(const struct stage_enter *e, const struct stage_fds *f, int root,
			  struct stage_step *st)
{
	for (unsigned i = 0; i < f->n_volumes; i++) {
		const struct jail_volume *v = &e->spec.volumes[i];
		struct stat sb;
		int r;
		if (!v->path[1])
			continue; /* the root */
		if (fstat(f->volume[i], &sb) < 0)
			return stage_fail(st, -errno, "look at the volume for %s", v->path);
		AUTO_FD target = -1;
		if (S_ISDIR(sb.st_mode)) {
			target = path_mkdirs_beneath(root, v->path, e->host_uid, e->host_gid);
		} else if (S_ISREG(sb.st_mode)) {
			char dir[JAIL_PATH_MAX];
			snprintf(dir, sizeof(dir), "%s", v->path);
			char *slash = strrchr(dir, '/');
			*slash = '\0';
			AUTO_FD parent = path_mkdirs_beneath(root, dir, e->host_uid, e->host_gid);
			if (parent >= 0) {
				int fd = path_open_beneath(parent, slash + 1,
							   O_WRONLY | O_CREAT | O_NONBLOCK, 0644);
				if (fd >= 0)
					close(fd);
				target = path_open_beneath(parent, slash + 1, O_PATH, 0);
			} else
				target = parent;
		} else
			return stage_fail(st, -EINVAL, "volume for %s is no file or directory",
					  v->path);
		if (target < 0)
			return stage_fail(st, target, "make the mount point %s", v->path);
		if ((r = mntfd_attach(f->volume[i], target)) < 0)
			return stage_fail(st, r, "attach the volume at %s", v->path);
	}
	return 0;
}

static int give_home(const struct stage_enter *e, int root, struct stage_step *st)
{
	const struct jail_spec *p = &e->spec;
	if (!p->home[0])
		return 0;
	uid_t uid = e->host_uid + (e->flags & STAGE_F_RANGE ? p->uid : 0);
	gid_t gid = e->host_gid + (e->flags & STAGE_F_RANGE ? p->gid : 0);
	struct stat sb;
	AUTO_FD fd = path_open_beneath(root, p->home, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT)
		fd = path_mkdirs_beneath(root, p->home, e->host_uid, e->host_gid);
	if (fd < 0)
		return stage_fail(st, fd, "make the home directory %s", p->home);
	/* Only the directory itself, and only where the image's owners could not be mapped. */
	if (fstat(fd, &sb) == 0 && sb.st_uid == uid)
		return 0;
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return stage_fail(st, -errno, "give %s to its user", p->home);
	return 0;
}

/* The resolver of a sandbox with a network, in place of whatever the image has there, most often a link
 * into /run. It is a file of the writable layer: a mount would be one more than is specified. */
static int give_resolver(const struct stage_enter *e, int root, struct stage_step *st)
{
	static const char text[] = "nameserver " BRIG_NET_GATEWAY4_TEXT "\n";
	int r;
	if (!e->spec.net)
		return 0;
	AUTO_FD etc = path_open_beneath(root, "etc", O_PATH | O_DIRECTORY, 0);
	if (etc < 0)
		return etc == -ENOENT ? 0 : stage_fail(st, etc, "open /etc of the image");
	if (unlinkat(etc, "resolv.conf", 0) < 0 && errno != ENOENT)
		return stage_fail(st, -errno, "replace /etc/resolv.conf");
	AUTO_FD fd = path_open_beneath(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0 || (r = fd_write_full(fd, text, sizeof(text) - 1)) < 0)
		return stage_fail(st, fd < 0 ? fd : r, "write /etc/resolv.conf");
	if (fchown(fd, e->host_uid, e->host_gid) < 0)
		return stage_fail(st, -errno, "give /etc/resolv.conf to root");
	return 0;
}

int rootfs_build(const struct stage_enter *e, struct stage_fds *f, int rootless,
		 struct stage_step *st)
{
	int r;
	if ((r = size_layer(e, st)) < 0 || (r = root_overlay(e, f, rootless, st)) < 0)
		return r;
	AUTO_FD root = open("/r", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return stage_fail(st, -errno, "open the root");
	if (e->spec.image == 0 && ((r = host_dir(root, "usr", "usr", st)) < 0 ||
				   (r = host_dir(root, "alt", "etc/alternatives", st)) < 0))
		return r;
	bool gvisor = e->spec.tier == BRIG_TIER_gvisor;
	if ((!gvisor && ((r = move_in_root(root, "/p", "proc", st)) < 0 ||
			 (r = move_in_root(root, "/d", "dev", st)) < 0)) ||
	    (r = give_home(e, root, st)) < 0 || (r = give_resolver(e, root, st)) < 0 ||
	    (r = attach_volumes(e, f, root, st)) < 0)
		return r;
	/* runsc is given it by its name. */
	if (gvisor)
		return 0;
	/*
	 * The root is moved over the template's root and becomes ours, as switch_root does with an
	 * initramfs. pivot_root and a detach of the old tree would end in the same view, but the detach
	 * waits for an RCU grace period (100 to 300 us here, on every create). What lies beneath stays
	 * unreachable: it is covered, ".." ends at the covering root even for a process that leaves a
	 * chroot of its own (fs/namei.c, choose_mountpoint), it does not appear in mountinfo, and taking
	 * the cover off needs CAP_SYS_ADMIN over a mount namespace that belongs to the outer user
	 * namespace, which nothing inside ever has. Attack test: cover.c.
	 */
	if (chdir("/r") < 0 || mount("/r", "/", NULL, MS_MOVE, NULL) < 0)
		return stage_fail(st, -errno, "move the root into place");
	return 0;
}

int rootfs_root(struct stage_step *st)
{
	if (chroot(".") < 0 || chdir("/") < 0)
		return stage_fail(st, -errno, "enter the root");
	return 0;
}
