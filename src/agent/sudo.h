/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sudo.h: the agent's side of brig-sudo; see sudo_proto.h.
 *
 * The agent itself only accepts connections. Each is served by a monitor, a forked process that
 * lives as long as the command: what a tenant sends over a socket (a descriptor whose close blocks,
 * say) then delays nobody else.
 */
#ifndef BRIG_AGENT_SUDO_H
#define BRIG_AGENT_SUDO_H

#include <sys/socket.h>

struct agent;

/* Listens, if it does not yet; called when a command has been started (a client that is faster
 * tries again). A failure (another agent has the name, no memory) leaves the sandbox without sudo.
 */
void sudo_listen(struct agent *a);
void sudo_stop(struct agent *a);

/* The monitor: serves one connection in a forked process that has nothing else open. Returns its
 * exit code. */
int sudo_monitor(struct agent *a, int conn, const struct ucred *peer);

#endif
