/* SPDX-License-Identifier: Apache-2.0 */
/* tcprelay.h: the connect operation: one client connection, one connection to a port of a sandbox.
 */
#ifndef BRIG_DAEMON_TCPRELAY_H
#define BRIG_DAEMON_TCPRELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/agent_proto.h"
#include "daemon/conn.h"

/* The agent may be this far ahead of the client. */
#define TCP_AHEAD (1024u * 1024u)
/* An agent that has not said by then whether there is a connection is given up. Longer than its own
 * deadline (agent/tcp.h). */
#define TCP_OPEN_MS 15000u

struct sandbox;

/* Whose a channel stream to a port is: its owner begins with one. */
struct tcp_end;
struct tcp_end_ops {
	void (*opened)(struct tcp_end *e, const struct brig_tcp_opened *m);
	void (*data)(struct tcp_end *e, const uint8_t *p, size_t n, bool eof);
	void (*credit)(struct tcp_end *e);
	/* Behind it, and behind opened with an error, the stream is the channel's. */
	void (*done)(struct tcp_end *e, int err);
};
struct tcp_end {
	const struct tcp_end_ops *ops;
};

/* Answers when the agent has connected, and relays until one side ends. */
int tcp_serve(struct conn *c, struct sandbox *sb, uint16_t port, struct brig_err *err);
/* The sandbox goes away: err is the last word to the client. */
void tcp_break(struct conn *c, const struct brig_err *err);
/* The channel's queue has room again. */
void tcp_drained(struct conn *c);

#endif
