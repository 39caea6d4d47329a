/* SPDX-License-Identifier: Apache-2.0 */
/* statsop.h: the stats operation: figures of one sandbox or of all, asked of jaild at once. */
#ifndef BRIG_DAEMON_STATSOP_H
#define BRIG_DAEMON_STATSOP_H

#include "base/err.h"
#include "daemon/conn.h"

struct sandbox;
/* sb NULL: all that live. Answers when the last figures have come. */
int stats_serve(struct conn *c, struct sandbox *sb, struct brig_err *err);

#endif
