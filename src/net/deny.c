/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each refusal is counted; each is told to brigd, except that the same one within a second is
 * counted into the next, and that a sandbox has so many records a second in all. A sandbox that is
 * refused in a loop costs its own records, not brigd's time.
 */
#include <stdio.h>

#include "base/clock.h"
#include "net/gw.h"

const char *reason_text(enum egress_reason r)
{
	static const char *const names[] = {
#define X(name, text) [EGRESS_R_##name] = text,
		BRIG_EGRESS_REASONS(X)
#undef X
	};
	return (unsigned)r < EGRESS_R__N ? names[r] : "";
}

/* The line that would allow it, or nothing where no line can. */
static void allow_line(const struct denial *d, char *out)
{
	const char *verb = "allow";
	char addr[NET_ADDR_TEXT_MAX], where[NET_NAME_MAX + 2] = "";
	switch (d->reason) {
	case EGRESS_R_POLICY:
		break;
	case EGRESS_R_PROTECTED:
		verb = "grant";
		break;
	case EGRESS_R_NO_NAME:
	case EGRESS_R_ECH:
	case EGRESS_R_UPGRADE:
	case EGRESS_R_MALFORMED:
		/* Only an address lets pass what is not looked into. */
		if (d->proto != EGRESS_P_DNS)
			break;
		return;
	default:
		return;
	}
	bool name = d->name && d->name[0] && d->reason == EGRESS_R_POLICY;
	if (name)
		snprintf(where, sizeof(where), "%s", d->name);
	else if (d->addr && !net_addr_is_zero(d->addr))
		snprintf(where, sizeof(where), net_addr_is_v4(d->addr) || !d->port ? "%s" : "[%s]",
			 net_addr_text(d->addr, addr));
	else
		return;
	if (d->port)
		snprintf(out, EGRESS_RULE_MAX, "%s %s:%u", verb, where, d->port);
	else
		snprintf(out, EGRESS_RULE_MAX, "%s %s", verb, where);
}

static uint64_t key_of(const struct denial *d)
{
	uint64_t h = 0xcbf29ce484222325ull;
	const struct {
		const void *p;
		size_t n;
	} parts[] = { { &d->reason, sizeof(d->reason) },
		      { &d->proto, sizeof(d->proto) },
		      { d->name, d->name ? strlen(d->name) : 0 },
		      { d->addr, d->addr ? 16 : 0 },
		      { &d->port, sizeof(d->port) },
		      { &d->qtype, sizeof(d->qtype) },
		      { &d->scope, sizeof(d->scope) } };
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		for (size_t k = 0; k < parts[i].n; k++)
			h = (h ^ ((const uint8_t *)parts[i].p)[k]) * 0x100000001b3ull;
	return h;
}

/* How many of the same were kept back; -1: this one is, too. */
static int64_t fold(struct net_lease *l, const struct denial *d, uint64_t now)
{
	uint64_t key = key_of(d);
	for (unsigned i = 0; i < GW_RECENT; i++) {
		struct net_recent *r = &l->recent[i];
		if (r->key != key || !r->at)
			continue;
		if (now - r->at < SEC_NS) {
			r->repeats++;
			return -1;
		}
		int64_t n = (int64_t)r->repeats;
		*r = (struct net_recent){ .at = now, .key = key };
		return n;
	}
	struct net_recent *r = &l->recent[l->recent_at++ % GW_RECENT];
	l->gw->lost += r->repeats;
	*r = (struct net_recent){ .at = now, .key = key };
	return 0;
}

void deny(struct gw *g, struct net_lease *l, const struct denial *d,
	  char ret_allow[EGRESS_RULE_MAX])
{
	uint64_t now = clock_now();
	struct egress_denial m = { .h.verb = EGRESS_DENIAL };
	int64_t repeats = 0;
	allow_line(d, m.allow);
	if (ret_allow)
		strcpy(ret_allow, m.allow);
	if (!l) {
		if (!bucket_level(&g->strangers, now, 1))
			return;
		bucket_take(&g->strangers, 1);
	} else {
		l->denied++;
		repeats = fold(l, d, now);
		if (repeats < 0)
			return;
		/* A flood of other refusals must not hide the one that ends a sandbox. */
		if (d->reason != EGRESS_R_BUDGET && !bucket_level(&l->told, now, 1)) {
			g->lost += 1 + (uint64_t)repeats;
			return;
		}
		bucket_take(&l->told, 1);
		strcpy(m.id, l->id);
		strcpy(m.tenant, l->tenant->name);
		m.generation = l->generation;
	}
	m.time_ms = clock_ns(CLOCK_REALTIME) / MS_NS;
	m.reason = d->reason;
	m.proto = d->proto;
	m.scope = d->scope;
	m.qtype = d->qtype;
	if (d->addr)
		memcpy(m.addr, d->addr->b, 16);
	m.port = d->port;
	m.source_port = d->source_port;
	m.figure = d->figure;
	m.repeats = (uint64_t)repeats;
	if (d->amount)
		snprintf(m.amount, sizeof(m.amount), "%s", d->amount);
	snprintf(m.protects, sizeof(m.protects), "%s", net_protect_text(d->protects));
	if (d->name)
		snprintf(m.name, sizeof(m.name), "%s", d->name);
	if (d->rule)
		snprintf(m.rule, sizeof(m.rule), "%s", d->rule->line);
	char addr[NET_ADDR_TEXT_MAX] = "";
	if (d->addr)
		net_addr_text(d->addr, addr);
	log_line(&g->log, LOG_INFO, l ? l->id : NULL,
		 "refused %s name='%s' address=%s port=%u rule='%s'", reason_text(d->reason),
		 m.name, addr, d->port, m.rule);
	m.lost = g->lost;
	control_send(g, &m, sizeof(m), false);
}
