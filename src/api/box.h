/* SPDX-License-Identifier: Apache-2.0 */
/*
 * box.h: what the control plane does with boxes, beside what api.h says for everybody.
 *
 * States: RUNNING <-> PAUSING, PAUSED, RESUMING, all -> DEAD. Only box_state.c and box_kill() write
 * b->state. A dead box is out of the table and the store at once; its memory stays while somebody
 * holds a reference.
 */
#ifndef BRIG_API_BOX_H
#define BRIG_API_BOX_H

#include "api/api.h"

/* Marks our sandboxes in brigd: what has it and no record is removed at the next start. */
#define API_LABEL "brig.api"
/* Whose it is: what a next brig-api finds without a record is paid for until it is removed. */
#define API_TENANT_LABEL "brig.tenant"
#define API_CHARGE_LABEL "brig.charge" /* amounts_text() */
/* Wall time of a sandbox: 30 days, as --timeout. */
#define BOX_TIMEOUT_MAX_S 2592000

int64_t wall_ms(void);

/* A new record in the table, running; the caller fills it and then saves it. NULL: no memory or
 * API_BOXES_MAX. The table owns the first reference. */
struct box *box_add(struct api *a, const char *id);
/* Writes the record to the store and sets the timer of its end. */
void box_save(struct box *b);
/* "running" or "paused", as clients see it. */
static inline const char *box_state_name(const struct box *b)
{
	return b->state == BOX_PAUSED || b->state == BOX_RESUMING ? "paused" : "running";
}

/* End time from now; `extend`: never earlier than it was. Saves. */
void box_set_timeout(struct box *b, int64_t timeout_ms, bool extend);

/* As box_wake, the other way: one that is paused already is wrong_state. NULL: done was called. */
struct box_waker *box_pause(struct box *b, box_woken done, void *ctx);
/* For box_kill: those who wait are told. */
void box_state_done(struct box *b);

/* Removes a sandbox from brigd, again and again until it is gone; done (may be NULL) is called once
 * from the loop. */
struct box_removal;
struct box_removal *box_remove_id(struct api *a, const char *id, void (*done)(void *ctx),
				  void *ctx);
/* The same, for a sandbox that was paid for: charge (taken over; may be NULL) is returned when it is
 * gone. */
void box_remove_charged(struct api *a, const char *id, struct charge *charge);
/* done is not called any more; the removal goes on. */
void box_removal_forget(struct box_removal *m);
/* Its command has ended and brigd keeps only its output (api.h); evidence is stolen. */
void box_stopped(struct box *b, json_t *evidence);
/* As box_kill, and tells when nothing is left. */
struct box_removal *box_kill_wait(struct box *b, const char *why, json_t *evidence,
				  void (*done)(void *ctx), void *ctx);
/* What brigd says about the end of a sandbox (INFO of client_proto.h), as evidence for box_kill.
 * New reference. */
json_t *box_evidence(const json_t *info);
/* The request that asks for a change which is told as an event later. */
void box_asked(struct box *b, const char *request_id);
/* That change, told: `by` is "request" if one asked for it, else what is said here. */
void box_changed(struct box *b, bool paused, const char *by);

/* Reads the records, takes over what still lives in brigd and removes the rest; ready is called
 * once from the loop. Before it no request may be served. */
int boxes_adopt(struct api *a, api_ready ready, struct brig_err *err);
/* Frees all records and changes nothing outside. */
void boxes_done(struct api *a);

#endif
