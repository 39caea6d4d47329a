/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h: the first process of a sandbox in the gVisor tier.
 *
 * Theory of operation
 * -------------------
 * runsc runs inside the boundary that brig makes for a container: own ids, groups, namespaces, a size-limited
 * root, a system call filter. A tenant who gets out of gVisor's kernel is there, and not on the host. So the
 * limits, the removal and the receipt of this tier come from what exists.
 *
 * A child of the stage (stage.h) joins groups and namespaces, mounts the writable layer and the root, and in
 * place of moving the root over its own it leaves it at /r, writes a bundle beside it, and becomes the
 * *keeper*: uid 0 of the sandbox's user namespace, in a mount namespace that belongs to it, behind
 * gvisor.seccomp, pid 1. It executes
 *
 *     runsc create    makes the gofer (serves /r and volumes) and the sentry (the kernel), and ends
 *     ...             jaild measures them: nothing of the tenant has run
 *     runsc start     lets the sentry execute brig-agent, whose channel is the descriptor 0 that
 *                     `create` was given
 *
 * and then has nothing left but to wait: it drops every capability and ends when the sentry or the gofer
 * does, which reparents to it. With it the kernel ends everything of its pid namespace, so a kill of the
 * keeper is a kill of the sandbox, as in a container. No process that could do more than the sentry outlives
 * the start.
 *
 *     keeper, pid 1: no capability
 *       gofer: own pid, mount, network namespaces, chroot at the root, runsc's filter
 *       sentry: a user namespace of one id (65534), an empty network, an empty root, runsc's filter
 *         processes of the tenant, as the sentry's own (systrap, or ptrace)
 *
 * What differs for whoever looks up from inside is in docs/specification.md. Not done: checkpoint and restore
 * of runsc; they want the network disabled and the same files below.
 */
#ifndef BRIG_GVISOR_KEEPER_H
#define BRIG_GVISOR_KEEPER_H

#include <linux/capability.h>

#include "agent/caps.h"
#include "engine/container/stage.h"

/* What runsc needs to set its processes up, relative to the sandbox's user namespace: mount and pivot_root,
 * user namespaces, the file owner's rights of the gofer, ptrace of the sentry. It drops most itself. */
#define BRIG_CAPS_RUNSC                                                                               \
	(BRIG_CAPS_AGENT | BRIG_CAP_BIT(CAP_SYS_ADMIN) | BRIG_CAP_BIT(CAP_DAC_READ_SEARCH) |         \
	 BRIG_CAP_BIT(CAP_SYS_PTRACE) | BRIG_CAP_BIT(CAP_MKNOD) | BRIG_CAP_BIT(CAP_SETFCAP))

/* Where the agent is, inside. gVisor's /dev is its own: nothing of the image is hidden by it. */
#define KEEPER_AGENT "/dev/.brig-agent"
/* The argument with which it serves descriptor 0. */
#define KEEPER_AGENT_MODE "--on-stdin"

/* Mounts /b, with runsc's configuration of this sandbox in it. As root of the outer user namespace, when the
 * root is at /r. */
int keeper_bundle(const struct stage_enter *e, const struct stage_fds *f, struct stage_step *st);
/* runsc create; confined. f->chan becomes descriptor 0 of the agent. */
int keeper_create(const struct stage_fds *f, int net, struct stage_step *st);
/* Waits for the word on f->own, starts the agent, and keeps it: returns the exit code of the sandbox. */
int keeper_main(struct stage_fds *f, int net);

#endif
