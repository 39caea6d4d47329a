/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot.h: what a sandbox gets before anybody knows its name: a lease on a range of host ids, a user
 * namespace that maps it, a network namespace with nothing but loopback, a time namespace, and (on
 * cgroup v1, where groups can be renamed) groups. Slots hold no tenant state, so they are made ahead;
 * each is used once. There are two kinds: those of the other kind have a link to the gateway, too.
 */
#ifndef BRIG_CONTAINER_SLOT_H
#define BRIG_CONTAINER_SLOT_H

#include <stdint.h>

#include "base/err.h"
#include "brig/ids.h"
#include "engine/container/cgroup.h"
#include "engine/container/netns.h"
#include "engine/link/gateway.h"

#define SLOTS_READY_MAX 24u

struct slot {
	uint32_t lease; /* 1 .. */
	uint32_t host_uid, host_gid; /* of id 0 inside, as jaild sees ids */
	int userns, netns;
	struct cgroup_ahead groups;
	int ctl;    /* socket of a child (stage.h), -1 = none */
	int ahead;  /* the child was born ahead of its request */
	int looks;  /* .. was looked for so often */
	int seen;   /* .. was measured, and is what it should be (jail/receipt.c) */
	uint64_t ns[JAIL_NS__N]; /* its namespaces then */
	uint32_t spawn; /* its number towards the stage */
	int pid, pidfd; /* 0 and -1 until the stage has told */
	int net;      /* 1: with a link */
	struct rules_counts counts; /* of the link, when the slot was made */
	int timens; /* clocks that start at zero; -1 where the kernel has no time namespaces */
};

struct slot_host {
	int lock;       /* <run>/leases: byte n locked = range n leased, host-wide */
	int home_netns; /* where jaild returns to */
	int rootless;
	struct cgroup_host *cg; /* groups are made ahead in it; NULL = not by the maker */
	struct cgroup_host *groups_in;
	int range;         /* 1 = each slot has a range of ids */
	uint32_t n;        /* slots, slot 0 (the daemons') included */
	uint32_t size;     /* ids per slot */
	uint32_t uid_base; /* first id of slot 0 */
	uint32_t next;
	struct gateway *gateway; /* NULL = no slot gets a link */
	int maker;     /* socket to the maker; -1 = slots are made inline */
	int maker_pid;
	struct cgroup_ahead spare; /* of slot_groups_ahead */
	struct slot ready[SLOTS_READY_MAX];
	unsigned n_ready;
	int no_net_ahead; /* one with a link could not be made: requests meet the reason */
	unsigned n_asked[2]; /* of each kind: asked of the maker, not yet received */
	uint64_t not_before; /* the clock's time until which none is asked for, because one failed */
	struct netns_face *face;   /* in the maker only, and so are these: */
	int clean[SLOTS_READY_MAX];
	unsigned n_clean;
	uint8_t taken[(BRIG_ID_SLOTS + 7) / 8]; /* ours: a lock of our own does not stop us */
};

/* run: directory descriptor of the run directory. sub_ids: how many subordinate ids a rootless jaild
 * has beyond its own (0: none; then every sandbox maps uid 0 to the user's own id). */
int slot_host_open(struct slot_host *h, struct cgroup_host *cg, int run, int rootless,
		   uint32_t sub_ids, struct brig_err *err);
/* Uses another open file of the leases, whose locks a former process took with it: taken over. Then every
 * lease that lives on is adopted, and the rest is given back by slot_settle(). */
void slot_resume(struct slot_host *h, int leases);
/* 0, or -errno: another has it. */
int slot_adopt(struct slot_host *h, uint32_t lease);
void slot_settle(struct slot_host *h);
int slot_is_free(const struct slot_host *h, uint32_t lease);
uint32_t slot_first_id(const struct slot_host *h, uint32_t lease);
void slot_host_close(struct slot_host *h);
/*
 * Starts the maker: a process that makes slots beside the caller. Creating a network namespace takes
 * 0.4 ms at the median but 5 to 20 ms when the kernel is tearing others down (both want the same
 * locks), and no request may wait for that. Call before anything secret is in memory: it is a
 * fork. `broker` is closed in it.
 */
int slot_maker_start(struct slot_host *h, int broker, int control);
/* Slots of a kind (net: with a link) that are ready; that are ready or asked for. */
unsigned slot_ready(const struct slot_host *h, int net);
unsigned slot_coming(const struct slot_host *h, int net);
/* Asks for one more slot of a kind ahead, if fewer than `most` are ready or asked for. */
void slot_prefetch(struct slot_host *h, int net, unsigned most);
/* Makes the groups of the next slot here, beside the maker that makes its namespaces. For a caller that
 * expects one sandbox only. */
void slot_groups_ahead(struct slot_host *h, const struct cgroup_host *cg);
/* The maker's socket is readable: takes what it made. */
void slot_collect(struct slot_host *h);
/* Waits for the first slot that was asked for, at most a second. */
void slot_wait(struct slot_host *h);
/* A slot of a kind: a ready one, else the next one of the maker, else made here. child: one that was born
 * ahead in it is of use; else it is ended. */
int slot_take(struct slot_host *h, int net, int child, struct slot *ret, struct brig_err *err);
/* The sandbox of the slot has ended and its last process is gone: its network namespace may be used
 * again, if it has no link. slot_done() is still to be called. */
void slot_left(struct slot_host *h, struct slot *s);
/* The limits that groups get which are made ahead. */
struct cgroup_limits slot_limits(void);
/* Gives everything back. NULL-safe for half-made slots (descriptors -1, lease 0). */
void slot_done(struct slot_host *h, struct slot *s);

/* A user namespace that maps inside -> outside, one line per map entry as in /proc/PID/uid_map.
 * Returns its descriptor or -errno. */
int userns_make(const char *uid_map, const char *gid_map);
/* A time namespace whose clocks start now. Single-threaded callers only. Descriptor or -errno. */
int timens_make(void);

#endif
