/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Pausing and resuming are operations of brigd that take a moment and belong to the box, not to
 * whoever asked: a client that goes away changes nothing. At most one is under way per box. Those
 * who wait are in one list; each wants the box to run or to be paused. When a change has ended, all
 * who got what they want are told, and if somebody wants the other state the next change begins. So
 * a connect that meets a pause under way resumes the box right behind it, and a pause behind a
 * resume pauses it again.
 */
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "base/clock.h"

/* What a box has whose end passed while it was paused, until it is told how long it may go on. */
#define RESUME_GRACE_MS 15000

struct box_waker {
	LIST_ENTRY(box_waker) link;
	struct box *b;
	bool pause;  /* what it wants */
	bool forced; /* it sets an end of its own */
	box_woken done;
	void *ctx;
};

static int change_start(struct box *b, bool pause, struct brig_err *err);

static void tell(struct box_waker *w, const struct brig_err *err)
{
	LIST_REMOVE(w, link);
	w->done(w->ctx, err);
	free(w);
}

/* The first who waits for pause, or for running. */
static struct box_waker *waiting(struct box *b, bool pause)
{
	struct box_waker *w;
	for (w = LIST_FIRST(&b->wakers); w; w = LIST_NEXT(w, link)) {
		if (w->pause == pause)
			return w;
	}
	return NULL;
}

/* A callback may kill the box, cancel others, or begin the next change: the list is looked at anew
 * each time, and no longer than the state holds. */
static void tell_all(struct box *b, bool pause, const struct brig_err *err)
{
	struct box_waker *w;
	enum box_state state = b->state;
	while (b->state == state && (w = waiting(b, pause)))
		tell(w, err);
}

static void settle(struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	box_ref(b);
	tell_all(b, b->state == BOX_PAUSED, NULL);
	if (b->state == BOX_PAUSED && waiting(b, false) && change_start(b, false, &err) < 0)
		tell_all(b, false, &err);
	if (b->state == BOX_RUNNING && waiting(b, true) && change_start(b, true, &err) < 0)
		tell_all(b, true, &err);
	box_unref(b);
}

/* Traffic that wakes a box gives it the time that it was promised last; whoever asks for it by name
 * says for how long. */
static bool by_traffic(struct box *b)
{
	struct box_waker *w;
	for (w = LIST_FIRST(&b->wakers); w; w = LIST_NEXT(w, link)) {
		if (!w->pause && !w->forced)
			return true;
	}
	return false;
}

static void change_replied(void *ctx, json_t *ok)
{
	struct box *b = ctx;
	(void)ok;
	b->op = NULL;
	b->state = b->state == BOX_PAUSING ? BOX_PAUSED : BOX_RUNNING;
	box_changed(b, b->state == BOX_PAUSED, b->state == BOX_PAUSED ? "timeout" : "traffic");
	if (b->state == BOX_RUNNING && b->end_ms && b->end_ms <= wall_ms())
		b->end_ms = wall_ms() + (by_traffic(b) ? b->timeout_ms : RESUME_GRACE_MS);
	b->last_used_ms = wall_ms();
	box_save(b);
	settle(b);
}

/* The sandbox was not in the state that we believed: somebody changed it past us (`brig pause`), or
 * it has ended. brigd's word counts. Nothing is tried again: who wanted something else is told. */
static void state_learnt(void *ctx, json_t *info)
{
	struct box *b = ctx;
	const char *state = json_string_value(json_object_get(info, "state"));
	struct brig_err err = BRIG_ERR_INIT;
	b->op = NULL;
	if (state && strcmp(state, "stopped") == 0 && b->name[0]) {
		box_stopped(b, box_evidence(info));
	} else if (!state || strcmp(state, "stopped") == 0 || strcmp(state, "removing") == 0 ||
	    strcmp(state, "gone") == 0) {
		box_kill(b, "ended", box_evidence(info));
		return;
	}
	bool paused = strcmp(state, "paused") == 0;
	bool moved = paused == (b->state == BOX_PAUSING);
	b->asked[0] = '\0'; /* it was not that request which did it */
	b->state = paused ? BOX_PAUSED : BOX_RUNNING;
	if (moved)
		box_changed(b, paused, "operator");
	box_ref(b);
	box_save(b);
	brig_err_set(&err, BRIG_E_STATE, 0, "sandbox '%s' is %s", b->id,
		     b->stopped ? "stopped" : paused ? "paused" : "running");
	tell_all(b, paused, NULL);
	tell_all(b, !paused, &err);
	box_unref(b);
}

static void state_unknown(void *ctx, json_t *error)
{
	struct box *b = ctx;
	(void)error;
	b->op = NULL;
	box_kill(b, "lost", NULL);
}

static const struct link_ops learn_ops = { .reply = state_learnt, .failed = state_unknown };

static void change_failed(void *ctx, json_t *error)
{
	struct box *b = ctx;
	struct brig_err err = BRIG_ERR_INIT, mine = BRIG_ERR_INIT;
	bool pausing = b->state == BOX_PAUSING;
	api_err_from(error, &err);
	b->op = NULL;
	if (err.code == BRIG_E_STATE &&
	    link_start(b->api->link, json_pack("{s:s,s:s}", "op", "inspect", "id", b->id), false,
		       &learn_ops, b, &b->op, &mine) == 0)
		return;
	b->state = pausing ? BOX_RUNNING : BOX_PAUSED;
	b->asked[0] = '\0';
	if (err.code == BRIG_E_NOT_FOUND) {
		box_kill(b, "lost", NULL); /* it ended, and nobody had noticed */
		return;
	}
	box_ref(b);
	tell_all(b, pausing, &err);
	settle(b);
	box_unref(b);
}

static const struct link_ops change_ops = { .reply = change_replied, .failed = change_failed };

static int change_start(struct box *b, bool pause, struct brig_err *err)
{
	json_t *req = json_pack("{s:s,s:s}", "op", pause ? "pause" : "resume", "id", b->id);
	if (link_start(b->api->link, req, false, &change_ops, b, &b->op, err) < 0)
		return brig_ctx(err, "%s sandbox '%s'", pause ? "pause" : "resume", b->id);
	b->state = pause ? BOX_PAUSING : BOX_RESUMING;
	return 0;
}

static struct box_waker *want(struct box *b, bool pause, bool forced, box_woken done, void *ctx)
{
	struct brig_err err = BRIG_ERR_INIT;
	bool idle = b->state == BOX_RUNNING || b->state == BOX_PAUSED;
	struct box_waker *w = calloc(1, sizeof(*w));
	if (!w)
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "out of memory");
	if (!w || (idle && change_start(b, pause, &err) < 0)) {
		free(w);
		done(ctx, &err);
		return NULL;
	}
	*w = (struct box_waker){
		.b = b, .pause = pause, .forced = forced, .done = done, .ctx = ctx
	};
	LIST_INSERT_HEAD(&b->wakers, w, link);
	return w;
}

static void fail_at_once(const struct box *b, const char *why, box_woken done, void *ctx)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, b->state == BOX_DEAD ? BRIG_E_NOT_FOUND : BRIG_E_STATE, 0,
		     "sandbox '%s' %s", b->id, b->state == BOX_DEAD ? "has ended" : why);
	done(ctx, &err);
}

struct box_waker *box_wake(struct box *b, bool forced, box_woken done, void *ctx)
{
	if (b->state == BOX_RUNNING) {
		done(ctx, NULL);
		return NULL;
	}
	if (b->state == BOX_DEAD || (!forced && !b->auto_resume && b->state != BOX_RESUMING)) {
		fail_at_once(b, "is paused", done, ctx);
		return NULL;
	}
	return want(b, false, forced, done, ctx);
}

struct box_waker *box_pause(struct box *b, box_woken done, void *ctx)
{
	if (b->state == BOX_DEAD || b->state == BOX_PAUSED || b->state == BOX_PAUSING) {
		fail_at_once(b, "is paused already", done, ctx);
		return NULL;
	}
	return want(b, true, true, done, ctx);
}

void box_wake_cancel(struct box_waker *w)
{
	LIST_REMOVE(w, link);
	free(w);
}

void box_state_done(struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct box_waker *w;
	if (b->op)
		link_cancel(b->op);
	b->op = NULL;
	brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "sandbox '%s' has ended", b->id);
	while ((w = LIST_FIRST(&b->wakers)))
		tell(w, &err);
}
