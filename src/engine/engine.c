/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c: the engines there are, and what most of them do alike; engine.h has the theory. */
#include "engine/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jaild.h"

const struct engine *engine_of(uint32_t tier)
{
	static const struct engine *const engines[BRIG_TIER__N] = {
#define X(name, number) [number] = &engine_##name,
		BRIG_TIERS(X)
#undef X
	};
	return engines[tier];
}

void engine_probe(const struct serve_options *o, int thorough, struct jail_tier ret[BRIG_TIER__N])
{
	for (uint32_t t = 0; t < BRIG_TIER__N; t++) {
		memset(&ret[t], 0, sizeof(ret[t]));
		if (o->tiers & 1u << t) {
			engine_of(t)->probe(o, thorough, &ret[t]);
			continue;
		}
		snprintf(ret[t].text, sizeof(ret[t].text), "this private server was started for another tier");
		snprintf(ret[t].remedy, sizeof(ret[t].remedy), "ask for it with --tier %s",
			 brig_tier_name(t));
	}
}

int engine_cannot(const struct engine *e, const char *what, const int can[BRIG_TIER__N],
		  struct brig_err *err)
{
	char names[64] = "";
	size_t n = 0;
	for (uint32_t t = 0; t < BRIG_TIER__N; t++)
		if (can[t])
			n += (size_t)snprintf(names + n, sizeof(names) - n, "%s--tier %s", n ? " or " : "",
					      brig_tier_name(t));
	brig_fail(err, BRIG_E_UNSUPPORTED, 0, "tier '%s' cannot %s", brig_tier_name(e->tier), what);
	return brig_fix(err, n ? "make the sandbox with %s" : "no tier of this version can%s", names);
}

int engine_group_pause(struct serve *j, struct box *b)
{
	return cgroup_freeze(&j->cg, b->id, 1);
}

int engine_group_resume(struct serve *j, struct box *b)
{
	return cgroup_freeze(&j->cg, b->id, 0);
}

int engine_group_paused(struct serve *j, struct box *b)
{
	return cgroup_frozen(&j->cg, b->id);
}

void engine_first_kill(struct serve *j, struct box *b)
{
	(void)j;
	if (b->slot.pidfd >= 0)
		syscall(SYS_pidfd_send_signal, b->slot.pidfd, SIGKILL, NULL, 0);
}

int engine_watch(struct serve *j, struct box *b)
{
	struct epoll_event ev = { .events = EPOLLIN,
				  .data.u64 = (uint64_t)EV_ENGINE << 32 | (uint32_t)(b - j->box) };
	return epoll_ctl(j->epoll, EPOLL_CTL_ADD, b->slot.ctl, &ev) < 0 ? -errno : 0;
}
