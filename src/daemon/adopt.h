/* SPDX-License-Identifier: Apache-2.0 */
/* adopt.h: a new brigd takes over what a former one left: sandboxes, their commands, their records. */
#ifndef BRIG_DAEMON_ADOPT_H
#define BRIG_DAEMON_ADOPT_H

#include "daemon/sandbox.h"

/* An agent that does not answer its new host by then goes, with its sandbox. */
#define ADOPT_AGENT_MS 2000u

/* jaild has greeted: asks it what there is. Ends in brigd_ready(), also if there is nothing. */
void adopt_begin(struct brigd *d);
/* Its agent has told all, or the sandbox ends. Nothing for one that is not taken over. */
void adopt_settled(struct sandbox *sb);
/* A box that nobody knows is removed; one that stands still, of which nobody was told, goes on. */
void adopt_box_destroy(struct brigd *d, const char *id, const char *why);
void adopt_box_thaw(struct sandbox *sb);

#endif
