/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A tick asks brigd for the figures of all its sandboxes, in one operation, and is set again when
 * the answer is there: a slow brigd is asked less often, never twice at once. With many boxes the
 * interval grows, so that sampling stays below a fixed share of brigd's time. A ring that is full
 * forgets its oldest sample.
 *
 * CPU use is the share of the time since the last sample, of the CPUs that the box may use. The
 * writable layer is memory: what diskUsed says is in memUsed, and in memCache, too. What a host
 * cannot measure is told as 0.
 */
#include "api/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/text.h"
#include "base/clock.h"

#define INTERVAL_MS 2000u
#define INTERVAL_PER_BOX_MS 5u
#define SAMPLES_MAX 300u /* per box: ten minutes or more */

struct sample {
	int64_t time_ms;
	uint64_t cpu_us, memory_bytes, memory_limit_bytes, cache_bytes, disk_bytes;
	double cpu_pct;
};

struct metric_ring {
	unsigned first, n;
	struct sample s[SAMPLES_MAX];
};

struct metrics {
	struct api *a;
	struct ev_timer tick;
	struct link_op *op;
	uint64_t requests[6]; /* by the hundreds of their status */
	uint64_t runs, runs_failed;
};

static void tick_set(struct metrics *m)
{
	uint64_t ms = INTERVAL_MS + (uint64_t)m->a->nboxes * INTERVAL_PER_BOX_MS;
	(void)ev_timer_set(&m->a->ev, &m->tick, clock_now() + ms * MS_NS);
}

static struct sample *at(struct metric_ring *r, unsigned i)
{
	return &r->s[(r->first + i) % SAMPLES_MAX];
}

static void ring_add(struct metric_ring *r, const struct sample *s)
{
	if (r->n == SAMPLES_MAX)
		r->first = (r->first + 1) % SAMPLES_MAX;
	else
		r->n++;
	*at(r, r->n - 1) = *s;
}

static uint64_t number(const json_t *row, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(row, key));
	return v > 0 ? (uint64_t)v : 0;
}

static void sample_take(struct box *b, const json_t *row, int64_t now)
{
	struct sample s = { .time_ms = now,
			    .cpu_us = number(row, "cpu_us"),
			    .memory_bytes = number(row, "memory_bytes"),
			    .memory_limit_bytes = number(row, "memory_limit_bytes"),
			    .cache_bytes = number(row, "memory_cache_bytes"),
			    .disk_bytes = number(row, "disk_used_bytes") };
	if (!b->ring && !(b->ring = calloc(1, sizeof(*b->ring))))
		return;
	if (s.memory_limit_bytes == 0)
		s.memory_limit_bytes = b->memory_bytes;
	const struct sample *last = b->ring->n ? at(b->ring, b->ring->n - 1) : NULL;
	int64_t since_us = (now - (last ? last->time_ms : b->started_ms)) * 1000;
	uint64_t used = s.cpu_us - (last && last->cpu_us <= s.cpu_us ? last->cpu_us : 0);
	if (since_us > 0 && b->cpu_milli)
		s.cpu_pct = 100.0 * (double)used / ((double)since_us * b->cpu_milli / 1000.0);
	ring_add(b->ring, &s);
}

/* A box that brigd has no figures of may have ended, or be ending. */
static void inspect_failed(void *ctx, json_t *error)
{
	struct box *b = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	api_err_from(error, &err);
	if (err.code == BRIG_E_NOT_FOUND && b->state != BOX_DEAD)
		box_kill(b, "lost", NULL);
	box_unref(b);
}

static void inspect_replied(void *ctx, json_t *ok)
{
	struct box *b = ctx;
	const char *state = json_string_value(json_object_get(ok, "state"));
	if (state && strcmp(state, "stopped") == 0 && b->name[0])
		box_stopped(b, box_evidence(ok));
	else if (state && b->state != BOX_DEAD &&
		 (strcmp(state, "stopped") == 0 || strcmp(state, "gone") == 0 ||
		  strcmp(state, "removing") == 0))
		box_kill(b, "ended", box_evidence(ok));
	box_unref(b);
}

static void look_for(struct box *b)
{
	static const struct link_ops ops = { .reply = inspect_replied, .failed = inspect_failed };
	struct brig_err err = BRIG_ERR_INIT;
	struct link_op *op;
	json_t *req = json_pack("{s:s,s:s}", "op", "inspect", "id", b->id);
	/* If it cannot be asked for now, the next tick will. */
	if (link_start(b->api->link, req, false, &ops, box_ref(b), &op, &err) < 0)
		box_unref(b);
}

/* Those that are stopped have no figures, and may be many: one list tells which are still kept. */
static void list_replied(void *ctx, json_t *ok)
{
	struct metrics *m = ctx;
	json_t *row, *there = json_object();
	struct box *b, *next;
	size_t i;
	m->op = NULL;
	json_array_foreach(json_object_get(ok, "sandboxes"), i, row)
	{
		const char *id = json_string_value(json_object_get(row, "id"));
		if (id)
			json_object_set(there, id, json_true());
	}
	for (b = LIST_FIRST(&m->a->all); b; b = next) {
		next = LIST_NEXT(b, all);
		if (b->stopped && !json_object_get(there, b->id))
			box_kill(b, "lost", NULL);
	}
	json_decref(there);
	tick_set(m);
}

static void list_failed(void *ctx, json_t *error)
{
	struct metrics *m = ctx;
	(void)error;
	m->op = NULL;
	tick_set(m);
}

static void look_for_stopped(struct metrics *m)
{
	static const struct link_ops ops = { .reply = list_replied, .failed = list_failed };
	struct brig_err err = BRIG_ERR_INIT;
	if (link_start(m->a->link, json_pack("{s:s}", "op", "ls"), false, &ops, m, &m->op, &err) < 0) {
		m->op = NULL;
		tick_set(m);
	}
}

static void stats_replied(void *ctx, json_t *ok)
{
	struct metrics *m = ctx;
	int64_t now = wall_ms();
	size_t i;
	json_t *row;
	struct box *b;
	bool stopped = false;
	m->op = NULL;
	json_array_foreach(json_object_get(ok, "stats"), i, row)
	{
		const char *id = json_string_value(json_object_get(row, "id"));
		b = id ? box_find(m->a, id) : NULL;
		if (b)
			sample_take(b, row, now);
	}
	for (b = LIST_FIRST(&m->a->all); b; b = LIST_NEXT(b, all)) {
		bool sampled = b->ring && b->ring->n && at(b->ring, b->ring->n - 1)->time_ms == now;
		stopped = stopped || b->stopped;
		if (!sampled && !b->stopped && now - b->started_ms > INTERVAL_MS)
			look_for(b);
	}
	if (stopped)
		look_for_stopped(m);
	else
		tick_set(m);
}

static void stats_failed(void *ctx, json_t *error)
{
	struct metrics *m = ctx;
	(void)error;
	m->op = NULL;
	tick_set(m);
}

static void tick(void *ctx)
{
	static const struct link_ops ops = { .reply = stats_replied, .failed = stats_failed };
	struct metrics *m = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *req = m->a->nboxes ? json_pack("{s:s}", "op", "stats") : NULL;
	if (!req || link_start(m->a->link, req, false, &ops, m, &m->op, &err) < 0)
		tick_set(m);
}

int metrics_open(struct api *a, struct brig_err *err)
{
	struct metrics *m = calloc(1, sizeof(*m));
	if (!m)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	m->a = a;
	m->tick = (struct ev_timer){ .fn = tick, .ctx = m };
	a->metrics = m;
	tick_set(m);
	return 0;
}

void metrics_close(struct api *a)
{
	struct metrics *m = a->metrics;
	if (!m)
		return;
	if (m->op)
		link_cancel(m->op);
	ev_timer_stop(&a->ev, &m->tick);
	a->metrics = NULL;
	free(m);
}

void metrics_box_done(struct box *b)
{
	free(b->ring);
	b->ring = NULL;
}

/* ---- counters ---- */

void metrics_request(struct api *a, unsigned status)
{
	if (a->metrics && status / 100 < 6)
		a->metrics->requests[status / 100]++;
}

void metrics_run(struct api *a, bool failed)
{
	if (!a->metrics)
		return;
	a->metrics->runs++;
	a->metrics->runs_failed += failed;
}

static void boxes_text(struct api *a, struct buf *out)
{
	unsigned paused = 0;
	struct box *b;
	for (b = LIST_FIRST(&a->all); b; b = LIST_NEXT(b, all)) {
		paused += strcmp(box_state_name(b), "paused") == 0;
	}
	metrics_line(out,
		     "# HELP brig_sandboxes Sandboxes of the API by state.\n"
		     "# TYPE brig_sandboxes gauge\n"
		     "brig_sandboxes{state=\"running\"} %u\nbrig_sandboxes{state=\"paused\"} %u\n",
		     a->nboxes - paused, paused);
}

void metrics_text(struct api *a, struct buf *out)
{
	const struct metrics *m = a->metrics;
	metrics_line(out,
		     "# HELP brig_http_requests_total Answered requests of the control plane.\n"
		     "# TYPE brig_http_requests_total counter\n");
	for (unsigned i = 2; i < 6; i++)
		metrics_line(out, "brig_http_requests_total{status=\"%uxx\"} %llu\n", i,
			     (unsigned long long)m->requests[i]);
	metrics_line(
		out,
		"# HELP brig_runs_total Executions of POST /v1/run that ended.\n"
		"# TYPE brig_runs_total counter\n"
		"brig_runs_total{result=\"ok\"} %llu\nbrig_runs_total{result=\"failed\"} %llu\n",
		(unsigned long long)(m->runs - m->runs_failed), (unsigned long long)m->runs_failed);
	boxes_text(a, out);
}

/* ---- of one box ---- */

static json_t *sample_json(const struct box *b, const struct sample *s)
{
	char time[TEXT_TIME_MAX];
	text_time(s->time_ms, time);
	return json_pack("{s:s,s:I,s:f,s:i,s:I,s:I,s:I,s:I,s:I}", "timestamp", time,
			 "timestampUnix", (json_int_t)(s->time_ms / 1000), "cpuUsedPct", s->cpu_pct,
			 "cpuCount", (int)((b->cpu_milli + 999) / 1000), "memUsed",
			 (json_int_t)s->memory_bytes, "memTotal", (json_int_t)s->memory_limit_bytes,
			 "memCache", (json_int_t)s->cache_bytes, "diskUsed",
			 (json_int_t)s->disk_bytes, "diskTotal",
			 (json_int_t)b->disk_bytes);
}

json_t *metrics_json(const struct box *b, int64_t start_s, int64_t end_s)
{
	json_t *all = json_array();
	for (unsigned i = 0; b->ring && i < b->ring->n; i++) {
		const struct sample *s = at(b->ring, i);
		int64_t sec = s->time_ms / 1000;
		if (sec >= start_s && (end_s == 0 || sec <= end_s))
			json_array_append_new(all, sample_json(b, s));
	}
	return all;
}

json_t *metrics_last_json(const struct box *b)
{
	return b->ring && b->ring->n ? sample_json(b, at(b->ring, b->ring->n - 1)) : NULL;
}
