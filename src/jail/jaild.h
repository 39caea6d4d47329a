/* SPDX-License-Identifier: Apache-2.0 */
/* jaild.h: the state of a serving brig-jaild, shared by serve.c (life), ops.c (verbs), box.c and the engines. */
#ifndef BRIG_JAIL_JAILD_H
#define BRIG_JAIL_JAILD_H

#include <stdint.h>

#include "base/err.h"
#include "engine/container/cgroup.h"
#include "engine/container/slot.h"
#include "engine/link/peers.h"
#include "engine/engine.h"
#include "jail/check.h"
#include "jail/image.h"
#include "jail/instance.h"
#include "jail/serve.h"

#define BOX_HASH 1024

enum box_state { BOX_FREE, BOX_BORN, BOX_LIVE, BOX_DYING };

struct box {
	enum box_state state;
	const struct engine *engine;
	int next; /* hash chain or free list; -1 = end */
	uint32_t birth_seq;   /* of the CREATE still to be answered, if `unborn` */
	uint32_t destroy_seq; /* of the DESTROY to answer with GONE, 0 = none */
	int unborn;           /* CREATE has not been answered yet */
	int known;            /* CREATE was answered with OK: its end is told */
	struct slot slot;
	int removing; /* process reaped, group still busy */
	int frozen;	      /* its group was told to stop */
	uint32_t pause_seq;   /* of the PAUSE to be answered when it stands still, 0 = none */
	uint64_t pause_until; /* .. or given up */
	struct jail_spec *spec; /* what it is measured against: the used part, NULL before its birth */
	int deny_suid;
	int ready; /* its child has said READY */
	int looked_at; /* measured already, and told to go on */
	uint64_t ns[JAIL_NS__N]; /* as measured at its birth */
	uint32_t receipt_seq; /* of the RECEIPT to be answered, 0 = none */
	int reader, reader_pid; /* who reads its filters back, -1 and 0 = nobody */
	char image[96]; /* digest of its image, once jaild knows it no more by its number; "" = not so */
	int unkept; /* the supervisor has not been told of it yet (keep.h) */
	int chan; /* the host's end of its agent channel, for the next brigd; -1 = none was given */
	char id[BRIG_ID_LEN + 8];
};

enum ev_kind { EV_BROKER, EV_CONTROL, EV_STAGE, EV_STAGE_END, EV_MAKER, EV_VOLUME, EV_BOX, EV_READER, EV_ENGINE };

/* A process that works on a volume (volumes.c). */
#define VOLUME_JOBS_MAX 32u
struct volume_job {
	int sock, pid; /* -1 and 0 = free */
	uint32_t seq;  /* of the VOLUME to be answered; 0 = nobody waits for it any more */
	int changes;   /* it makes or removes the volume */
	char id[BRIG_ID_LEN + 8], from[BRIG_ID_LEN + 8];
};

struct serve {
	const struct serve_options *o;
	int broker;  /* the socket to brigd; -1 = there is none at present */
	int control; /* from where the next one comes; -1 = from nowhere */
	struct instance in;
	struct cgroup_host cg;
	struct slot_host slots;
	struct gateway gateway;
	struct peers peers; /* which links reach each other */
	int epoll, stage, stage_pid, stage_pidfd, store;
	struct box *box;
	int n_boxes, free_box, live, busy_groups;
	uint64_t ns_own[JAIL_NS__N]; /* jaild's; 0 = not looked at yet */
	struct jail_trees image[JAIL_IMAGES_MAX]; /* the trees of each known image */
	int no_ahead; /* a child born ahead failed: let requests meet the reason */
	int pauses; /* boxes with a pause_seq */
	int unkept, host_unkept; /* boxes that are; the same of what is jaild's own */
	int births; /* boxes whose CREATE has not been answered */
	uint64_t birth_at; /* when the last CREATE was answered */
	uint32_t spawns;
	struct jail_tier tier[BRIG_TIER__N]; /* as the engines said at the start */
	struct jail_facts facts; /* capacity is read again about once a second */
	uint64_t capacity_at;
	int volumes, volumes_lock; /* the folder of volumes; -1 = not needed yet */
	struct volume_job job[VOLUME_JOBS_MAX];
	int idmap_known;
	int hash[BOX_HASH];
	int quit;
};

/* ---- box.c ---- */

void box_table_init(struct serve *j);
struct box *box_find(struct serve *j, const char *id);
/* By the number of its child towards the stage. */
struct box *box_by_spawn(struct serve *j, uint32_t spawn);
/* A BORN box with nothing in it yet; NULL without memory. Moves the table: older pointers are invalid. */
struct box *box_new(struct serve *j, const char *id, const struct engine *engine);
/* Its first process says that it is ready, and executes nothing of a tenant yet: measures it, and answers
 * its CREATE. One that is not what was specified is killed. */
void box_born(struct serve *j, struct box *b);
/* Gives the slot back and forgets the box. */
void box_free(struct serve *j, struct box *b);
/* Answers the CREATE of a box that came to nothing; the box itself stays. */
void box_refuse(struct serve *j, struct box *b, const struct brig_err *err);
void box_kill(struct serve *j, struct box *b);
/* Answers the PAUSE of a box that will not stand still any more; it goes on. Nothing without one. */
void box_pause_end(struct serve *j, struct box *b, const char *why);
/* Answers PAUSEs whose boxes stand still, or do not within their time. */
void box_pauses_poll(struct serve *j);
/* Its first process is gone (wait status): undoes the rest in reverse order and tells brigd. Called
 * again from idle_work while a group is still busy. */
void box_undo(struct serve *j, struct box *b, int status);
/* The pidfd of its first process is readable. */
void box_ended(struct serve *j, struct box *b);
/* Nobody waits for what was asked about it: an unanswered birth is undone. */
void box_unasked(struct serve *j, struct box *b);
/* Watches its first process; b->slot holds its pid and pidfd. */
void box_watch(struct serve *j, struct box *b);

void answer(struct serve *j, const void *msg, size_t n);
void answer_ok(struct serve *j, uint32_t seq, const char *id);
void answer_err(struct serve *j, uint32_t seq, const struct brig_err *err);
/* all: also what takes longer to get. */
void answer_stats(struct serve *j, uint32_t seq, const struct box *b, int all);

/* ---- birth.c ---- */

/* Asks the stage for the child of a slot: it prepares what the slot decides and waits for birth_enter.
 * join = groups to join (v1: of the slot, made ahead or just now; v2: the final group).
 * kind: STAGE_F_AHEAD, STAGE_F_GVISOR or 0. */
int birth_clone(struct serve *j, struct slot *s, const struct cgroup_join *join, uint32_t kind,
		struct brig_err *err);
/* Hands the request to the child, or to the stage for a child born ahead: fds = channel, then one detached mount per volume;
 * more = two descriptors of an engine's own (stage_enter), NULL = none. */
int birth_enter(struct serve *j, const struct slot *s, const struct jail_spec *p, const int *fds,
		int deny_suid, const int *more, struct brig_err *err);
/* Lets the children of ready slots be born, where their groups exist. */
void birth_ahead(struct serve *j);
/* Measures those that wait. 1: to be called again soon. */
int birth_look(struct serve *j);
/* STAGE_CLONED and STAGE_READY. */
void birth_on_stage(struct serve *j);
/* It has ended. Its socket alone does not tell: children that wait hold the other end, too. */
void birth_stage_lost(struct serve *j);

/* ---- receipt.c ---- */

/* Keeps what a box is measured against; 0 or -ENOMEM. */
int receipt_keep(struct box *b, const struct jail_spec *p, int deny_suid);
/* The word that the child of a box may execute commands. */
void receipt_open(struct box *b);
/* Nothing waits: measures the child of a ready slot, once it has told that it is confined. -1 with err: it is
 * not what it should be. */
int receipt_slot(struct serve *j, struct slot *s, struct brig_err *err);
/* For a child that was confined ahead of the request: measures it while its root is built, unless receipt_slot()
 * has, reads the limits that the request changed, and gives the word;
 * its mounts are looked at by the stage. */
int receipt_ahead(struct serve *j, struct box *b, struct brig_err *err);
/* The first process alone, against what was specified; remembers its namespaces. */
int receipt_first(struct serve *j, struct box *b, struct brig_err *err);
/* -1, with the error that the box differs. */
struct measure_diff;
int receipt_differs(const struct box *b, const struct measure_diff *d, struct brig_err *err);
/* Measures a box whose child is confined and has executed nothing. -1 with err: it is not what was
 * specified, or cannot be measured. Gives the word. */
int receipt_at_birth(struct serve *j, struct box *b, struct brig_err *err);
/* Begins a receipt: it is answered when the filters have been read. */
int receipt_begin(struct serve *j, struct box *b, uint32_t seq, struct brig_err *err);
/* Nobody waits for its receipt any more. */
void receipt_unasked(struct box *b);
/* The numbers of images are about to mean others: keeps what that of the box meant. */
void receipt_keep_image(const struct serve *j, struct box *b);
/* The reader of a box has something to say. */
void receipt_on_reader(struct serve *j, struct box *b);
/* Answers the RECEIPT of a box that will have none. Nothing without one. */
void receipt_end(struct serve *j, struct box *b);

/* ---- volumes.c ---- */

void volumes_init(struct serve *j);
/* Ends what is under way. */
void volumes_done(struct serve *j);
/* VOLUME; answered when it is done. */
int volumes_ask(struct serve *j, const struct jail_volume_ask *m, struct brig_err *err);
/* The detached mount of the i-th volume, which has an id, for a sandbox that is being made; or -1. */
int volumes_open(struct serve *j, const struct jail_spec *p, unsigned i, struct brig_err *err);
/* Nobody waits for what is under way; it goes on. */
void volumes_unasked(struct serve *j);
void volumes_on_job(struct serve *j, struct volume_job *w);

/* ---- serve.c ---- */

/* brigd is gone: the end, or the wait for the next one. */
void serve_broker_lost(struct serve *j);
/* A part of this jaild has died, and what it was doing cannot be told. Where sandboxes outlive jaild it ends
 * here and leaves everything to the next one, which tells half from whole; elsewhere all is removed. */
void serve_abandon(struct serve *j, const char *why);
/* Once a slot is ready: finds out whether mounts can be id-mapped. */
void serve_learn_idmap(struct serve *j);

/* ---- ops.c ---- */

/* One message of brigd. */
void ops_on_broker(struct serve *j);

#endif
