/* SPDX-License-Identifier: Apache-2.0 */
/* query.h: one name, asked of the host's resolvers until there is an answer. */
#ifndef BRIG_NET_QUERY_H
#define BRIG_NET_QUERY_H

#include "net/gw.h"

#define QUERIES_MAX 1024u

struct name_query;

/* Called once, never from query_new. r is the last reply, whose `via` has every name of the last
 * leg only; judge is asked for each name that the chain goes through and false ends it (denied). */
typedef void (*query_fn)(void *ctx, enum name_state state, const struct dns_reply *r);
struct name_query *query_new(struct gw *g, const char *name, uint16_t type,
			     bool (*judge)(void *ctx, const char *via), query_fn done, void *ctx);
/* Without calling anything. */
void query_cancel(struct name_query *q);

#endif
