/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h: an orderly end of brigd that is not the end of its sandboxes: another one takes over. */
#ifndef BRIG_DAEMON_HANDOVER_H
#define BRIG_DAEMON_HANDOVER_H

#include "daemon/daemon.h"

/* The exit code that says so to the supervisor. */
#define BRIGD_HANDED_OVER 75

/* Takes no new clients, answers those that wait, notes what runs, and ends: within HANDOVER_MS. */
#define HANDOVER_MS 5000u
void handover_begin(struct brigd *d);

#endif
