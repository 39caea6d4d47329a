/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * What a connection says, against the policy: the order of egress_proto.h. Nothing is passed before
 * it is decided, and each later request on the same connection is judged as the first was: it may
 * only be for the same host, since the connection goes to that one's address.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/flow.h"

bool flow_granted(struct flow *f, const char *name, const struct net_addr *a, enum net_protect *ret)
{
	*ret = gw_protect(f->gw, a);
	return net_policy_grants(f->l->policy, name, a, f->port, *ret);
}

struct pin {
	struct flow *f;
	enum net_protect as;
};

static bool pinned(void *ctx, const char *name)
{
	struct pin *p = ctx;
	struct flow *f = p->f;
	if (!net_policy_unnamed(f->l->policy, name, &f->dst, f->port) ||
	    !net_policy_grants(f->l->policy, name, &f->dst, f->port, p->as))
		return true;
	strcpy(f->name, name);
	f->by = BY_PIN;
	return false;
}

/* What dst and port alone decide: 1., 3. and 4. of the contract. */
static void by_address(struct flow *f)
{
	enum net_protect as;
	bool granted = flow_granted(f, NULL, &f->dst, &as);
	struct net_verdict v = net_policy_judge(f->l->policy, NULL, &f->dst, f->port);
	f->by = BY_NOTHING;
	if (v.allowed && granted) {
		f->by = BY_ADDRESS;
		f->by_rule = v.rule != NULL;
	} else {
		struct pin p = { .f = f, .as = as };
		name_each(f->l, &f->dst, pinned, &p);
	}
}

void flow_first(struct flow *f)
{
	by_address(f);
	if (f->by == BY_NOTHING)
		return;
	if (f->by == BY_ADDRESS && !net_policy_names_matter(f->l->policy, f->port, true))
		flow_free(f);
	/* Otherwise nothing of the sandbox's passes yet; but a server that speaks first may be
	 * heard. */
	if (!f->refused && !f->over)
		flow_go_addr(f);
}

/* Nothing was said that could be a name. */
static bool unnamed(struct flow *f, enum egress_reason why)
{
	bool pin = f->by == BY_PIN && why != EGRESS_R_ECH;
	if (f->via[0])
		pin = why != EGRESS_R_ECH && f->up == UP_OPEN &&
		      net_policy_unnamed(f->l->policy, f->via, &f->to, f->port);
	if (f->by != BY_ADDRESS && !pin) {
		flow_refuse_as(f, why);
		return true;
	}
	if (f->http)
		return false; /* the caller goes on with the request */
	flow_free(f);
	return true;
}

/* A name was said; false: refused. */
static bool named(struct flow *f, const char *name)
{
	const struct net_policy *p = f->l->policy;
	struct net_verdict v;
	if (f->via[0] && strcmp(f->via, name) != 0) {
		strcpy(f->name, name);
		flow_refuse_as(f, EGRESS_R_MISMATCH);
		return false;
	}
	if (f->by == BY_ADDRESS && f->by_rule) {
		v = net_policy_judge(p, name, &f->dst, f->port);
		strcpy(f->name, name);
		if (!v.allowed)
			flow_refuse_verdict(f, &v);
		return v.allowed;
	}
	v = net_policy_judge(p, name, NULL, f->port);
	strcpy(f->name, name);
	if (!v.allowed) {
		flow_refuse_verdict(f, &v);
		return false;
	}
	f->by = BY_NAME;
	/* A way that was opened ahead is the right one if our resolver said so. */
	if (f->up != UP_NONE && (f->via[0] || name_pinned(f->l, name, &f->dst)))
		return true;
	flow_up_close(f);
	flow_go_name(f);
	return !f->refused && !f->over;
}

static bool look_tls(struct flow *f, bool eof)
{
	static uint8_t scratch[HELLO_BYTES_MAX];
	struct hello h;
	char name[NET_NAME_MAX];
	struct net_addr addr;
	enum hello_result r = hello_read(f->buf, f->len, scratch, &h);
	if (r == HELLO_MORE && !eof)
		return false;
	f->tls = true;
	if (r != HELLO_OK)
		flow_refuse_as(f, EGRESS_R_MALFORMED);
	else if (h.ech)
		return unnamed(f, EGRESS_R_ECH);
	else if (!h.sni)
		return unnamed(f, EGRESS_R_NO_NAME);
	else if (net_name_read(h.sni, h.sni_len, name, &addr) != NET_NAME_HOST)
		flow_refuse_as(f, EGRESS_R_MALFORMED);
	else if (named(f, name))
		flow_free(f);
	return true;
}

/* Both forms of a host in one request; NET_NAME_BAD: none of them can be judged. */
static enum net_name_kind host_of(const struct head *h, char name[NET_NAME_MAX],
				  struct net_addr *addr, bool *ret_differ)
{
	char other[NET_NAME_MAX];
	struct net_addr other_addr;
	const char *first = h->target ? h->target : h->host;
	size_t n = h->target ? h->target_len : h->host_len;
	enum net_name_kind kind = net_name_read(first, n, name, addr);
	*ret_differ = false;
	if (h->target && h->host) {
		enum net_name_kind k = net_name_read(h->host, h->host_len, other, &other_addr);
		if (k == NET_NAME_BAD)
			return k;
		*ret_differ = k != kind || (k == NET_NAME_HOST ? strcmp(name, other) != 0
							       : !net_addr_eq(addr, &other_addr));
	}
	return kind;
}

/* The request passes: its head, and then its body as it is framed. */
static void request_pass(struct flow *f, const struct head *h)
{
	if (!flow_charge(f))
		return;
	f->charged = true;
	f->ok += h->len;
	f->chunks = (struct head_chunks){ .state = 0 };
	f->left = h->length;
	f->out = h->upgrade			? OUT_ANSWER
		 : h->body == HEAD_BODY_LENGTH	? OUT_LENGTH
		 : h->body == HEAD_BODY_CHUNKED ? OUT_CHUNKS
						: OUT_HEAD;
	if (f->out == OUT_ANSWER && f->up == UP_OPEN)
		flow_answer_wait(f);
}

/* A target in the request itself: what a client sends that takes us for its proxy. */
static bool proxied(struct flow *f, const struct head *h, enum net_name_kind kind, const char *name,
		    const struct net_addr *addr)
{
	flow_up_close(f);
	f->port = h->target_port;
	f->by = BY_NOTHING;
	f->name[0] = '\0';
	if (kind == NET_NAME_HOST) {
		if (!named(f, name))
			return false;
		strcpy(f->via, name);
		return true;
	}
	f->dst = *addr;
	by_address(f);
	if (f->by != BY_ADDRESS) {
		flow_refuse_as(f, EGRESS_R_POLICY);
		return false;
	}
	flow_go_addr(f);
	return !f->refused && !f->over;
}

static bool first_request(struct flow *f, const struct head *h)
{
	char name[NET_NAME_MAX];
	struct net_addr addr;
	bool differ = false;
	if (!h->target && !h->host)
		return !unnamed(f, EGRESS_R_NO_NAME);
	enum net_name_kind kind = host_of(h, name, &addr, &differ);
	if (kind == NET_NAME_HOST)
		snprintf(f->name, sizeof(f->name), "%s", name);
	if (kind == NET_NAME_BAD)
		flow_refuse_as(f, EGRESS_R_MALFORMED);
	else if (differ)
		flow_refuse_as(f, EGRESS_R_MISMATCH);
	else if (h->upgrade && !h->websocket)
		flow_refuse_as(f, EGRESS_R_UPGRADE);
	else if (h->connect && f->via[0])
		flow_refuse_as(f, EGRESS_R_MALFORMED); /* a tunnel in a tunnel */
	else if (h->target && !f->via[0])
		return proxied(f, h, kind, name, &addr);
	else if (h->absolute && h->target_port != f->port)
		flow_refuse_as(f, EGRESS_R_MISMATCH);
	else if (kind == NET_NAME_HOST)
		return named(f, name);
	else if (!net_addr_eq(&addr, &f->dst))
		flow_refuse_as(f, EGRESS_R_MISMATCH);
	else
		return !unnamed(f, EGRESS_R_NO_NAME);
	return false;
}

static bool look_http(struct flow *f, const struct head *h)
{
	f->http = true;
	if (!first_request(f, h))
		return true;
	if (!h->connect) {
		request_pass(f, h);
		return true;
	}
	if (!flow_charge(f))
		return true;
	f->charged = true;
	/* What is in the tunnel is looked at as if it had come by itself. */
	f->connect = true;
	f->len -= h->len;
	memmove(f->buf, f->buf + h->len, f->len);
	if (f->up == UP_OPEN)
		flow_opened(f);
	return true;
}

bool flow_look(struct flow *f, bool eof)
{
	struct head h;
	/* Until the way of a CONNECT is open, its answer is owed. */
	if (f->connect && f->http)
		return false;
	if (f->len == 0)
		return false;
	if (f->buf[0] == 22)
		return look_tls(f, eof);
	switch (head_read(f->buf, f->len, &h)) {
	case HEAD_MORE:
		return eof && unnamed(f, EGRESS_R_NO_NAME);
	case HEAD_OTHER:
		unnamed(f, EGRESS_R_NO_NAME);
		return true;
	case HEAD_BAD:
		f->http = true;
		flow_refuse_as(f, EGRESS_R_MALFORMED);
		return true;
	default:
		return look_http(f, &h);
	}
}

bool flow_head(struct flow *f, bool eof)
{
	struct head h;
	char name[NET_NAME_MAX];
	struct net_addr addr;
	bool differ = false;
	(void)eof;
	enum head_result r = head_read(f->buf + f->ok, f->len - f->ok, &h);
	if (r == HEAD_MORE)
		return false;
	if (r != HEAD_OK || h.connect || (!h.target && !h.host && f->name[0])) {
		flow_refuse_as(f, EGRESS_R_MALFORMED);
		return true;
	}
	if (h.target || h.host) {
		enum net_name_kind kind = host_of(&h, name, &addr, &differ);
		bool same = kind == NET_NAME_HOST ? strcmp(name, f->name) == 0
						  : kind == NET_NAME_ADDR && !f->name[0] &&
							    net_addr_eq(&addr, &f->dst);
		if (differ || !same || (h.absolute && h.target_port != f->port)) {
			flow_refuse_as(f, EGRESS_R_MISMATCH);
			return true;
		}
	}
	if (h.upgrade && !h.websocket)
		flow_refuse_as(f, EGRESS_R_UPGRADE);
	else
		request_pass(f, &h);
	return true;
}

bool flow_still(struct flow *f)
{
	const struct net_policy *p = f->l->policy;
	enum net_protect as;
	const char *name = f->name[0] ? f->name : NULL;
	switch (f->by) {
	case BY_ADDRESS:
		return net_policy_judge(p, name, &f->dst, f->port).allowed &&
		       flow_granted(f, NULL, &f->dst, &as) &&
		       (name || f->out != OUT_FREE || !net_policy_names_matter(p, f->port, true));
	case BY_NAME:
		if (f->up < UP_CONNECTING)
			return net_policy_judge(p, name, NULL, f->port).allowed;
		return net_policy_judge(p, name, &f->to, f->port).allowed &&
		       flow_granted(f, name, &f->to, &as);
	case BY_PIN:
		return net_policy_unnamed(p, name, &f->to, f->port) &&
		       flow_granted(f, name, &f->to, &as);
	default:
		return true;
	}
}
