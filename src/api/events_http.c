/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events_http.c: GET /v1/events, a stream of server-sent events (WHATWG HTML, 9.2) with a cursor.
 *
 * A stream begins with `open`, whose id is the place where it begins. Who names a place (header
 * Last-Event-ID, which wins because a client that reconnects repeats its URL; or ?cursor=) gets
 * what came behind it; if the ring has forgotten some of that, or the place is of an earlier life,
 * one `gap` comes first. `?cursor=oldest` begins with what is kept. Nobody named: from now on.
 *
 * Of a reader that does not read, QUEUE_MAX bytes are queued; the rest stays in the ring. When the
 * ring has forgotten what the reader would get next, `lagged` is its last event. Its id is that of
 * the last event that was sent, so a client that comes back is told of the gap.
 *
 * Every BEAT_MS there is a comment, by which a dead connection is noticed; it carries the id of the
 * newest event that was looked at, so the cursor of a filtered stream moves, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/events.h"
#include "base/clock.h"

#define QUEUE_MAX (64u * 1024u)
#define BEAT_MS 15000u
/* How soon a reader that had no room is looked at again. */
#define BEHIND_MS 100u

struct reader {
	LIST_ENTRY(reader) link;
	struct events *e; /* NULL once it has ended */
	struct call *c;
	uint64_t next;		/* the event that it gets next */
	char box[ROUTE_ID_MAX]; /* "" = all */
};

/* number: of the last event that was sent. body is stolen. */
static void tell(struct reader *rd, const char *event, uint64_t number, json_t *body)
{
	struct cursor at = { .life = rd->e->last.life, .number = number };
	char id[CURSOR_MAX], head[CURSOR_MAX + 64];
	char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
	cursor_format(at, id);
	snprintf(head, sizeof(head), "id: %s\nevent: %s\ndata: ", id, event);
	http_stream_write(rd->c->r, head, strlen(head));
	http_stream_write(rd->c->r, json ? json : "{}", json ? strlen(json) : 2);
	http_stream_write(rd->c->r, "\n\n", 2);
	free(json);
	json_decref(body);
}

static void reader_end(struct reader *rd)
{
	LIST_REMOVE(rd, link);
	rd->e->nreaders--;
	rd->e = NULL;
	http_stream_end(rd->c->r);
}

static void reader_gone(struct call *c)
{
	struct reader *rd = c->priv;
	if (rd->e) {
		LIST_REMOVE(rd, link);
		rd->e->nreaders--;
	}
	free(rd);
}

static bool wants(const struct reader *rd, const struct event *ev)
{
	return call_may_see(rd->c, ev->tenant) && (!rd->box[0] || strcmp(rd->box, ev->box) == 0);
}

/* What lies between a place and the oldest event that is kept; other tenants' events count, too. */
static json_t *lost_json(const struct reader *rd, const char *reason, json_t *lost)
{
	struct cursor from = { .life = rd->e->last.life, .number = rd->e->oldest - 1 };
	char id[CURSOR_MAX];
	cursor_format(from, id);
	return json_pack(
		"{s:s,s:o,s:s,s:s}", "reason", reason, "lost_at_most", lost, "resumes_after", id,
		"remediation",
		"ask GET /v1/sandboxes for what there is now, then follow from the id of this "
		"event");
}

/* True: it wants more than there is room for. */
static bool reader_feed(struct reader *rd)
{
	struct events *e = rd->e;
	if (rd->next < e->oldest) {
		tell(rd, "lagged", rd->next - 1,
		     lost_json(rd, "this client did not read fast enough; the stream ends",
			       json_integer((json_int_t)(e->oldest - rd->next))));
		reader_end(rd);
		return false;
	}
	while (rd->next <= e->last.number) {
		const struct event *ev = events_at(e, rd->next);
		if (wants(rd, ev)) {
			if (http_stream_queued(rd->c->r) + ev->n > QUEUE_MAX)
				return true;
			http_stream_write(rd->c->r, ev->text, ev->n);
		}
		rd->next++;
	}
	return false;
}

void events_feed(void *events)
{
	struct events *e = events;
	struct reader *rd, *after;
	bool behind = false;
	for (rd = LIST_FIRST(&e->readers); rd; rd = after) {
		after = LIST_NEXT(rd, link);
		behind |= reader_feed(rd);
	}
	/* Without a timer the next event, or the next beat, looks again. */
	if (behind)
		(void)ev_timer_set(&e->a->ev, &e->behind, clock_now() + BEHIND_MS * MS_NS);
}

static void beat_set(struct events *e)
{
	(void)ev_timer_set(&e->a->ev, &e->beat, clock_now() + BEAT_MS * MS_NS);
}

void events_beat(void *events)
{
	struct events *e = events;
	struct reader *rd;
	char id[CURSOR_MAX], text[CURSOR_MAX + 16];
	events_feed(e);
	for (rd = LIST_FIRST(&e->readers); rd; rd = LIST_NEXT(rd, link)) {
		struct cursor at = { .life = e->last.life, .number = rd->next - 1 };
		if (http_stream_queued(rd->c->r))
			continue;
		cursor_format(at, id);
		snprintf(text, sizeof(text), ": alive\nid: %s\n\n", id);
		http_stream_write(rd->c->r, text, strlen(text));
	}
	if (!LIST_EMPTY(&e->readers))
		beat_set(e);
}

void events_stop(struct events *e)
{
	struct reader *rd;
	if (!e)
		return;
	e->ended = true;
	while ((rd = LIST_FIRST(&e->readers))) {
		/* What has happened up to here, as far as there is room. */
		(void)reader_feed(rd);
		if (!rd->e)
			continue;
		tell(rd, "closing", rd->next - 1,
		     json_pack("{s:s,s:s}", "reason", "the server ends, or is started again",
			       "remediation", "connect again, with the id of this event"));
		reader_end(rd);
	}
}

/* ---- the request ---- */

static void refuse(struct call *c, enum brig_code code, const char *why, const char *remedy)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, code, 0, "%s", why);
	brig_err_remedy(&err, "%s", remedy);
	call_fail(c, &err);
}

static unsigned readers_of(const struct events *e, const char *tenant)
{
	const struct reader *rd;
	unsigned n = 0;
	for (rd = LIST_FIRST(&e->readers); rd; rd = LIST_NEXT(rd, link))
		n += strcmp(rd->c->tenant, tenant) == 0;
	return n;
}

static bool box_ok(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789");
	return n >= 1 && n < ROUTE_ID_MAX && !id[n];
}

/* Where the stream begins: *ret_after is the last event that the client has seen, as far as this
 * life knows it; *ret_gap what it is told first, or NULL. */
static int place(struct call *c, struct reader *rd, uint64_t *ret_after, json_t **ret_gap)
{
	const struct events *e = rd->e;
	const char *text = http_header(c->r, "Last-Event-ID");
	struct cursor at;
	*ret_gap = NULL;
	*ret_after = e->last.number;
	if (!text || !text[0])
		text = http_query(c->r, "cursor");
	if (!text || !text[0])
		return 0;
	if (strcmp(text, "oldest") == 0) {
		*ret_after = e->oldest - 1;
		return 0;
	}
	if (cursor_parse(text, &at) < 0 ||
	    (at.life == e->last.life && at.number > e->last.number)) {
		refuse(c, BRIG_E_INVALID, "the cursor is none that this server has given",
		       "send the id of an event as it came, 'oldest', or none for what comes from "
		       "now "
		       "on");
		return -1;
	}
	if (at.life != e->last.life) {
		*ret_gap = lost_json(rd, "the cursor is of an earlier life of the server",
				     json_null());
		*ret_after = e->oldest - 1;
	} else if (at.number + 1 < e->oldest) {
		*ret_gap = lost_json(rd, "the events behind the cursor are not kept any more",
				     json_integer((json_int_t)(e->oldest - at.number - 1)));
		*ret_after = e->oldest - 1;
	} else {
		*ret_after = at.number;
	}
	return 0;
}

static void events_get(struct call *c)
{
	struct events *e = c->api->events;
	const char *box = http_query(c->r, "sandbox");
	json_t *gap = NULL;
	uint64_t after;
	if (box && !box_ok(box)) {
		refuse(c, BRIG_E_INVALID, "'sandbox' is no id of a sandbox",
		       "GET /v1/sandboxes tells the ids");
		return;
	}
	if (!e || e->ended) {
		refuse(c, BRIG_E_UNAVAILABLE, "the server is ending", "connect again in a moment");
		return;
	}
	if (e->nreaders >= EVENTS_READERS_MAX ||
	    readers_of(e, c->tenant) >= EVENTS_TENANT_READERS_MAX) {
		refuse(c, BRIG_E_BUSY, "too many streams of events are open",
		       "close one; a single stream tells of all sandboxes of its tenant");
		return;
	}
	struct reader *rd = calloc(1, sizeof(*rd));
	if (!rd) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	rd->e = e;
	rd->c = c;
	snprintf(rd->box, sizeof(rd->box), "%s", box ? box : "");
	if (place(c, rd, &after, &gap) < 0) {
		free(rd);
		return;
	}
	rd->next = after + 1;
	c->priv = rd;
	c->gone = reader_gone;
	LIST_INSERT_HEAD(&e->readers, rd, link);
	e->nreaders++;
	http_answer_header(c->r, "Cache-Control", "no-store");
	/* Or a proxy in front collects events instead of passing them on. */
	http_answer_header(c->r, "X-Accel-Buffering", "no");
	http_stream_begin(c->r, 200, "text/event-stream", -1);
	if (gap)
		tell(rd, "gap", after, gap);
	else
		tell(rd, "open", after, json_object());
	if (!ev_timer_armed(&e->beat))
		beat_set(e);
	events_feed(e);
}

const struct route events_routes[] = {
	{ "GET", "/v1/events", 0, PERM_BOX_READ, events_get },
	{ .method = NULL },
};
