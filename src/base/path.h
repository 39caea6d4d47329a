/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h: the only way in which brig resolves a path below a root that somebody else filled.
 */
#ifndef BRIG_BASE_PATH_H
#define BRIG_BASE_PATH_H

#include <sys/types.h>

/* Opens `rel` beneath root with openat2 (Linux 5.6): never leaves root, never follows a symbolic or
 * magic link. `rel` may begin with '/', which is dropped. Returns a descriptor or -errno (-ELOOP: a
 * link is in the way, -EXDEV: it would leave). O_CLOEXEC is always set. */
int path_open_beneath(int root, const char *rel, int flags, mode_t mode);

/* Makes every missing directory of `rel` (mode 0755, owner uid:gid for those it makes) and opens the
 * last one with O_PATH. Existing components must be directories, not links. */
int path_mkdirs_beneath(int root, const char *rel, uid_t uid, gid_t gid);

/* 1 if `p` is absolute, has no empty, "." or ".." component, and is shorter than max. */
int path_is_clean(const char *p, size_t max);

#endif
