/* SPDX-License-Identifier: Apache-2.0 */
/* control.h: whether a datagram is a request of egress_proto.h. Pure. */
#ifndef BRIG_NET_CONTROL_H
#define BRIG_NET_CONTROL_H

#include <stddef.h>

#include "base/err.h"

/* n bytes at p, aligned as a struct; the text of a policy is not parsed here. */
int control_check(const void *p, size_t n, struct brig_err *err);

#endif
