/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/volumeop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "brig/limits.h"
#include "daemon/daemon.h"
#include "daemon/fields.h"
#include "daemon/jail.h"
#include "daemon/spec.h"

/* A client may leave before jaild has answered; what it asked for is done all the same. */
struct volume_job {
	struct conn *c;
};

static void job_gone(struct conn *c)
{
	struct volume_job *job = c->op;
	job->c = NULL;
}

static const struct conn_role volume_role = { .gone = job_gone };

static void answered(void *ctx, const union jail_answer *a)
{
	struct volume_job *job = ctx;
	const struct jail_volume_is *v = &a->volume;
	if (job->c) {
		job->c->role = NULL;
		if (a->h.verb == JAIL_VOLUME_IS) {
			conn_ok_last(job->c, json_pack("{s:I,s:I,s:I,s:I,s:i,s:i}", "bytes", (json_int_t)v->bytes,
						       "inodes", (json_int_t)v->inodes, "used_bytes",
						       (json_int_t)v->used_bytes, "used_inodes",
						       (json_int_t)v->used_inodes, "readers", (int)v->readers,
						       "writers", (int)v->writers));
		} else {
			struct brig_err err = BRIG_ERR_INIT;
			jail_error_to(a, &err);
			conn_error(job->c, &err);
		}
	}
	free(job);
}

static int id_take(json_t *req, const char *key, char ret[BRIG_ID_LEN + 8], struct brig_err *err)
{
	const char *id = NULL;
	if (field_str(req, key, BRIG_ID_LEN, &id, err) < 0)
		return -1;
	if (id && !volume_id_ok(id))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is no id of a volume", key);
	if (id)
		memcpy(ret, id, BRIG_ID_LEN);
	return 0;
}

static int ask_parse(json_t *req, struct jail_volume_ask *m, struct brig_err *err)
{
	static const char *const keys[] = { "op", "do", "id", "from", "bytes", "inodes", "seal", NULL };
	static const char *const ops[JAIL_VOLUME__N] = {
#define X(name, text) [JAIL_VOLUME_##name] = #text,
		JAIL_VOLUME_OPS(X)
#undef X
	};
	const char *what = NULL;
	bool seal = false;
	if (fields_known(req, "volume", keys, err) < 0 || field_str(req, "do", 16, &what, err) < 0 ||
	    id_take(req, "id", m->id, err) < 0 || id_take(req, "from", m->from, err) < 0 ||
	    field_u64(req, "bytes", 0, VOLUME_BYTES_MAX, &m->bytes, err) < 0 ||
	    field_u64(req, "inodes", 0, VOLUME_INODES_MAX, &m->inodes, err) < 0 ||
	    field_bool(req, "seal", &seal, err) < 0)
		return -1;
	m->seal = seal;
	while (m->op < JAIL_VOLUME__N && (!what || strcmp(ops[m->op], what) != 0))
		m->op++;
	if (m->op == JAIL_VOLUME__N)
		return brig_fail(err, BRIG_E_INVALID, 0, "'do' is one of make, clone, remove and stat");
	if (!m->id[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "'id' is missing");
	return 0;
}

int volume_serve(struct conn *c, json_t *req, struct brig_err *err)
{
	struct jail_volume_ask m = { .h = { .verb = JAIL_VOLUME } };
	if (ask_parse(req, &m, err) < 0)
		return -1;
	memcpy(c->about, m.id, BRIG_ID_LEN + 1);
	struct volume_job *job = calloc(1, sizeof(*job));
	if (!job)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	job->c = c;
	int r = jail_call(&c->d->jail, &m, sizeof(m), NULL, 0, answered, job);
	if (r < 0) {
		free(job);
		return brig_fail(err, r == -EPIPE ? BRIG_E_UNAVAILABLE : BRIG_E_BUSY, -r, "ask brig-jaild");
	}
	conn_set_role(c, CONN_WAIT, &volume_role, job);
	return 0;
}
