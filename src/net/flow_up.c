/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The way to a destination. A name's addresses come from our resolver, and each is checked again
 * here, right before the connection: what was public when it was asked for may be the metadata
 * service now. Addresses of the family that the sandbox used come first.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "net/flow.h"

static void go_on(void *ctx)
{
	struct flow *f = ctx;
	f->up = UP_NONE;
	flow_go_name(f);
	flow_arm(f);
	flow_step(f);
}

/* The addresses of an entry that may be tried; *v is why another may not. */
static void tries_add(struct flow *f, const struct name_entry *e, struct net_verdict *v,
		      struct net_addr *ret_bad)
{
	for (unsigned i = 0; i < e->naddrs; i++) {
		enum net_protect as;
		struct net_verdict one =
			net_policy_judge(f->l->policy, f->name, &e->addrs[i], f->port);
		if (one.allowed && !flow_granted(f, f->name, &e->addrs[i], &as)) {
			one.allowed = false;
			one.reason = EGRESS_R_PROTECTED;
			one.protects = as;
			one.rule = NULL;
		}
		if (one.allowed) {
			f->tries[f->ntries++] = e->addrs[i];
		} else {
			*v = one;
			*ret_bad = e->addrs[i];
		}
	}
}

void flow_go_name(struct flow *f)
{
	struct denial d = { .reason = EGRESS_R__N };
	struct net_verdict v = { .reason = EGRESS_R_UNRESOLVED };
	struct net_addr bad = { .b = { 0 } };
	f->ntries = f->try = 0;
	f->wait.fn = go_on;
	f->wait.ctx = f;
	for (unsigned round = f->other_family; round < 2 && !f->ntries; round++) {
		bool v4 = net_addr_is_v4(&f->dst) != (round == 1);
		f->other_family = round == 1;
		struct name_entry *e = name_get(f->l, f->name, v4 ? DNS_A : DNS_AAAA, &f->wait, &d);
		if (!e && d.reason == EGRESS_R__N) {
			f->up = UP_RESOLVING;
			return;
		}
		if (!e) {
			flow_refuse(f, &d);
			return;
		}
		if (e->via_denied)
			v.reason = EGRESS_R_RULE;
		else if (e->state == NAME_FOUND)
			tries_add(f, e, &v, &bad);
	}
	if (!f->ntries && f->tried) {
		flow_fail(f, "no address answers");
		return;
	}
	if (!f->ntries) {
		d = (struct denial){ .reason = v.reason, .rule = v.rule, .protects = v.protects };
		if (!net_addr_is_zero(&bad))
			d.addr = &bad;
		flow_refuse(f, &d);
		return;
	}
	flow_connect_next(f, "");
}

void flow_go_addr(struct flow *f)
{
	f->tries[0] = f->dst;
	f->ntries = 1;
	f->try = 0;
	flow_connect_next(f, "");
}

void flow_connect_next(struct flow *f, const char *why)
{
	const int one = 1;
	while (f->try < f->ntries) {
		struct sockaddr_storage to;
		ev_io_del(&f->gw->ev, &f->uio);
		f->uev = 0;
		fd_close(&f->ufd);
		f->to = f->tries[f->try++];
		socklen_t n = net_addr_to_sockaddr(&f->to, f->port, &to);
		f->ufd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (f->ufd < 0) {
			why = strerror(errno);
			continue;
		}
		setsockopt(f->ufd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (connect(f->ufd, (struct sockaddr *)&to, n) == 0 || errno == EINPROGRESS) {
			/* Even one that is open at once is told by the loop. */
			f->up = UP_CONNECTING;
			f->tried = clock_now();
			flow_arm(f);
			return;
		}
		why = strerror(errno);
	}
	if (f->by == BY_NAME && !f->other_family) {
		f->other_family = true;
		flow_go_name(f);
		return;
	}
	flow_fail(f, why);
}

void flow_answer_wait(struct flow *f)
{
	const int line = 12;
	setsockopt(f->ufd, SOL_SOCKET, SO_RCVLOWAT, &line, sizeof(line));
}

void flow_connected(struct flow *f)
{
	int e = 0;
	socklen_t n = sizeof(e);
	if (getsockopt(f->ufd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
		e = errno;
	if (e) {
		flow_connect_next(f, strerror(e));
		return;
	}
	f->up = UP_OPEN;
	f->last = clock_now();
	fd_keepalive(f->ufd);
	fd_keepalive(f->cfd);
	if (f->out == OUT_ANSWER)
		flow_answer_wait(f);
	if (f->connect && f->http)
		flow_opened(f);
	flow_arm(f);
}

void flow_opened(struct flow *f)
{
	static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	/* The first bytes on this socket: there is room for them. */
	if (send(f->cfd, yes, sizeof(yes) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(yes) - 1)
		flow_close(f, true);
	f->http = false;
	if (f->by == BY_ADDRESS && !net_policy_names_matter(f->l->policy, f->port, true))
		flow_free(f);
}
