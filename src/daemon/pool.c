/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Refilling runs off the request path: a timer fires REFILL_MS after the last request or refill,
 * makes one sandbox, and is armed again when that is ready. While a client's own sandbox is being
 * created the refill waits. A refill that fails (image missing, slots exhausted) is tried again
 * after RETRY_MS and shown by `brig pool`.
 */
#include "daemon/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/sandbox.h"

#define REFILL_MS 2u
#define RETRY_MS 1000u
#define POSTPONE_MS 50u

static void refill_due(void *ctx);

int pool_add(struct brigd *d, const char *text, struct brig_err *err)
{
	const char *eq = strrchr(text, '=');
	char *end = NULL;
	unsigned long n = eq ? strtoul(eq + 1, &end, 10) : 0;
	size_t len = eq ? (size_t)(eq - text) : 0;
	int tier = TIER_ABSENT;
	if (end && end > eq + 1 && *end == ':') {
		if (tier_parse(end + 1, &tier, err) < 0)
			return brig_ctx(err, "pool '%.64s'", text);
		end += strlen(end);
	}
	if (!eq || end == eq + 1 || *end || n < 1 || n > 4096 || len == 0 ||
	    len >= sizeof(d->pools->image)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "pool '%.64s' is malformed", text);
		return brig_fix(err, "give IMAGE=N or IMAGE=N:TIER, with N from 1 to 4096");
	}
	if (d->npools == POOLS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u pools", POOLS_MAX);
	struct pool *p = reallocarray(d->pools, d->npools + 1, sizeof(*p));
	if (!p)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	d->pools = p;
	p = &d->pools[d->npools++];
	*p = (struct pool){ .size = (unsigned)n, .tier = tier };
	memcpy(p->image, text, len);
	return 0;
}

void pool_schedule(struct brigd *d)
{
	uint64_t at = UINT64_MAX, now = clock_now();
	d->pool_timer.fn = refill_due;
	d->pool_timer.ctx = d;
	for (unsigned i = 0; i < d->npools && !d->draining && !d->quiet; i++) {
		const struct pool *p = &d->pools[i];
		if (p->ready + p->filling >= p->size)
			continue;
		uint64_t when = now + REFILL_MS * MS_NS;
		when = when > p->not_before ? when : p->not_before;
		at = at < when ? at : when;
	}
	if (at == UINT64_MAX)
		ev_timer_stop(&d->ev, &d->pool_timer);
	else
		ev_timer_set(&d->ev, &d->pool_timer, at);
}

void pool_stop(struct brigd *d)
{
	ev_timer_stop(&d->ev, &d->pool_timer);
}

static int refill(struct brigd *d, struct pool *p, struct brig_err *err)
{
	struct spec spec;
	struct admission adm;
	struct image *img = NULL;
	struct sandbox *sb = NULL;
	if (spec_parse(NULL, 0, &spec, err) < 0)
		return -1;
	const struct tier_offer offer = brigd_tiers(d);
	spec.tier = tier_resolve(&offer, p->tier, BRIG_TIER_container, err);
	if (spec.tier < 0)
		return -1;
	/* What a client must accept by name is not accepted on its behalf, but by the operator. */
	spec.accept |= d->accept;
	if (spec_admit(&spec, &d->host, d->nlive, &adm, err) < 0)
		return -1;
	int r = images_get(&d->images, p->image, &img, err);
	if (r == 0) {
		struct sandbox_plan plan = { .spec = &spec, .image = img, .adm = &adm };
		r = sandbox_create(d, &plan, NULL, &sb, err);
	}
	json_decref(adm.warnings);
	image_unref(img);
	if (r < 0)
		return -1;
	sb->pool = p;
	p->made = sb->image;
	p->filling++;
	sandbox_greet(sb);
	return 0;
}

static void refill_due(void *ctx)
{
	struct brigd *d = ctx;
	uint64_t now = clock_now();
	if (!d->refill_since)
		d->refill_since = now;
	if (d->nstarting && now - d->refill_since < POSTPONE_MS * MS_NS) {
		pool_schedule(d);
		return;
	}
	d->refill_since = 0;
	for (unsigned i = 0; i < d->npools; i++) {
		struct pool *p = &d->pools[i];
		struct brig_err err = BRIG_ERR_INIT;
		if (p->ready + p->filling >= p->size || now < p->not_before)
			continue;
		if (refill(d, p, &err) < 0) {
			if (p->failures++ == 0)
				log_line(&d->log, LOG_WARN, NULL, "pool %s: %s, retrying", p->image,
					 err.msg);
			snprintf(p->error, sizeof(p->error), "%.250s", err.msg);
			p->not_before = now + RETRY_MS * MS_NS;
			continue;
		}
		return; /* one at a time; pool_filled() goes on */
	}
	pool_schedule(d);
}

void pool_filled(struct sandbox *sb)
{
	struct pool *p = sb->pool;
	p->filling--;
	p->ready++;
	LIST_INSERT_HEAD(&p->idle, sb, pool_link);
	sb->pooled = true;
	p->fills++;
	p->error[0] = '\0';
	p->fill_ns_last = clock_now() - sb->created_ns;
	p->fill_ns_sum += p->fill_ns_last;
	pool_schedule(sb->d);
}

void pool_lost(struct sandbox *sb)
{
	struct pool *p = sb->pool;
	sb->pool = NULL;
	if (sb->pooled) {
		p->ready--;
		LIST_REMOVE(sb, pool_link);
		sb->pooled = false;
	} else {
		p->filling--;
	}
	p->not_before = clock_now() + RETRY_MS * MS_NS;
	pool_schedule(sb->d);
}

/* Whether a sandbox with default limits is what the spec asks for. */
static bool plan_is_plain(const struct sandbox_plan *plan)
{
	struct spec plain;
	struct sandbox_owner mine, theirs;
	const struct brig_limits *a = &plan->spec->limits, *b = &plain.limits;
	if (spec_parse(NULL, 0, &plain, NULL) < 0)
		return false;
	sandbox_owner_of(plan->spec, plan->image, &mine);
	sandbox_owner_of(&plain, plan->image, &theirs);
	return !plan->spec->hostname && plan->spec->layer < 0 && plan->spec->nvolumes == 0 && !plan->spec->net.link && a->cpu_milli == b->cpu_milli &&
	       a->memory_bytes == b->memory_bytes && a->pids == b->pids &&
	       a->disk_bytes == b->disk_bytes && a->inodes == b->inodes && a->nofile == b->nofile &&
	       mine.uid == theirs.uid && mine.gid == theirs.gid &&
	       strcmp(mine.home, theirs.home) == 0;
}

/* The tier of its sandboxes; -1: there is no such tier here. */
static int pool_tier(const struct brigd *d, const struct pool *p)
{
	const struct tier_offer offer = brigd_tiers(d);
	struct brig_err err;
	return tier_resolve(&offer, p->tier, BRIG_TIER_container, &err);
}

struct sandbox *pool_take(struct brigd *d, struct sandbox_plan *plan)
{
	struct sandbox *sb;
	if (d->npools == 0)
		return NULL;
	bool plain = plan_is_plain(plan);
	for (unsigned i = 0; i < d->npools; i++) {
		struct pool *p = &d->pools[i];
		if ((p->made != plan->image && strcmp(p->image, plan->image->ref) != 0) ||
		    pool_tier(d, p) != plan->spec->tier)
			continue;
		for (sb = LIST_FIRST(&p->idle); sb; sb = LIST_NEXT(sb, pool_link)) {
			/* The name may have moved on to another image since it was made. */
			if (!plain || sb->state != SB_READY || sb->image != plan->image)
				continue;
			LIST_REMOVE(sb, pool_link);
			p->hits++;
			p->ready--;
			sb->pool = NULL;
			sb->pooled = false;
			sandbox_adopt(sb, plan);
			pool_schedule(d);
			return sb;
		}
		p->misses++;
		pool_schedule(d); /* later than this request, which is served first */
		return NULL;
	}
	return NULL;
}

json_t *pool_info(const struct brigd *d)
{
	json_t *all = json_array();
	for (unsigned i = 0; i < d->npools; i++) {
		const struct pool *p = &d->pools[i];
		uint64_t mean = p->fills ? p->fill_ns_sum / p->fills : 0;
		json_array_append_new(
			all, json_pack("{s:s,s:s?,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:o}", "image", p->image,
				       "tier", pool_tier(d, p) < 0 ? NULL : brig_tier_name((uint32_t)pool_tier(d, p)),
				       "size", (int)p->size, "ready", (int)p->ready, "hits",
				       (json_int_t)p->hits, "misses", (json_int_t)p->misses,
				       "fills", (json_int_t)p->fills, "fill_us_last",
				       (json_int_t)(p->fill_ns_last / 1000), "fill_us_mean",
				       (json_int_t)(mean / 1000), "error",
				       p->error[0] ? json_string(p->error) : json_null()));
	}
	return all;
}
