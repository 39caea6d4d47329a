/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/egress.h"
#include "daemon/fields.h"
#include "daemon/journal.h"
#include "daemon/netpeer.h"
#include "daemon/record.h"
#include "daemon/sandbox.h"

/* ---- the record ---- */

struct netbox *netbox_new(struct sandbox *sb, struct net_ask *ask)
{
	struct netbox *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->sb = sb;
	n->ask = *ask;
	n->generation = 1;
	*ask = (struct net_ask){ .link = false };
	return n;
}

void netbox_free(struct netbox *n)
{
	if (!n)
		return;
	net_ask_done(&n->ask);
	json_decref(n->former);
	free(n);
}

int netbox_text(const struct netbox *n, struct buf *ret)
{
	return net_policy_text(n->ask.policy, ret);
}

const char *netbox_mode(const struct netbox *n)
{
	return net_policy_mode(n->ask.policy);
}

int network_restore(struct sandbox *sb, uint32_t lease)
{
	if (!sb->spec.net.link)
		return 0;
	sb->net = netbox_new(sb, &sb->spec.net);
	if (!sb->net)
		return -ENOMEM;
	sb->net->lease = lease;
	return 0;
}

void network_keep(struct sandbox *sb)
{
	const json_t *policy = sb->net->ask.policy;
	json_t *spec = sb->spec.root, *was = json_object_get(spec, "network");
	json_t *o = was ? json_copy(was) : json_object();
	bool none = strcmp(net_policy_mode(policy), "none") == 0;
	if (!spec || !o) {
		json_decref(o);
		return;
	}
	json_object_update(o, (json_t *)(uintptr_t)policy);
	json_object_set_new(o, "tenant", json_string(sb->net->ask.terms.tenant));
	/* The link stays, so the next one must know of it: what reaches nothing is written otherwise. */
	if (none)
		json_object_set_new(o, "mode", json_string("deny"));
	json_object_set_new(spec, "network", o);
	record_sandbox(sb);
}

void network_settle(struct sandbox *sb)
{
	struct netbox *n = sb->net;
	if (!n->applied || n->peering)
		return;
	sandbox_net_applied(sb);
	if (n->applied != n->generation || !n->waiter)
		return;
	struct conn *c = n->waiter;
	n->waiter = NULL;
	json_decref(n->former);
	n->former = NULL;
	c->role = NULL;
	network_keep(sb);
	conn_ok_last(c, json_pack("{s:O,s:I}", "network", n->ask.policy, "cut", (json_int_t)n->cut));
}

/* ---- changing it ---- */

static void waiter_gone(struct conn *c)
{
	struct netbox *n = c->op;
	n->waiter = NULL;
}

static const struct conn_role waiter_role = { .gone = waiter_gone };

/* The rules of obj behind those that hold; its other keys in place of them. New reference. */
static json_t *merged(json_t *policy, json_t *obj)
{
	json_t *o = json_deep_copy(policy), *v;
	static const char *const words[] = { "mode", "prefer", "tenant" };
	for (unsigned i = 0; o && i < 3; i++)
		if ((v = json_object_get(obj, words[i])))
			json_object_set(o, words[i], v);
	for (unsigned i = 0; o && net_lists[i]; i++) {
		size_t k, m;
		json_t *have = json_object_get(o, net_lists[i]), *w;
		json_array_foreach(json_object_get(obj, net_lists[i]), k, v)
		{
			bool there = false;
			json_array_foreach(have, m, w) there = there || json_equal(v, w);
			if (!there)
				json_array_append(have, v);
		}
	}
	return o;
}

/* The networks that it is to be in: those of obj in place of those that hold, or beside them; without any the
 * same. An empty list leaves all. */
static json_t *networks_of(json_t *policy, json_t *obj, bool add)
{
	json_t *have = json_object_get(policy, "networks"), *want = json_object_get(obj, "networks"), *v, *w;
	size_t i, k;
	if (!want)
		return have ? json_incref(have) : NULL;
	json_t *all = json_copy(want);
	json_array_foreach(add && json_array_size(want) ? have : NULL, i, v)
	{
		bool there = false;
		json_array_foreach(want, k, w) there = there || json_equal(json_object_get(v, "name"),
									    json_object_get(w, "name"));
		if (!there)
			json_array_append(all, v);
	}
	return all;
}

/* What obj makes of the policy that holds; its networks beside it, because they do not end with a mode. */
static int changed(const struct netbox *n, json_t *obj, bool add, struct net_ask *ret, struct brig_err *err)
{
	json_t *whole = add ? merged(n->ask.policy, obj) : json_copy(obj), *networks = NULL;
	json_t *wanted = networks_of(n->ask.policy, obj, add), *holder = json_object();
	if (wanted)
		json_object_set_new(holder, "networks", wanted);
	json_object_del(whole, "networks");
	int r = net_networks_parse(holder, &networks, err);
	json_decref(holder);
	if (r == 0)
		r = net_ask_parse(whole, ret, err);
	json_decref(whole);
	/* The link stays; what it lets through is nothing then. */
	if (r == 0 && !ret->link) {
		ret->policy = json_pack("{s:s,s:s,s:[],s:[],s:[]}", "mode", "none", "prefer", "deny", "allow",
					"deny", "grant");
		r = ret->policy ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "change the network");
	}
	if (r == 0 && networks)
		json_object_set(ret->policy, "networks", networks);
	json_decref(networks);
	return r;
}

int network_serve(struct conn *c, struct sandbox *sb, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "network", "add", NULL };
	/* What a live sandbox's change may say: its rules; and whose it is, of one that was made ahead. */
	static const char *const own[] = { "mode", "allow", "deny", "grant", "prefer", "tenant", "networks", NULL };
	struct netbox *n = sb->net;
	struct net_ask ask;
	json_t *obj = NULL;
	bool add = false;
	if (fields_known(req, "network", keys, err) < 0 ||
	    field_object(req, "network", &obj, err) < 0 || field_bool(req, "add", &add, err) < 0)
		return -1;
	if (!obj) {
		conn_ok_last(c, json_pack("{s:O}", "network", n ? n->ask.policy : json_null()));
		return 0;
	}
	if (fields_known(obj, "network", own, err) < 0)
		return -1;
	if (!n && (net_ask_parse(obj, &ask, err) < 0))
		return -1;
	if (!n && !ask.link) {
		conn_ok_last(c, json_pack("{s:n,s:i}", "network", "cut", 0));
		return 0;
	}
	if (!n) {
		net_ask_done(&ask);
		brig_err_set(err, BRIG_E_STATE, 0, "sandbox '%s' was made without a network", sb->id);
		return brig_fix(err, "make it with a network that reaches next to nothing, and change that at any time: "
				     "--net deny, or an allowOut or a private network of the API");
	}
	if (n->waiter)
		return brig_fail(err, BRIG_E_BUSY, 0, "another change of its network is under way");
	if (changed(n, obj, add, &ask, err) < 0)
		return -1;
	json_decref(n->former);
	n->former = n->ask.policy;
	n->ask.policy = ask.policy;
	if (json_object_get(obj, "tenant"))
		memcpy(n->ask.terms.tenant, ask.terms.tenant, sizeof(n->ask.terms.tenant));
	n->generation++;
	n->cut = 0;
	n->waiter = c;
	conn_set_role(c, CONN_WAIT, &waiter_role, n);
	/* Noted before it is asked for: netpeer.c. */
	network_keep(sb);
	netpeer_change(sb, n->former);
	egress_tell(sb);
	return 0;
}

/* ---- what was refused ---- */

struct denials_job {
	struct conn *c;
	json_t *body;
};

static void job_gone(struct conn *c)
{
	struct denials_job *job = c->op;
	job->c = NULL;
}

static const struct conn_role job_role = { .gone = job_gone };

static void packets_set(json_t *body, const struct jail_stats *st)
{
	if (st && (st->valid & JAIL_STAT_NET))
		json_object_set_new(body, "packets",
				    json_pack("{s:I,s:I}", "refused", (json_int_t)st->net_refused, "forged",
					      (json_int_t)st->net_forged));
}

static void job_answered(void *ctx, const union jail_answer *a)
{
	struct denials_job *job = ctx;
	if (a->h.verb == JAIL_STATS_IS)
		packets_set(job->body, &a->stats);
	if (job->c) {
		job->c->role = NULL;
		conn_ok_last(job->c, json_incref(job->body));
	}
	json_decref(job->body);
	free(job);
}

int denials_serve(struct conn *c, struct sandbox *sb, struct brig_err *err)
{
	egress_drain(c->d);
	const struct journal *j = sb->journal;
	json_t *body = json_pack("{s:s,s:o,s:I,s:I,s:n}", "id", sb->id, "denials",
				 journal_json(j, JOURNAL_MAX), "total", (json_int_t)(j ? j->total : 0),
				 "lost", (json_int_t)(j ? j->lost : 0), "packets");
	json_object_set_new(body, "network",
			    sb->net ? json_incref(sb->net->ask.policy) : json_null());
	if (!sb->net || !sb->born || sb->destroying || sb->state == SB_STOPPED) {
		packets_set(body, sb->have_figures ? &sb->figures : NULL);
		conn_ok_last(c, body);
		return 0;
	}
	struct denials_job *job = calloc(1, sizeof(*job));
	struct jail_ref m = { .h = { .verb = JAIL_STATS } };
	memcpy(m.id, sb->id, sizeof(m.id));
	if (!job || jail_call(&c->d->jail, &m, sizeof(m), NULL, 0, job_answered, job) < 0) {
		free(job);
		json_decref(body);
		return brig_fail(err, BRIG_E_BUSY, 0, "too many requests are under way");
	}
	*job = (struct denials_job){ .c = c, .body = body };
	conn_set_role(c, CONN_WAIT, &job_role, job);
	return 0;
}
