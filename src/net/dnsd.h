/* SPDX-License-Identifier: Apache-2.0 */
/* dnsd.h: the name service of sandboxes: what its UDP and TCP sides share. */
#ifndef BRIG_NET_DNSD_H
#define BRIG_NET_DNSD_H

#include "net/gw.h"

/* Where an answer goes. */
struct dns_way {
	int udp; /* 0, 1: index of udp_fd; -1: conn */
	struct dns_conn *conn;
	struct sockaddr_storage peer;
	socklen_t peer_len;
	struct net_addr at; /* the address that was asked: the answer comes from there */
	unsigned scope;	    /* of it, on the link that it came by */
	uint16_t source_port;
};

/* A message of a sandbox; it is answered at once, or later, or never. False: it was no question. */
bool dnsd_question(struct net_lease *l, const struct dns_way *w, const uint8_t *p, size_t n);
/* Forgets the questions of a connection. */
void dnsd_drop(struct net_lease *l, const struct dns_conn *c);

/* ---- dnsd_tcp.c ---- */
/* n bytes of an answer, which begins at out[2]: its length is put in front. */
void dnsd_tcp_send(struct dns_conn *c, uint8_t *out, size_t n);
/* Nothing more is taken from c before its answer. */
void dnsd_tcp_wait(struct dns_conn *c);
/* What has come and was not yet asked. */
void dnsd_tcp_more(struct dns_conn *c);
void dnsd_tcp_forget(struct net_lease *l);

#endif
