/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Who reaches whom is computed from the policies, whenever one of them changes: jaild is told each pair that
 * begins or ends (PEER), and brig-egress gets the text of everybody whose names changed. A sandbox's first
 * command, and the answer to whoever changed its networks, wait for both. What ends with a sandbox needs no
 * message: jaild takes a lease out of the rules before another sandbox gets it.
 *
 * Another brig-jaild knows of no pair, and has let none into the rules: all are asked for anew.
 *
 * A change is noted before it is asked for (network.c), so a next brigd finds in the records all that may be
 * in force, drops the pairs of everybody who is, or was, in a network, and asks for them anew.
 */
#include "daemon/netpeer.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "brig/net.h"
#include "daemon/egress.h"
#include "daemon/network.h"
#include "daemon/rejoin.h"
#include "daemon/sandbox.h"

static json_t *networks(const json_t *policy)
{
	return json_object_get(policy, "networks");
}

static const char *name_of(const json_t *network)
{
	return json_string_value(json_object_get(network, "name"));
}

static const json_t *find(const json_t *list, const char *name)
{
	size_t i;
	const json_t *v;
	json_array_foreach(list, i, v)
	{
		if (strcmp(name_of(v), name) == 0)
			return v;
	}
	return NULL;
}

static bool overlap(const json_t *a, const json_t *b)
{
	size_t i;
	const json_t *v;
	json_array_foreach(a, i, v)
	{
		if (find(b, name_of(v)))
			return true;
	}
	return false;
}

/* There, and of the same tenant. */
static bool comparable(const struct sandbox *a, const struct sandbox *b)
{
	return a != b && a->net && b->net && a->net->lease && b->net->lease && !a->destroying && !b->destroying &&
	       strcmp(a->net->ask.terms.tenant, b->net->ask.terms.tenant) == 0;
}

static void tell_again(struct sandbox *sb)
{
	sb->net->generation++;
	egress_tell(sb);
}

/* ---- jaild ---- */

static void answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	if (sb->net)
		sb->net->peering--;
	if (sb->d->jail.fd < 0) { /* another brig-jaild is asked (netpeer_again) */
		sandbox_jail_answered(sb);
		return;
	}
	/* One that has gone meanwhile is reached by nobody. */
	if (a->h.verb == JAIL_ERROR && a->error.code != BRIG_E_NOT_FOUND) {
		jail_error_to(a, &err);
		log_line(&sb->d->log, LOG_ERROR, sb->id, "its networks: %s", err.msg);
		if (sb->net && sb->chan.held)
			sandbox_refuse(sb, &err);
	}
	if (sb->net && !sb->destroying)
		network_settle(sb);
	sandbox_jail_answered(sb);
}

static void peer(struct sandbox *sb, const struct sandbox *other, bool on)
{
	struct jail_peer m = { .h = { .verb = JAIL_PEER }, .on = on };
	memcpy(m.id, sb->id, sizeof(m.id));
	if (other)
		memcpy(m.other, other->id, sizeof(m.other));
	int r = jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, answered, sb);
	if (r == -EPIPE && rejoin_possible(sb->d))
		return;
	if (r < 0) {
		sandbox_fault(sb, "brig-jaild takes no requests about its networks");
		return;
	}
	sb->jail_refs++;
	sb->net->peering++;
}

/* ---- changes ---- */

/* From the networks before to those after. */
static void move(struct sandbox *sb, const json_t *before, const json_t *after)
{
	struct sandbox *other, *next;
	for (other = LIST_FIRST(&sb->d->all); other && !sb->destroying; other = next) {
		next = LIST_NEXT(other, all);
		if (!comparable(sb, other))
			continue;
		const json_t *theirs = networks(other->net->ask.policy);
		bool was = overlap(before, theirs), is = overlap(after, theirs);
		if (was != is)
			peer(sb, other, is);
		if (was || is)
			tell_again(other);
	}
}

void netpeer_join(struct sandbox *sb, bool taken)
{
	if (!sb->net || !sb->net->lease)
		return;
	const json_t *mine = networks(sb->net->ask.policy);
	if (mine && taken)
		peer(sb, NULL, false);
	if (json_array_size(mine))
		move(sb, NULL, mine);
}

void netpeer_again(struct brigd *d)
{
	struct sandbox *sb, *next;
	for (sb = LIST_FIRST(&d->all); sb; sb = next) {
		next = LIST_NEXT(sb, all);
		if (!sb->net || sb->destroying)
			continue;
		netpeer_join(sb, false);
		network_settle(sb);
	}
}

void netpeer_leave(struct sandbox *sb)
{
	struct sandbox *other;
	uint32_t lease = sb->net->lease;
	const json_t *mine = networks(sb->net->ask.policy);
	sb->net->lease = 0;
	for (other = LIST_FIRST(&sb->d->all); lease && json_array_size(mine) && other; other = LIST_NEXT(other, all))
		if (other != sb && other->net && other->net->lease && !other->destroying &&
		    strcmp(other->net->ask.terms.tenant, sb->net->ask.terms.tenant) == 0 &&
		    overlap(mine, networks(other->net->ask.policy)))
			tell_again(other);
}

void netpeer_change(struct sandbox *sb, const json_t *former)
{
	move(sb, networks(former), networks(sb->net->ask.policy));
}

/* ---- names ---- */

/* As net_name_read() has it, and no number in any reading. */
static bool host_ok(const char *s)
{
	bool begins = true;
	size_t label = 0;
	const char *last = strrchr(s, '.');
	for (const char *p = s; *p; p++) {
		if (begins && (*p == '.' || *p == '-'))
			return false;
		begins = *p == '.';
		label = begins ? 0 : label + 1;
		if (label > 63 || !(isalnum((unsigned char)*p) || strchr("._-", *p)))
			return false;
	}
	return !begins && isalpha((unsigned char)(last ? last[1] : s[0]));
}

static int host_add(struct buf *ret, const char *name, uint32_t lease)
{
	char line[128], addr[INET_ADDRSTRLEN];
	uint8_t v4[4];
	if (!host_ok(name))
		return 0;
	brig_net_addr4(lease, v4);
	int n = snprintf(line, sizeof(line), "host %s %s\n", name, inet_ntop(AF_INET, v4, addr, sizeof(addr)));
	return buf_add(ret, line, (size_t)n);
}

int netpeer_hosts(const struct sandbox *sb, struct buf *ret)
{
	const json_t *mine = networks(sb->net->ask.policy);
	const struct sandbox *other;
	int r = 0;
	for (other = LIST_FIRST(&sb->d->all); json_array_size(mine) && other && r == 0; other = LIST_NEXT(other, all)) {
		size_t i, k;
		const json_t *v, *alias;
		if (other != sb && !comparable(sb, other))
			continue;
		const json_t *theirs = networks(other->net->ask.policy);
		if (!overlap(mine, theirs))
			continue;
		r = host_add(ret, other->name, other->net->lease);
		json_array_foreach(theirs, i, v)
		{
			const json_t *aliases = find(mine, name_of(v)) ? json_object_get(v, "aliases") : NULL;
			json_array_foreach(aliases, k, alias)
			{
				if (r == 0)
					r = host_add(ret, json_string_value(alias), other->net->lease);
			}
		}
	}
	return r;
}

static json_t *row_of(json_t *all, const char *tenant, const char *name)
{
	size_t i;
	json_t *v;
	json_array_foreach(all, i, v)
	{
		if (strcmp(name_of(v), name) == 0 &&
		    strcmp(json_string_value(json_object_get(v, "tenant")), tenant) == 0)
			return v;
	}
	v = json_pack("{s:s,s:s,s:[]}", "tenant", tenant, "name", name, "members");
	json_array_append_new(all, v);
	return v;
}

json_t *netpeer_list(const struct brigd *d)
{
	json_t *all = json_array();
	const struct sandbox *sb;
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
		char addr[INET_ADDRSTRLEN];
		uint8_t v4[4];
		size_t i;
		const json_t *v;
		if (!sb->net || !sb->net->lease || sb->destroying)
			continue;
		brig_net_addr4(sb->net->lease, v4);
		inet_ntop(AF_INET, v4, addr, sizeof(addr));
		json_array_foreach(networks(sb->net->ask.policy), i, v)
		{
			json_t *row = row_of(all, sb->net->ask.terms.tenant, name_of(v));
			json_array_append_new(json_object_get(row, "members"),
					      json_pack("{s:s,s:s,s:O,s:s}", "id", sb->id, "name", sb->name,
							"aliases", json_object_get(v, "aliases"), "address",
							addr));
		}
	}
	return all;
}
