/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h: the seam between brig-jaild and what a sandbox is made of.
 *
 * Theory of operation
 * -------------------
 * An engine turns a specification into one connected byte stream to an agent; nothing above the stream
 * knows which engine it was. What all tiers have in common is jaild's: a box (jaild.h) with a slot (own
 * host ids, namespaces, a link to the gateway if one was asked for), a control group with the limits, the
 * pidfd of a first process, and their removal once that has ended. An engine brings what differs: whether
 * it works here, how the first process comes to be and tells that it is ready, whether it is what was
 * specified, and figures that only it knows.
 *
 *     CREATE -> slot, group -> engine.create -> (engine's own event) -> box_born -> engine.measure -> OK
 *
 * The first process is a child of jaild, is in the sandbox's group before it does anything, and with its
 * death everything of the sandbox ends: this is all that the removal relies on. It may be a process of
 * a container, or one that holds a virtual machine. jaild learns its number from the engine
 * (slot.pid, slot.pidfd) at once or later, and from whoever fills them in a call of box_watch().
 *
 * An engine is a part of brig-jaild, with its rights, and is held to the same rules: no tenant's bytes
 * and no tenant's paths.
 */
#ifndef BRIG_ENGINE_H
#define BRIG_ENGINE_H

#include "base/err.h"
#include "brig/jail_proto.h"
#include "engine/container/cgroup.h"

struct serve;
struct serve_options;
struct box;
struct measure_want;
struct measure_diff;

/* A CREATE on its way. */
struct engine_order {
	const struct jail_spec *spec;
	int *fds; /* the agent's end of the channel, then a detached mount per volume. What the engine
		   * keeps it steals; the rest is closed by the caller */
	const struct cgroup_join *join; /* the sandbox's groups, with their limits */
	int deny_suid;			/* a writable volume is attached */
};

struct engine {
	enum brig_tier tier;
	/* 1: the first process may be one that was born ahead of the request in its slot (stage.h). Of a
	 * slot for another engine such a process is ended first. */
	int born_ahead;
	/* Whether it works on this host; *ret is empty before. Called once when jaild starts, and for
	 * `brig doctor`. thorough: nobody waits, so it may take a second to try what it names. */
	void (*probe)(const struct serve_options *o, int thorough, struct jail_tier *ret);
	/* What this tier cannot give, before anything is made for it. May be NULL. */
	int (*check)(const struct serve *j, const struct jail_spec *p, struct brig_err *err);
	/* What its group is to have, where that is not what the specification says; lim is that before. May be
	 * NULL. */
	void (*limits)(const struct jail_spec *p, struct cgroup_limits *lim);
	/* Of the first process when it is measured: capabilities; may it give them up; its filter, SECCOMP_*. */
	uint64_t caps;
	int may_drop, filter;
	/* Lets the first process be born. From then on it is the engine that says how it went: box_born(), or
	 * box_refuse() and box_kill(). On an error whoever called undoes all. */
	int (*create)(struct serve *j, struct box *b, const struct engine_order *o,
		      struct brig_err *err);
	/* The descriptor slot.ctl is readable; NULL: nobody asked for that (engine_watch). */
	void (*event)(struct serve *j, struct box *b);
	/* The first process says that it is ready: is it what was specified? It executes nothing of a
	 * tenant before this has said yes. */
	int (*measure)(struct serve *j, struct box *b, struct brig_err *err);
	/* A first process that a former jaild made and that lived on without it: is it what was specified
	 * then? NULL: those of this tier end with their jaild. */
	int (*adopt)(struct serve *j, struct box *b, struct brig_err *err);
	/* The answer to a RECEIPT, whenever it is there; NULL: there is none in this tier. */
	int (*receipt)(struct serve *j, struct box *b, uint32_t seq, struct brig_err *err);
	/* Of receipt_begin(): what there is besides the first process and its limits; proc = its /proc/PID.
	 * 0; 1 with the difference; -errno. */
	int (*look)(const struct serve *j, const struct box *b, int proc, const struct measure_want *w,
		    struct jail_receipt *m, struct measure_diff *d);
	/* Adds to the group's figures those that take longer to get. NULL: there are none. */
	void (*stats)(const struct box *b, struct jail_stats *st);
	/* Every process of it stops; goes on. 0 or -errno. paused: 1 when all stand still, 0 while some are on their
	 * way, -errno. */
	int (*pause)(struct serve *j, struct box *b);
	int (*resume)(struct serve *j, struct box *b);
	int (*paused)(struct serve *j, struct box *b);
	/* Ends the first process, and with it the sandbox. Not waited for. */
	void (*destroy)(struct serve *j, struct box *b);
	/* Its whole state goes to a file, or comes from one. NULL: this tier cannot. */
	int (*snapshot)(struct serve *j, struct box *b, int file, struct brig_err *err);
	int (*restore)(struct serve *j, struct box *b, const struct engine_order *o, int file,
		       struct brig_err *err);
};

extern const struct engine engine_container, engine_gvisor, engine_microvm;

/* Of a tier that was checked. */
const struct engine *engine_of(uint32_t tier);
/* Asks every engine of o->tiers what is missing here; the others "were not looked for". */
void engine_probe(const struct serve_options *o, int thorough, struct jail_tier ret[BRIG_TIER__N]);
/* -1 with the error that this tier cannot do `what` ("take a snapshot of memory"), and the tiers that can:
 * can[t] != 0. */
int engine_cannot(const struct engine *e, const char *what, const int can[BRIG_TIER__N],
		  struct brig_err *err);

/* ---- what most engines do alike ---- */

int engine_group_pause(struct serve *j, struct box *b);
int engine_group_resume(struct serve *j, struct box *b);
int engine_group_paused(struct serve *j, struct box *b);
void engine_first_kill(struct serve *j, struct box *b);
/* Calls engine.event when slot.ctl is readable or its other end is closed. */
int engine_watch(struct serve *j, struct box *b);

#endif
