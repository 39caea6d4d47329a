/* SPDX-License-Identifier: Apache-2.0 */
/* note.h: what clients at brigd's own socket do, told to brig-api for its audit log (door_proto.h). */
#ifndef BRIG_DAEMON_NOTE_H
#define BRIG_DAEMON_NOTE_H

#include "base/err.h"
#include "brig/door_proto.h"
#include "daemon/conn.h"

/* Notes that wait because the door is full. */
#define NOTES_MAX 256u

struct notes {
	struct door_note at[NOTES_MAX];
	unsigned first, n;
};

/* Whether an operation of this client may go on: false with err if it could not be told. Clients
 * that came through the door are brig-api's own, and a server without a door has no log. */
bool note_admits(struct conn *c, struct brig_err *err);
/* Tells of it, now or when there is room. Only after note_admits(). */
void note_add(struct conn *c, const char *what, const char *outcome);
/* Something that no client did, of a sandbox. It may be dropped if nobody has read notes for long. */
void note_host(struct brigd *d, const char *what, const char *id, const char *outcome);
/* The door may have room again. */
void notes_flush(struct brigd *d);

#endif
