/* SPDX-License-Identifier: Apache-2.0 */
/*
 * egress.h: brigd's end of egress_proto.h.
 *
 * brig-egress may end and be started again by the supervisor behind the same socket: its READY is the
 * sign to tell it everything. Until the first READY nothing is sent.
 */
#ifndef BRIG_DAEMON_EGRESS_H
#define BRIG_DAEMON_EGRESS_H

#include <stdbool.h>

#include "base/ev.h"

struct brigd;
struct sandbox;
struct egress_queued;

#define EGRESS_QUEUE_MAX 8192u

struct egress_link {
	int fd; /* -1 = this server has no networks */
	struct ev_io io;
	bool ready;
	uint32_t seq;
	unsigned nqueued;
	struct egress_queued *queue, **queue_end;
	int packets; /* of jaild: refused packets; -1 */
	struct ev_io packets_io;
};

/* Takes over fd. */
int egress_init(struct brigd *d, int fd);
/* Takes over the log of refused packets. */
int egress_packets(struct brigd *d, int fd);
void egress_done(struct brigd *d);
/* Tells the lease and policy of a sandbox with a link, as soon as all three are known. */
void egress_tell(struct sandbox *sb);
/* It ends: everything is cut. */
void egress_remove(struct sandbox *sb);
/* Reads what has come, without waiting: before it is said what was refused. */
void egress_drain(struct brigd *d);

#endif
