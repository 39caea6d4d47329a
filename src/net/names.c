/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each lease has its own table of names: what another sandbox asked is not to be found out by how
 * fast an answer comes, and what was told to one pins addresses for that one only. An entry is
 * fresh for as long as its records allow, between TTL_MIN and TTL_MAX; after that its addresses
 * stay pinned, and so do those of the answer before, because a program may use an address some time
 * after it asked. The entry that was used least recently makes room.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/query.h"

#define NAMES_MAX 256u
#define TTL_MIN 5u
#define TTL_MAX 300u
#define TTL_NONE 5u /* of a name without addresses, or a resolver that failed */

static void wait_end(struct name_wait *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	w->pprev = NULL;
}

void name_unwait(struct name_wait *w)
{
	if (w->pprev)
		wait_end(w);
}

static void wait_begin(struct name_entry *e, struct name_wait *w)
{
	w->next = e->waits;
	w->pprev = &e->waits;
	if (w->next)
		w->next->pprev = &w->next;
	e->waits = w;
}

static bool judge(void *ctx, const char *via)
{
	struct name_entry *e = ctx;
	struct net_verdict v = net_policy_resolves(e->l->policy, via);
	e->via_denied = !v.allowed && v.reason == EGRESS_R_RULE;
	return !e->via_denied;
}

static void found(void *ctx, enum name_state state, const struct dns_reply *r)
{
	struct name_entry *e = ctx;
	uint32_t ttl = state == NAME_FOUND ? r->ttl : TTL_NONE;
	ttl = ttl < TTL_MIN ? TTL_MIN : ttl > TTL_MAX ? TTL_MAX : ttl;
	e->query = NULL;
	e->state = state;
	e->nx = r && r->rcode == DNS_NXDOMAIN;
	e->used = clock_now();
	e->expires = e->used + ttl * SEC_NS;
	if (state == NAME_FOUND) {
		memcpy(e->old, e->addrs, sizeof(e->old));
		e->nold = e->naddrs;
		memcpy(e->addrs, r->addrs, sizeof(e->addrs));
		e->naddrs = r->naddrs;
	}
	/* One by one from the front: a waiter may take away others. */
	while (e->waits) {
		struct name_wait *w = e->waits;
		wait_end(w);
		w->fn(w->ctx);
	}
}

static void entry_free(struct name_entry **at)
{
	struct name_entry *e = *at;
	*at = e->next;
	e->l->nnames--;
	query_cancel(e->query);
	free(e);
}

static bool room_make(struct net_lease *l)
{
	struct name_entry **least = NULL;
	if (l->nnames < NAMES_MAX)
		return true;
	for (struct name_entry **at = &l->names; *at; at = &(*at)->next)
		if (!(*at)->query && !(*at)->waits && (!least || (*at)->used < (*least)->used))
			least = at;
	if (!least)
		return false;
	entry_free(least);
	return true;
}

static struct name_entry *entry_new(struct net_lease *l, const char *name, uint16_t type,
				    struct denial *d)
{
	bool known = false;
	uint64_t now = clock_now();
	for (struct name_entry *e = l->names; e; e = e->next)
		known |= strcmp(e->name, name) == 0;
	if (!known) {
		struct net_dest *dest = lease_dest(l, name);
		if (!lease_room(l, dest, AMOUNT_names, &d->scope, &d->figure)) {
			d->reason = EGRESS_R_BUDGET;
			d->amount = amount_text(AMOUNT_names);
			return NULL;
		}
		if (net_name_tunnel(name, net_policy_fixed(l->policy, name)) ||
		    !bucket_level(&l->new_names, now, 1)) {
			d->reason = EGRESS_R_TUNNEL;
			return NULL;
		}
		bucket_take(&l->new_names, 1);
		lease_spend(l, dest, AMOUNT_names, 1);
	}
	struct name_entry *e = room_make(l) ? calloc(1, sizeof(*e)) : NULL;
	if (!e) {
		d->reason = EGRESS_R_RATE;
		return NULL;
	}
	e->l = l;
	strcpy(e->name, name);
	e->type = type;
	e->next = l->names;
	l->names = e;
	l->nnames++;
	return e;
}

struct name_entry *name_get(struct net_lease *l, const char *name, uint16_t type,
			    struct name_wait *w, struct denial *d)
{
	uint64_t now = clock_now();
	struct name_entry *e = l->names;
	d->reason = EGRESS_R__N;
	while (e && (e->type != type || strcmp(e->name, name) != 0))
		e = e->next;
	if (!e && !(e = entry_new(l, name, type, d)))
		return NULL;
	e->used = now;
	if (!e->query && e->state != NAME_PENDING && now < e->expires)
		return e;
	if (!e->query) {
		e->via_denied = false;
		e->query = query_new(l->gw, name, type, judge, found, e);
		if (!e->query) {
			e->state = NAME_FAILED;
			e->expires = now; /* the next asks again */
			return e;
		}
	}
	wait_begin(e, w);
	return NULL;
}

static bool has(const struct net_addr *list, unsigned n, const struct net_addr *addr)
{
	for (unsigned i = 0; i < n; i++)
		if (net_addr_eq(&list[i], addr))
			return true;
	return false;
}

bool name_pinned(struct net_lease *l, const char *name, const struct net_addr *addr)
{
	for (struct name_entry *e = l->names; e; e = e->next)
		if ((has(e->addrs, e->naddrs, addr) || has(e->old, e->nold, addr)) &&
		    strcmp(e->name, name) == 0)
			return true;
	return false;
}

void name_each(struct net_lease *l, const struct net_addr *addr,
	       bool (*fn)(void *ctx, const char *name), void *ctx)
{
	for (struct name_entry *e = l->names; e; e = e->next)
		if ((has(e->addrs, e->naddrs, addr) || has(e->old, e->nold, addr)) &&
		    !fn(ctx, e->name))
			return;
}

void names_rejudge(struct net_lease *l)
{
	for (struct name_entry *e = l->names; e; e = e->next) {
		e->expires = 0;
		e->via_denied = false;
	}
}

void names_free(struct net_lease *l)
{
	while (l->names) {
		while (l->names->waits)
			wait_end(l->names->waits);
		entry_free(&l->names);
	}
}

/* ---- where to ask ---- */

int resolver_add(struct gw *g, const char *text)
{
	struct net_addr a;
	char where[NET_ADDR_TEXT_MAX + 2];
	uint16_t port = 53;
	const char *s = text, *hash = strrchr(text, '#');
	size_t n = hash ? (size_t)(hash - s) : strlen(s);
	if (hash) {
		char *end;
		unsigned long v = strtoul(hash + 1, &end, 10);
		if (!isdigit((unsigned char)hash[1]) || *end || v < 1 || v > 65535)
			return -1;
		port = (uint16_t)v;
	}
	if (n >= sizeof(where) || g->nresolvers == GW_RESOLVERS_MAX || !net_addr_parse(s, n, &a))
		return -1;
	g->resolver_len[g->nresolvers] =
		net_addr_to_sockaddr(&a, port, &g->resolver[g->nresolvers]);
	g->nresolvers++;
	return 0;
}

void resolvers_read(struct gw *g, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		char line[128], word[64];
		if (n < sizeof(line)) {
			memcpy(line, text, n);
			line[n] = '\0';
			/* One with a zone, or one too many, is passed over, as the C library does.
			 */
			if (sscanf(line, "nameserver %63s", word) == 1)
				(void)resolver_add(g, word);
		}
		text += n + (text[n] == '\n');
	}
}

bool resolvers_renew(struct gw *g, const char *text)
{
	unsigned had = g->nresolvers;
	struct sockaddr_storage first = g->resolver[0];
	g->nresolvers = 0;
	resolvers_read(g, text);
	if (g->nresolvers)
		return true;
	g->resolver[0] = first;
	g->nresolvers = had;
	return false;
}
