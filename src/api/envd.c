/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The clients of E2B speak to a daemon in the sandbox, envd, on port 49983. Here there is none: its
 * protocol ends in this process, and what it asks for is done by the agent through brigd. So
 * nothing of HTTP, JSON or Connect is parsed inside the sandbox or with rights over it.
 *
 * A request passes, in this order: its path exists; its token is right; its box runs (a paused one
 * is resumed if it was made so); its message is well-formed. The token is compared in constant
 * time. The two routes for files take a signature instead (envd_files.c).
 *
 * While a request is under way it is a user of the box. A box that dies cuts its connections
 * without an orderly end: that is how the clients tell a killed sandbox from a failed call.
 */
#include "api/envd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/metrics.h"
#include "api/text.h"
#include "base/clock.h"

/* ---- answers ---- */

void plane_dead(struct http_req *r, const char *id)
{
	api_fail_box(r, 502, id, 0, "The sandbox was not found");
}

void envd_fail(struct envd_call *c, enum connect_code code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ev_timer_stop(&c->b->api->ev, &c->deadline);
	ev_timer_stop(&c->b->api->ev, &c->keepalive);
	if (!c->m)
		api_fail_e2b_text(c->r, connect_code_status(code), "%s", text);
	else if (c->m->stream)
		connect_stream_end(c->r, code, text);
	else
		connect_fail(c->r, code, text);
}

void envd_end(struct envd_call *c)
{
	ev_timer_stop(&c->b->api->ev, &c->deadline);
	ev_timer_stop(&c->b->api->ev, &c->keepalive);
	connect_stream_end(c->r, CONNECT_OK, "");
}

static void deadline_due(void *ctx)
{
	struct envd_call *c = ctx;
	if (c->expired)
		c->expired(c);
	envd_fail(c, CONNECT_DEADLINE, "the deadline of %llu ms has passed",
		  (unsigned long long)c->timeout_ms);
}

void envd_alive(struct envd_call *c)
{
	if (c->ping)
		ev_timer_set(&c->b->api->ev, &c->keepalive, clock_now() + c->keepalive_s * SEC_NS);
}

static void keepalive_due(void *ctx)
{
	struct envd_call *c = ctx;
	c->ping(c);
	envd_alive(c);
}

/* ---- files, for the methods ---- */

static void fs_ready(struct boxfs_use *u, enum connect_code code, const char *text)
{
	struct envd_call *c = u->ctx;
	if (code == CONNECT_OK)
		c->with_fs(c);
	else if (!c->m && code == CONNECT_UNAVAILABLE)
		plane_dead(c->r, c->b->id);
	else
		envd_fail(c, code, "%s", text);
}

void envd_with_fs(struct envd_call *c, void (*fn)(struct envd_call *c))
{
	c->with_fs = fn;
	boxfs_want(c->b, c->user, &c->fs, fs_ready, c);
}

int envd_request(struct envd_call *c, uint16_t type, const struct brig_fs_req *h, const char *path,
		 const char *second, const struct boxfs_ops *ops)
{
	const char *strings[] = { path, second };
	int err = boxfs_open(c->fs.fs, &c->q, type, h, strings, second ? 2 : 1, ops, c);
	if (err == 0)
		return 0;
	envd_fail(c, connect_code_errno(err), "%.500s: %s", path, strerror(err));
	return -1;
}

int envd_call_path(struct envd_call *c, const char *asked, char ret[PATH_MAX])
{
	struct brig_err err = BRIG_ERR_INIT;
	if (envd_path(asked, boxfs_home(c->fs.fs), ret, &err) == 0)
		return 0;
	envd_fail(c, CONNECT_INVALID, "%s", err.msg);
	return -1;
}

/* ---- life of a call ---- */

static void call_killed(struct box_user *u)
{
	struct envd_call *c =
		(struct envd_call *)((char *)u - offsetof(struct envd_call, box_user));
	box_unuse(u);
	c->used = false;
	if (c->killed)
		c->killed(c);
	boxfs_close(&c->q);
	boxfs_unwant(&c->fs);
	http_abort(c->r);
}

static void call_gone(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	struct box *b = c->b;
	ev_timer_stop(&b->api->ev, &c->deadline);
	ev_timer_stop(&b->api->ev, &c->keepalive);
	if (c->waker)
		box_wake_cancel(c->waker);
	if (c->gone)
		c->gone(c);
	boxfs_close(&c->q);
	boxfs_unwant(&c->fs);
	if (c->used)
		box_unuse(&c->box_user);
	json_decref(c->msg);
	free(c);
	box_unref(b);
}

static void call_drained(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	if (c->drained)
		c->drained(c);
}

/* Who the call acts as. */
static int call_user(struct envd_call *c)
{
	const char *auth = http_header(c->r, "Authorization");
	const char *given = c->m ? NULL : http_query(c->r, "username");
	if (auth && c->m && envd_basic_user(auth, c->user) < 0) {
		envd_fail(c, CONNECT_UNAUTHENTICATED, "the Authorization header names no user");
		return -1;
	}
	if (given && given[0] && strlen(given) >= sizeof(c->user)) {
		envd_fail(c, CONNECT_UNAUTHENTICATED, "invalid username: '%.64s'", given);
		return -1;
	}
	if (given && given[0])
		snprintf(c->user, sizeof(c->user), "%s", given);
	if (!c->user[0])
		snprintf(c->user, sizeof(c->user), "%s", c->b->user[0] ? c->b->user : "root");
	return 0;
}

/* ---- plain routes ---- */

static void health_run(struct envd_call *c)
{
	http_answer_header(c->r, "Cache-Control", "no-store");
	http_reply_empty(c->r, 204);
}

static void envs_run(struct envd_call *c)
{
	http_reply_json(c->r, 200, c->b->envs ? json_deep_copy(c->b->envs) : json_object());
}

static json_int_t figure(json_t *sample, const char *key)
{
	return json_integer_value(json_object_get(sample, key));
}

/* The last sample (metrics.c), in the words of envd. Before the first one the limits are all that
 * is known. */
static void metrics_get(struct envd_call *c)
{
	const struct box *b = c->b;
	json_t *s = metrics_last_json(b);
	json_int_t total = (json_int_t)b->memory_bytes, used = figure(s, "memUsed");
	http_reply_json(
		c->r, 200,
		json_pack("{s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "ts",
			  s ? figure(s, "timestampUnix") : (json_int_t)(wall_ms() / 1000),
			  "cpu_count", (json_int_t)((b->cpu_milli + 999) / 1000), "cpu_used_pct",
			  json_number_value(json_object_get(s, "cpuUsedPct")), "mem_total", total,
			  "mem_used", used, "mem_cache", figure(s, "memCache"), "mem_total_mib",
			  total >> 20, "mem_used_mib", used >> 20, "disk_used",
			  figure(s, "diskUsed"), "disk_total", (json_int_t)b->disk_bytes));
	json_decref(s);
}

/* ---- begin: token, user, box ---- */

static bool token_right(const struct box *b, const struct http_req *r)
{
	const char *t = http_header(r, "X-Access-Token");
	return !b->token[0] || (t && text_same_secret(t, b->token));
}

static void cors(struct http_req *r)
{
	http_answer_header(r, "Access-Control-Allow-Origin", "*");
	http_answer_header(r, "Access-Control-Expose-Headers", "*");
}

/* A row: which function, and what it needs. */
struct plain_route {
	const char *method, *path;
	bool open;  /* needs no token */
	bool files; /* takes token or signature */
	void (*run)(struct envd_call *c);
};
static const struct plain_route plain_routes[] = {
	{ "GET", "/health", true, false, health_run },
	{ "GET", "/envs", false, false, envs_run },
	{ "GET", "/metrics", false, false, metrics_get },
	{ "GET", "/files", true, true, envd_files_get },
	{ "POST", "/files", true, true, envd_files_post },
	{ NULL, NULL, false, false, NULL },
};

struct plain_call {
	struct envd_call c; /* first: http_ctx is an envd_call */
	const struct plain_route *route;
};

static void woken(void *ctx, const struct brig_err *err)
{
	struct envd_call *c = ctx;
	c->waker = NULL;
	if (err || c->b->state == BOX_DEAD) {
		plane_dead(c->r, c->b->id);
		return;
	}
	if (c->timeout_ms)
		ev_timer_set(&c->b->api->ev, &c->deadline, clock_now() + c->timeout_ms * MS_NS);
	if (c->m)
		c->m->run(c);
	else
		((struct plain_call *)c)->route->run(c);
}

static void call_wake(struct envd_call *c)
{
	box_use(c->b, &c->box_user);
	c->used = true;
	struct box_waker *w = box_wake(c->b, false, woken, c);
	if (w)
		c->waker = w;
}

static void plain_begin(struct http_req *r)
{
	struct plain_call *p = http_ctx(r);
	struct envd_call *c = &p->c;
	const char *why = NULL;
	cors(r);
	if (!p->route->open && !token_right(c->b, r))
		why = "unauthorized access, please provide a valid access token or method signing "
		      "if supported";
	else if (p->route->files)
		why = envd_files_auth(c->b, r);
	if (why) {
		api_fail_e2b_text(r, 401, "%s", why);
		return;
	}
	if (call_user(c) < 0)
		return;
	/* Until there is somebody to take it. */
	if (p->route->run == envd_files_post)
		http_body_hold(r, true);
	call_wake(c);
}

static void rpc_begin(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	cors(r);
	/* Not as a stream's error: a client without a token gets nothing but a status. */
	if (!token_right(c->b, r))
		connect_fail(r, CONNECT_UNAUTHENTICATED,
			     "unauthorized access, please provide a valid access token");
}

/* Whether the message is one that we read; else 415 was answered. */
static bool type_right(const struct envd_call *c)
{
	const char *type = http_header(c->r, "Content-Type");
	const char *want = c->m->stream ? "application/connect+json" : "application/json";
	size_t n = strlen(want);
	if (type && strncasecmp(type, want, n) == 0 && (!type[n] || strchr("; ", type[n])))
		return true;
	http_reply_empty(c->r, 415);
	return false;
}

static void rpc_ready(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	struct brig_err err = BRIG_ERR_INIT;
	size_t n;
	const char *body = http_body(r, &n);
	if (http_answered(r) || !type_right(c))
		return;
	int ok = c->m->stream ? connect_parse_one(body, n, &c->msg, &err)
			      : connect_parse(body, n, &c->msg, &err);
	if (ok < 0 || connect_timeout(r, &c->timeout_ms, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return;
	}
	c->keepalive_s = connect_keepalive(r);
	if (call_user(c) == 0)
		call_wake(c);
}

static void push_begin(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	rpc_begin(r);
	if (http_answered(r) || !type_right(c) || call_user(c) < 0)
		return;
	http_body_hold(r, true);
	call_wake(c);
}

static void push_body(struct http_req *r, const void *p, size_t n)
{
	struct envd_call *c = http_ctx(r);
	c->m->body(c, p, n);
}

static void push_ready(struct http_req *r)
{
	struct envd_call *c = http_ctx(r);
	c->m->ready(c);
}

static void files_body(struct http_req *r, const void *p, size_t n)
{
	envd_files_post_body(http_ctx(r), p, n);
}

static void files_ready(struct http_req *r)
{
	envd_files_post_ready(http_ctx(r));
}

static const struct http_handler rpc_handler = { .begin = rpc_begin,
						 .body_max = CONNECT_MESSAGE_MAX + CONNECT_HEAD,
						 .ready = rpc_ready,
						 .drained = call_drained,
						 .gone = call_gone };
static const struct http_handler push_handler = {
	.begin = push_begin, .body = push_body, .ready = push_ready, .gone = call_gone
};
static const struct http_handler plain_handler = {
	.begin = plain_begin, .body_max = 65536, .drained = call_drained, .gone = call_gone
};
static const struct http_handler upload_handler = { .begin = plain_begin,
						    .body = files_body,
						    .ready = files_ready,
						    .drained = call_drained,
						    .gone = call_gone };

/* ---- what is not there ---- */

static void unknown_begin(struct http_req *r)
{
	cors(r);
	api_fail_e2b_text(r, 404, "there is no %s %.200s", http_method(r), http_path(r));
}

static void options_begin(struct http_req *r)
{
	const char *asked = http_header(r, "Access-Control-Request-Headers");
	cors(r);
	http_answer_header(r, "Access-Control-Allow-Methods",
			   "GET, HEAD, POST, PUT, PATCH, DELETE");
	http_answer_header(r, "Access-Control-Allow-Headers", asked ? asked : "*");
	http_answer_header(r, "Access-Control-Max-Age", "7200");
	http_reply_empty(r, 204);
}

static void no_memory_begin(struct http_req *r)
{
	api_fail_e2b_text(r, 503, "out of memory");
}

static void box_gone(struct http_req *r)
{
	box_unref(http_ctx(r));
}

static const struct http_handler unknown_handler = { .begin = unknown_begin, .gone = box_gone };
static const struct http_handler options_handler = { .begin = options_begin, .gone = box_gone };
static const struct http_handler no_memory_handler = { .begin = no_memory_begin, .gone = box_gone };

/* ---- the router ---- */

static const struct envd_method *method_find(const char *path)
{
	static const struct envd_method *const tables[] = { envd_process_methods,
							    envd_input_methods, envd_fs_methods,
							    envd_watch_methods };
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct envd_method *m = tables[i]; m->path; m++)
			if (strcmp(m->path, path) == 0)
				return m;
	return NULL;
}

static const struct plain_route *route_find(const char *method, const char *path)
{
	for (const struct plain_route *p = plain_routes; p->path; p++)
		if (strcmp(p->path, path) == 0 && strcmp(p->method, method) == 0)
			return p;
	return NULL;
}

bool envd_serves(const char *method, const char *path)
{
	return (strcmp(method, "POST") == 0 && method_find(path)) || route_find(method, path);
}

const struct http_handler *envd_route(struct box *b, struct http_req *r, void **ret_ctx)
{
	const char *method = http_method(r), *path = http_path(r);
	const struct envd_method *m = strcmp(method, "POST") == 0 ? method_find(path) : NULL;
	const struct plain_route *route = m ? NULL : route_find(method, path);
	*ret_ctx = b;
	if (strcmp(method, "OPTIONS") == 0)
		return &options_handler;
	if (!m && !route)
		return &unknown_handler;
	struct plain_call *p = calloc(1, sizeof(*p));
	if (!p)
		return &no_memory_handler;
	struct envd_call *c = &p->c;
	p->route = route;
	c->b = b;
	c->r = r;
	c->m = m;
	c->box_user.killed = call_killed;
	c->deadline = (struct ev_timer){ .fn = deadline_due, .ctx = c };
	c->keepalive = (struct ev_timer){ .fn = keepalive_due, .ctx = c };
	*ret_ctx = c;
	if (m)
		return m->body ? &push_handler : &rpc_handler;
	return route->run == envd_files_post ? &upload_handler : &plain_handler;
}

void envd_box_done(struct box *b)
{
	envd_process_box_done(b);
	envd_watch_box_done(b);
	boxfs_box_done(b);
}
