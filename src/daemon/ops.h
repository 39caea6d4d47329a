/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h: the operations of client_proto.h. */
#ifndef BRIG_DAEMON_OPS_H
#define BRIG_DAEMON_OPS_H

#include <stddef.h>

#include "daemon/conn.h"

/* One whole REQ of c (phase WAIT), with the descriptors in c->fds; what is not stolen is closed by
 * the caller. Answers at once, or gives the connection a role. */
void ops_request(struct conn *c, const void *text, size_t n);

#endif
