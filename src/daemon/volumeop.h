/* SPDX-License-Identifier: Apache-2.0 */
/* volumeop.h: the volume operation: makes, copies, removes and measures volumes of the store, by id. Names,
 * tenants and quotas are brig-api's. */
#ifndef BRIG_DAEMON_VOLUMEOP_H
#define BRIG_DAEMON_VOLUMEOP_H

#include "base/err.h"
#include "daemon/conn.h"

/* Answers when brig-jaild has. */
int volume_serve(struct conn *c, json_t *req, struct brig_err *err);

#endif
