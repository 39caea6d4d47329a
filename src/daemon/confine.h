/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine.h: how brigd gives up what it does not need, in stages. Each returns 0 or -1 with err,
 * and a stage that fails must end the process.
 */
#ifndef BRIG_DAEMON_CONFINE_H
#define BRIG_DAEMON_CONFINE_H

#include "base/err.h"

/* keep: descriptors that stay open beside 0 to 2; -1 entries are skipped. */
int confine_fds(const int *keep, unsigned n, struct brig_err *err);
int confine_limits(struct brig_err *err);
int confine_user(struct brig_err *err);
int confine_syscalls(struct brig_err *err);

#endif
