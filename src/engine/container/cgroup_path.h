/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_path.h: how cgroup.c (making, limits, removal) and cgroup_read.c (figures, freezing) name
 * the group of a sandbox. */
#ifndef BRIG_CONTAINER_CGROUP_PATH_H
#define BRIG_CONTAINER_CGROUP_PATH_H

#include <stdio.h>

#include "engine/container/cgroup.h"

/* The directory of a sandbox's group, or of a file in it ("" = the group itself), below tree[].fd.
 */
struct cgroup_path {
	char text[160];
};
static inline const char *cgroup_path(const struct cgroup_host *h, const char *id, const char *file,
				      struct cgroup_path *p)
{
	snprintf(p->text, sizeof(p->text), "%s%s%s%s", h->prefix, id, file[0] ? "/" : "", file);
	return p->text;
}

#endif
