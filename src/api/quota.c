/* SPDX-License-Identifier: Apache-2.0 */
#include "api/quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/tenant.h"
#include "api/volumes.h"
#include "base/clock.h"

/* What a client that was refused for want of room is told to wait at most, in seconds. */
#define WAIT_MAX_S 60

struct charge {
	struct tenant *t;
	struct amounts a;
};

static const struct {
	enum policy_index quota;
	size_t at;
	const char *what;
} rows[] = {
	{ POLICY_quota_sandboxes, offsetof(struct amounts, sandboxes), "sandboxes" },
	{ POLICY_quota_cpu_milli, offsetof(struct amounts, cpu_milli), "thousandths of a CPU" },
	{ POLICY_quota_memory_bytes, offsetof(struct amounts, memory_bytes), "bytes of memory" },
	{ POLICY_quota_disk_bytes, offsetof(struct amounts, disk_bytes), "bytes of disk" },
	{ POLICY_quota_snapshots, offsetof(struct amounts, snapshots), "snapshots" },
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static uint64_t *at(struct amounts *a, unsigned i)
{
	return (uint64_t *)(void *)((char *)a + rows[i].at);
}

static uint64_t get(const struct amounts *a, unsigned i)
{
	uint64_t v;
	memcpy(&v, (const char *)a + rows[i].at, sizeof(v));
	return v;
}

/* ---- creates per second ---- */

/* A bucket of thousandths of a create, which holds one second's worth. Only time that has become
 * part of it is taken off, so that asking often does not slow it down. */
static void refill(struct tenant *t, uint64_t rate)
{
	uint64_t now = clock_now(), full = rate * 1000, past = now - t->refilled_ns;
	if (!rate || past >= SEC_NS) {
		t->tokens_milli = full;
		t->refilled_ns = now;
		return;
	}
	uint64_t more = past * rate / 1000000u;
	t->refilled_ns += more * 1000000u / rate;
	t->tokens_milli += more;
	if (t->tokens_milli > full)
		t->tokens_milli = full;
}

/* ---- refusing ---- */

static int refuse(struct refusal *ret, const struct tenant *t, enum policy_index quota,
		  uint64_t use, uint64_t asked, const char *what, int64_t wait_s)
{
	const char *field = policy_field(quota);
	brig_err_set(&ret->err, BRIG_E_BUSY, 0,
		     "tenant '%s' has %llu of %llu %s, and this would be %llu more (%s)", t->name,
		     (unsigned long long)use, (unsigned long long)t->policy.v[quota], what,
		     (unsigned long long)asked, field);
	brig_err_remedy(&ret->err,
			"remove what is not needed, or try again later; the operator can raise the "
			"quota: brig tenant set %s",
			t->name);
	json_decref(ret->details);
	ret->details = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I}", "tenant", t->name, "quota", field,
				 "limit", (json_int_t)t->policy.v[quota], "use", (json_int_t)use,
				 "asked", (json_int_t)asked, "retry_after", (json_int_t)wait_s);
	return -1;
}

/* Seconds until the first of its sandboxes ends by itself. */
static int64_t next_end_s(struct api *a, const struct tenant *t)
{
	int64_t now = wall_ms(), first = now + WAIT_MAX_S * 1000;
	struct box *b;
	LIST_FOREACH(b, &a->all, all)
	{
		if (b->end_ms && b->end_ms < first && strcmp(b->tenant, t->name) == 0)
			first = b->end_ms;
	}
	return first > now + 1000 ? (first - now) / 1000 : 1;
}

static int check(struct api *a, struct tenant *t, const struct amounts *each, unsigned n,
		 struct refusal *ret)
{
	const struct policy *p = &t->policy;
	for (unsigned i = 0; i < N_ROWS; i++) {
		uint64_t most = p->v[rows[i].quota], use = get(&t->use, i), one = get(each, i);
		if (most == POLICY_UNSET || one == 0)
			continue;
		uint64_t left = use < most ? most - use : 0;
		if (one > left / n)
			return refuse(ret, t, rows[i].quota, use, one * n, rows[i].what,
				      next_end_s(a, t));
	}
	uint64_t rate = p->v[POLICY_quota_creates_per_second];
	if (rate == POLICY_UNSET || !each->sandboxes)
		return 0;
	refill(t, rate);
	uint64_t need = (uint64_t)n * 1000;
	if (t->tokens_milli < need) {
		uint64_t wait = rate ? (need - t->tokens_milli + rate * 1000 - 1) / (rate * 1000)
				     : WAIT_MAX_S;
		return refuse(ret, t, POLICY_quota_creates_per_second,
			      rate - t->tokens_milli / 1000, n, "creates in this second",
			      (int64_t)wait);
	}
	t->tokens_milli -= need;
	return 0;
}

/* ---- charges ---- */

static void add(struct tenant *t, const struct amounts *a, bool less)
{
	for (unsigned i = 0; i < N_ROWS; i++)
		*at(&t->use, i) += less ? -get(a, i) : get(a, i);
}

struct charge *quota_adopt(struct tenant *t, const struct amounts *what)
{
	struct charge *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->t = t;
	c->a = *what;
	t->charges++;
	add(t, what, false);
	return c;
}

int quota_take(struct api *a, struct tenant *t, const struct amounts *each, unsigned n,
	       struct charge **out, struct refusal *ret)
{
	if (check(a, t, each, n, ret) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		out[i] = quota_adopt(t, each);
		if (out[i])
			continue;
		while (i-- > 0)
			charge_return(out[i]);
		return brig_fail(&ret->err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	return 0;
}

void charge_settle(struct charge *c, const struct amounts *what)
{
	if (!c)
		return;
	add(c->t, &c->a, true);
	c->a = *what;
	add(c->t, &c->a, false);
}

void charge_return(struct charge *c)
{
	if (!c)
		return;
	add(c->t, &c->a, true);
	charge_keep(c);
}

void charge_keep(struct charge *c)
{
	if (!c)
		return;
	c->t->charges--;
	tenant_unused(c->t);
	free(c);
}

json_t *charge_labels(const struct charge *c, const char *kind, const char *tenant)
{
	char text[AMOUNTS_TEXT_MAX];
	json_t *o = json_pack("{s:s}", API_LABEL, kind);
	if (!c)
		return o;
	amounts_text(&c->a, text);
	json_object_set_new(o, API_TENANT_LABEL, json_string(tenant));
	json_object_set_new(o, API_CHARGE_LABEL, json_string(text));
	return o;
}

bool charge_matters(const struct charge *c)
{
	if (!c)
		return false;
	for (unsigned i = 0; i < N_ROWS; i++)
		if (c->t->policy.v[rows[i].quota] != POLICY_UNSET && get(&c->a, i))
			return true;
	return false;
}

void quota_snapshot_gone(struct api *a, const char *tenant)
{
	struct tenant *t = tenant_find(a, tenant);
	if (t && t->use.snapshots)
		t->use.snapshots--;
}

json_t *quota_use_json(struct api *a, const struct tenant *t)
{
	uint64_t volumes, volume_bytes;
	volumes_use(a, t->name, &volumes, &volume_bytes);
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "sandboxes", (json_int_t)t->use.sandboxes,
			 "cpu_milli", (json_int_t)t->use.cpu_milli, "memory_bytes",
			 (json_int_t)t->use.memory_bytes, "disk_bytes",
			 (json_int_t)t->use.disk_bytes, "snapshots", (json_int_t)t->use.snapshots, "volumes",
			 (json_int_t)volumes, "volume_bytes", (json_int_t)volume_bytes);
}
