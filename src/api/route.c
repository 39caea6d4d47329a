/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Chooses who handles a request, in the order that api.h tells. The data plane names its sandbox by
 * two headers or by the host; it has no key, but tokens that its handlers check. The control plane
 * is a list of tables, one row per method and path. A request passes, in this order: the route
 * exists, the key is good and may do what the route needs (auth.c), the body is JSON; so an unknown
 * path is told as such also to a client without a key, and nothing of a body is looked at before
 * the key.
 *
 * The operator's socket (peer "unix") is reachable only for who may open it in the file system, so
 * it needs no key; and only there tenants are made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/metrics.h"
#include "api/text.h"
#include "store/store.h"

/* ---- tables ---- */

/* The first row that fits is taken: DELETE /templates/tags before /templates/{}. */
const struct route *const route_tables[] = {
	create_routes,	control_routes, list_routes, template_routes, snapshot_routes,
	run_routes,	v1_routes,	keys_routes, ready_routes,    events_routes,
	openapi_routes, tenants_routes, remote_routes,   secrets_routes, receipt_routes, snapshot_v1_routes,
	volumes_routes, networks_routes, NULL
};

const struct route *routes_undeclared(void)
{
	for (unsigned i = 0; route_tables[i]; i++)
		for (const struct route *row = route_tables[i]; row->method; row++)
			if (row->needs <= PERM_UNDECLARED || row->needs >= PERM__N || !row->run)
				return row;
	return NULL;
}

/* ---- a call ---- */

static void drop_nulls(json_t *body)
{
	const char *key;
	json_t *v;
	void *next;
	json_object_foreach_safe(body, next, key, v)
	{
		if (json_is_null(v))
			json_object_del(body, key);
	}
}

/* Of a request that changes something. */
static bool has_room(const struct call *c, struct brig_err *err)
{
	const char *method = c->route->method;
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return true;
	return store_room(c->api->store, strcmp(method, "DELETE") == 0, err) == 0;
}

static void call_begin(struct http_req *r)
{
	struct call *c = http_ctx(r);
	struct brig_err err = BRIG_ERR_INIT;
	auditor_watch(c->api, r, c->route->path, c->arg[0]);
	if (!call_authenticate(c))
		return;
	if (!has_room(c, &err) || !auditor_admits(r, &err))
		call_fail(c, &err);
}

static void call_ready(struct http_req *r)
{
	struct call *c = http_ctx(r);
	struct brig_err err = BRIG_ERR_INIT;
	if (http_answered(r))
		return;
	if (c->route->flags & ROUTE_BODY) {
		if (http_body_json(r, &c->body, &err) < 0) {
			if (err.code == BRIG_E_PROTOCOL)
				err.code = BRIG_E_INVALID; /* of the client, not of brigd */
			call_fail(c, &err);
			return;
		}
		if (!json_is_object(c->body)) {
			brig_err_set(&err, BRIG_E_INVALID, 0, "the body is not a JSON object");
			call_fail(c, &err);
			return;
		}
		drop_nulls(c->body);
	}
	c->route->run(c);
}

static void call_gone(struct http_req *r)
{
	struct call *c = http_ctx(r);
	metrics_request(c->api, http_status(r));
	if (c->op)
		link_cancel(c->op);
	if (c->gone)
		c->gone(c);
	json_decref(c->body);
	json_decref(c->details);
	box_unref(c->box);
	free(c);
}

static void call_drained(struct http_req *r)
{
	struct call *c = http_ctx(r);
	if (c->drained)
		c->drained(c);
}

static const struct http_handler call_handler = { .begin = call_begin,
						  .ready = call_ready,
						  .gone = call_gone };
/* Code and files of a run are larger than what controls a sandbox. */
static const struct http_handler run_handler = { .begin = call_begin,
						 .body_max = 33554432u,
						 .ready = call_ready,
						 .drained = call_drained,
						 .gone = call_gone };

bool call_may_see(const struct call *c, const char *tenant)
{
	return c->operator|| strcmp(c->tenant, tenant) == 0;
}

struct box *call_box(struct call *c)
{
	struct box *b = box_find(c->api, c->arg[0]);
	/* E2B has no sandboxes that have ended. */
	if (!b || !call_may_see(c, b->tenant) || (b->stopped && c->route->flags & ROUTE_E2B)) {
		call_fail_text(c, 404, "sandbox '%s' was not found", c->arg[0]);
		return NULL;
	}
	c->box = box_ref(b);
	http_note_box(c->r, b->id);
	return b;
}

void call_fail_details(struct call *c, unsigned status, const struct brig_err *err, json_t *details)
{
	if (!status)
		status = api_status(err->code);
	if (c->route->flags & ROUTE_E2B)
		api_fail_e2b_details(c->r, status, err, details);
	else
		api_fail_details(c->r, status, err, details);
}

void call_fail(struct call *c, const struct brig_err *err)
{
	json_t *details = c->details;
	c->details = NULL;
	call_fail_details(c, 0, err, details);
}

void call_fail_text(struct call *c, unsigned status, const char *fmt, ...)
{
	struct brig_err err = BRIG_ERR_INIT;
	char text[sizeof(err.msg)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->route->flags & ROUTE_E2B) {
		api_fail_e2b_text(c->r, status, "%s", text);
		return;
	}
	brig_err_set(&err, api_code(status), 0, "%s", text);
	api_fail_as(c->r, status, &err);
}

void call_op(struct call *c, json_t *req, const struct link_ops *ops)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (link_start(c->api->link, req, false, ops, c, &c->op, &err) < 0) {
		c->op = NULL;
		call_fail(c, &err);
	}
}

void call_op_failed(void *ctx, json_t *error)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	call_op_done(c);
	api_err_from(error, &err);
	call_fail(c, &err);
}

/* ---- what leads nowhere ---- */

static void no_memory_begin(struct http_req *r)
{
	api_fail_e2b_text(r, 503, "out of memory");
}

static void no_route_begin(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *path = http_path(r);
	brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "there is no %s %.200s", http_method(r), path);
	if (strncmp(path, "/v1/", 4) == 0)
		api_fail(r, &err);
	else
		api_fail_e2b(r, 404, &err);
}

static void no_method_begin(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *path = http_path(r);
	brig_err_set(&err, BRIG_E_INVALID, 0, "%s is not possible on %.200s", http_method(r), path);
	if (strncmp(path, "/v1/", 4) == 0)
		api_fail_as(r, 405, &err);
	else
		api_fail_e2b(r, 405, &err);
}

static void half_begin(struct http_req *r)
{
	api_fail_e2b_text(r, 400, "E2b-Sandbox-Id and E2b-Sandbox-Port go together");
}

static void signature_begin(struct http_req *r)
{
	api_fail_e2b_text(r, 401, "invalid signature");
}

static void ending_begin(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "the server is ending");
	(void)brig_fix(&err, "try again when it has been started again");
	http_answer_header(r, "Connection", "close");
	if (strncmp(http_path(r), "/v1/", 4) == 0)
		api_fail(r, &err);
	else
		api_fail_e2b(r, 503, &err);
}

static const struct http_handler is_ending = { .begin = ending_begin };
static const struct http_handler no_memory = { .begin = no_memory_begin };
static const struct http_handler no_route = { .begin = no_route_begin };
static const struct http_handler no_method = { .begin = no_method_begin };
static const struct http_handler half_named = { .begin = half_begin };
static const struct http_handler bad_signature = { .begin = signature_begin };

/* ---- the data plane ---- */

/* Which sandbox a request meant that is not served; the answer is E2B's proxy's. */
struct lost {
	char id[ROUTE_ID_MAX];
	unsigned status;
	const char *message;
};

static void lost_begin(struct http_req *r)
{
	const struct lost *l = http_ctx(r);
	api_fail_box(r, l->status, l->id, 0, l->message);
}

static void lost_gone(struct http_req *r)
{
	free(http_ctx(r));
}

static const struct http_handler lost_handler = { .begin = lost_begin, .gone = lost_gone };

static const struct http_handler *lost(const char *id, unsigned status, const char *message,
				       void **ret_ctx)
{
	struct lost *l = calloc(1, sizeof(*l));
	if (!l)
		return &no_memory;
	snprintf(l->id, sizeof(l->id), "%s", id);
	l->status = status;
	l->message = message;
	*ret_ctx = l;
	return &lost_handler;
}

static bool id_sane(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789");
	return n > 0 && n < ROUTE_ID_MAX && id[n] == '\0';
}

/* Whether this host may carry requests for any sandbox by headers: the one URL of a server without
 * wildcard names, or sandbox.<domain>. */
static bool host_is_shared(const struct api *a, const char *host)
{
	char name[256];
	unsigned char addr[16];
	if (!a->domain[0] || !host)
		return true;
	if (host[0] == '[')
		return true; /* an IPv6 address */
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(host, ":"), host);
	if (strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, addr) == 1)
		return true;
	return strncasecmp(host, "sandbox.", 8) == 0 && strcasecmp(host + 8, a->domain) == 0;
}

static const struct http_handler *to_box(struct api *a, struct http_req *r, const char *id,
					 unsigned port, void **ret_ctx)
{
	struct box *b = box_find(a, id);
	http_note_box(r, id);
	if (!b || b->stopped || (b->state == BOX_PAUSED && !b->auto_resume))
		return lost(id, 502, "The sandbox was not found", ret_ctx);
	struct brig_err err = BRIG_ERR_INIT;
	if (!auditor_watch_plane(b, r, port, &err))
		return lost(id, 503, "The audit log cannot be written", ret_ctx);
	if (port == API_ENVD_PORT)
		return envd_route(box_ref(b), r, ret_ctx);
	if (b->traffic_token[0]) {
		const char *t = http_header(r, "E2B-Traffic-Access-Token");
		if (!t || !text_same_secret(t, b->traffic_token))
			return lost(id, 403,
				    t ? "The traffic access token is wrong"
				      : "The traffic access token is missing",
				    ret_ctx);
	}
	return port == API_INTERP_PORT ? interp_route(box_ref(b), r, ret_ctx)
				       : proxy_route(box_ref(b), port, r, ret_ctx);
}

/* The sandbox whose token made the signature. Every box is tried, whatever matched before. */
static struct box *box_by_signature(struct api *a, struct http_req *r)
{
	const char *sig = http_query(r, "signature"), *path = http_query(r, "path");
	const char *user = http_query(r, "username");
	const char *expiry = http_query(r, "signature_expiration");
	const char *op = strcmp(http_method(r), "POST") == 0 ? "write" : "read";
	char want[TEXT_SIGNATURE_MAX];
	struct box *b, *found = NULL;
	for (b = LIST_FIRST(&a->all); b; b = LIST_NEXT(b, all)) {
		if (b->token[0] &&
		    text_signature(path ? path : "", op, user ? user : "", b->token, expiry,
				   want) == 0 &&
		    text_same_secret(want, sig))
			found = b;
	}
	return found;
}

/* NULL: not of the data plane. */
static const struct http_handler *data_plane(struct api *a, struct http_req *r, void **ret_ctx)
{
	const char *id = http_header(r, "E2b-Sandbox-Id"), *host = http_header(r, "Host");
	const char *port = http_header(r, "E2b-Sandbox-Port");
	char named[ROUTE_ID_MAX];
	unsigned n = 0;
	if ((id || port) && host_is_shared(a, host)) {
		if (!id || !port)
			return &half_named;
		if (!id_sane(id) || route_port(port, strlen(port), &n) < 0)
			return lost(id_sane(id) ? id : "", 400,
				    "The sandbox or its port is malformed", ret_ctx);
		return to_box(a, r, id, n, ret_ctx);
	}
	if (host && route_host_label(host, &n, named) == 0)
		return to_box(a, r, named, n, ret_ctx);
	if (strcmp(http_path(r), "/files") == 0 && http_query(r, "signature")) {
		struct box *b = box_by_signature(a, r);
		return b ? to_box(a, r, b->id, API_ENVD_PORT, ret_ctx) : &bad_signature;
	}
	return NULL;
}

const struct http_handler *api_route(void *ctx, struct http_req *r, void **ret_ctx)
{
	struct api *a = ctx;
	const struct route *route = NULL;
	int found = -ENOENT;
	/* On a connection that was there before; /readyz says it in its own words. */
	if (a->ending && strcmp(http_path(r), "/readyz") != 0)
		return &is_ending;
	const struct http_handler *h = data_plane(a, r, ret_ctx);
	if (h)
		return h;
	struct call *c = calloc(1, sizeof(*c));
	if (!c)
		return &no_memory;
	for (unsigned i = 0; route_tables[i] && found != 0; i++) {
		int one =
			route_match(route_tables[i], http_method(r), http_path(r), &route, c->arg);
		found = one == -ENOENT ? found : one;
	}
	if (found != 0) {
		free(c);
		return found == -EPERM ? &no_method : &no_route;
	}
	c->api = a;
	c->r = r;
	c->route = route;
	*ret_ctx = c;
	return strcmp(route->path, "/v1/run") == 0 ? &run_handler : &call_handler;
}
