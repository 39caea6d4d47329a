/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The code interpreter's HTTP interface (port 49999 of a box), as E2B's clients speak it:
 *
 *   GET  /health                 200 "OK"
 *   POST /execute                {code, context_id?, language?, env_vars?}: a stream of lines
 *   GET  /contexts               [{id, language, cwd}], oldest first
 *   POST /contexts               {language?, cwd?} -> {id, language, cwd}
 *   POST /contexts/{id}/restart  null
 *   DELETE /contexts/{id}        204
 *
 * Errors are plain text, as the clients show them. A box with a traffic token wants it for
 * everything here; a box with an access token wants that for /execute (clients send it nowhere
 * else).
 *
 * A stream ends with end_of_execution, also after an error event. A box that dies breaks it
 * instead: the client then asks whether the sandbox still runs, and tells its user the truth. A
 * client that goes away interrupts what it started (interp.c); that is noticed by gone().
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/interp.h"
#include "base/clock.h"

#define TEXT "text/plain; charset=utf-8"
#define CWD_MAX 4095u
#define END_LINE "{\"type\":\"end_of_execution\"}\n"
#define KEEPALIVE_LINE "{\"type\":\"keepalive\"}\n"

enum what { HEALTH, EXECUTE, LIST, CREATE, RESTART, REMOVE, UNKNOWN };

/* One request, from its headers until it is gone. */
struct ireq {
	struct irun run; /* first: irun_ops give it back */
	enum what what;
	struct box *b;
	struct http_req *r;
	struct box_user user;
	bool used;
	struct box_waker *waker;
	struct ev_timer keepalive;
	bool held;
	char context[64]; /* of the path, or context_id; "" = none */
	const char *language;
	char cwd[CWD_MAX + 1];
};

static void text(struct http_req *r, unsigned status, const char *message)
{
	http_reply(r, status, TEXT, message, strlen(message));
}

static void text_err(struct http_req *r, unsigned status, const struct brig_err *err)
{
	char all[sizeof(err->msg) + sizeof(err->remedy) + 4];
	snprintf(all, sizeof(all), "%s%s%s", err->msg, err->remedy[0] ? "; " : "", err->remedy);
	text(r, status ? status : api_status(err->code), all);
}

/* As the proxy in front of a sandbox answers. */
static void refuse_json(struct ireq *q, unsigned status, const char *message)
{
	api_fail_box(q->r, status, q->b->id, 0, message);
}

/* ---- /execute ---- */

static void stream_wrote(struct ireq *q)
{
	ev_timer_set(&q->b->api->ev, &q->keepalive, clock_now() + INTERP_KEEPALIVE_MS * MS_NS);
	if (!q->held && http_stream_queued(q->r) > HTTP_QUEUE_HIGH) {
		q->held = true;
		irun_hold(&q->run, true);
	}
}

static void stream_end(struct ireq *q)
{
	http_stream_write(q->r, END_LINE, strlen(END_LINE));
	http_stream_end(q->r);
	ev_timer_stop(&q->b->api->ev, &q->keepalive);
}

static void stream_silent(void *ctx)
{
	struct ireq *q = ctx;
	http_stream_write(q->r, KEEPALIVE_LINE, strlen(KEEPALIVE_LINE));
	stream_wrote(q);
}

static void execute_line(struct irun *run, const char *p, size_t n)
{
	struct ireq *q = (struct ireq *)run;
	if (!p) {
		stream_end(q);
		return;
	}
	http_stream_write(q->r, p, n);
	stream_wrote(q);
}

static void execute_refused(struct irun *run, const char *why)
{
	struct ireq *q = (struct ireq *)run;
	size_t n = 0;
	char *line = q->b->state == BOX_DEAD ? NULL : interp_event_error("KernelError", why, &n);
	if (!line) {
		http_abort(q->r);
		return;
	}
	http_stream_write(q->r, line, n);
	free(line);
	stream_end(q);
}

static const struct irun_ops execute_ops = { .line = execute_line, .refused = execute_refused };

static struct ictx *context_of(struct ireq *q, struct brig_err *err)
{
	struct interp *in = interp_of(q->b);
	struct ictx *c;
	if (!in) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "make the code interpreter");
		return NULL;
	}
	if (!q->context[0])
		return ictx_default(in, q->language, err);
	c = ictx_find(in, q->context);
	if (!c)
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "Context %s not found", q->context);
	return c;
}

static void execute_now(struct ireq *q)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct ictx *c = context_of(q, &err);
	if (!c) {
		text_err(q->r, 0, &err);
		return;
	}
	/* The stream must stand before the first line, which may come from within. */
	q->run.execute = true;
	q->run.ops = &execute_ops;
	if (!ictx_has_room(c)) {
		text(q->r, 429, "too many requests wait for this context");
		return;
	}
	http_stream_begin(q->r, 200, "application/x-ndjson", -1);
	stream_wrote(q);
	irun_submit(c, &q->run);
}

/* ---- /contexts ---- */

static void created(struct irun *run, const char *p, size_t n)
{
	struct ireq *q = (struct ireq *)run;
	struct interp *in = interp_of(q->b);
	struct ictx *c = in ? ictx_find(in, q->context) : NULL;
	(void)p;
	(void)n;
	if (q->what == RESTART)
		http_reply(q->r, 200, "application/json", "null", 4);
	else
		http_reply_json(q->r, 200, c ? ictx_json(c) : NULL);
}

static void create_refused(struct irun *run, const char *why)
{
	struct ireq *q = (struct ireq *)run;
	struct interp *in = q->b->interp;
	struct ictx *c = in ? ictx_find(in, q->context) : NULL;
	text(q->r, 500, why);
	if (c && q->what == CREATE)
		ictx_remove(c);
}

static const struct irun_ops create_ops = { .line = created, .refused = create_refused };

static void create_now(struct ireq *q)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct interp *in = interp_of(q->b);
	struct ictx *c = in ? ictx_new(in, q->language, q->cwd, &err) : NULL;
	if (!c) {
		text_err(q->r, 500, &err);
		return;
	}
	snprintf(q->context, sizeof(q->context), "%s", ictx_id(c));
	q->run.ops = &create_ops;
	irun_submit(c, &q->run);
}

static void restart_now(struct ireq *q)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct ictx *c = context_of(q, &err);
	if (!c || !ictx_has_room(c)) {
		text_err(q->r, c ? 429 : 0, &err);
		return;
	}
	q->run.ops = &create_ops;
	ictx_restart(c);
	/* What was told of its end may have removed it. */
	c = context_of(q, &err);
	if (c)
		irun_submit_first(c, &q->run);
	else
		text_err(q->r, 0, &err);
}

static void remove_now(struct ireq *q)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct ictx *c = context_of(q, &err);
	if (!c) {
		text_err(q->r, 0, &err);
		return;
	}
	ictx_remove(c);
	http_reply_empty(q->r, 204);
}

/* ---- a request ---- */

static void woken(void *ctx, const struct brig_err *err)
{
	struct ireq *q = ctx;
	q->waker = NULL;
	if (err) {
		refuse_json(q, 502, "The sandbox was not found");
		return;
	}
	switch (q->what) {
	case EXECUTE:
		execute_now(q);
		return;
	case CREATE:
		create_now(q);
		return;
	case RESTART:
		restart_now(q);
		return;
	default:
		remove_now(q);
		return;
	}
}

static void wake(struct ireq *q)
{
	struct box_waker *w = box_wake(q->b, false, woken, q);
	if (w)
		q->waker = w;
}

/* An optional string of the body: absent and null are the same. */
static int body_string(json_t *body, const char *key, const char **ret, struct brig_err *err)
{
	json_t *v = json_object_get(body, key);
	*ret = json_string_value(v);
	if (v && !json_is_null(v) && !*ret)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is no string", key);
	return 0;
}

static bool env_name_valid(const char *name)
{
	return name[0] && (name[0] < '0' || name[0] > '9') &&
	       name[strspn(name,
			   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] ==
		       '\0';
}

static int body_envs(struct ireq *q, json_t *body, struct brig_err *err)
{
	const char *name;
	json_t *value, *envs = json_object_get(body, "env_vars");
	if (!envs || json_is_null(envs))
		return 0;
	if (!json_is_object(envs))
		return brig_fail(err, BRIG_E_INVALID, 0, "'env_vars' is no object");
	json_object_foreach(envs, name, value)
	{
		if (!env_name_valid(name) || !json_is_string(value) ||
		    strlen(json_string_value(value)) != json_string_length(value))
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "'%.64s' of 'env_vars' is no variable with a text", name);
	}
	q->run.envs = json_incref(envs);
	return 0;
}

static int body_language(struct ireq *q, const char *name, struct brig_err *err)
{
	char lower[32];
	size_t n = 0;
	for (; name[n] && n + 1 < sizeof(lower); n++)
		lower[n] = (char)tolower((unsigned char)name[n]);
	lower[n] = '\0';
	q->language = name[n] ? NULL : kernel_language(lower);
	if (q->language)
		return 0;
	brig_fail(err, BRIG_E_INVALID, 0, "no kernel for the language '%.64s'", name);
	return brig_fix(err, "use python, javascript, typescript or bash");
}

static int body_execute(struct ireq *q, json_t *body, struct brig_err *err)
{
	const char *context, *language;
	json_t *code = json_object_get(body, "code");
	if (!json_is_string(code))
		return brig_fail(err, BRIG_E_INVALID, 0, "'code' is no string");
	if (body_string(body, "context_id", &context, err) < 0 ||
	    body_string(body, "language", &language, err) < 0 || body_envs(q, body, err) < 0)
		return -1;
	if (context && language)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "Only one of context_id or language can be provided");
	if (body_language(q, language ? language : "python", err) < 0)
		return -1;
	if (context)
		snprintf(q->context, sizeof(q->context), "%s", context[0] ? context : "?");
	q->run.code = json_incref(code);
	return 0;
}

static int body_create(struct ireq *q, json_t *body, struct brig_err *err)
{
	const char *language, *cwd;
	if (body_string(body, "language", &language, err) < 0 ||
	    body_string(body, "cwd", &cwd, err) < 0 ||
	    body_language(q, language ? language : "python", err) < 0)
		return -1;
	if (!cwd || !cwd[0])
		cwd = q->b->home[0] ? q->b->home : "/";
	if (cwd[0] != '/' || strlen(cwd) > CWD_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "'cwd' is no absolute path");
	snprintf(q->cwd, sizeof(q->cwd), "%s", cwd);
	return 0;
}

static void with_body(struct ireq *q,
		      int (*read)(struct ireq *q, json_t *body, struct brig_err *err))
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *body = NULL;
	int r = http_body_json(q->r, &body, &err);
	if (r == 0 && !json_is_object(body))
		r = brig_fail(&err, BRIG_E_INVALID, 0, "the body is no object");
	if (r == 0)
		r = read(q, body, &err);
	json_decref(body);
	if (r < 0)
		text_err(q->r, 400, &err);
	else
		wake(q);
}

static void req_ready(struct http_req *r)
{
	struct ireq *q = http_ctx(r);
	struct interp *in;
	if (http_answered(r))
		return;
	switch (q->what) {
	case HEALTH:
		http_reply(r, 200, "application/json", "\"OK\"", 4);
		return;
	case LIST:
		in = interp_of(q->b);
		http_reply_json(r, 200, in ? interp_list(in) : NULL);
		return;
	case EXECUTE:
		with_body(q, body_execute);
		return;
	case CREATE:
		with_body(q, body_create);
		return;
	case RESTART:
	case REMOVE:
		wake(q);
		return;
	case UNKNOWN:
		text(r, 404, "Not Found");
		return;
	}
}

/* Equal, in a time that tells nothing about how much of it is. */
static bool token_matches(const char *want, const char *given)
{
	return given && strlen(given) == strlen(want) &&
	       CRYPTO_memcmp(want, given, strlen(want)) == 0;
}

static void req_begin(struct http_req *r)
{
	struct ireq *q = http_ctx(r);
	if (q->b->traffic_token[0] &&
	    !token_matches(q->b->traffic_token, http_header(r, "E2B-Traffic-Access-Token")))
		refuse_json(q, 403, "Sandbox traffic access token is missing or wrong");
	else if (q->what == EXECUTE && q->b->token[0] &&
		 !token_matches(q->b->token, http_header(r, "X-Access-Token")))
		text(r, 401, "unauthorized access, the X-Access-Token is missing or wrong");
}

static void req_drained(struct http_req *r)
{
	struct ireq *q = http_ctx(r);
	if (!q->held)
		return;
	q->held = false;
	irun_hold(&q->run, false);
}

static void req_free(struct ireq *q)
{
	struct box *b = q->b;
	ev_timer_stop(&b->api->ev, &q->keepalive);
	if (q->waker)
		box_wake_cancel(q->waker);
	if (q->used)
		box_unuse(&q->user);
	json_decref(q->run.code);
	json_decref(q->run.envs);
	free(q);
	box_unref(b);
}

static void req_gone(struct http_req *r)
{
	struct ireq *q = http_ctx(r);
	irun_cancel(&q->run);
	req_free(q);
}

static void req_killed(struct box_user *u)
{
	struct ireq *q = (struct ireq *)((char *)u - offsetof(struct ireq, user));
	box_unuse(u);
	q->used = false;
	ev_timer_stop(&q->b->api->ev, &q->keepalive);
	irun_cancel(&q->run);
	http_abort(q->r);
}

static const struct http_handler handler = {
	.begin = req_begin,
	.ready = req_ready,
	.drained = req_drained,
	.gone = req_gone,
};

/* ---- no memory for a request ---- */

static void poor_ready(struct http_req *r)
{
	text(r, 503, "out of memory");
}

static void poor_gone(struct http_req *r)
{
	box_unref(http_ctx(r));
}

static const struct http_handler poor = { .ready = poor_ready, .gone = poor_gone };

/* Which route; the id of a context in it is copied. */
static enum what route(const char *method, const char *path, char *ret_id, size_t cap)
{
	bool get = strcmp(method, "GET") == 0, post = strcmp(method, "POST") == 0;
	if (strcmp(path, "/health") == 0 && get)
		return HEALTH;
	if (strcmp(path, "/execute") == 0 && post)
		return EXECUTE;
	if (strcmp(path, "/contexts") == 0)
		return get ? LIST : post ? CREATE : UNKNOWN;
	if (strncmp(path, "/contexts/", 10) != 0)
		return UNKNOWN;
	const char *id = path + 10;
	size_t n = strcspn(id, "/");
	if (n == 0 || n >= cap)
		return UNKNOWN;
	memcpy(ret_id, id, n);
	ret_id[n] = '\0';
	if (strcmp(id + n, "/restart") == 0 && post)
		return RESTART;
	return id[n] == '\0' && strcmp(method, "DELETE") == 0 ? REMOVE : UNKNOWN;
}

bool interp_serves(const char *method, const char *path)
{
	char id[sizeof(((struct ireq *)0)->context)];
	return route(method, path, id, sizeof(id)) != UNKNOWN;
}

const struct http_handler *interp_route(struct box *b, struct http_req *r, void **ret_ctx)
{
	struct ireq *q = calloc(1, sizeof(*q));
	if (!q) {
		*ret_ctx = b;
		return &poor;
	}
	q->b = b;
	q->r = r;
	q->what = route(http_method(r), http_path(r), q->context, sizeof(q->context));
	q->keepalive = (struct ev_timer){ .fn = stream_silent, .ctx = q };
	q->user.killed = req_killed;
	box_use(b, &q->user);
	q->used = true;
	*ret_ctx = q;
	return &handler;
}
