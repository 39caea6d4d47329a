/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.h: the writable layer of a sandbox as a stream of bytes, what FS_EXPORT gives and FS_IMPORT
 * takes.
 *
 * Theory of operation
 * -------------------
 * struct layer_head, then records, each a struct layer_rec and `len` bytes of body; LAYER_END is
 * the last. Paths are relative to the sandbox's root ("" is the root itself), without empty, "." or
 * ".." components. A directory that is in the layer is told in this order:
 *
 *     DIR, NAMES with some of its names, .., NAMES without any, XATTR.., GONE.., its entries, DIR_END
 *
 * where the names are all that the sandbox shows there, those of the image included, ascending by
 * their bytes. So the receiver knows what is gone without reading the marks in which an overlay
 * keeps that: it removes what it has and what is not named. The entries are those that are in the
 * layer: FILE with XATTR and DATA, LINK, SYMLINK, FIFO, and directories in the same way. Sockets
 * are left out, and so is what other mounts show: /proc, /dev, volumes.
 *
 * Owner, mode and time of a directory stand in its DIR_END, because filling it changes them. Owners
 * are ids inside. Holes of files are not sent. With BRIG_FS_HEADS of the
 * request there are no DATA and no XATTR.
 *
 * The receiver trusts nothing in it: snapshots are kept by a process that brig does not trust with
 * anything but them.
 */
#ifndef BRIG_AGENT_LAYER_H
#define BRIG_AGENT_LAYER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYER_MAGIC 0x726579616c677262ull
#define LAYER_VERSION 1u
struct layer_head {
	uint64_t magic;
	uint32_t version;
	uint32_t marks; /* 1: LAYER_F_IMAGE and GONE say what the image has */
};
_Static_assert(sizeof(struct layer_head) == 16, "wire");

/* X(name, number, body). Fields of the struct that a type does not name are 0. */
#define LAYER_TYPES(X)                                                                       \
	X(DIR, 1)     /* path */                                                             \
	X(NAMES, 2)   /* names, each with its NUL; none ends the list */                     \
	X(FILE, 3)    /* path; mode, uid, gid, mtime, size */                                \
	X(DATA, 4)    /* bytes of the FILE before it; size = their offset, ascending */      \
	X(LINK, 5)    /* path, path of a FILE before it: another name of it */               \
	X(SYMLINK, 6) /* path, target; uid, gid, mtime */                                    \
	X(FIFO, 7)    /* path; mode, uid, gid, mtime */                                      \
	X(XATTR, 8)   /* name (user.*), value (without NUL), of the FILE or DIR before it */ \
	X(DIR_END, 9) /* path; mode, uid, gid, mtime */                                      \
	X(END, 10)    /* nothing */                                                          \
	X(GONE, 11)   /* path: the image has it, and the sandbox does not show it */

enum layer_type {
#define X(name, number) LAYER_##name = number,
	LAYER_TYPES(X)
#undef X
};

/* Bytes of one body: the longest value of an attribute and its name, or a piece of a file. */
#define LAYER_BODY_MAX (128u * 1024u)
#define LAYER_DATA_MAX (64u * 1024u)
/* Of DIR, FILE, LINK, SYMLINK, FIFO: the image has something of that name, too. Like GONE it is for those who
 * want to know what changed; who puts a layer in place needs neither. */
#define LAYER_F_IMAGE 1u
struct layer_rec {
	uint32_t len; /* of the body */
	uint16_t type;
	uint16_t flags; /* LAYER_F_* */
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
	uint32_t mtime_nsec;
	int64_t mtime_sec;
	uint64_t size;
};
_Static_assert(sizeof(struct layer_rec) == 40, "wire");

/* A record that was checked. Strings and body lie in the buffer that was parsed. */
struct layer_item {
	struct layer_rec h;
	const char *path;     /* or the name of an XATTR */
	const char *target;   /* LINK, SYMLINK */
	const uint8_t *value; /* NAMES, DATA, XATTR */
	size_t value_len;
};

/* Both return the bytes used, 0 if more are needed, or -EINVAL. */
ptrdiff_t layer_parse_head(const uint8_t *p, size_t n);
ptrdiff_t layer_parse(const uint8_t *p, size_t n, struct layer_item *ret);
/* A path as above; "" is one. */
bool layer_path_ok(const char *path);
/* One component of one. */
bool layer_name_ok(const char *name);

/* Attributes that belong to the tenant and not to the overlay. */
bool layer_xattr_ok(const char *name);

/* All names of a directory, sorted. Beyond LAYER_NAMES_MAX bytes of them: -E2BIG. */
#define LAYER_NAMES_MAX (64u * 1024u * 1024u)
struct layer_names {
	char *text;
	size_t len, cap;
	uint32_t *at; /* offsets in text */
	uint32_t n, n_cap, next;
};
void layer_names_init(struct layer_names *l);
/* Reads the directory fd, which stays open and is left at its end. 0 or -errno. */
int layer_names_read(struct layer_names *l, int fd);
/* The name at hand, or NULL behind the last. */
static inline const char *layer_names_peek(const struct layer_names *l)
{
	return l->next < l->n ? l->text + l->at[l->next] : NULL;
}
void layer_names_done(struct layer_names *l);

struct agent;
struct fs_request;
/* Openers of FS_EXPORT and FS_IMPORT, as in fs.h. */
void layer_export_open(struct agent *a, const struct fs_request *q);
void layer_import_open(struct agent *a, const struct fs_request *q);

#endif
