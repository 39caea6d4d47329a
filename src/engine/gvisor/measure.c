/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c: see measure.h. */
#include "engine/gvisor/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "engine/container/measure.h"
#include "engine/container/rootfs.h"
#include "engine/gvisor/keeper.h"
#include "jail/jaild.h"

/* Threads of the gofer, the sentry and of a runsc that sets them up: Go's, which are not bounded by a number
 * but by what they wait for; 40 to 60 were seen. */
#define OWN_TASKS 200u

uint32_t gvisor_tasks(const struct jail_spec *p)
{
	return p->pids > (UINT32_MAX - OWN_TASKS) / 4 ? UINT32_MAX : 4 * p->pids + OWN_TASKS;
}

/* Namespaces of which each process of it has one that is not the host's. The rest of them is the keeper's. */
static int check_namespaces(const struct serve *j, int proc, int pid, struct measure_diff *d)
{
	uint64_t ns[JAIL_NS__N];
	if (measure_namespaces(proc, ns) < 0)
		return -1;
	for (unsigned i = 0; i < JAIL_NS__N; i++) {
		if (i == JAIL_NS_time || (ns[i] && ns[i] != j->ns_own[i]))
			continue;
		snprintf(d->item, sizeof(d->item), "namespaces");
		snprintf(d->text, sizeof(d->text), "process %d is in one of the host's", pid);
		return 1;
	}
	return 0;
}

/* 0; 1 with the difference; -1: it has just ended. */
static int check_process(const struct serve *j, int pid, struct jail_receipt *m, struct measure_diff *d)
{
	char path[32];
	static struct jail_receipt one;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	AUTO_FD proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	memcpy(one.id, m->id, sizeof(one.id));
	if (proc < 0 || measure_process(proc, &one) < 0)
		return -1;
	m->processes++;
	m->cap_commands |= one.cap_inherit | one.cap_permit;
	m->cap_commands_bound |= one.cap_bound;
	uint64_t more = (one.cap_inherit | one.cap_permit | one.cap_effect) & ~BRIG_CAPS_RUNSC;
	if (more || FAILPOINT_IS("mutate.commands")) {
		snprintf(d->item, sizeof(d->item), "capabilities");
		snprintf(d->text, sizeof(d->text), "process %d has %" PRIx64 ", which runsc was not given", pid,
			 more);
		return 1;
	}
	if (one.no_new_privs != 1 || one.seccomp_mode != 2) {
		snprintf(d->item, sizeof(d->item), "seccomp");
		snprintf(d->text, sizeof(d->text), "process %d has no_new_privs %u, seccomp %u", pid,
			 one.no_new_privs, one.seccomp_mode);
		return 1;
	}
	return check_namespaces(j, proc, pid, d);
}

static int check_processes(const struct serve *j, const struct box *b, struct jail_receipt *m,
			   struct measure_diff *d)
{
	char pids[65536];
	int r = cgroup_procs(&j->cg, b->id, pids, sizeof(pids));
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (char *p = pids, *save = NULL, *tok; (tok = strtok_r(p, "\n", &save)); p = NULL) {
		int pid = atoi(tok);
		if (pid > 0 && check_process(j, pid, m, d) == 1)
			return 1;
	}
	return 0;
}

/* The size of the writable layer, a tmpfs in the keeper's mount namespace. */
static int check_layer(int proc, const struct measure_want *w, struct jail_receipt *m, struct measure_diff *d)
{
	struct statfs s;
	AUTO_FD layer = openat(proc, "root/w", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (layer < 0 || fstatfs(layer, &s) < 0)
		return -errno;
	m->layer_known = s.f_type == TMPFS_MAGIC;
	m->layer_bytes = (uint64_t)s.f_blocks * (uint64_t)s.f_bsize;
	m->layer_inodes = s.f_files;
	uint64_t bytes = w->spec->disk_bytes + (uint64_t)s.f_bsize - 1;
	if (m->layer_known && m->layer_bytes == bytes - bytes % (uint64_t)s.f_bsize &&
	    m->layer_inodes == w->spec->inodes + ROOTFS_OWN_INODES)
		return 0;
	snprintf(d->item, sizeof(d->item), "disk");
	snprintf(d->text, sizeof(d->text),
		 "a layer of %" PRIu64 " bytes, %" PRIu64 " inodes; specified %" PRIu64 ", %" PRIu64,
		 m->layer_bytes, m->layer_inodes, w->spec->disk_bytes,
		 w->spec->inodes + ROOTFS_OWN_INODES);
	return 1;
}

int gvisor_look(const struct serve *j, const struct box *b, int proc, const struct measure_want *w,
		struct jail_receipt *m, struct measure_diff *d)
{
	int r = check_layer(proc, w, m, d);
	m->mounts_len = 0; /* those of the tenant are gVisor's */
	return r ? r : check_processes(j, b, m, d);
}

int gvisor_measure(struct serve *j, struct box *b, struct brig_err *err)
{
	static struct jail_receipt m;
	struct measure_diff d;
	if (receipt_first(j, b, err) < 0)
		return -1;
	memset(&m, 0, offsetof(struct jail_receipt, mounts));
	memcpy(m.id, b->id, sizeof(m.id));
	int r = check_processes(j, b, &m, &d);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "measure sandbox '%s': read its processes", b->id);
	if (r)
		return receipt_differs(b, &d, err);
	receipt_open(b);
	return 0;
}
