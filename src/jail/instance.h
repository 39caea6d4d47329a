/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance.h: one running jaild, as the rest of the host can see it.
 *
 * <run>/inst-<name> is a file locked by flock for as long as the instance lives. The name is also that
 * of its directory in every cgroup tree. An unlocked file is a dead instance: whatever carries its name
 * is stale and may be removed by anybody who takes the lock.
 */
#ifndef BRIG_JAIL_INSTANCE_H
#define BRIG_JAIL_INSTANCE_H

#include "base/err.h"

#define INSTANCE_PREFIX "inst-"
#define INSTANCE_NAME_LEN 12

/* Set by a rootless jaild for itself before it becomes uid 0 of its user namespace. */
#define INSTANCE_ENV_ROOTLESS "BRIG_ROOTLESS_RUN"

struct instance {
	int run;  /* directory descriptor of the run directory */
	int lock; /* held */
	char name[INSTANCE_NAME_LEN + 1];
};

/*
 * Where instances and leases are recorded. As root always /run/brig: ids and cgroups are shared by
 * the whole host, and so must be the record of who holds them ($BRIG_RUN moves only the server's
 * socket and log). Otherwise $BRIG_RUN, $XDG_RUNTIME_DIR/brig or /tmp/brig-<uid>. Made with mode 0711
 * (root) or 0700, checked to be ours. Descriptor or -1 with err.
 */
int instance_run_dir(char *ret_path, size_t cap, struct brig_err *err);
int instance_begin(struct instance *in, struct brig_err *err);
/* That of a jaild that was killed: its lock, which is taken over, is held still. */
int instance_resume(struct instance *in, const char *name, int lock, struct brig_err *err);
void instance_end(struct instance *in);
/* 1: `name` lives, 0: it is dead or unknown. Takes no lasting lock. */
int instance_alive(int run, const char *name);

#endif
