/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caps.h: the capabilities that exist inside a sandbox. One list for the engine, which removes all
 * others from the bounding set before the agent runs, and for the agent, which removes these from
 * the commands.
 *
 * Each is relative to the sandbox's user namespace and reaches only ids that are mapped into it:
 * files of its own uid range and processes of its own pid namespace. None opens a kernel interface
 * that an unprivileged process lacks.
 */
#ifndef BRIG_AGENT_CAPS_H
#define BRIG_AGENT_CAPS_H

#include <linux/capability.h>
#include <stdint.h>

#define BRIG_CAP_BIT(cap) (1ull << (cap))

/* What root inside may use: package managers, chown, su, chroot. */
#define BRIG_CAPS_COMMAND                                                                      \
	(BRIG_CAP_BIT(CAP_CHOWN) | BRIG_CAP_BIT(CAP_DAC_OVERRIDE) | BRIG_CAP_BIT(CAP_FOWNER) | \
	 BRIG_CAP_BIT(CAP_FSETID) | BRIG_CAP_BIT(CAP_KILL) | BRIG_CAP_BIT(CAP_SETGID) |        \
	 BRIG_CAP_BIT(CAP_SETUID) | BRIG_CAP_BIT(CAP_SYS_CHROOT))

/* The agent also needs SETPCAP, to empty the bounding set of a command. That it holds one more than
 * any command is what forbids root inside to trace it. */
#define BRIG_CAPS_AGENT (BRIG_CAPS_COMMAND | BRIG_CAP_BIT(CAP_SETPCAP))

#endif
