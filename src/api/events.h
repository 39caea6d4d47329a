/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h: what happened to sandboxes, in order, for those who follow it (GET /v1/events).
 *
 * Theory of operation
 * -------------------
 * Each event gets the next number and is kept, as the text that is sent, in one ring of all tenants
 * (events.c). A reader is a place in that ring and a filter (events_http.c): what it does not take
 * stays in the ring and nowhere else, so a reader that does not read costs its place and what lies
 * in its socket. The ring is bounded in events and in bytes and forgets the oldest; a reader that
 * is overtaken is told so and cut.
 *
 * The ring is memory. After a restart there is a new life (cursor.h) with an empty ring, and who
 * comes with a cursor of an earlier life is told that events may be lost.
 *
 * An event never has what came from or goes into a sandbox: no command, no code, no output, no
 * file, no variable, no metadata, no token.
 */
#ifndef BRIG_API_EVENTS_H
#define BRIG_API_EVENTS_H

#include <sys/queue.h>

#include "api/api.h"
#include "api/cursor.h"

#define EVENTS_KEPT_MAX 4096u
#define EVENTS_BYTES_MAX (8u * 1024u * 1024u)
#define EVENT_BYTES_MAX 8192u
/* Of all tenants, and of one. */
#define EVENTS_READERS_MAX 512u
#define EVENTS_TENANT_READERS_MAX 64u

/* X(name, text) */
#define EVENT_TYPES(X)                        \
	X(CREATED, "sandbox.created")         \
	X(READY, "sandbox.ready")             \
	X(PAUSED, "sandbox.paused")           \
	X(RESUMED, "sandbox.resumed")         \
	X(TIMEOUT, "sandbox.timeout_changed") \
	X(SNAPSHOT, "sandbox.snapshot")       \
	X(STOPPED, "sandbox.stopped")         \
	X(REMOVED, "sandbox.removed")         \
	X(RUN_STARTED, "run.started")         \
	X(RUN_FINISHED, "run.finished")       \
	X(MISMATCH, "sandbox.isolation_mismatch")

enum event_type {
#define X(name, text) EVENT_##name,
	EVENT_TYPES(X)
#undef X
		EVENT__N
};
const char *event_type_name(enum event_type type);

struct event {
	uint64_t number;
	char tenant[40];
	char box[BRIG_ID_LEN + 8]; /* "" = none */
	char *text;		   /* as it is sent */
	size_t n;
};

struct reader; /* events_http.c */

struct events {
	struct api *a;
	struct cursor last; /* of the newest event */
	struct event *ring; /* of EVENTS_KEPT_MAX; event i is at i % EVENTS_KEPT_MAX */
	uint64_t oldest;    /* number of the oldest that is kept; last.number + 1 if none is */
	size_t bytes;
	LIST_HEAD(reader_list, reader) readers;
	unsigned nreaders;
	struct ev_task feed;
	struct ev_timer behind, beat;
	bool ended;
};

int events_open(struct api *a, struct brig_err *err);
/* No reader is left. */
void events_close(struct api *a);
/* box and request may be NULL or "". details is stolen; NULL = none. An event that there is no
 * memory for is lost as if the ring had forgotten it. */
void events_add(struct api *a, enum event_type type, const char *tenant, const char *box,
		const char *request, json_t *details);
/* NULL if it is not kept. */
const struct event *events_at(const struct events *e, uint64_t number);

/* ---- readers ---- */
/* Everybody's stream ends, with an event that says so; new ones are refused. NULL is allowed. */
void events_stop(struct events *e);
/* Hands on what is new; an ev_task. */
void events_feed(void *events);
void events_beat(void *events);

#endif
