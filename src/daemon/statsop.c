/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a job counts the answers of jaild that it waits for. It may outlive its
 * connection (the answers come all the same) and the sandboxes (their names are copied).
 */
#include "daemon/statsop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sandbox.h"

struct stats_job {
	struct conn *c; /* NULL when it has gone */
	json_t *rows;
	unsigned waiting;
};

struct stats_one {
	struct stats_job *job;
	char id[BRIG_ID_LEN + 8];
	char name[SPEC_NAME_MAX + 1];
};

static json_t *known(uint32_t valid, uint32_t bit, uint64_t v)
{
	return valid & bit ? json_integer((json_int_t)(v > INT64_MAX ? INT64_MAX : v))
			   : json_null();
}

static json_t *row_json(const struct stats_one *one, const struct jail_stats *s)
{
	const struct {
		const char *key;
		uint32_t bit;
		uint64_t value;
	} figures[] = {
		{ "cpu_us", JAIL_STAT_CPU, s->cpu_us },
		{ "cpu_throttled_us", JAIL_STAT_CPU, s->cpu_throttled_us },
		{ "memory_bytes", JAIL_STAT_MEMORY, s->memory_bytes },
		{ "memory_peak_bytes", JAIL_STAT_MEMORY, s->memory_peak_bytes },
		{ "memory_limit_bytes", JAIL_STAT_MEMORY, s->memory_limit_bytes },
		{ "memory_cache_bytes", JAIL_STAT_CACHE, s->memory_cache_bytes },
		{ "disk_used_bytes", JAIL_STAT_DISK, s->disk_used_bytes },
		{ "oom_kills", JAIL_STAT_MEMORY, s->oom_kills },
		{ "pids", JAIL_STAT_PIDS, s->pids },
		{ "pids_peak", JAIL_STAT_PIDS, s->pids_peak },
		{ "pids_limit_hits", JAIL_STAT_PIDS, s->pids_limit_hits },
		{ "io_bytes", JAIL_STAT_IO, s->io_bytes },
	};
	json_t *row = json_pack("{s:s,s:s}", "id", one->id, "name", one->name);
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		json_object_set_new(row, figures[i].key,
				    known(s->valid, figures[i].bit, figures[i].value));
	json_object_set_new(row, "host_uid", json_integer((json_int_t)s->host_uid));
	json_object_set_new(row, "init_pid", json_integer((json_int_t)s->init_pid));
	return row;
}

static void job_gone(struct conn *c)
{
	struct stats_job *job = c->op;
	job->c = NULL;
}

static const struct conn_role stats_role = { .gone = job_gone };

static void job_done(struct stats_job *job)
{
	if (--job->waiting)
		return;
	if (job->c) {
		job->c->role = NULL;
		conn_ok_last(job->c, json_pack("{s:O}", "stats", job->rows));
	}
	json_decref(job->rows);
	free(job);
}

static void one_answered(void *ctx, const union jail_answer *a)
{
	struct stats_one *one = ctx;
	struct stats_job *job = one->job;
	/* One that ended meanwhile has no row. */
	if (a->h.verb == JAIL_STATS_IS)
		json_array_append_new(job->rows, row_json(one, &a->stats));
	free(one);
	job_done(job);
}

static int ask(struct stats_job *job, struct sandbox *sb)
{
	struct jail_ref m = { .h = { .verb = JAIL_MEASURE } };
	struct stats_one *one = calloc(1, sizeof(*one));
	if (!one)
		return -1;
	one->job = job;
	memcpy(one->id, sb->id, sizeof(one->id));
	memcpy(one->name, sb->name, sizeof(one->name));
	memcpy(m.id, sb->id, sizeof(m.id));
	if (jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, one_answered, one) < 0) {
		free(one);
		return -1;
	}
	job->waiting++;
	return 0;
}

int stats_serve(struct conn *c, struct sandbox *sb, struct brig_err *err)
{
	struct stats_job *job = calloc(1, sizeof(*job));
	if (!job)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	job->c = c;
	job->rows = json_array();
	job->waiting = 1; /* this function */
	conn_set_role(c, CONN_WAIT, &stats_role, job);
	int r = 0;
	if (sb) {
		r = ask(job, sb);
	} else {
		struct sandbox *each;
		for (each = LIST_FIRST(&c->d->all); each; each = LIST_NEXT(each, all))
			if (!each->pool && each->born && !each->destroying && r == 0)
				r = ask(job, each);
	}
	if (r < 0) {
		job->c = NULL;
		c->role = NULL;
		job_done(job);
		return brig_fail(err, BRIG_E_BUSY, 0, "too many requests are under way");
	}
	job_done(job);
	return 0;
}
