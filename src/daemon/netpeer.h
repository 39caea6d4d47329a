/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netpeer.h: private networks.
 *
 * A network is a name of a tenant: the sandboxes of that tenant that name it ("networks" of netask.h) reach
 * each other, over IPv4, by the name of the sandbox and the aliases that it has there. Nobody else reaches
 * them by it. That it exists before it is named is brig-api's to see to, which keeps its record.
 */
#ifndef BRIG_DAEMON_NETPEER_H
#define BRIG_DAEMON_NETPEER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

struct brigd;
struct sandbox;

/* Its lease has just been told; taken: by a jaild that may still hold what a former brigd asked of it. */
void netpeer_join(struct sandbox *sb, bool taken);
/* Another brig-jaild has taken over all sandboxes. */
void netpeer_again(struct brigd *d);
/* Its lease is about to be nobody's; jaild takes it out of the rules itself. */
void netpeer_leave(struct sandbox *sb);
/* Its policy has another list of networks than former. */
void netpeer_change(struct sandbox *sb, const json_t *former);
/* The lines of its policy's text for those that it reaches. 0 or -ENOMEM. */
int netpeer_hosts(const struct sandbox *sb, struct buf *ret);
/* [{"tenant","name","members":[{"id","name","aliases","address"}]}] */
json_t *netpeer_list(const struct brigd *d);

#endif
