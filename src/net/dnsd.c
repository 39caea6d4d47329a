/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Sandboxes ask here, whatever server they name. Only A and AAAA of allowed names are looked up,
 * and an answer has nothing but addresses that may be connected to: no chain of names, no other
 * type, so that neither an encrypted ClientHello's keys nor text of a stranger comes this way.
 * Every other type of an allowed name is answered as having no records.
 *
 * AAAA has no records where this host has no way over IPv6: the gateway accepts before it connects,
 * so that a sandbox would take the reset behind it for the server's, and try no other address.
 *
 * A name that is not allowed does not exist (NXDOMAIN): REFUSED would have programs ask again, and
 * wait. An extended error (RFC 8914) says why, where the question allows it. Too many questions get
 * no answer.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "net/dnsd.h"

#define ASKS_MAX 64u /* of one sandbox that wait for a resolver */
#define ROUND_MAX 64u
#define HOST_TTL 1u /* s; who is there changes */

struct dns_ask {
	struct dns_ask *next, **pprev;
	struct net_lease *l;
	struct name_wait wait;
	struct dns_way way;
	struct dns_question q;
	uint8_t bytes[DNS_QUESTION_MAX];
};

static void ask_end(struct dns_ask *a)
{
	name_unwait(&a->wait);
	*a->pprev = a->next;
	if (a->next)
		a->next->pprev = a->pprev;
	a->l->nasks--;
	free(a);
}

void dnsd_drop(struct net_lease *l, const struct dns_conn *c)
{
	for (struct dns_ask *a = l->asks, *next; a; a = next) {
		next = a->next;
		if (a->way.conn == c)
			ask_end(a);
	}
}

/* From the address that was asked; a socket that is bound to all of them would choose another. */
static void send_udp(struct gw *g, const struct dns_way *w, const uint8_t *p, size_t n)
{
	union {
		char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
		struct cmsghdr align;
	} ctl = { .space = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct sockaddr_storage peer = w->peer;
	struct msghdr m = { .msg_name = &peer,
			    .msg_namelen = w->peer_len,
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl.space };
	struct cmsghdr *c = &ctl.align;
	if (net_addr_is_v4(&w->at)) {
		struct in_pktinfo info = { .ipi_ifindex = 0 };
		memcpy(&info.ipi_spec_dst, w->at.b + 12, 4);
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)),
				       .cmsg_level = IPPROTO_IP,
				       .cmsg_type = IP_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		m.msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		struct in6_pktinfo info = { .ipi6_ifindex = w->scope };
		memcpy(&info.ipi6_addr, w->at.b, 16);
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)),
				       .cmsg_level = IPPROTO_IPV6,
				       .cmsg_type = IPV6_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		m.msg_controllen = CMSG_SPACE(sizeof(info));
	}
	/* No room: the sandbox asks again. */
	(void)sendmsg(g->udp_fd[w->udp], &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void answer(struct gw *g, const struct dns_way *w, const uint8_t *question,
		   const struct dns_question *q, unsigned rcode, const struct net_addr *addrs,
		   unsigned n, uint32_t ttl, const char *text)
{
	uint8_t out[2 + 512];
	size_t len = dns_answer_write(question, q, rcode, addrs, n, ttl, text, out + 2);
	if (w->udp >= 0) {
		send_udp(g, w, out + 2, len);
		return;
	}
	dnsd_tcp_send(w->conn, out, len);
}

static void refuse(struct net_lease *l, const struct dns_way *w, const uint8_t *question,
		   const struct dns_question *q, struct denial *d, unsigned rcode)
{
	char allow[EGRESS_RULE_MAX], text[DNS_TEXT_MAX];
	d->proto = EGRESS_P_DNS;
	d->name = q->name;
	d->qtype = q->type;
	d->source_port = w->source_port;
	deny(l->gw, l, d, allow);
	snprintf(text, sizeof(text), "brig: %s%s%.150s", reason_text(d->reason),
		 allow[0] ? "; " : "", allow);
	answer(l->gw, w, question, q, rcode, NULL, 0, 0, text);
}

/* Of a network that it shares with others: true, it is answered. They have addresses of IPv4 only. */
static bool told(struct net_lease *l, const struct dns_way *w, const uint8_t *question, const struct dns_question *q)
{
	struct net_addr addrs[DNS_ADDRS_MAX];
	unsigned n = net_policy_hosts(l->policy, q->name, addrs, DNS_ADDRS_MAX);
	if (n)
		answer(l->gw, w, question, q, DNS_OK, addrs, q->type == DNS_A ? n : 0, HOST_TTL, NULL);
	return n > 0;
}

/* False: it is refused, and answered. */
static bool allowed(struct net_lease *l, const struct dns_way *w, const uint8_t *question,
		    const struct dns_question *q)
{
	struct net_verdict v = net_policy_resolves(l->policy, q->name);
	struct denial d = { .reason = v.reason, .rule = v.rule };
	if (!v.allowed)
		refuse(l, w, question, q, &d, DNS_NXDOMAIN);
	return v.allowed;
}

static void found(struct net_lease *l, const struct dns_way *w, const uint8_t *question,
		  const struct dns_question *q, const struct name_entry *e)
{
	struct net_addr good[DNS_ADDRS_MAX];
	struct denial d = { .reason = EGRESS_R__N };
	unsigned n = 0;
	uint64_t now = clock_now();
	if (e->via_denied) {
		d.reason = EGRESS_R_RULE;
		refuse(l, w, question, q, &d, DNS_NXDOMAIN);
		return;
	}
	if (e->state != NAME_FOUND) {
		answer(l->gw, w, question, q,
		       e->state == NAME_FAILED ? DNS_SERVFAIL
		       : e->nx		       ? DNS_NXDOMAIN
					       : DNS_OK,
		       NULL, 0, 0, NULL);
		return;
	}
	for (unsigned i = 0; i < e->naddrs; i++) {
		enum net_protect as = gw_protect(l->gw, &e->addrs[i]);
		if (net_policy_grants_any_port(l->policy, q->name, &e->addrs[i], as)) {
			good[n++] = e->addrs[i];
		} else {
			d.reason = EGRESS_R_PROTECTED;
			d.addr = &e->addrs[i];
			d.protects = as;
		}
	}
	if (n == 0) {
		refuse(l, w, question, q, &d, DNS_NXDOMAIN);
		return;
	}
	uint32_t ttl = now < e->expires ? (uint32_t)((e->expires - now) / SEC_NS) : 0;
	answer(l->gw, w, question, q, DNS_OK, good, n, ttl ? ttl : 1, NULL);
}

static void ready(void *ctx)
{
	struct dns_ask *a = ctx;
	struct net_lease *l = a->l;
	struct dns_conn *c = a->way.conn;
	struct denial d;
	/* The policy may be another one by now. */
	if (allowed(l, &a->way, a->bytes, &a->q)) {
		struct name_entry *e = name_get(l, a->q.name, a->q.type, &a->wait, &d);
		if (!e && d.reason == EGRESS_R__N)
			return;
		if (e)
			found(l, &a->way, a->bytes, &a->q, e);
		else
			refuse(l, &a->way, a->bytes, &a->q, &d, DNS_SERVFAIL);
	}
	ask_end(a);
	if (c)
		dnsd_tcp_more(c);
}

static void look_up(struct net_lease *l, const struct dns_way *w, const uint8_t *p,
		    const struct dns_question *q)
{
	struct denial d = { .reason = EGRESS_R_RATE };
	struct dns_ask *a = l->nasks < ASKS_MAX ? calloc(1, sizeof(*a)) : NULL;
	if (!a) {
		refuse(l, w, p, q, &d, DNS_SERVFAIL);
		return;
	}
	a->l = l;
	a->way = *w;
	a->q = *q;
	memcpy(a->bytes, p, q->len);
	a->wait.fn = ready;
	a->wait.ctx = a;
	a->next = l->asks;
	a->pprev = &l->asks;
	if (a->next)
		a->next->pprev = &a->next;
	l->asks = a;
	l->nasks++;
	struct name_entry *e = name_get(l, q->name, q->type, &a->wait, &d);
	if (!e && d.reason == EGRESS_R__N) {
		if (w->conn)
			dnsd_tcp_wait(w->conn);
		return;
	}
	if (e)
		found(l, w, p, q, e);
	else
		refuse(l, w, p, q, &d, d.reason == EGRESS_R_RATE ? DNS_SERVFAIL : DNS_NXDOMAIN);
	ask_end(a);
}

bool dnsd_question(struct net_lease *l, const struct dns_way *w, const uint8_t *p, size_t n)
{
	struct dns_question q;
	unsigned rcode = DNS_FORMERR;
	uint64_t now = clock_now();
	struct denial d = { .reason = EGRESS_R_RATE, .proto = EGRESS_P_DNS };
	if (!bucket_level(&l->questions, now, 1)) {
		deny(l->gw, l, &d, NULL);
		return false;
	}
	bucket_take(&l->questions, 1);
	switch (dns_question_read(p, n, &q, &rcode)) {
	case DNS_IGNORE:
		return false;
	case DNS_WRONG:
		answer(l->gw, w, p, &q, rcode, NULL, 0, 0, NULL);
		return true;
	default:
		break;
	}
	log_line(&l->gw->log, LOG_DEBUG, l->id, "asked for '%s' type %u", q.name, q.type);
	d.reason = EGRESS_R_MALFORMED;
	if (q.class != 1)
		answer(l->gw, w, p, &q, DNS_REFUSED, NULL, 0, 0, NULL);
	else if (!q.name[0])
		refuse(l, w, p, &q, &d, DNS_NXDOMAIN);
	else if (told(l, w, p, &q) || !allowed(l, w, p, &q))
		return true;
	else if ((q.type == DNS_A && !net_addr_is_zero(&l->v4)) ||
		 (q.type == DNS_AAAA && !net_addr_is_zero(&l->v6) && gw_has_six(l->gw)))
		look_up(l, w, p, &q);
	else
		answer(l->gw, w, p, &q, DNS_OK, NULL, 0, 0, NULL);
	return true;
}

/* ---- UDP ---- */

static bool datagram(struct gw *g, int which)
{
	static uint8_t in[DNS_QUESTION_MAX + 1];
	union {
		char space[256];
		struct cmsghdr align;
	} ctl;
	struct dns_way w = { .udp = which };
	struct iovec iov = { .iov_base = in, .iov_len = sizeof(in) };
	struct msghdr m = { .msg_name = &w.peer,
			    .msg_namelen = sizeof(w.peer),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl.space,
			    .msg_controllen = sizeof(ctl) };
	struct net_addr source;
	ssize_t n = recvmsg(g->udp_fd[which], &m, MSG_DONTWAIT);
	if (n < 0)
		return false;
	w.peer_len = m.msg_namelen;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			w.at = net_addr_v4((const uint8_t *)&info.ipi_spec_dst);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			w.at = net_addr_v6((const uint8_t *)&info.ipi6_addr);
			w.scope = (unsigned)info.ipi6_ifindex;
		}
	}
	if (!net_addr_from_sockaddr(&w.peer, &source, &w.source_port) ||
	    n > (ssize_t)DNS_QUESTION_MAX)
		return true;
	struct net_lease *l = lease_of(g, &source);
	struct denial d = { .reason = EGRESS_R_UNKNOWN,
			    .proto = EGRESS_P_DNS,
			    .addr = &source,
			    .source_port = w.source_port };
	if (l)
		(void)dnsd_question(l, &w, in, (size_t)n);
	else
		deny(g, NULL, &d, NULL);
	return true;
}

static void udp_event4(void *ctx, uint32_t events)
{
	(void)events;
	for (unsigned i = 0; i < ROUND_MAX && datagram(ctx, 0); i++)
		continue;
}

static void udp_event6(void *ctx, uint32_t events)
{
	(void)events;
	for (unsigned i = 0; i < ROUND_MAX && datagram(ctx, 1); i++)
		continue;
}

int dnsd_open(struct gw *g, struct brig_err *err)
{
	const int one = 1;
	for (int i = 0; i < 2; i++) {
		int fd = g->udp_fd[i];
		if (fd < 0)
			continue;
		int r = fd_set_nonblock(fd, 1);
		if (r == 0 && (i ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one))
				 : setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one))) < 0)
			r = -errno;
		if (r == 0)
			r = ev_io_add(&g->ev, fd, EPOLLIN, i ? udp_event6 : udp_event4, g,
				      &g->udp_io[i]);
		if (r < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -r, "the gateway's name service");
	}
	return 0;
}

void dnsd_done(struct gw *g)
{
	for (int i = 0; i < 2; i++)
		ev_io_del(&g->ev, &g->udp_io[i]);
}

void dnsd_forget(struct net_lease *l)
{
	dnsd_tcp_forget(l);
	while (l->asks)
		ask_end(l->asks);
}
