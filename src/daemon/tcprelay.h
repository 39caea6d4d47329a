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
struct tcp_relay; /* owner of a channel stream */

/* Answers when the agent has connected, and relays until one side ends. */
int tcp_serve(struct conn *c, struct sandbox *sb, uint16_t port, struct brig_err *err);
/* The sandbox goes away: err is the last word to the client. */
void tcp_break(struct conn *c, const struct brig_err *err);
/* The channel's queue has room again. */
void tcp_drained(struct conn *c);

void tcp_on_opened(struct tcp_relay *r, const struct brig_tcp_opened *m);
void tcp_on_data(struct tcp_relay *r, const uint8_t *p, size_t n, bool eof);
void tcp_on_credit(struct tcp_relay *r);
void tcp_on_done(struct tcp_relay *r, int err);

#endif
