/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h: where brigd's clients come from; brigd_listen() and brigd_door() of daemon.h open it. */
#ifndef BRIG_DAEMON_LISTEN_H
#define BRIG_DAEMON_LISTEN_H

struct brigd;

/* No more clients from the socket / from brig-api. Those that are there stay. */
void listen_stop(struct brigd *d);
void door_close(struct brigd *d);

#endif
