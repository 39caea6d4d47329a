/* SPDX-License-Identifier: Apache-2.0 */
/* rootless.h: becoming root of an own user namespace when started by an ordinary user. */
#ifndef BRIG_JAIL_ROOTLESS_H
#define BRIG_JAIL_ROOTLESS_H

#include <stdint.h>

#include "base/err.h"

/* How many subordinate ids the calling user has (the smaller of subuid and subgid), 0 = none. */
uint32_t rootless_sub_ids(void);

/*
 * Continues in a child that is uid 0 of a new user namespace: the user's own id as 0 and, with
 * newuidmap and newgidmap (package uidmap), the subordinate ids from 1 on. Returns in the child with
 * *ret_sub set; the parent waits for the child and exits with its code. -1 with err in the caller if
 * no user namespace can be made.
 */
int rootless_enter(uint32_t *ret_sub, struct brig_err *err);

#endif
