/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.c: mount points, default user, architecture, digest.
 *
 * Theory of operation
 * -------------------
 * Runs in its own confined process, which has not seen the archive. It reads three things that the
 * image's maker wrote: names in the root directory, /etc/passwd and the head of one program. What
 * it reports goes through seal_check in brig-image.
 */
#include "image/seal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/lower.h"
#include "image/tree.h"

#define PASSWD_MAX (1 << 20)

static const struct {
	const char *name;
	mode_t mode;
} points[] = {
	{ "proc", 0755 }, { "sys", 0755 }, { "dev", 0755 },
	{ "tmp", 01777 }, { "run", 0755 }, { "etc", 0755 },
};

static int no_point(const char *name, const struct stat *st, struct brig_err *err)
{
	brig_fail(err, BRIG_E_INVALID, 0, "/%s of the image is %s", name,
		  S_ISLNK(st->st_mode) ? "a symbolic link" : "no directory");
	return brig_fix(err, "make it a directory: a sandbox mounts its own there");
}

/* below: of a layer, what it lies upon; NULL = nothing. */
static int make_mount_points(int root, const struct lower *below, bool keep_owner,
			     struct brig_err *err)
{
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		const char *name = points[i].name;
		struct stat st;
		int r = fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
		if (r == 0 && below && lower_is_whiteout(&st)) {
			if (unlinkat(root, name, 0) < 0)
				return tree_fail_sys(err, errno, "replace", name);
			r = -ENOENT;
		} else if (r == -ENOENT && below) {
			r = lower_look(below, name, &st);
		}
		if (r == 0 && !S_ISDIR(st.st_mode))
			return no_point(name, &st, err);
		if (r == 0)
			continue;
		if (r != -ENOENT)
			return tree_fail_sys(err, -r, "look at", name);
		if (mkdirat(root, name, 0700) < 0 || fchmodat(root, name, points[i].mode, 0) < 0 ||
		    (keep_owner && fchownat(root, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0))
			return tree_fail_sys(err, errno, "make directory", name);
	}
	return 0;
}

/* One decimal id; 0 or -EINVAL. */
static int parse_id(const char *text, size_t n, uint32_t *ret)
{
	uint32_t v = 0;
	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		v = v * 10 + (uint32_t)(text[i] - '0');
	}
	if (v > IMAGE_ID_MAX)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int user_name_ok(const char *s, size_t n)
{
	static const char chars[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	return n >= 1 && n <= IMAGE_USER_MAX && strspn(s, chars) >= n;
}

struct passwd_row {
	const char *name, *home;
	size_t name_n, home_n;
	uint32_t uid, gid;
};

/* One line "name:x:uid:gid:gecos:home:shell"; 0 or -EINVAL, and then it is skipped as libc does. */
static int passwd_parse(const char *line, size_t n, struct passwd_row *r)
{
	const char *field[7];
	size_t len[7];
	for (int i = 0; i < 7; i++) {
		const char *end = memchr(line, ':', n);
		size_t k = end ? (size_t)(end - line) : n;
		if (!end && i < 6)
			return -EINVAL;
		field[i] = line;
		len[i] = k;
		line += k + (end != NULL);
		n -= k + (end != NULL);
	}
	if (parse_id(field[2], len[2], &r->uid) < 0 || parse_id(field[3], len[3], &r->gid) < 0)
		return -EINVAL;
	r->name = field[0];
	r->name_n = len[0];
	r->home = field[5];
	r->home_n = len[5];
	return 0;
}

/* A file of the image's /etc, "" if it has none. */
static char *etc_read(const struct lower *l, const char *path, size_t *ret_n)
{
	struct stat st;
	AUTO_FD fd = lower_open(l, path, O_RDONLY | O_NONBLOCK);
	char *text = malloc(PASSWD_MAX);
	ssize_t n = 0;
	if (text && fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = fd_read_full(fd, text, PASSWD_MAX);
	*ret_n = n > 0 ? (size_t)n : 0;
	return text;
}

/* A number, or a name of /etc/group ("name:x:gid:members"). 0 or -ENOENT. */
static int find_group(const struct lower *l, const char *who, uint32_t *ret)
{
	size_t n, len = strlen(who);
	if (parse_id(who, len, ret) == 0)
		return 0;
	AUTO_FREE char *text = etc_read(l, "etc/group", &n);
	for (char *line = text; line && n > 0;) {
		char *end = memchr(line, '\n', n);
		size_t k = end ? (size_t)(end - line) : n;
		char *second = k > len && line[len] == ':' && memcmp(line, who, len) == 0
				       ? memchr(line + len + 1, ':', k - len - 1)
				       : NULL;
		if (second) {
			char *id = second + 1;
			char *stop = memchr(id, ':', k - (size_t)(id - line));
			if (parse_id(id, stop ? (size_t)(stop - id) : k - (size_t)(id - line), ret) == 0)
				return 0;
		}
		line += k + (end != NULL);
		n -= k + (end != NULL);
	}
	return -ENOENT;
}

static void take_user(struct seal_facts *f, const struct passwd_row *r)
{
	char home[IMAGE_DIR_MAX];
	int n = snprintf(home, sizeof(home), "%.*s", (int)(r->home_n < 4096 ? r->home_n : 4096),
			 r->home);
	f->uid = r->uid;
	f->gid = r->gid;
	if (user_name_ok(r->name, r->name_n))
		snprintf(f->user_name, sizeof(f->user_name), "%.*s", (int)r->name_n, r->name);
	if ((size_t)n < sizeof(home) && image_config_dir_ok(home))
		memcpy(f->user_home, home, sizeof(home));
}

int seal_find_user(const struct lower *l, const char *who, struct seal_facts *f,
		   struct brig_err *err)
{
	size_t n, len = strcspn(who, ":");
	uint32_t uid = 0, gid = 0;
	int by_id = parse_id(who, len, &uid) == 0;
	int with_gid = who[len] == ':';
	if (with_gid && find_group(l, who + len + 1, &gid) < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "user '%s': bad group id", who);
	AUTO_FREE char *text = etc_read(l, "etc/passwd", &n);
	if (!text)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "look up user '%s'", who);

	memcpy(f->user_home, "/", 2);
	for (char *line = text; n > 0;) {
		char *end = memchr(line, '\n', n);
		size_t k = end ? (size_t)(end - line) : n;
		struct passwd_row r;
		if (passwd_parse(line, k, &r) == 0 &&
		    (by_id ? r.uid == uid : r.name_n == len && memcmp(r.name, who, len) == 0)) {
			take_user(f, &r);
			if (with_gid)
				f->gid = gid;
			return 0;
		}
		line += k + (end != NULL);
		n -= k + (end != NULL);
	}
	if (!by_id) {
		brig_fail(err, BRIG_E_INVALID, 0, "the image has no user '%.*s'", (int)len, who);
		return brig_fix(err, "give a number: --user UID:GID");
	}
	f->uid = uid;
	f->gid = with_gid ? gid : uid;
	return 0;
}

/* The machine that the image's shell is made for, as dpkg names it. */
static void find_arch(int root, char *arch, size_t cap)
{
	static const char *const programs[] = { "bin/sh", "usr/bin/env", "sbin/init",
						"bin/busybox" };
	static const struct {
		uint16_t machine;
		unsigned char class, data;
		const char *name;
	} machines[] = {
		{ EM_X86_64, ELFCLASS64, ELFDATA2LSB, "amd64" },
		{ EM_386, ELFCLASS32, ELFDATA2LSB, "i386" },
		{ EM_AARCH64, ELFCLASS64, ELFDATA2LSB, "arm64" },
		{ EM_ARM, ELFCLASS32, ELFDATA2LSB, "armhf" },
		{ EM_RISCV, ELFCLASS64, ELFDATA2LSB, "riscv64" },
		{ EM_PPC64, ELFCLASS64, ELFDATA2LSB, "ppc64el" },
		{ EM_S390, ELFCLASS64, ELFDATA2MSB, "s390x" },
	};
	/* Links are followed here, as a process inside would follow them. */
	struct open_how how = { .flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	snprintf(arch, cap, "unknown");
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		unsigned char h[20];
		struct stat st;
		AUTO_FD fd = (int)syscall(SYS_openat2, root, programs[i], &how, sizeof(how));
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		    fd_read_full(fd, h, sizeof(h)) != sizeof(h) || memcmp(h, ELFMAG, SELFMAG) != 0)
			continue;
		unsigned lo = h[EI_DATA] == ELFDATA2LSB ? 18 : 19, hi = lo ^ 1;
		unsigned machine = h[lo] | (unsigned)h[hi] << 8;
		for (size_t k = 0; k < sizeof(machines) / sizeof(machines[0]); k++)
			if (machines[k].machine == machine && machines[k].class == h[EI_CLASS] &&
			    machines[k].data == h[EI_DATA]) {
				snprintf(arch, cap, "%s", machines[k].name);
				return;
			}
	}
}

int seal_tree(int root, const struct seal_options *o, struct seal_facts *ret, struct brig_err *err)
{
	struct seal_facts f = { .uid = 0 };
	const struct lower self = { .fd = { root }, .n = 1 };
	if (make_mount_points(root, NULL, o->keep_owner, err) < 0 ||
	    seal_find_user(&self, o->user ? o->user : "0", &f, err) < 0)
		return -1;
	find_arch(root, f.arch, sizeof(f.arch));
	/* The limit held while the tree was made; the mount points may have come on top. */
	if (digest_tree(root, o->keep_owner, o->max_entries + 16, &f.tree, err) < 0)
		return -1;
	*ret = f;
	return 0;
}

int seal_layer(int root, const struct lower *below, bool top, const struct seal_options *o,
	       struct tree_digest *ret, struct brig_err *err)
{
	if (top && make_mount_points(root, below, o->keep_owner, err) < 0)
		return -1;
	return digest_tree(root, o->keep_owner, o->max_entries + 16, ret, err);
}

int seal_check(const struct seal_facts *f, struct brig_err *err)
{
	size_t name = strnlen(f->user_name, sizeof(f->user_name));
	size_t arch = strnlen(f->arch, sizeof(f->arch));
	if (arch == 0 || arch == sizeof(f->arch) ||
	    strspn(f->arch, "abcdefghijklmnopqrstuvwxyz0123456789") != arch ||
	    name == sizeof(f->user_name) || (name && !user_name_ok(f->user_name, name)) ||
	    strnlen(f->user_home, sizeof(f->user_home)) == sizeof(f->user_home) ||
	    !image_config_dir_ok(f->user_home) || f->uid > IMAGE_ID_MAX || f->gid > IMAGE_ID_MAX ||
	    f->tree.size_bytes > INT64_MAX || f->tree.files > INT64_MAX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "the process that looked at the image reported nonsense");
	return 0;
}
