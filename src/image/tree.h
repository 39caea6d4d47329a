/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h: the only code that creates anything below the root of an image being made. Whoever reads
 * an archive or a directory hands its entries here, one after another, with names as they were
 * found.
 *
 * A name is taken apart before it is used: leading "/" and "./", empty and "." components vanish,
 * ".." is refused. What remains is resolved below the root with RESOLVE_BENEATH,
 * RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS. A symbolic link is created as data and never
 * followed, not even to itself: an entry below one is refused. A hard link needs a regular file
 * that is there already, found by the same rules. A later entry of the same name replaces an
 * earlier one, except that a directory with something in it stays one.
 *
 * A layer is a tree upon others (lower.h). Directories that are only implied by a name look as those
 * below them do, a hard link to a file below copies that up, and what the layer hides is told by
 * tree_hide().
 *
 * Errors: BRIG_E_INVALID an entry breaks a rule, BRIG_E_LIMIT a limit is met, BRIG_E_EXHAUSTED the
 * disk is full. After an error the tree is good for nothing but removal.
 */
#ifndef BRIG_IMAGE_TREE_H
#define BRIG_IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TREE_PATH_MAX 4095 /* PATH_MAX without its NUL */
#define TREE_NAME_MAX 255  /* NAME_MAX of every file system that a store may be on */
#define TREE_DEPTH_MAX 256
#define TREE_BYTES_DEFAULT (16ull << 30)
#define TREE_ENTRIES_DEFAULT 2000000ull

struct tree_limits {
	uint64_t bytes;	  /* of all files, holes included: what they are for a reader */
	uint64_t entries; /* names, directories that were only implied included */
};

struct tree_stats {
	uint64_t bytes, entries;
	uint64_t devices;  /* device nodes, FIFOs and sockets left out */
	uint64_t stripped; /* entries that lost a setuid or setgid bit */
};

struct tree_meta {
	unsigned mode; /* permission bits; others are dropped */
	int64_t uid, gid;
	int64_t mtime; /* seconds; outside of 0 .. 2^34 it is not set */
};

struct lower;
struct tree_dirs;
struct tree_hidden;
struct tree {
	int root; /* lent */
	bool keep_owner;
	struct tree_limits max;
	struct tree_stats stats;
	struct tree_dirs *dirs; /* directories whose mode and time are set by tree_finish */
	size_t ndirs, cap;
	const struct lower *lower; /* a layer: what is below it (maybe nothing); lent. NULL = none */
	struct tree_hidden *hidden; /* what tree_finish hides */
	size_t n_hidden, hidden_cap;
};

/* keep_owner: give entries the owners they name (needs the right to); without it all belong to the
 * caller. Ids beyond IMAGE_ID_MAX are refused in both cases. */
void tree_init(struct tree *t, int root, bool keep_owner, const struct tree_limits *max);
void tree_done(struct tree *t);

int tree_add_dir(struct tree *t, const char *name, const struct tree_meta *m, struct brig_err *err);
int tree_add_symlink(struct tree *t, const char *name, const char *target,
		     const struct tree_meta *m, struct brig_err *err);
int tree_add_hardlink(struct tree *t, const char *name, const char *target, struct brig_err *err);
/* A device node, FIFO or socket: its name is checked and counted, nothing is made. */
int tree_add_device(struct tree *t, const char *name, struct brig_err *err);

/* Of a layer: what is below shows nothing at this name any more (opaque: of a directory, nothing of
 * what is in it), whether an entry for it comes before or after. */
int tree_hide(struct tree *t, const char *name, bool opaque, struct brig_err *err);

/* A file being written. Bytes come in any order within `size`; what is never written reads as zero.
 */
struct tree_file {
	int fd;
	uint64_t size;
	struct tree_meta meta;
	bool keep_owner;
};
int tree_add_file(struct tree *t, const char *name, uint64_t size, const struct tree_meta *m,
		  struct tree_file *ret, struct brig_err *err);
int tree_file_write(struct tree_file *f, uint64_t offset, const void *data, size_t n,
		    struct brig_err *err);
/* Sets owner, mode and time; closes in every case. */
int tree_file_finish(struct tree_file *f, struct brig_err *err);
void tree_file_drop(struct tree_file *f);

/* After the last entry: gives the directories their modes and times, deepest last entry first. */
int tree_finish(struct tree *t, struct brig_err *err);

/* Fills err from the errno of a failed write: full disk, quota and lack of inodes get their remedy.
 */
int tree_fail_sys(struct brig_err *err, int sys, const char *what, const char *name);

#endif
