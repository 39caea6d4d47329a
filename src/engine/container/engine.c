/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c: the container tier behind the seam (engine.h). The work is done by the stage (stage.h), with
 * which jail/birth.c speaks; what is measured is in measure.h and jail/receipt.c.
 */
#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "agent/caps.h"
#include "engine/container/measure.h"
#include "engine/container/seccomp.h"
#include "engine/engine.h"
#include "jail/jaild.h"

/* What else it needs is told one by one (jail_hello.enforced), and refused or accepted one by one. */
static void container_probe(const struct serve_options *o, int thorough, struct jail_tier *ret)
{
	(void)o;
	(void)thorough;
	ret->offered = 1;
	snprintf(ret->text, sizeof(ret->text), "the host's kernel, reduced");
}

static int container_create(struct serve *j, struct box *b, const struct engine_order *o,
			    struct brig_err *err)
{
	if (b->slot.ctl < 0 && birth_clone(j, &b->slot, o->join, 0, err) < 0)
		return -1;
	return birth_enter(j, &b->slot, o->spec, o->fds, o->deny_suid, NULL, err);
}

/*
 * What the writable layer holds, by the root of the sandbox's first process: an overlay, whose figures
 * are those of the tmpfs above. Its number means it if it lives afterwards; its root is what the stage gave
 * it, and nobody inside can change that. Before it is there, the root is another one and no overlay.
 */
static void container_stats(const struct box *b, struct jail_stats *st)
{
	char path[32];
	struct statfs s;
	struct pollfd p = { .fd = b->slot.pidfd, .events = POLLIN };
	snprintf(path, sizeof(path), "/proc/%ld/root", (long)b->slot.pid);
	if (b->slot.pid <= 0 || statfs(path, &s) < 0 || s.f_type != OVERLAYFS_SUPER_MAGIC ||
	    s.f_bfree > s.f_blocks || poll(&p, 1, 0) != 0)
		return;
	st->disk_used_bytes = (uint64_t)(s.f_blocks - s.f_bfree) * (uint64_t)s.f_bsize;
	st->valid |= JAIL_STAT_DISK;
}

static int container_look(const struct serve *j, const struct box *b, int proc, const struct measure_want *w,
			  struct jail_receipt *m, struct measure_diff *d)
{
	char pids[65536];
	int r = measure_mounts(proc, w, m, d);
	if (r)
		return r;
	r = cgroup_procs(&j->cg, b->id, pids, sizeof(pids));
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return measure_commands(pids, b->slot.pid, m, d);
}

const struct engine engine_container = {
	.tier = BRIG_TIER_container,
	.born_ahead = 1,
	.caps = BRIG_CAPS_AGENT,
	.probe = container_probe,
	.create = container_create,
	.measure = receipt_at_birth,
	.adopt = receipt_first,
	.receipt = receipt_begin,
	.look = container_look,
	.filter = SECCOMP_PAYLOAD,
	.stats = container_stats,
	.pause = engine_group_pause,
	.resume = engine_group_resume,
	.paused = engine_group_paused,
	.destroy = engine_first_kill,
};
