/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A job is one execution and the requests that wait for it: one, or with an Idempotency-Key also
 * those that repeat it. A job without a key ends with its client. One with a key does not, because
 * the client that comes back with the key must find the result, of this execution and not of
 * another; it is kept in the database for RUN_RESULT_HOURS. Only results are kept: an error lets
 * the key be used again.
 *
 * A client that asks for events (Accept: application/x-ndjson) gets them live, and the command
 * waits while it does not read. One that joins a job that runs already, or repeats one that has
 * ended, gets the whole output as events at the end.
 */
#include "api/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/admit.h"
#include "api/call.h"
#include "api/events.h"
#include "api/metrics.h"
#include "api/runexec.h"
#include "api/runtext.h"
#include "api/network.h"
#include "api/networks.h"
#include "api/secrets.h"
#include "api/text.h"
#include "api/volumes.h"
#include "base/buf.h"
#include "store/store.h"

#define NDJSON "application/x-ndjson"

struct job {
	LIST_ENTRY(job) link;
	struct api *a;
	struct runexec *exec;
	char tenant[40];
	char key[RUN_KEY_MAX + 1]; /* "" = none */
	uint8_t request[STORE_HASH_LEN];
	struct buf out[2];
	bool truncated;
	bool language;		      /* code, not a command */
	char request_id[HTTP_ID_MAX]; /* of the first request */
	json_t *info;		      /* id, tier, warnings, once it started */
	LIST_HEAD(waiter_list, waiter) waiters;
};

/* One request. */
struct waiter {
	LIST_ENTRY(waiter) link;
	struct call *c;
	struct job *job;   /* NULL once it was answered */
	bool events, live; /* live: was there when the command started */
	struct runtext text[2];
};

struct runs {
	LIST_HEAD(job_list, job) jobs;
};

static const char *const names[] = { "stdout", "stderr" };

int runs_open(struct api *a, struct brig_err *err)
{
	a->runs = calloc(1, sizeof(*a->runs));
	return a->runs ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
}

static const char *job_box(const struct job *j)
{
	return json_string_value(json_object_get(j->info, "id"));
}

/* details is stolen. */
static void job_tell(const struct job *j, enum event_type type, json_t *details)
{
	events_add(j->a, type, j->tenant, job_box(j), j->request_id, details);
}

static void job_free(struct job *j)
{
	if (j->exec) {
		runexec_cancel(j->exec);
		job_tell(j, EVENT_RUN_FINISHED, json_pack("{s:s}", "stop_reason", "client_gone"));
	}
	LIST_REMOVE(j, link);
	buf_done(&j->out[0]);
	buf_done(&j->out[1]);
	json_decref(j->info);
	free(j);
}

void runs_close(struct api *a)
{
	struct job *j;
	while (a->runs && (j = LIST_FIRST(&a->runs->jobs)))
		job_free(j);
	free(a->runs);
	a->runs = NULL;
}

/* ---- events ---- */

static void emit(void *ctx, json_t *event)
{
	struct waiter *w = ctx;
	char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
	if (text) {
		size_t n = strlen(text);
		text[n] = '\n'; /* in one write; the NUL is not needed any more */
		http_stream_write(w->c->r, text, n + 1);
	}
	free(text);
	json_decref(event);
}

static void events_begin(struct waiter *w, json_t *info)
{
	http_answer_header(w->c->r, "Cache-Control", "no-store");
	http_stream_begin(w->c->r, 200, NDJSON, -1);
	json_t *o = json_pack("{s:s,s:O*,s:O*,s:O*}", "type", "start", "id",
			      json_object_get(info, "id"), "tier", json_object_get(info, "tier"),
			      "warnings", json_object_get(info, "warnings"));
	emit(w, o);
}

static const char *base64_key(unsigned which)
{
	return which ? "stderr_base64" : "stdout_base64";
}

/* Ends a stream of events with a result; a client that was not there from the start gets the output
 * first. */
static void events_end(struct waiter *w, json_t *result)
{
	json_t *last = json_pack("{s:s}", "type", "exit");
	json_object_update(last, result);
	for (unsigned i = 0; i < 2; i++) {
		json_t *text = json_object_get(result, names[i]);
		json_t *b64 = json_object_get(result, base64_key(i));
		if (w->live)
			runtext_end(&w->text[i], names[i], emit, w);
		else if (b64 || json_string_length(text))
			emit(w, json_pack("{s:s,s:O}", "type", names[i],
					  b64 ? "data_base64" : "data", b64 ? b64 : text));
		json_object_del(last, names[i]);
		json_object_del(last, base64_key(i));
	}
	emit(w, last);
	http_stream_end(w->c->r);
}

/* ---- answers ---- */

static void answer(struct waiter *w, json_t *result)
{
	auditor_subject(w->c->r, json_string_value(json_object_get(result, "id")));
	if (w->events) {
		if (!w->live)
			events_begin(w, result);
		events_end(w, result);
	} else {
		http_reply_json(w->c->r, 200, json_incref(result));
	}
}

static void answer_error(struct waiter *w, const struct brig_err *err)
{
	if (!w->live || !w->events) {
		call_fail(w->c, err);
		return;
	}
	emit(w, json_pack("{s:s,s:{s:s,s:s,s:s,s:b,s:s}}", "type", "error", "error", "code",
			  brig_code_name(err->code), "message", err->msg, "remediation",
			  api_remedy(err), "retryable", brig_code_retryable(err->code),
			  "request_id", http_id(w->c->r)));
	http_stream_end(w->c->r);
}

static json_t *result_json(struct job *j, json_t *status, json_t *files)
{
	json_t *o = json_copy(status);
	json_object_del(o, "exec");
	json_t *warnings = json_object_get(j->info, "warnings");
	for (unsigned i = 0; i < 2; i++) {
		size_t n = buf_len(&j->out[i]);
		const char *p = n ? (const char *)buf_head(&j->out[i]) : "";
		bool bad;
		/* A character that the bound cut must not make text of it binary. */
		size_t whole = text_utf8(p, n, &bad);
		runtext_set(o, names[i], p, j->truncated && !bad ? whole : n);
	}
	if (j->truncated)
		json_object_set_new(o, "truncated", json_true());
	json_object_set_new(o, "files", files ? json_incref(files) : json_object());
	json_object_set_new(o, "warnings", warnings ? json_incref(warnings) : json_array());
	return o;
}

/* The image has not what the language needs: told as the caller's mistake, with the remedy, and not
 * as a program that failed. */
static bool lacks_language(struct job *j, json_t *status, struct brig_err *err)
{
	static const char mark[] = LANGUAGE_MISSING;
	const char *text = buf_len(&j->out[1]) ? (const char *)buf_head(&j->out[1]) : "";
	size_t n = buf_len(&j->out[1]), m = sizeof(mark) - 1;
	json_t *error = json_object_get(status, "error");
	if (!j->language ||
	    json_integer_value(json_object_get(status, "exit_code")) != BRIG_EXIT_NOT_FOUND)
		return false;
	if (error) {
		api_err_from(error, err);
		err->code = BRIG_E_INVALID;
		(void)brig_ctx(err, "the image lacks what the language needs");
	} else if (n > m && memcmp(text, mark, m) == 0) {
		size_t line = strcspn(text + m, "\n");
		line = line < n - m ? line : n - m;
		brig_err_set(err, BRIG_E_INVALID, 0, "the image has %.*s", (int)line, text + m);
	} else {
		return false;
	}
	brig_err_remedy(err, "name an image that has it: `brig image ls` shows those there are");
	return true;
}

static void keep(struct job *j, json_t *result)
{
	char *text = j->key[0] ? json_dumps(result, JSON_COMPACT) : NULL;
	if (text)
		store_result_put(j->a->store, j->tenant, j->key, j->request, text, strlen(text),
				 wall_ms() + RUN_RESULT_HOURS * 3600000ll);
	free(text);
}

/* How it ended; never what it wrote, nor the words of an error, which may quote what it was given.
 */
static void tell_finished(const struct job *j, json_t *status, const struct brig_err *err)
{
	static const char *const keys[] = { "exit_code", "signal",     "stop_reason", "evidence",
					    "usage",	 "limits_hit", "truncated" };
	json_t *o = json_object();
	for (unsigned i = 0; !err && i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(status, keys[i]))
			json_object_set(o, keys[i], json_object_get(status, keys[i]));
	if (err)
		json_object_set_new(o, "error",
				    json_pack("{s:s,s:b}", "code", brig_code_name(err->code),
					      "retryable", brig_code_retryable(err->code)));
	job_tell(j, EVENT_RUN_FINISHED, o);
}

static void done(void *ctx, json_t *status, json_t *files, const struct brig_err *err)
{
	struct job *j = ctx;
	struct waiter *w;
	struct brig_err mine = BRIG_ERR_INIT;
	json_t *result = NULL;
	j->exec = NULL;
	if (!err && lacks_language(j, status, &mine))
		err = &mine;
	if (!err) {
		result = result_json(j, status, files);
		keep(j, result);
	}
	tell_finished(j, status, err);
	metrics_run(j->a, err != NULL);
	while ((w = LIST_FIRST(&j->waiters))) {
		LIST_REMOVE(w, link);
		w->job = NULL;
		if (err)
			answer_error(w, err);
		else
			answer(w, result);
	}
	json_decref(result);
	job_free(j);
}

/* ---- what comes from the sandbox ---- */

static void started(void *ctx, json_t *info)
{
	struct job *j = ctx;
	struct waiter *w;
	j->info = json_incref(info);
	job_tell(j, EVENT_RUN_STARTED,
		 json_pack("{s:O*,s:O*,s:b}", "tier", json_object_get(info, "tier"), "image",
			   json_object_get(info, "image"), "language", (int)j->language));
	for (w = LIST_FIRST(&j->waiters); w; w = LIST_NEXT(w, link)) {
		w->live = true;
		if (job_box(j))
			http_note_box(w->c->r, job_box(j));
		auditor_subject(w->c->r, json_string_value(json_object_get(info, "id")));
		auditor_begun(w->c->r);
		if (w->events)
			events_begin(w, info);
	}
}

/* Output is kept if somebody will get it as one answer, or if it must be kept for the key; of code
 * also its beginning, which may say that the image lacks the language. */
static bool must_keep(const struct job *j, unsigned which)
{
	const struct waiter *w;
	for (w = LIST_FIRST(&j->waiters); w; w = LIST_NEXT(w, link)) {
		if (!w->events)
			return true;
	}
	return j->key[0] || (j->language && which == 1 && buf_len(&j->out[1]) < 4096);
}

static void output(void *ctx, unsigned which, const void *p, size_t n)
{
	struct job *j = ctx;
	struct waiter *w;
	if (must_keep(j, which)) {
		size_t room = RUN_KEPT_MAX - buf_len(&j->out[which]);
		size_t take = n < room ? n : room;
		if (buf_add(&j->out[which], p, take) < 0 || take < n)
			j->truncated = true;
	}
	for (w = LIST_FIRST(&j->waiters); w; w = LIST_NEXT(w, link)) {
		if (!w->events || !w->live)
			continue;
		runtext_feed(&w->text[which], names[which], p, n, emit, w);
		if (http_stream_queued(w->c->r) > HTTP_QUEUE_HIGH)
			runexec_hold(j->exec, true);
	}
}

static const struct runexec_ops exec_ops = { .started = started, .output = output, .done = done };

/* ---- requests ---- */

static void waiter_gone(struct call *c)
{
	struct waiter *w = c->priv;
	struct job *j = w->job;
	if (j) {
		LIST_REMOVE(w, link);
		if (LIST_EMPTY(&j->waiters) && !j->key[0])
			job_free(j);
		else
			runexec_hold(j->exec, false); /* it may have been held for this one */
	}
	free(w);
}

static void waiter_drained(struct call *c)
{
	struct waiter *w = c->priv;
	if (w->job && w->job->exec)
		runexec_hold(w->job->exec, false);
}

static struct waiter *waiter_new(struct call *c)
{
	struct waiter *w = calloc(1, sizeof(*w));
	const char *accept = http_header(c->r, "Accept");
	if (!w) {
		call_fail_text(c, 503, "out of memory");
		return NULL;
	}
	w->c = c;
	w->events = accept && strstr(accept, NDJSON);
	c->priv = w;
	c->gone = waiter_gone;
	c->drained = waiter_drained;
	return w;
}

static void join(struct waiter *w, struct job *j)
{
	w->job = j;
	LIST_INSERT_HEAD(&j->waiters, w, link);
}

static int key_check(const char *key, struct brig_err *err)
{
	size_t n = strlen(key);
	for (size_t i = 0; i < n; i++)
		if (key[i] < 0x21 || key[i] > 0x7e)
			n = 0;
	if (n >= 1 && n <= RUN_KEY_MAX)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "Idempotency-Key is 1 to %u printable ASCII characters", RUN_KEY_MAX);
}

static void refuse_other(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_INVALID, 0,
		     "this Idempotency-Key was used for a request with another body");
	brig_err_remedy(&err, "take a new key for a new request");
	api_fail_as(c->r, 422, &err);
}

/* 1: answered, or joined to a job that runs; 0: it must be run. */
static int repeated(struct waiter *w, const char *key, const uint8_t request[STORE_HASH_LEN])
{
	struct call *c = w->c;
	struct job *j;
	struct store_result kept = { .body = NULL };
	for (j = LIST_FIRST(&c->api->runs->jobs); j; j = LIST_NEXT(j, link)) {
		if (strcmp(j->key, key) != 0 || strcmp(j->tenant, c->tenant) != 0)
			continue;
		if (memcmp(j->request, request, STORE_HASH_LEN) != 0) {
			refuse_other(c);
		} else {
			http_answer_header(c->r, "Idempotent-Replayed", "true");
			join(w, j);
		}
		return 1;
	}
	if (!store_result_get(c->api->store, c->tenant, key, wall_ms(), &kept))
		return 0;
	json_t *result = json_loadb(kept.body, kept.n, 0, NULL);
	free(kept.body);
	if (memcmp(kept.request, request, STORE_HASH_LEN) != 0) {
		refuse_other(c);
	} else if (!result) {
		call_fail_text(c, 500, "the kept result is damaged");
	} else {
		http_answer_header(c->r, "Idempotent-Replayed", "true");
		answer(w, result);
	}
	json_decref(result);
	return 1;
}

static int job_start(struct waiter *w, const char *key, const uint8_t request[STORE_HASH_LEN],
		     struct brig_err *err)
{
	struct call *c = w->c;
	struct run_ask ask;
	if (runask_parse(c->body, &ask, err) < 0)
		return -1;
	if (secrets_attach(c, ask.secrets, ask.spec, err) < 0 ||
	    volumes_resolve(c->api, c->tenant, c->perms, "volumes", ask.volumes, ask.spec, err) < 0) {
		secrets_wipe_spec(ask.spec);
		runask_done(&ask);
		return -1;
	}
	if (networks_exist(c->api, c->tenant, json_object_get(ask.network, "networks"), err) < 0) {
		secrets_wipe_spec(ask.spec);
		runask_done(&ask);
		return -1;
	}
	const struct admission admission = {
		.spec = ask.spec,
		.image = json_string_value(json_object_get(ask.spec, "image")),
		.network = network_own_asked(ask.network),
		.timed = true,
		.n = 1
	};
	json_t *net = network_own_spec(ask.network, c->tenant);
	if (net)
		json_object_set_new(ask.spec, "network", net);
	if (call_admit(c, &admission, &ask.charge, err) < 0) {
		secrets_wipe_spec(ask.spec);
		runask_done(&ask);
		return -1;
	}
	struct job *j = calloc(1, sizeof(*j));
	if (!j) {
		charge_return(ask.charge);
		secrets_wipe_spec(ask.spec);
		runask_done(&ask);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	j->a = c->api;
	j->language = ask.language[0];
	snprintf(j->tenant, sizeof(j->tenant), "%s", c->tenant);
	snprintf(j->request_id, sizeof(j->request_id), "%s", http_id(c->r));
	snprintf(j->key, sizeof(j->key), "%s", key ? key : "");
	memcpy(j->request, request, STORE_HASH_LEN);
	j->out[0] = j->out[1] = (struct buf)BUF_INIT(RUN_KEPT_MAX);
	LIST_INIT(&j->waiters);
	LIST_INSERT_HEAD(&c->api->runs->jobs, j, link);
	if (runexec_start(c->api, &ask, c->tenant, &exec_ops, j, &j->exec, err) < 0) {
		job_free(j);
		return -1;
	}
	join(w, j);
	return 0;
}

static void run(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *key = http_header(c->r, "Idempotency-Key");
	uint8_t request[STORE_HASH_LEN] = { 0 };
	size_t n = 0;
	struct waiter *w = waiter_new(c);
	if (!w)
		return;
	if (key) {
		const char *body = http_body(c->r, &n);
		text_sha256(body, n, request);
		if (key_check(key, &err) < 0) {
			call_fail(c, &err);
			return;
		}
		if (repeated(w, key, request))
			return;
		if (store_result_room(c->api->store, RUN_KEPT_MAX, wall_ms(), &err) < 0) {
			call_fail(c, &err);
			return;
		}
	}
	if (job_start(w, key, request, &err) < 0)
		call_fail(c, &err);
}

const struct route run_routes[] = {
	{ "POST", "/v1/run", ROUTE_BODY, PERM_RUN, run },
	{ .method = NULL },
};
