/* SPDX-License-Identifier: Apache-2.0 */
/* receipt.h: the operation "receipt": what really holds for a sandbox, as brig-jaild measured it. */
#ifndef BRIG_DAEMON_RECEIPT_H
#define BRIG_DAEMON_RECEIPT_H

#include <jansson.h>

#include "base/err.h"
#include "brig/jail_proto.h"
#include "daemon/conn.h"

struct sandbox;

/* Asks jaild; c is answered when it has told. -1 with err: nothing was asked. */
int receipt_serve(struct conn *c, struct sandbox *sb, struct brig_err *err);
/* A sandbox was not what was specified: told to the audit log. It is, or is being, destroyed. */
void receipt_mismatch(struct sandbox *sb, const char *what);
/* The measured part of a receipt; strings in *m end. image: what its maker calls it. New reference. */
json_t *receipt_json(const struct jail_receipt *m, const char *tier, const char *image);

#endif
