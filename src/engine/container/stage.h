/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h: the process that holds the template, and what jaild tells it.
 *
 * Theory of operation
 * -------------------
 * jaild execs brig-agent once as the "stage" (argument --stage). The stage builds a mount namespace
 * that holds nothing of the host but the host's /usr (read-only), drops what it does not need, and
 * waits. For each sandbox it clones one child into fresh namespaces; the child builds its root, sheds
 * every privilege and becomes the agent without another exec. So a sandbox costs no copy of the host's
 * mount table, no exec and no dynamic linking, and its memory starts as a copy of a process that has
 * never seen another tenant.
 *
 * A child works in two steps: what depends only on the slot (slot.h), and what the request says (image,
 * limits, volumes, channel). Where groups can be made ahead of requests (cgroup v1) children are born
 * ahead of them too, and then everything that takes time is done before anybody waits: such a child joins
 * its groups and namespaces, mounts the writable layer, /proc with its masks and /dev, sheds its
 * privileges, installs the filter, and waits on a socket of its own. It can mount nothing any more, so the
 * root is built by the stage, which enters the child's mount namespace for that (no tenant process has
 * run there), and the child only moves its root into it. Meanwhile jaild measures the child (jail/receipt.c):
 *
 *     jaild --STAGE_CLONE(slot, fds)-------------> stage --clone3--> child
 *     jaild <-STAGE_CLONED(seq, pid, pidfd)------- stage
 *     jaild <-STAGE_PREPARED(fds of its namespaces)----------------- child, on its own socket, confined
 *     jaild --STAGE_ENTER(spec, fds)-------------> stage --STAGE_GO--> child
 *     jaild <-STAGE_READY(seq, error or none)----------------------- child, its last message
 *
 * A child without AHEAD (cgroup v2, rootless, a burst of requests) gets ENTER itself, on its own socket,
 * builds its root with its own hands, and sheds its privileges after that.
 *
 * The child is cloned with CLONE_PARENT: jaild is its parent, reaps it, and learns its status. A waiting
 * child holds no tenant state and serves one sandbox. What the stage allocates while it mounts for a
 * child (an overlay's own memory, some KiB) is not charged to the sandbox; all that the sandbox's
 * processes do in it is.
 *
 * The stage trusts jaild; jaild trusts the stage and the child until STAGE_READY (no tenant byte has
 * been interpreted before that except the names of directories in the image).
 */
#ifndef BRIG_CONTAINER_STAGE_H
#define BRIG_CONTAINER_STAGE_H

#include <stddef.h>

#include "brig/jail_proto.h"

enum stage_verb {
	STAGE_CLONE = 1,
	STAGE_ENTER = 2,
	STAGE_CLONED = 3,
	STAGE_READY = 4,
	STAGE_PREPARED = 5,
	STAGE_GO = 6
};

struct stage_hdr {
	uint32_t verb;
	uint32_t seq; /* jaild's number of the child */
};

/* + descriptors: the child's own socket, user namespace, network namespace, time namespace (with
 * STAGE_F_TIME), n_join cgroup descriptors. */
#define STAGE_F_RANGE 1u /* the user namespace maps a range of ids, not one */
#define STAGE_F_IDMAP 2u /* lower layers may be id-mapped */
#define STAGE_F_TIME 4u  /* a time namespace comes along */
#define STAGE_F_AHEAD 8u /* prepare and confine now, the stage will build the root */
#define STAGE_F_GVISOR 16u /* the child becomes the keeper of a runsc (engine/gvisor/keeper.h) */
#define STAGE_F_OUTLIVE 32u /* it does not end with jaild, once it is confined */
struct stage_clone {
	struct stage_hdr h;
	uint32_t flags;
	uint32_t cgroup_version; /* 2: the one join descriptor is for CLONE_INTO_CGROUP */
	uint32_t n_join;
	uint32_t host_uid, host_gid; /* of uid and gid 0 inside, as the stage sees them */
};

/* + descriptors: to the stage first STAGE_N_CHILD of them: the child's socket, its mount and UTS
 * namespaces as PREPARED had them, the slot's user namespace. Then the agent's channel, a detached mount of
 * each tree of the image, the lowest first (none if the image is 0), nvolumes detached mounts; in the gVisor
 * tier runsc to be executed, and a detached mount of brig-agent. Only the used part of spec.volumes is sent. */
#define STAGE_N_CHILD 4u
struct stage_enter {
	struct stage_hdr h;
	uint32_t deny_suid; /* a writable volume is attached */
	uint32_t flags;	    /* as in stage_clone */
	uint32_t host_uid, host_gid;
	uint32_t layers; /* trees of the image */
	uint32_t reserved;
	struct jail_spec spec;
};
static inline size_t stage_enter_size(uint32_t nvolumes)
{
	return offsetof(struct stage_enter, spec.volumes) + nvolumes * sizeof(struct jail_volume);
}

/* + descriptors: the child's mount namespace, its UTS namespace. */
struct stage_prepared {
	struct stage_hdr h;
};

/* + descriptors: the agent's channel, the root directory, the image without the writable layer. */
struct stage_go {
	struct stage_hdr h;
	uint32_t deny_suid;
	uint32_t nofile;
};

/* Answer of the stage; + pidfd. err = errno of clone3, 0 = cloned. */
struct stage_cloned {
	struct stage_hdr h;
	uint32_t pid;
	int32_t err;
};

/* Answer of the child. err 0: it is confined and serves its channel. */
struct stage_ready {
	struct stage_hdr h;
	int32_t err;
	uint32_t code; /* enum brig_code */
	char step[192];
};

/* Serves jaild until its socket ends; returns the exit code. Arguments of the program: --stage, the
 * socket on descriptor 3; --stage-rootless where "root" is root of a user namespace only. */
int stage_main(int jaild, int rootless);
/* What the child does between clone and agent (rootfs.c, confine.c). Each returns 0 or -errno and
 * names the failing step in `step`. */
struct stage_fds {
	int own, userns, netns, timens; /* own: its socket, until it has entered */
	int mntns, utsns;               /* of a prepared child; the stage's */
	int chan;                       /* -1 = none */
	int runsc, agent;		/* gVisor tier only */
	int layer;                      /* the writable layer, for the agent (rootfs_prepare) */
	int base;                       /* what is below it, for the agent (rootfs_build); -1 = unknown */
	unsigned n_join, n_layers, n_volumes;
	int join[8];
	int layer_tree[JAIL_LAYERS_MAX]; /* the lowest first */
	int volume[JAIL_VOLUMES_MAX];
};
struct stage_step {
	char text[192];
};
int stage_fail(struct stage_step *st, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Template: called once in the stage. rootless: mknod is impossible, nodes are bound instead. */
int rootfs_template(int rootless, struct stage_step *st);
/* Child, first step: everything that the slot decides. */
int rootfs_prepare(const struct stage_clone *c, struct stage_fds *f, int rootless,
		   struct stage_step *st);
/* Second step, in the child or in its mount namespace: the rest of the root, moved over "/". The caller is
 * in it afterwards (its working directory), but not yet rooted there. */
int rootfs_build(const struct stage_enter *e, struct stage_fds *f, int rootless,
		 struct stage_step *st);
/* Makes the working directory the root. */
int rootfs_root(struct stage_step *st);

/*
 * Stages of confinement, in the order in which the child runs them.
 * confine_join:     Must run before any mount or allocation that is to be charged to the sandbox.
 * confine_hostname: Must run with the rights of the outer user namespace; in the child or for it.
 * confine_user:     Must run after the last mount that the child makes. Must not keep any capability
 *                   over the host.
 * confine_syscalls: Must come after it. From then on only what payload.seccomp allows is possible.
 * confine_files, confine_suid: when the request is known; they only take away.
 */
int confine_join(const struct stage_clone *c, const struct stage_fds *f, struct stage_step *st);
int confine_hostname(const struct jail_spec *p, struct stage_step *st);
int confine_user(const struct stage_clone *c, const struct stage_fds *f, struct stage_step *st);
int confine_syscalls(int deny_suid, struct stage_step *st);
/* .. in the gVisor tier: a mount namespace that belongs to the user namespace, and gvisor.seccomp. */
int confine_runsc(int deny_suid, struct stage_step *st);
int confine_files(uint32_t nofile, struct stage_step *st);
int confine_suid(struct stage_step *st);

#endif
