/* SPDX-License-Identifier: Apache-2.0 */
/* v1.c: brig's own routes about what there is: sandboxes, images, pools, version, health, figures. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/describe.h"
#include "api/metrics.h"
#include "api/warm.h"

#define METRICS_TEXT_MAX (256u * 1024u)

void metrics_line(struct buf *out, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text))
		(void)buf_add(out, text, (size_t)n);
}

/* ---- sandboxes ---- */

static void sandbox_list(struct call *c)
{
	json_t *all = json_array();
	struct box *b;
	for (b = LIST_FIRST(&c->api->all); b; b = LIST_NEXT(b, all)) {
		if (call_may_see(c, b->tenant))
			json_array_append_new(all, describe_v1(b));
	}
	http_reply_json(c->r, 200, json_pack("{s:o}", "sandboxes", all));
}

static void sandbox_get(struct call *c)
{
	struct box *b = call_box(c);
	if (b)
		http_reply_json(c->r, 200, describe_v1(b));
}

/* What was refused to it, as brigd's journal has it. */
static void denials_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	call_op_done(c);
	http_reply_json(c->r, 200, json_incref(ok));
}

static void denials(struct call *c)
{
	static const struct link_ops ops = { .reply = denials_replied, .failed = call_op_failed };
	struct box *b = call_box(c);
	if (b)
		call_op(c, json_pack("{s:s,s:s}", "op", "denials", "id", b->id), &ops);
}

/* Where the host listens for it. */
static void ports_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	json_t *list = json_object_get(ok, "ports");
	call_op_done(c);
	http_reply_json(c->r, 200, json_pack("{s:o}", "ports", list ? json_incref(list) : json_array()));
}

static void ports(struct call *c)
{
	static const struct link_ops ops = { .reply = ports_replied, .failed = call_op_failed };
	struct box *b = call_box(c);
	if (b)
		call_op(c, json_pack("{s:s,s:s}", "op", "inspect", "id", b->id), &ops);
}

/* ---- images ---- */

static void images_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	call_op_done(c);
	http_reply_json(c->r, 200, json_copy(ok));
}

static void image_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	json_t *image = json_array_get(json_object_get(ok, "images"), 0);
	call_op_done(c);
	http_reply_json(c->r, 200, image ? json_incref(image) : json_object());
}

static void images(struct call *c)
{
	static const struct link_ops ops = { .reply = images_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "images"), &ops);
}

static void image_get(struct call *c)
{
	static const struct link_ops ops = { .reply = image_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s,s:s}", "op", "images", "image", c->arg[0]), &ops);
}

/* ---- version, pools ---- */

/* brigd's pools of images, and ours of templates. */
static void pools_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	call_op_done(c);
	json_t *o = json_copy(ok);
	json_object_set_new(o, "warm", warm_info(c->api->warm));
	http_reply_json(c->r, 200, o);
}

static void version_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	call_op_done(c);
	json_t *o = json_copy(ok);
	/* What only whoever runs the server needs. */
	json_object_del(o, "pid");
	json_object_del(o, "instance");
	json_object_set_new(o, "api", json_string("v1"));
	json_object_set_new(o, "envd_version", json_string(API_ENVD_VERSION));
	http_reply_json(c->r, 200, o);
}

static void version(struct call *c)
{
	static const struct link_ops ops = { .reply = version_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "version"), &ops);
}

static void pools(struct call *c)
{
	static const struct link_ops ops = { .reply = pools_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "pool"), &ops);
}

/* ---- figures, health ---- */

static long long pool_number(const json_t *pool, const char *key)
{
	return (long long)json_integer_value(json_object_get(pool, key));
}

static void figures_replied(void *ctx, json_t *ok)
{
	static const struct {
		const char *name, *type, *key, *help;
	} rows[] = {
		{ "brig_pool_size", "gauge", "size", "Sandboxes that the pool keeps ready." },
		{ "brig_pool_ready", "gauge", "ready", "Sandboxes that are ready." },
		{ "brig_pool_hits_total", "counter", "hits", "Requests served from the pool." },
		{ "brig_pool_misses_total", "counter", "misses", "Requests that found none." },
		{ "brig_pool_fills_total", "counter", "fills", "Sandboxes made for the pool." },
		{ "brig_pool_fill_microseconds", "gauge", "fill_us_mean",
		  "Mean time in which one is made." },
	};
	struct call *c = ctx;
	struct buf out = BUF_INIT(METRICS_TEXT_MAX);
	json_t *all = json_object_get(ok, "pools"), *pool;
	size_t i;
	call_op_done(c);
	metrics_text(c->api, &out);
	for (unsigned k = 0; json_array_size(all) && k < sizeof(rows) / sizeof(rows[0]); k++) {
		metrics_line(&out, "# HELP %s %s\n# TYPE %s %s\n", rows[k].name, rows[k].help,
			     rows[k].name, rows[k].type);
		json_array_foreach(all, i, pool)
		{
			const char *image = json_string_value(json_object_get(pool, "image"));
			metrics_line(&out, "%s{image=\"%s\"} %lld\n", rows[k].name,
				     image ? image : "", pool_number(pool, rows[k].key));
		}
	}
	http_reply(c->r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_head(&out),
		   buf_len(&out));
	buf_done(&out);
}

static void figures(struct call *c)
{
	static const struct link_ops ops = { .reply = figures_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "pool"), &ops);
}

static void health_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	(void)ok;
	call_op_done(c);
	http_reply(c->r, 200, "text/plain", "ok\n", 3);
}

/* Healthy is who reaches brigd. */
static void health(struct call *c)
{
	static const struct link_ops ops = { .reply = health_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "version"), &ops);
}

const struct route v1_routes[] = {
	{ "GET", "/v1/sandboxes", 0, PERM_BOX_READ, sandbox_list },
	{ "GET", "/v1/sandboxes/{}", 0, PERM_BOX_READ, sandbox_get },
	{ "GET", "/v1/sandboxes/{}/denials", 0, PERM_BOX_READ, denials },
	{ "GET", "/v1/sandboxes/{}/ports", 0, PERM_BOX_READ, ports },
	{ "DELETE", "/v1/sandboxes/{}", 0, PERM_BOX_WRITE, control_delete },
	{ "GET", "/v1/images", 0, PERM_TEMPLATE_READ, images },
	{ "GET", "/v1/images/{}", 0, PERM_TEMPLATE_READ, image_get },
	{ "GET", "/v1/version", 0, PERM_SERVER, version },
	{ "GET", "/v1/pools", 0, PERM_SERVER, pools },
	{ "GET", "/metrics", 0, PERM_METRICS, figures },
	{ "GET", "/healthz", 0, PERM_OPEN, health },
	{ "GET", "/health", ROUTE_E2B, PERM_OPEN, health },
	{ .method = NULL },
};
