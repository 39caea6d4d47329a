/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h: what one sandbox may reach, and where brig-egress stands with it.
 *
 * The first policy holds before the first command starts: the agent's channel is held until brig-egress
 * has said that it applies. It travels while the sandbox is being made, so nobody waits for it.
 */
#ifndef BRIG_DAEMON_NETWORK_H
#define BRIG_DAEMON_NETWORK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "daemon/netask.h"
#include "daemon/stop.h"

struct conn;
struct sandbox;

struct netbox {
	struct sandbox *sb;
	struct net_ask ask;	/* as it is now */
	uint32_t lease;		/* 0 until jaild has told */
	uint64_t generation;	/* of ask; grows with each change */
	uint64_t applied;	/* what brig-egress has said last */
	unsigned peering;	/* answers of jaild about its networks that are still to come */
	uint64_t cut;		/* connections that the change under way has ended */
	struct conn *waiter;	/* asked for the change under way */
	json_t *former;		/* policy to go back to if it is refused */
	bool have_figures;
	struct egress_figures figures;
	struct stop_budget over; /* the budget that ended it */
};

/* A sandbox with the ask, which is moved in. NULL without memory. */
struct netbox *netbox_new(struct sandbox *sb, struct net_ask *ask);
void netbox_free(struct netbox *n); /* NULL is allowed */
/* The text of its policy, as egress_proto.h has it. 0 or -ENOMEM. */
int netbox_text(const struct netbox *n, struct buf *ret);
/* "none", "deny", "public". */
const char *netbox_mode(const struct netbox *n);

/* A sandbox of a former brigd: its netbox is made of its specification again. lease: as jaild told. */
int network_restore(struct sandbox *sb, uint32_t lease);
/* Notes a policy that was changed for the next brigd. */
void network_keep(struct sandbox *sb);
/* What was told to brig-egress and jaild may be in force now: whoever waits for that goes on. */
void network_settle(struct sandbox *sb);
/* The operation `network`: {"id","network":OBJECT,"add":bool}. Answered when the change is enforced. With
 * add the rules are added to those that hold, and what is not said stays. */
int network_serve(struct conn *c, struct sandbox *sb, json_t *req, struct brig_err *err);
/* The operation `denials`. */
int denials_serve(struct conn *c, struct sandbox *sb, struct brig_err *err);

#endif
