/* SPDX-License-Identifier: Apache-2.0 */
/* box.c: the life of one sandbox in brig-jaild; serve.c has the theory of operation. */
#include "jail/jaild.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "jail/keep.h"
#include "engine/container/stage.h"
#include "engine/engine.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

void box_table_init(struct serve *j)
{
	j->free_box = -1;
	for (int i = 0; i < BOX_HASH; i++)
		j->hash[i] = -1;
}

static unsigned hash_id(const char *id)
{
	unsigned h = 2166136261u; /* FNV-1a; ids are random, the spread does not matter */
	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h % BOX_HASH;
}

struct box *box_find(struct serve *j, const char *id)
{
	for (int i = j->hash[hash_id(id)]; i >= 0; i = j->box[i].next)
		if (strcmp(j->box[i].id, id) == 0)
			return &j->box[i];
	return NULL;
}

struct box *box_new(struct serve *j, const char *id, const struct engine *engine)
{
	if (j->free_box < 0) {
		int n = j->n_boxes ? j->n_boxes * 2 : 16;
		struct box *mem = realloc(j->box, (size_t)n * sizeof(*mem));
		if (!mem)
			return NULL;
		j->box = mem;
		for (int i = n - 1; i >= j->n_boxes; i--) {
			memset(&mem[i], 0, sizeof(mem[i]));
			mem[i].next = j->free_box;
			j->free_box = i;
		}
		j->n_boxes = n;
	}
	int i = j->free_box;
	struct box *b = &j->box[i];
	j->free_box = b->next;
	memset(b, 0, sizeof(*b));
	b->state = BOX_BORN;
	b->engine = engine;
	b->slot.userns = b->slot.netns = b->slot.timens = b->slot.ctl = b->slot.pidfd = b->chan = -1;
	b->reader = -1;
	memcpy(b->id, id, sizeof(b->id));
	unsigned h = hash_id(id);
	b->next = j->hash[h];
	j->hash[h] = i;
	j->live++;
	return b;
}

void box_free(struct serve *j, struct box *b)
{
	int *at = &j->hash[hash_id(b->id)];
	int i = (int)(b - j->box);
	while (*at != i)
		at = &j->box[*at].next;
	*at = b->next;
	receipt_end(j, b);
	/* Before its lease is another's. Where that cannot be done nothing may go on. */
	if (b->slot.net && peers_forget(&j->peers, j->gateway.nft, b->slot.lease) < 0) {
		dprintf(STDERR_FILENO, "brig-jaild: sandbox %s cannot be taken out of its networks\n", b->id);
		j->quit = 1;
	}
	j->unkept -= b->unkept;
	slot_done(&j->slots, &b->slot);
	free(b->spec);
	fd_close(&b->chan);
	memset(b, 0, sizeof(*b));
	b->next = j->free_box;
	j->free_box = i;
	j->live--;
}

struct box *box_by_spawn(struct serve *j, uint32_t spawn)
{
	/* The youngest are asked for; a table is scanned in 10 us at its fullest. */
	for (int i = 0; i < j->n_boxes; i++)
		if (j->box[i].state != BOX_FREE && j->box[i].slot.spawn == spawn && spawn)
			return &j->box[i];
	return NULL;
}

/* ---- answers ---- */

void answer(struct serve *j, const void *msg, size_t n)
{
	/* What nobody asks for any more; the next brigd asks for itself. */
	if (j->broker < 0)
		return;
	/* A broker that does not read its answers is as good as gone. */
	if (fd_send(j->broker, msg, n, NULL, 0) < 0)
		serve_broker_lost(j);
}

void answer_ok(struct serve *j, uint32_t seq, const char *id)
{
	struct jail_ref ok = { .h = { JAIL_OK, seq } };
	if (id)
		memcpy(ok.id, id, sizeof(ok.id));
	answer(j, &ok, sizeof(ok));
}

void answer_err(struct serve *j, uint32_t seq, const struct brig_err *err)
{
	struct jail_error e = { .h = { JAIL_ERROR, seq },
				.code = (uint32_t)err->code,
				.sys = err->sys };
	snprintf(e.msg, sizeof(e.msg), "%.*s", (int)sizeof(e.msg) - 1, err->msg);
	snprintf(e.remedy, sizeof(e.remedy), "%s", err->remedy);
	answer(j, &e, sizeof(e));
}

void answer_stats(struct serve *j, uint32_t seq, const struct box *b, int all)
{
	struct jail_stats st = { .h = { JAIL_STATS_IS, seq },
				 .host_uid = b->slot.host_uid,
				 .init_pid = (uint64_t)b->slot.pid };
	memcpy(st.id, b->id, sizeof(st.id));
	cgroup_read(&j->cg, b->id, &st);
	struct rules_counts now;
	if (b->slot.net && rules_counts(j->gateway.nft, b->slot.lease, &now) == 0) {
		st.net_refused = now.refused - b->slot.counts.refused;
		st.net_forged = now.forged - b->slot.counts.forged;
		st.valid |= JAIL_STAT_NET;
	}
	if (all)
		cgroup_read_cache(&j->cg, b->id, &st);
	if (all && b->engine->stats)
		b->engine->stats(b, &st);
	answer(j, &st, sizeof(st));
}

void box_refuse(struct serve *j, struct box *b, const struct brig_err *err)
{
	if (!b->unborn)
		return;
	b->unborn = 0;
	j->births--;
	answer_err(j, b->birth_seq, err);
}

/* ---- the birth of a box ---- */

void box_born(struct serve *j, struct box *b)
{
	struct brig_err e = BRIG_ERR_INIT;
	if (b->engine->measure(j, b, &e) < 0) {
		fprintf(stderr, "brig-jaild: %s\n", e.msg);
		box_refuse(j, b, &e);
		box_kill(j, b);
		return;
	}
	(void)FAILPOINT("jail.measured");
	b->unborn = 0;
	j->births--;
	j->birth_at = clock_now();
	b->known = 1;
	b->state = BOX_LIVE;
	/* Held by the sandbox's own processes from here on; the network namespace may be of
	 * use once more. */
	fd_close(&b->slot.userns);
	if (j->slots.maker < 0 || j->o->once || b->slot.net)
		fd_close(&b->slot.netns);
	fd_close(&b->slot.timens);
	/* Before anybody is told of it. */
	keep_box(j, b);
	answer_ok(j, b->birth_seq, b->id);
}

/* ---- the end of a box ---- */

/* The process is reaped: undo the rest in reverse order. Retried while the group is still busy. */
void box_undo(struct serve *j, struct box *b, int status)
{
	(void)FAILPOINT("jail.undo");
	/* It ended by itself: the figures say why (an out-of-memory kill), and are gone with the group. */
	if (b->known && !b->destroy_seq && !b->removing)
		answer_stats(j, 0, b, 0);
	int r = cgroup_remove(&j->cg, b->id);
	if (r == -EBUSY) {
		cgroup_kill(&j->cg, b->id);
		j->busy_groups += !b->removing;
		b->removing = 1;
		return;
	}
	j->busy_groups -= b->removing;
	struct jail_gone g = { .h = { JAIL_GONE, b->destroy_seq }, .wait_status = (uint32_t)status };
	memcpy(g.id, b->id, sizeof(g.id));
	int told = b->known || b->destroy_seq;
	slot_left(&j->slots, &b->slot);
	box_free(j, b);
	(void)FAILPOINT("jail.undone");
	if (told)
		answer(j, &g, sizeof(g));
}

void box_ended(struct serve *j, struct box *b)
{
	siginfo_t si = { 0 };
	int status = 0;
	if (waitid(P_PIDFD, (id_t)b->slot.pidfd, &si, WEXITED | WNOHANG) == 0) {
		if (si.si_pid == 0)
			return;
		status = si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status;
	}
	epoll_ctl(j->epoll, EPOLL_CTL_DEL, b->slot.pidfd, NULL);
	fd_close(&b->slot.pidfd);
	b->slot.pid = 0;
	box_pause_end(j, b, "it has ended");
	receipt_end(j, b);
	if (b->unborn) {
		struct brig_err e = BRIG_ERR_INIT;
		brig_fail(&e, BRIG_E_INTERNAL, 0, "the sandbox's first process ended in its set-up");
		brig_fix(&e, "raise --memory; the kernel log may say more");
		box_refuse(j, b, &e);
	}
	b->state = BOX_DYING;
	box_undo(j, b, status);
}

void box_watch(struct serve *j, struct box *b)
{
	struct epoll_event ev = { .events = EPOLLIN,
				  .data.u64 = (uint64_t)EV_BOX << 32 | (uint32_t)(b - j->box) };
	epoll_ctl(j->epoll, EPOLL_CTL_ADD, b->slot.pidfd, &ev);
	if (b->state == BOX_DYING)
		box_kill(j, b);
}

void box_kill(struct serve *j, struct box *b)
{
	(void)FAILPOINT("jail.kill");
	b->state = BOX_DYING;
	b->engine->destroy(j, b);
	box_pause_end(j, b, "it was destroyed");
	/* Version 1: what stands still does not die. Every process has its SIGKILL before the group goes
	 * on, so that none of them gets to run an instruction. */
	if (b->frozen) {
		cgroup_kill(&j->cg, b->id);
		b->engine->resume(j, b);
		b->frozen = 0;
	}
}

void box_unasked(struct serve *j, struct box *b)
{
	b->destroy_seq = 0;
	receipt_unasked(b);
	receipt_keep_image(j, b);
	if (b->pause_seq)
		j->pauses--;
	b->pause_seq = 0; /* it may stand still; whoever comes next is told so */
	if (!b->unborn)
		return;
	b->unborn = 0;
	j->births--;
	box_kill(j, b);
}

/* ---- standing still ---- */

void box_pause_end(struct serve *j, struct box *b, const char *why)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (!b->pause_seq)
		return;
	uint32_t seq = b->pause_seq;
	b->pause_seq = 0;
	j->pauses--;
	brig_fail(&err, BRIG_E_STATE, 0, "sandbox '%s' was not paused: %s", b->id, why);
	answer_err(j, seq, &err);
}

void box_pauses_poll(struct serve *j)
{
	uint64_t now = clock_now();
	for (int i = 0; j->pauses && i < j->n_boxes; i++) {
		struct box *b = &j->box[i];
		if (b->state == BOX_FREE || !b->pause_seq)
			continue;
		int r = b->engine->paused(j, b);
		if (r == 1) {
			uint32_t seq = b->pause_seq;
			b->pause_seq = 0;
			j->pauses--;
			answer_ok(j, seq, b->id);
		} else if (r < 0 || now > b->pause_until) {
			b->engine->resume(j, b);
			b->frozen = 0;
			box_pause_end(j, b, "a process of it does not stop, because it waits for the "
					    "kernel; try again later");
		}
	}
}
