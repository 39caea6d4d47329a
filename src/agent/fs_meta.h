/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_meta.h: what clients attach to a file as pairs of strings: extended attributes whose names
 * begin with BRIG_FS_XATTR_PREFIX.
 */
#ifndef BRIG_AGENT_FS_META_H
#define BRIG_AGENT_FS_META_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "brig/agent_proto.h"

/* Pairs key\0 value\0. */
#define FS_META_TEXT_MAX (BRIG_FS_META_MAX + 2 * BRIG_FS_META_PAIRS)

/* `n` pairs in the strings from p to end; 0, or -EINVAL. */
int fs_meta_check(const char *p, const char *end, uint64_t n);
/* Gives the file these pairs and no others. 0, or -errno: EOPNOTSUPP where its file system holds
 * none. Called with the user's credentials. */
int fs_meta_set(int fd, const char *pairs, uint64_t n);
/* The pairs of the file that st is of, found by name. Returns the bytes written to buf, at most
 * FS_META_TEXT_MAX. */
size_t fs_meta_get(const struct stat *st, int dirfd, const char *name, uint8_t *buf);

#endif
