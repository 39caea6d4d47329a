/* SPDX-License-Identifier: Apache-2.0 */
#include "api/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/box.h"
#include "api/text.h"
#include "base/clock.h"

static const char *const names[] = {
#define X(name, text) text,
	EVENT_TYPES(X)
#undef X
};
_Static_assert(sizeof(names) / sizeof(names[0]) == EVENT__N, "one name per type");

const char *event_type_name(enum event_type type)
{
	return names[type];
}

int events_open(struct api *a, struct brig_err *err)
{
	struct events *e = calloc(1, sizeof(*e));
	struct event *ring = calloc(EVENTS_KEPT_MAX, sizeof(*ring));
	if (!e || !ring ||
	    getrandom(&e->last.life, sizeof(e->last.life), 0) != sizeof(e->last.life)) {
		free(e);
		free(ring);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "prepare the stream of events");
	}
	e->a = a;
	e->ring = ring;
	e->oldest = 1;
	LIST_INIT(&e->readers);
	e->feed = (struct ev_task){ .fn = events_feed, .ctx = e };
	e->behind = (struct ev_timer){ .fn = events_feed, .ctx = e };
	e->beat = (struct ev_timer){ .fn = events_beat, .ctx = e };
	a->events = e;
	return 0;
}

static void forget_oldest(struct events *e)
{
	struct event *ev = &e->ring[e->oldest % EVENTS_KEPT_MAX];
	e->bytes -= ev->n;
	free(ev->text);
	ev->text = NULL;
	ev->n = 0;
	e->oldest++;
}

void events_close(struct api *a)
{
	struct events *e = a->events;
	if (!e)
		return;
	a->events = NULL;
	ev_timer_stop(&a->ev, &e->behind);
	ev_timer_stop(&a->ev, &e->beat);
	while (e->oldest <= e->last.number)
		forget_oldest(e);
	free(e->ring);
	/* A task that is queued finds nothing any more; the loop has ended, or runs it once more.
	 */
	if (e->feed.queued)
		e->feed.fn = free;
	else
		free(e);
}

const struct event *events_at(const struct events *e, uint64_t number)
{
	return number >= e->oldest && number <= e->last.number ? &e->ring[number % EVENTS_KEPT_MAX]
							       : NULL;
}

/* The text of an event; NULL: no memory, or more than an event may have. */
static char *event_text(const char *id, enum event_type type, json_t *body)
{
	char *json = json_dumps(body, JSON_COMPACT), *text = NULL;
	/* JSON has no line break outside of escapes, so it is one line of data. */
	if (!json || strlen(json) > EVENT_BYTES_MAX ||
	    asprintf(&text, "id: %s\nevent: %s\ndata: %s\n\n", id, names[type], json) < 0)
		text = NULL;
	free(json);
	return text;
}

void events_add(struct api *a, enum event_type type, const char *tenant, const char *box,
		const char *request, json_t *details)
{
	struct events *e = a->events;
	char id[CURSOR_MAX], time[TEXT_TIME_MAX];
	if (!e) {
		json_decref(details);
		return;
	}
	struct cursor at = { .life = e->last.life, .number = e->last.number + 1 };
	cursor_format(at, id);
	text_time(wall_ms(), time);
	json_t *body = json_pack("{s:s,s:s,s:s,s:s?,s:s,s:s?,s:o}", "id", id, "type", names[type],
				 "time", time, "sandbox", box && box[0] ? box : NULL, "tenant",
				 tenant, "request_id", request && request[0] ? request : NULL,
				 "details", details ? details : json_object());
	char *text = body ? event_text(id, type, body) : NULL;
	if (!text && body) {
		/* Longer than one may be: that it happened is worth more than how. */
		json_object_set_new(body, "details", json_pack("{s:b}", "omitted", 1));
		text = event_text(id, type, body);
	}
	json_decref(body);
	size_t n = text ? strlen(text) : 0;
	while (e->oldest <= e->last.number &&
	       (at.number - e->oldest >= EVENTS_KEPT_MAX || e->bytes + n > EVENTS_BYTES_MAX))
		forget_oldest(e);
	struct event *ev = &e->ring[at.number % EVENTS_KEPT_MAX];
	snprintf(ev->tenant, sizeof(ev->tenant), "%s", tenant);
	snprintf(ev->box, sizeof(ev->box), "%s", box ? box : "");
	ev->number = at.number;
	ev->text = text;
	ev->n = n;
	e->bytes += n;
	e->last = at;
	if (!text) { /* no memory: a gap, told to everybody as such */
		while (e->oldest <= at.number)
			forget_oldest(e);
	}
	if (!LIST_EMPTY(&e->readers))
		ev_task_queue(&a->ev, &e->feed);
}
