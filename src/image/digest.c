/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.c: walks a finished tree and hashes it.
 *
 * Theory of operation
 * -------------------
 * Runs in a confined process of its own (confine.c), never in the one that parsed the archive:
 * whoever takes over the parser can fill the tree with what he likes, but not have it stored under
 * the digest of another. Nothing is followed; whatever a stored tree must not have is an error, not
 * skipped.
 */
#include "image/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/config.h"
#include "image/inodes.h"
#include "image/lower.h"
#include "image/name.h"
#include "image/names.h"
#include "image/tree.h"

#define CHUNK (256 * 1024)

struct walk {
	EVP_MD_CTX *all, *one;
	const EVP_MD *md;
	bool keep_owner;
	uint64_t max_entries;
	struct inodes known; /* files with several names: their 64 digits */
	struct tree_digest out;
	char path[TREE_PATH_MAX + 1];
	unsigned char *chunk;
	struct brig_err *err;
};

int digest_prepare(struct brig_err *err)
{
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned n;
	if (!EVP_Digest("", 0, out, &n, EVP_sha256(), NULL) || n != 32)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "OpenSSL offers no SHA-256");
	return 0;
}

static int walk_fail(struct walk *w, int sys, const char *why)
{
	char shown[160];
	enum brig_code code = sys == ENOMEM ? BRIG_E_EXHAUSTED : BRIG_E_CORRUPT;
	return brig_fail(w->err, code, sys, "'%s' of the image %s",
			 image_name_print(w->path, shown, sizeof(shown)), why);
}

static int hash_file(struct walk *w, int fd, uint64_t size, char hex[IMAGE_HEX_LEN + 1])
{
	unsigned char sum[32];
	struct image_digest d;
	uint64_t left = size;
	if (!EVP_DigestInit_ex(w->one, w->md, NULL))
		return walk_fail(w, ENOMEM, "cannot be hashed");
	for (;;) {
		ssize_t n = fd_read_full(fd, w->chunk, CHUNK);
		if (n < 0)
			return walk_fail(w, (int)-n, "cannot be read");
		if (n == 0)
			break;
		if ((uint64_t)n > left || !EVP_DigestUpdate(w->one, w->chunk, (size_t)n))
			return walk_fail(w, 0, "changed while it was hashed");
		left -= (uint64_t)n;
	}
	if (left || !EVP_DigestFinal_ex(w->one, sum, NULL))
		return walk_fail(w, 0, "changed while it was hashed");
	image_digest_from_bytes(sum, &d);
	memcpy(hex, d.text + 7, IMAGE_HEX_LEN + 1);
	w->out.size_bytes += size;
	return 0;
}

/* The digits of a file's content; those of a file with several names are worked out once. */
static int hash_content(struct walk *w, int dir, const char *name, const struct stat *st,
			char hex[IMAGE_HEX_LEN + 1])
{
	void **known = NULL;
	if (st->st_nlink > 1) {
		known = inodes_at(&w->known, st->st_dev, st->st_ino);
		if (!known)
			return walk_fail(w, ENOMEM, "cannot be hashed");
		if (*known) {
			memcpy(hex, *known, IMAGE_HEX_LEN + 1);
			return 0;
		}
	}
	AUTO_FD fd = path_open_beneath(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return walk_fail(w, -fd, "cannot be opened");
	if (hash_file(w, fd, (uint64_t)st->st_size, hex) < 0)
		return -1;
	if (known && !(*known = strdup(hex)))
		return walk_fail(w, ENOMEM, "cannot be hashed");
	return 0;
}

static int put_line(struct walk *w, char type, const struct stat *st, const char *content,
		    const char *target)
{
	char head[160];
	unsigned mode = type == 'l' ? 0777 : type == 'w' ? 0 : st->st_mode & 07777;
	bool owner = w->keep_owner && type != 'w';
	int n = snprintf(head, sizeof(head), "%c %04o %u %u %" PRIu64 " %s %zu:", type, mode,
			 owner ? st->st_uid : 0, owner ? st->st_gid : 0,
			 type == 'f' ? (uint64_t)st->st_size : 0, content, strlen(w->path));
	char tail[32];
	int k = snprintf(tail, sizeof(tail), " %zu:", strlen(target));
	if (!EVP_DigestUpdate(w->all, head, (size_t)n) ||
	    !EVP_DigestUpdate(w->all, w->path, strlen(w->path)) ||
	    !EVP_DigestUpdate(w->all, tail, (size_t)k) ||
	    !EVP_DigestUpdate(w->all, target, strlen(target)) || !EVP_DigestUpdate(w->all, "\n", 1))
		return walk_fail(w, ENOMEM, "cannot be hashed");
	return 0;
}

static int walk_dir(struct walk *w, int fd, size_t len, unsigned depth);

static int walk_entry(struct walk *w, int dir, const char *name, size_t len, unsigned depth)
{
	struct stat st;
	char content[IMAGE_HEX_LEN + 1], target[TREE_PATH_MAX + 1];
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return walk_fail(w, errno, "cannot be looked at");
	if (!S_ISLNK(st.st_mode) && st.st_mode & (S_ISUID | S_ISGID))
		return walk_fail(w, 0, "has a setuid or setgid bit");
	if (w->keep_owner && (st.st_uid > IMAGE_ID_MAX || st.st_gid > IMAGE_ID_MAX))
		return walk_fail(w, 0, "belongs to an id beyond 65535");
	if (++w->out.files > w->max_entries)
		return walk_fail(w, 0, "is one entry too many");
	if (S_ISREG(st.st_mode))
		return hash_content(w, dir, name, &st, content) < 0 ||
				       put_line(w, 'f', &st, content, "") < 0
			       ? -1
			       : 0;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(dir, name, target, sizeof(target));
		if (n < 0 || (size_t)n == sizeof(target))
			return walk_fail(w, n < 0 ? errno : 0, "is an unreadable link");
		target[n] = '\0';
		return put_line(w, 'l', &st, "-", target);
	}
	if (lower_is_whiteout(&st))
		return put_line(w, 'w', &st, "-", "");
	if (!S_ISDIR(st.st_mode))
		return walk_fail(w, 0, "is neither file, directory nor symbolic link");
	AUTO_FD fd = path_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return walk_fail(w, -fd, "cannot be opened");
	return put_line(w, 'd', &st, "-", "") < 0 || walk_dir(w, fd, len, depth + 1) < 0 ? -1 : 0;
}

/* w->path holds the directory's path in its first len bytes; 0 = the root. */
static int walk_dir(struct walk *w, int fd, size_t len, unsigned depth)
{
	struct names d;
	if (depth > TREE_DEPTH_MAX)
		return walk_fail(w, 0, "is too deep");
	int r = names_read(fd, w->max_entries, &d);
	if (r < 0)
		return walk_fail(w, -r, "cannot be listed");
	for (size_t i = 0; i < d.n && r == 0; i++) {
		size_t n = strlen(d.list[i]), at = len + (len > 0);
		if (at + n > TREE_PATH_MAX) {
			r = walk_fail(w, 0, "has too long a path");
			break;
		}
		if (len)
			w->path[len] = '/';
		memcpy(w->path + at, d.list[i], n + 1);
		r = walk_entry(w, fd, d.list[i], at + n, depth);
	}
	w->path[len] = '\0';
	names_done(&d);
	return r;
}

static int walk_root(struct walk *w, int root)
{
	struct stat st;
	AUTO_FD fd = path_open_beneath(root, ".", O_RDONLY | O_DIRECTORY, 0);
	memcpy(w->path, ".", 2);
	if (fd < 0 || fstat(fd, &st) < 0)
		return walk_fail(w, errno, "cannot be opened");
	if (!EVP_DigestInit_ex(w->all, w->md, NULL) ||
	    !EVP_DigestUpdate(w->all, "brig-tree-1\n", 12))
		return walk_fail(w, ENOMEM, "cannot be hashed");
	if (put_line(w, 'd', &st, "-", "") < 0 || walk_dir(w, fd, 0, 0) < 0)
		return -1;
	if (!EVP_DigestFinal_ex(w->all, w->out.sha256, NULL))
		return walk_fail(w, ENOMEM, "cannot be hashed");
	return 0;
}

int digest_tree(int root, bool keep_owner, uint64_t max_entries, struct tree_digest *ret,
		struct brig_err *err)
{
	struct walk w = { .all = EVP_MD_CTX_new(),
			  .one = EVP_MD_CTX_new(),
			  .md = EVP_sha256(),
			  .keep_owner = keep_owner,
			  .max_entries = max_entries,
			  .chunk = malloc(CHUNK),
			  .err = err };
	int r = w.all && w.one && w.chunk
			? walk_root(&w, root)
			: brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "hash the image");
	if (r == 0)
		*ret = w.out;
	inodes_done(&w.known);
	free(w.chunk);
	EVP_MD_CTX_free(w.all);
	EVP_MD_CTX_free(w.one);
	return r;
}
