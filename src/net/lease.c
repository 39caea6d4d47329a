/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Leases are found by id (control) and by source address (everything else); both are hashed with a
 * seed, since a tenant may choose neither but could guess. Figures are counted twice, for the lease
 * and for its tenant; a tenant's stay as long as it has a lease, and brigd says what a former
 * process counted (egress_lease.spent).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/flow.h"
#include "net/gw.h"

/* Beside the policy's limits: what a gateway bears from one sandbox. */
#define QUESTIONS_PER_S 100u
#define NEW_NAMES_PER_S 10u
#define TOLD_PER_S 20u

void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now)
{
	*b = (struct bucket){ .rate = rate, .burst = burst, .level = burst, .at = now };
}

uint64_t bucket_level(struct bucket *b, uint64_t now, uint64_t want)
{
	if (b->rate == EGRESS_NO_LIMIT)
		return want;
	if (now > b->at) {
		/* Beyond a second it is full in any case; below it the product fits. */
		uint64_t ns = now - b->at < SEC_NS ? now - b->at : SEC_NS;
		uint64_t more = (uint64_t)((unsigned __int128)b->rate * ns / SEC_NS);
		if (ns == SEC_NS)
			more = b->burst;
		if (more) {
			b->level = more >= b->burst - b->level ? b->burst : b->level + more;
			b->at = now;
		}
	}
	return want < b->level ? want : b->level;
}

void bucket_take(struct bucket *b, uint64_t n)
{
	if (b->rate != EGRESS_NO_LIMIT)
		b->level -= n < b->level ? n : b->level;
}

uint64_t *amount_of(struct egress_amounts *a, enum amount which)
{
	switch (which) {
#define X(field, text, what) \
	case AMOUNT_##field: \
		return &a->field;
		BRIG_EGRESS_AMOUNTS(X)
#undef X
	default:
		return NULL;
	}
}

const char *amount_text(enum amount which)
{
	static const char *const names[] = {
#define X(field, text, what) [AMOUNT_##field] = text,
		BRIG_EGRESS_AMOUNTS(X)
#undef X
	};
	return names[which];
}

static unsigned hash(const struct gw *g, const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t h = g->seed;
	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return (unsigned)(h >> 32 ^ h) % GW_HASH;
}

struct net_lease *lease_find(struct gw *g, const char *id)
{
	struct net_lease *l = g->id_hash[hash(g, id, strlen(id))];
	while (l && strcmp(l->id, id) != 0)
		l = l->by_id;
	return l;
}

struct net_lease *lease_of(struct gw *g, const struct net_addr *source)
{
	unsigned at = hash(g, source->b, 16);
	struct net_lease *l;
	if (net_addr_is_zero(source))
		return NULL;
	if (net_addr_is_v4(source)) {
		for (l = g->v4_hash[at]; l && !net_addr_eq(&l->v4, source); l = l->by_v4)
			continue;
	} else {
		for (l = g->v6_hash[at]; l && !net_addr_eq(&l->v6, source); l = l->by_v6)
			continue;
	}
	return l;
}

static struct net_tenant *tenant_get(struct gw *g, const struct egress_lease *m)
{
	struct net_tenant *t = g->tenants;
	while (t && strcmp(t->name, m->tenant) != 0)
		t = t->next;
	if (t || !(t = calloc(1, sizeof(*t))))
		return t;
	strcpy(t->name, m->tenant);
	t->spent = m->tenant_spent;
	t->next = g->tenants;
	g->tenants = t;
	return t;
}

static void tenant_put(struct gw *g, struct net_tenant *t)
{
	if (!t || t->leases)
		return;
	struct net_tenant **at = &g->tenants;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	free(t);
}

static void resume(void *ctx)
{
	struct net_lease *l = ctx;
	flows_resume(l);
}

/* One that was made ahead of whoever gets it has spent nothing. */
static bool is_unspent(const struct net_lease *l)
{
	static const struct egress_amounts none;
	return memcmp(&l->spent, &none, sizeof(none)) == 0 && l->connections == 0;
}

static int lease_check(struct gw *g, const struct egress_lease *m, const struct net_lease *old,
		       struct brig_err *err)
{
	struct net_addr v4 = net_addr_v4(m->v4), v6 = net_addr_v6(m->v6);
	static const uint8_t none[4];
	if (memcmp(m->v4, none, 4) == 0)
		v4 = (struct net_addr){ .b = { 0 } };
	if (old) {
		if (!net_addr_eq(&old->v4, &v4) || !net_addr_eq(&old->v6, &v6) ||
		    (strcmp(old->tenant->name, m->tenant) != 0 && !is_unspent(old)))
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "a lease keeps its addresses, and its tenant once it has spent something");
		if (m->generation < old->generation)
			return brig_fail(err, BRIG_E_STATE, 0,
					 "a later policy is in force already");
		return 0;
	}
	if (g->nleases == EGRESS_LEASES_MAX)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "more than %u leases",
				 EGRESS_LEASES_MAX);
	if (net_addr_is_zero(&v4) && net_addr_is_zero(&v6))
		return brig_fail(err, BRIG_E_INVALID, 0, "a lease needs an address");
	if ((!net_addr_is_zero(&v6) && net_addr_is_v4(&v6)) || lease_of(g, &v4) || lease_of(g, &v6))
		return brig_fail(err, BRIG_E_EXISTS, 0, "another lease has this address");
	return 0;
}

static struct net_lease *lease_new(struct gw *g, const struct egress_lease *m)
{
	static const uint8_t none[4];
	struct net_lease *l = calloc(1, sizeof(*l));
	if (!l || !(l->tenant = tenant_get(g, m))) {
		free(l);
		return NULL;
	}
	uint64_t now = clock_now();
	l->gw = g;
	l->tenant->leases++;
	strcpy(l->id, m->id);
	l->spent = m->spent;
	if (memcmp(m->v4, none, 4) != 0)
		l->v4 = net_addr_v4(m->v4);
	l->v6 = net_addr_v6(m->v6);
	l->resume = (struct ev_timer){ .fn = resume, .ctx = l };
	bucket_init(&l->questions, QUESTIONS_PER_S, 2 * QUESTIONS_PER_S, now);
	bucket_init(&l->new_names, NEW_NAMES_PER_S, 10 * NEW_NAMES_PER_S, now);
	bucket_init(&l->told, TOLD_PER_S, 5 * TOLD_PER_S, now);
	struct net_lease **at = &g->id_hash[hash(g, l->id, strlen(l->id))];
	l->by_id = *at;
	*at = l;
	if (!net_addr_is_zero(&l->v4)) {
		at = &g->v4_hash[hash(g, l->v4.b, 16)];
		l->by_v4 = *at;
		*at = l;
	}
	if (!net_addr_is_zero(&l->v6)) {
		at = &g->v6_hash[hash(g, l->v6.b, 16)];
		l->by_v6 = *at;
		*at = l;
	}
	g->nleases++;
	return l;
}

static int tenant_set(struct net_lease *l, const struct egress_lease *m)
{
	struct net_tenant *t = tenant_get(l->gw, m), *old = l->tenant;
	if (!t)
		return -1;
	t->leases += t != old;
	old->leases -= t != old;
	l->tenant = t;
	tenant_put(l->gw, old);
	return 0;
}

/* A burst of 50 ms, but never less than one large packet. */
static uint64_t burst_of(uint64_t bps)
{
	return bps / 20 > 65536 ? bps / 20 : 65536;
}

int lease_set(struct gw *g, const struct egress_lease *m, const char *text, uint64_t *ret_cut,
	      struct brig_err *err)
{
	struct net_policy *p = NULL;
	struct net_lease *l = lease_find(g, m->id);
	uint64_t now = clock_now();
	if (lease_check(g, m, l, err) < 0 || net_policy_parse(text, m->text_len, &p, err) < 0)
		return -1;
	bool fresh = !l;
	if ((!l && !(l = lease_new(g, m))) || tenant_set(l, m) < 0) {
		net_policy_free(p);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "no memory for a lease");
	}
	names_rejudge(l);
	net_policy_free(l->policy);
	l->policy = p;
	l->generation = m->generation;
	l->budget = m->budget;
	l->dest_budget = m->dest_budget;
	l->tenant->budget = m->tenant_budget;
	l->connections_max = m->connections_max;
	if (fresh || l->connects.rate != m->connects_per_second) {
		uint64_t per_s = m->connects_per_second;
		bucket_init(&l->connects, per_s, per_s == EGRESS_NO_LIMIT ? per_s : per_s * 2, now);
	}
	if (fresh || l->out.rate != m->rate_out_bps)
		bucket_init(&l->out, m->rate_out_bps, burst_of(m->rate_out_bps), now);
	if (fresh || l->in.rate != m->rate_in_bps)
		bucket_init(&l->in, m->rate_in_bps, burst_of(m->rate_in_bps), now);
	*ret_cut = flows_judge(l);
	flows_resume(l);
	return 0;
}

static void unlink_from(struct net_lease **at, struct net_lease *l, size_t next)
{
	while (*at && *at != l)
		at = (struct net_lease **)((char *)*at + next);
	if (*at)
		*at = *(struct net_lease **)((char *)l + next);
}

void lease_free(struct net_lease *l)
{
	struct gw *g = l->gw;
	flows_cut(l);
	dnsd_forget(l);
	names_free(l);
	ev_timer_stop(&g->ev, &l->resume);
	unlink_from(&g->id_hash[hash(g, l->id, strlen(l->id))], l,
		    offsetof(struct net_lease, by_id));
	unlink_from(&g->v4_hash[hash(g, l->v4.b, 16)], l, offsetof(struct net_lease, by_v4));
	unlink_from(&g->v6_hash[hash(g, l->v6.b, 16)], l, offsetof(struct net_lease, by_v6));
	l->tenant->leases--;
	tenant_put(g, l->tenant);
	while (l->dests) {
		struct net_dest *d = l->dests;
		l->dests = d->next;
		free(d);
	}
	net_policy_free(l->policy);
	g->nleases--;
	free(l);
}

void leases_done(struct gw *g)
{
	for (unsigned i = 0; i < GW_HASH; i++)
		while (g->id_hash[i])
			lease_free(g->id_hash[i]);
}

void lease_figures(const struct net_lease *l, struct egress_figures *ret)
{
	strcpy(ret->id, l->id);
	ret->generation = l->generation;
	ret->spent = l->spent;
	ret->tenant_spent = l->tenant->spent;
	ret->connections = l->connections;
	ret->denied = l->denied;
}

struct net_dest *lease_dest(struct net_lease *l, const char *key)
{
	bool bounded = false;
	struct net_dest *d, *last = NULL;
	for (unsigned i = 0; i < AMOUNT__N; i++)
		bounded |= *amount_of(&l->dest_budget, i) != EGRESS_NO_LIMIT;
	if (!bounded)
		return NULL;
	for (d = l->dests; d; last = d, d = d->next)
		if (strcmp(d->key, key) == 0)
			return d;
	/* What comes after so many shares the last one's budget. */
	if (l->ndests == GW_DESTS_MAX || !(d = calloc(1, sizeof(*d))))
		return last;
	snprintf(d->key, sizeof(d->key), "%s", key);
	l->ndests++;
	if (last)
		last->next = d;
	else
		l->dests = d;
	return d;
}

static uint64_t left(uint64_t budget, uint64_t spent)
{
	return budget == EGRESS_NO_LIMIT ? UINT64_MAX : spent >= budget ? 0 : budget - spent;
}

uint64_t lease_room(struct net_lease *l, struct net_dest *d, enum amount which, unsigned *ret_scope,
		    uint64_t *ret_limit)
{
	struct {
		struct egress_amounts *budget, *spent;
		unsigned scope;
	} all[] = { { &l->budget, &l->spent, EGRESS_S_SANDBOX },
		    { &l->tenant->budget, &l->tenant->spent, EGRESS_S_TENANT },
		    { &l->dest_budget, d ? &d->spent : NULL, EGRESS_S_DEST } };
	uint64_t least = UINT64_MAX;
	for (unsigned i = 0; i < 3; i++) {
		if (!all[i].spent)
			continue;
		uint64_t limit = *amount_of(all[i].budget, which);
		uint64_t room = left(limit, *amount_of(all[i].spent, which));
		if (room < least) {
			least = room;
			*ret_scope = all[i].scope;
			*ret_limit = limit;
		}
	}
	return least;
}

void lease_spend(struct net_lease *l, struct net_dest *d, enum amount which, uint64_t n)
{
	*amount_of(&l->spent, which) += n;
	*amount_of(&l->tenant->spent, which) += n;
	if (d)
		*amount_of(&d->spent, which) += n;
}
