/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine.h: how brigd and brig-api give up what they do not need, in stages. Each returns 0 or -1 with
 * err, and a stage that fails must end the process.
 */
#ifndef BRIG_DAEMON_CONFINE_H
#define BRIG_DAEMON_CONFINE_H

#include <linux/filter.h>
#include <stddef.h>

#include "base/err.h"

/* keep: descriptors that stay open beside 0 to 2; -1 entries are skipped. */
int confine_fds(const int *keep, unsigned n, struct brig_err *err);
int confine_limits(struct brig_err *err);
/* id: user and group to become when started as root. */
int confine_user(unsigned id, struct brig_err *err);
/* filter: n instructions, as gen_seccomp makes them. */
int confine_syscalls(const struct sock_filter *filter, size_t n, struct brig_err *err);

#endif
