/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Three witnesses: the ledger says what the former brigd had told its clients, jaild what exists, and each
 * agent what it runs. They are asked in this order before any client is listened to, who waits meanwhile:
 *
 *   record and box       the sandbox is made again from its record, and its agent is greeted on the
 *                        duplicate of the channel that jaild kept. All are greeted at once; what has not
 *                        answered after ADOPT_AGENT_MS is destroyed. One that is paused cannot answer and
 *                        is greeted when it goes on.
 *   record without box   it ended while nobody watched: it is as if it had been told now, and the record
 *                        stays or goes as the sandbox would have.
 *   box without record   nobody was told of it, or its client went down with the brigd (a command in the
 *                        foreground), or the record cannot be read: destroyed, and said in the log.
 *
 * The ledger was written by this program and is read like a stranger's. An agent that lies can do here
 * what it could do before: say wrong things about its own commands.
 */
#include "daemon/adopt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/exec.h"
#include "daemon/logs.h"
#include "daemon/network.h"
#include "daemon/netpeer.h"
#include "daemon/publish.h"
#include "daemon/record.h"
#include "daemon/rejoin.h"
#include "daemon/sandbox_io.h"

static void list_ask(struct brigd *d, uint32_t at);

static void ready(struct brigd *d)
{
	if (d->adopt_listing || d->nadopting || d->host_known)
		return;
	free(d->adopted);
	d->adopted = NULL;
	ledger_put64(&d->ledger.head->taken_over, d->ledger.head->taken_over + 1);
	(void)FAILPOINT("adopt.done");
	brigd_ready(d);
}

void adopt_settled(struct sandbox *sb)
{
	if (!sb->taking)
		return;
	sb->taking = false;
	publish_update(sb);
	if (!sb->awaited)
		return;
	sb->awaited = false;
	sb->d->nadopting--;
	ready(sb->d);
}

/* An answer that changes nothing: the box is removed by jaild, or had gone already. */
static void destroy_answered(void *ctx, const union jail_answer *a)
{
	(void)ctx;
	(void)a;
}

void adopt_box_destroy(struct brigd *d, const char *id, const char *why)
{
	struct jail_ref m = { .h = { .verb = JAIL_DESTROY } };
	log_line(&d->log, LOG_WARN, id, "is not taken over but removed: %s", why);
	memcpy(m.id, id, sizeof(m.id));
	/* The next brig-jaild would have it again, and it would be found again. */
	if (jail_call(&d->jail, &m, sizeof(m), NULL, 0, destroy_answered, NULL) < 0 && !rejoin_possible(d))
		brigd_fail(d, "brig-jaild takes no requests");
}

static void thaw_answered(void *ctx, const union jail_answer *a)
{
	(void)a;
	sandbox_jail_answered(ctx);
}

/* It was told to stop, but nobody was told that it had. */
void adopt_box_thaw(struct sandbox *sb)
{
	struct jail_ref m = { .h = { .verb = JAIL_RESUME } };
	memcpy(m.id, sb->id, sizeof(m.id));
	if (jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, thaw_answered, sb) == 0)
		sb->jail_refs++;
}

static bool resumable(uint32_t state)
{
	return state == SB_READY || state == SB_RUNNING || state == SB_EXITED;
}

/* What the record says of a sandbox whose object exists. Moves the spec. */
static int fill(struct sandbox *sb, struct ledger_box *b, struct record *r)
{
	struct brigd *d = sb->d;
	snprintf(sb->image_name, sizeof(sb->image_name), "%s", r->image_name);
	if (r->fault)
		snprintf(sb->fault, sizeof(sb->fault), "%s", r->fault);
	sb->spec = r->spec;
	r->spec = (struct spec){ .root = NULL };
	sb->warnings = json_incref(r->warnings);
	sb->missing = (uint32_t)r->missing;
	sb->created_ns = r->created_ns;
	sb->created_real_ns = r->created_real_ns;
	sb->main_argv = json_incref(r->cmd);
	sb->status = json_incref(r->status);
	sb->keep = b->flags & LEDGER_KEEP;
	sb->auto_rm = b->flags & LEDGER_AUTO_RM;
	if (sb->image)
		sandbox_owner_of(&sb->spec, sb->image, &sb->owner);
	else
		snprintf(sb->owner.user, sizeof(sb->owner.user), "%s", r->user);
	sb->kept = b;
	for (int i = 0; i < 2 && (b->flags & LEDGER_RINGS); i++) {
		sb->ring[i] = logring_kept(&d->ledger, &b->ring[i]);
		if (!sb->ring[i])
			return -1;
	}
	sandbox_name(sb, r->name);
	return 0;
}

/* The sandbox of a place, with its channel in fd (taken over); fd -1: only its record is left. */
static struct sandbox *restore(struct brigd *d, struct ledger_box *b, int fd, struct brig_err *err)
{
	struct record r;
	struct image *image = NULL;
	struct sandbox *sb = NULL;
	size_t n = 0;
	AUTO_FD chan = fd;
	const char *text = ledger_text(&d->ledger, b->text, &n);
	if (!text || record_parse(text, n, &r, err) < 0) {
		brig_fail(err, BRIG_E_INVALID, 0, "its record cannot be read");
		return NULL;
	}
	if (strcmp(r.id, b->id) != 0 || sandbox_by_id(d, r.id))
		brig_fail(err, BRIG_E_INVALID, 0, "its record is another one's");
	else if (sandbox_name_free(d, r.name, err) == 0 &&
		 (chan < 0 || images_get(&d->images, r.image, &image, err) == 0))
		sb = sandbox_restore(d, b->id, image, fd_steal(&chan));
	if (sb && fill(sb, b, &r) < 0) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
		sb->kept = NULL; /* the caller's to free */
		sandbox_destroy(sb, CAUSE_FAULT);
		sb = NULL;
	} else if (!sb && err->code == BRIG_E_OK) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	image_unref(image);
	record_done(&r);
	return sb;
}

static struct ledger_box *place_of(struct brigd *d, const char *id)
{
	for (uint32_t i = 0; i < LEDGER_BOXES; i++) {
		struct ledger_box *b = &d->ledger.box[i];
		b->id[BRIG_ID_LEN] = '\0';
		if (b->used == LEDGER_USED && strcmp(b->id, id) == 0)
			return b;
	}
	return NULL;
}

static void set_state(struct sandbox *sb, struct ledger_box *b, bool frozen)
{
	uint64_t now = clock_now();
	bool paused = b->state == SB_PAUSED && resumable(b->unpaused);
	sb->state = paused ? b->unpaused : b->state;
	sb->frozen_ns = b->frozen_ns ? b->frozen_ns : now;
	if (paused && frozen) {
		sb->unpaused = sb->state;
		sb->state = SB_PAUSED;
		sb->cpu_counted = true;
	} else if (frozen) {
		adopt_box_thaw(sb);
	}
	/* Let go, and nobody has noted it: its clocks stood until about now. */
	if (paused && !frozen)
		sb->stood_ns = now - sb->frozen_ns;
}

static void box_found(struct brigd *d, const struct jail_box *m, int fd)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct ledger_box *b = place_of(d, m->id);
	AUTO_FD chan = fd;
	if (!b || chan < 0) {
		adopt_box_destroy(d, m->id, b ? "its channel was not kept" : "there is no record of it");
		if (b)
			ledger_box_free(&d->ledger, b);
		return;
	}
	if (!resumable(b->state) && b->state != SB_PAUSED && b->state != SB_REMOVING) {
		adopt_box_destroy(d, m->id, "its record makes no sense");
		ledger_box_free(&d->ledger, b);
		return;
	}
	(void)FAILPOINT("adopt.box");
	struct sandbox *sb = restore(d, b, fd_steal(&chan), &err);
	if (!sb) {
		adopt_box_destroy(d, m->id, err.msg);
		ledger_box_free(&d->ledger, b);
		return;
	}
	if (network_restore(sb, m->lease) < 0) {
		sandbox_destroy(sb, CAUSE_FAULT);
		return;
	}
	d->adopted[b - d->ledger.box] = sb;
	sandbox_io_take_over(sb);
	if (b->state == SB_REMOVING) {
		sb->taking = false;
		sandbox_destroy(sb, CAUSE_KILL);
		return;
	}
	set_state(sb, b, m->frozen);
	netpeer_join(sb, true);
	egress_tell(sb);
	publish_restore(sb);
}

/* The sandbox is gone, and nobody was told. */
static void record_alone(struct brigd *d, struct ledger_box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (!(b->flags & LEDGER_KEEP)) {
		ledger_box_free(&d->ledger, b);
		return;
	}
	struct sandbox *sb = restore(d, b, -1, &err);
	if (!sb) {
		log_line(&d->log, LOG_WARN, b->id, "a stopped one's record is dropped: %s", err.msg);
		ledger_box_free(&d->ledger, b);
		return;
	}
	if (b->state != SB_STOPPED && !sb->fault[0])
		snprintf(sb->fault, sizeof(sb->fault), "it ended while brigd was not there");
	if (b->state != SB_STOPPED)
		log_line(&d->log, LOG_WARN, sb->id, "%s", sb->fault);
	sb->state = SB_STOPPED;
	record_sandbox(sb);
}

static void restore_commands(struct brigd *d)
{
	for (uint32_t i = 0; i < LEDGER_EXECS; i++) {
		struct ledger_exec *k = &d->ledger.exec[i];
		if (k->used != LEDGER_USED)
			continue;
		struct sandbox *sb = k->box < LEDGER_BOXES ? d->adopted[k->box] : NULL;
		k->id[BRIG_ID_LEN] = '\0';
		k->stood_ns += sb ? sb->stood_ns : 0;
		if (!sb || sb->destroying || (sb->state == SB_EXITED && (k->flags & LEDGER_MAIN)) ||
		    !exec_restore(sb, k))
			ledger_exec_free(&d->ledger, k);
	}
}

/* All boxes are known. */
static void listed(struct brigd *d)
{
	struct sandbox *sb;
	for (uint32_t i = 0; i < LEDGER_BOXES; i++)
		if (d->ledger.box[i].used == LEDGER_USED && !d->adopted[i])
			record_alone(d, &d->ledger.box[i]);
	restore_commands(d);
	for (uint32_t i = 0; i < LEDGER_BOXES; i++) {
		sb = d->adopted[i];
		if (!sb || sb->destroying)
			continue;
		if (sb->state == SB_RUNNING && !sb->main)
			sandbox_go(sb, SB_EXITED); /* its end was noted, this was not */
		record_touch(sb);
		if (sb->state != SB_PAUSED) {
			d->nadopting++;
			sb->awaited = true;
			sandbox_watch_cpu(sb);
			sandbox_await_agent(sb, ADOPT_AGENT_MS);
		}
	}
	(void)FAILPOINT("adopt.greet");
	for (uint32_t i = 0; i < LEDGER_BOXES; i++)
		if (d->adopted[i] && !d->adopted[i]->destroying)
			sandbox_greet(d->adopted[i]);
	d->adopt_listing = false;
	ready(d);
}

static void list_answered(void *ctx, const union jail_answer *a)
{
	struct brigd *d = ctx;
	int fd = fd_steal(&d->jail.answer_fd);
	if (a->h.verb != JAIL_BOX_IS) {
		struct brig_err err = BRIG_ERR_INIT;
		jail_error_to(a, &err);
		fd_close(&fd);
		brigd_fail(d, err.msg);
		return;
	}
	if (!a->box.id[0]) {
		fd_close(&fd);
		listed(d);
		return;
	}
	box_found(d, &a->box, fd);
	list_ask(d, a->box.next);
}

static void list_ask(struct brigd *d, uint32_t at)
{
	struct jail_list m = { .h = { .verb = JAIL_LIST }, .at = at };
	if (!d->quit && jail_call(&d->jail, &m, sizeof(m), NULL, 0, list_answered, d) < 0)
		brigd_fail(d, "brig-jaild takes no requests");
}

void adopt_begin(struct brigd *d)
{
	if (!ledger_on(&d->ledger)) {
		brigd_ready(d);
		return;
	}
	d->adopted = calloc(LEDGER_BOXES, sizeof(*d->adopted));
	if (!d->adopted) {
		brigd_fail(d, "out of memory");
		return;
	}
	ledger_learn(&d->ledger);
	d->adopt_listing = true;
	list_ask(d, 0);
}
