/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h: the entrance of brig-agent. */
#ifndef BRIG_AGENT_H
#define BRIG_AGENT_H

#include <stdint.h>

/*
 * Once in the program, before any agent: a disposition of "ignore" outlives an exec, and whoever
 * started the program may have left any. Commands are to start with the defaults. (Not a part of
 * agent_main(): sixty system calls are a tenth of the time that an agent takes to its first exec.)
 */
void agent_prepare(void);

/*
 * Serves the channel until it ends; never returns before. Precondition: the caller is the first
 * process of the sandbox (or any process, in tests), already confined, uid 0 inside,
 * single-threaded, with no descriptor open but chan, layer and 0-2. Returns the exit code of the agent: 0
 * after SHUTDOWN or a closed channel, 1 after a protocol error. When the agent is pid 1 its return
 * ends the sandbox.
 *
 * layer is the directory that holds what differs from the image, as the root of a mount that is
 * attached nowhere: ".." leads nowhere from it, whoever finds the descriptor in /proc/self/fd. -1 if
 * there is none; FS_EXPORT is then refused. base is the image below it, in the same way; -1: what is new and what was
 * changed is then not told apart.
 *
 * gate is a socket on which one byte comes when the host has looked at this sandbox and found it to be
 * what was asked for; before that no command is executed. Without it, when the other end closes, none
 * ever is. -1: there is no gate.
 *
 * call_again gives a descriptor that takes the place of a channel whose other end is gone, with another host
 * behind it; the agent goes on as after the byte that carries a descriptor (protocol.md, Attach). -errno: there
 * is none, and the agent ends. NULL: there never is.
 *
 * The container engine calls this in a process forked from its template (no exec); the other tiers
 * exec brig-agent, whose main() calls it with descriptor 3.
 */
int agent_main(int chan, int layer, int base, int gate, int (*call_again)(void));

/* guest.c, of a microVM: the host's port from then on, and a call to it. Before it calls it gives the kernel
 * fresh randomness: who has to call again may be one of several machines that were one before. */
/* Processes that this machine's own kernel has killed for lack of memory; 0 in other tiers, where the host counts. */
uint64_t guest_oom_kills(void);
void guest_port_set(unsigned port);
int guest_redial(void);

#endif
