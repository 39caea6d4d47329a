/* SPDX-License-Identifier: Apache-2.0 */
/* tcp.h: connections of the host to servers inside the sandbox, by its loopback interface. */
#ifndef BRIG_AGENT_TCP_H
#define BRIG_AGENT_TCP_H

#include <stdint.h>

struct agent;
struct frame;

/* What the host may send ahead of the server, and the largest piece that is read from it. */
#define TCP_WINDOW (256u * 1024u)
#define TCP_PIECE (64u * 1024u)
/* A server whose queue of connections stays full for so long is told as ETIMEDOUT. */
#define TCP_CONNECT_MS 10000u

/* In struct agent. One buffer serves all, because one data frame is under way at a time. */
struct tcp_service {
	uint32_t n;
	uint8_t *piece;
};

/* The opener of TCP_CONNECT. */
int tcp_open(struct agent *a, const struct frame *f);

#endif
