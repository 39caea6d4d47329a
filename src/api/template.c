/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A template is an image of brig's store. Its id is the image's name; `name:tag` is what a tag of
 * the tenant leads to, and `name:default` is the name itself. Images are built by `brig image`, not
 * here: the routes of E2B's template builds say so.
 *
 * E2B's clients ask for `base` and `code-interpreter-v1` when they are not told otherwise. If the
 * store has no image of the second name, `base` is taken and the answer's X-Brig-Image tells it.
 */
#include "api/template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/call.h"
#include "api/snapshot.h"
#include "api/text.h"
#include "base/fd.h"
#include "brig/limits.h"
#include "daemon/fields.h"
#include "image/name.h"
#include "store/store.h"

#define DEFAULT_TAG "default"
#define TAGS_PER_CALL 32u

static const struct brig_limits limits_default = {
#define X(field, flag, kind, def, min, max, none, what) .field = (def),
	BRIG_LIMITS(X)
#undef X
};

int template_split(const char *id, char name[64], char tag[64])
{
	const char *slash = strrchr(id, '/');
	const char *base = slash ? slash + 1 : id, *colon = strchr(base, ':');
	size_t n = colon ? (size_t)(colon - base) : strlen(base);
	const char *t = colon ? colon + 1 : DEFAULT_TAG;
	if (n < 1 || n > 63 || !*t || strlen(t) > 63 || strchr(t, ':'))
		return -EINVAL;
	memcpy(name, base, n);
	name[n] = '\0';
	snprintf(tag, 64, "%s", t);
	return 0;
}

void template_done(struct template *t)
{
	fd_close(&t->snapshot_fd);
	json_decref(t->envs);
	json_decref(t->limits);
	t->envs = t->limits = NULL;
}

/* ---- snapshots ---- */

struct find {
	const char *tenant, *id, *name;
	struct template *t;
	bool found;
};

static json_t *json_of(const char *text)
{
	return text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static bool find_one(void *ctx, const struct store_snapshot *snap)
{
	struct find *f = ctx;
	struct template *t = f->t;
	if (strcmp(snap->tenant, f->tenant) != 0 ||
	    (strcmp(snap->id, f->id) != 0 && (!snap->name[0] || strcmp(snap->name, f->name) != 0)))
		return true;
	f->found = true;
	snprintf(t->snapshot, sizeof(t->snapshot), "%s", snap->id);
	snprintf(t->image, sizeof(t->image), "%s", snap->image);
	snprintf(t->image_name, sizeof(t->image_name), "%s", snap->image_name);
	snprintf(t->user, sizeof(t->user), "%s", snap->user);
	t->envs = json_of(snap->envs);
	t->limits = json_of(snap->limits);
	return false;
}

static int not_found(const char *id, struct brig_err *err)
{
	brig_err_set(err, BRIG_E_NOT_FOUND, 0, "template '%.191s' not found", id);
	return brig_fix(err, "see `brig image ls` for the images that there are");
}

int template_find(struct api *a, const char *tenant, const char *id, struct template *ret,
		  struct brig_err *err)
{
	struct template t = { .snapshot_fd = -1 };
	char name[64], tag[64];
	struct store_tag tagged;
	if (template_split(id, name, tag) < 0)
		return not_found(id, err);
	snprintf(t.alias, sizeof(t.alias), "%s", name);
	struct find f = { .tenant = tenant, .id = name, .name = id, .t = &t };
	store_snapshots(a->store, find_one, &f);
	if (f.found) {
		t.snapshot_fd = snapshot_open(a, t.snapshot);
		if (t.snapshot_fd < 0) {
			int sys = -t.snapshot_fd;
			template_done(&t);
			return brig_fail(err, BRIG_E_CORRUPT, sys, "open the file of snapshot '%s'",
					 name);
		}
	} else if (strcmp(tag, DEFAULT_TAG) != 0) {
		if (!store_tag_get(a->store, tenant, name, tag, &tagged))
			return not_found(id, err);
		snprintf(t.image, sizeof(t.image), "%s", tagged.image);
		snprintf(t.image_name, sizeof(t.image_name), "%s", name);
	} else {
		snprintf(t.image, sizeof(t.image), "%s", name);
		snprintf(t.image_name, sizeof(t.image_name), "%s", name);
		if (strcmp(name, "code-interpreter-v1") == 0)
			t.fallback = "base";
	}
	*ret = t;
	return 0;
}

/* ---- the routes ---- */

/* E2B names builds by UUIDs, and its Python client parses them as such. */
static void build_id(const char *digest, char ret[37])
{
	const char *h = strchr(digest, ':');
	h = h && strlen(h + 1) >= 32 ? h + 1 : "00000000000000000000000000000000";
	snprintf(ret, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static json_t *template_json(const json_t *image)
{
	const char *name = text_of(image, "name"), *created = text_of(image, "created");
	char build[37];
	build_id(text_of(image, "digest"), build);
	json_t *size = json_object_get(image, "size_bytes");
	/* CPUs and memory are a sandbox's, not an image's: what one gets without asking. */
	return json_pack("{s:s,s:s,s:i,s:i,s:I,s:b,s:[s],s:[s],s:s,s:s,s:n,s:n,s:i,s:i,s:s,s:s}",
			 "templateID", name, "buildID", build, "cpuCount",
			 (int)((limits_default.cpu_milli + 999) / 1000), "memoryMB",
			 (int)(limits_default.memory_bytes / MIB), "diskSizeMB",
			 (json_int_t)(json_integer_value(size) / (json_int_t)MIB), "public", 0,
			 "aliases", name, "names", name, "createdAt",
			 created[0] ? created : "1970-01-01T00:00:00Z", "updatedAt",
			 created[0] ? created : "1970-01-01T00:00:00Z", "createdBy",
			 "lastSpawnedAt", "spawnCount", 0, "buildCount", 1, "envdVersion",
			 API_ENVD_VERSION, "buildStatus", "ready");
}

static void templates_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	json_t *all = json_array(), *image;
	size_t i;
	call_op_done(c);
	json_array_foreach(json_object_get(ok, "images"), i, image)
	{
		json_array_append_new(all, template_json(image));
	}
	http_reply_json(c->r, 200, all);
}

static void template_list(struct call *c)
{
	static const struct link_ops ops = { .reply = templates_replied, .failed = call_op_failed };
	call_op(c, json_pack("{s:s}", "op", "images"), &ops);
}

/* Errors of routes that ask brigd for one image. */
static void image_failed(void *ctx, json_t *error)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	call_op_done(c);
	api_err_from(error, &err);
	if (err.code == BRIG_E_NOT_FOUND)
		not_found(c->arg[0], &err);
	call_fail(c, &err);
}

static void ask_image(struct call *c, const char *ref, const struct link_ops *ops)
{
	call_op(c, json_pack("{s:s,s:s}", "op", "images", "image", ref), ops);
}

static const json_t *only_image(const json_t *ok)
{
	return json_array_get(json_object_get(ok, "images"), 0);
}

static void alias_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	(void)ok;
	call_op_done(c);
	http_reply_json(c->r, 200, json_pack("{s:s,s:b}", "templateID", c->arg[0], "public", 0));
}

static void template_alias(struct call *c)
{
	static const struct link_ops ops = { .reply = alias_replied, .failed = image_failed };
	struct brig_err err = BRIG_ERR_INIT;
	struct template t;
	if (template_find(c->api, c->tenant, c->arg[0], &t, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (t.snapshot[0])
		alias_replied(c, NULL);
	else
		ask_image(c, t.image, &ops);
	template_done(&t);
}

/* ---- tags ---- */

static json_t *tag_json(const char *tag, const char *image, int64_t created_ms)
{
	char build[37], created[TEXT_TIME_MAX];
	build_id(image, build);
	text_time(created_ms, created);
	return json_pack("{s:s,s:s,s:s}", "tag", tag, "buildID", build, "createdAt", created);
}

static void tag_each(void *ctx, const struct store_tag *t)
{
	json_array_append_new(ctx, tag_json(t->tag, t->image, t->created_ms));
}

static void tags_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	const json_t *image = only_image(ok);
	int64_t created = 0;
	json_t *all = json_array();
	call_op_done(c);
	(void)text_time_parse(text_of(image, "created"), &created);
	json_array_append_new(all, tag_json(DEFAULT_TAG, text_of(image, "digest"), created));
	store_tags(c->api->store, c->tenant, c->arg[0], tag_each, all);
	http_reply_json(c->r, 200, all);
}

static void tag_list(struct call *c)
{
	static const struct link_ops ops = { .reply = tags_replied, .failed = image_failed };
	ask_image(c, c->arg[0], &ops);
}

static int tags_of(struct call *c, json_t **ret, struct brig_err *err)
{
	char name[64], tag[64];
	size_t i;
	json_t *v;
	if (field_strings(c->body, "tags", TAGS_PER_CALL, 64 * TAGS_PER_CALL, ret, err) < 0)
		return -1;
	if (json_array_size(*ret) == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'tags' is missing");
	json_array_foreach(*ret, i, v)
	{
		char id[80];
		snprintf(id, sizeof(id), "x:%s", json_string_value(v));
		if (json_string_length(v) > 63 || template_split(id, name, tag) < 0 ||
		    strchr(tag, '/') || strcmp(tag, DEFAULT_TAG) == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "tag %zu is no name of a tag",
					 i + 1);
	}
	return 0;
}

static void tag_put_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	struct store_tag t = { .created_ms = wall_ms() };
	const char *digest = text_of(only_image(ok), "digest");
	char build[37], unused[64];
	json_t *tags = NULL, *v;
	size_t i;
	call_op_done(c);
	if (tags_of(c, &tags, &err) < 0 || template_split(c->arg[0], t.name, unused) < 0) {
		call_fail(c, &err);
		return;
	}
	if (!digest[0]) {
		call_fail_text(c, 400, "the built-in image has no tags");
		return;
	}
	snprintf(t.image, sizeof(t.image), "%s", digest);
	json_array_foreach(tags, i, v)
	{
		snprintf(t.tag, sizeof(t.tag), "%s", json_string_value(v));
		if (store_tag_put(c->api->store, c->tenant, &t, &err) < 0) {
			call_fail(c, &err);
			return;
		}
	}
	build_id(digest, build);
	http_reply_json(c->r, 201, json_pack("{s:s,s:O}", "buildID", build, "tags", tags));
}

static void tag_put(struct call *c)
{
	static const struct link_ops ops = { .reply = tag_put_replied, .failed = image_failed };
	struct brig_err err = BRIG_ERR_INIT;
	const char *target = NULL;
	json_t *tags = NULL;
	struct template t;
	if (field_str(c->body, "target", sizeof(c->arg[0]) - 1, &target, &err) < 0 ||
	    tags_of(c, &tags, &err) < 0 ||
	    template_find(c->api, c->tenant, target ? target : "", &t, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	snprintf(c->arg[0], sizeof(c->arg[0]), "%s", target);
	if (t.snapshot[0])
		call_fail_text(c, 400, "a snapshot has no tags");
	else
		ask_image(c, t.image, &ops);
	template_done(&t);
}

static void tag_delete(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *name = NULL;
	json_t *tags = NULL, *v;
	size_t i;
	bool all = true;
	if (field_str(c->body, "name", 63, &name, &err) < 0 || tags_of(c, &tags, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	json_array_foreach(tags, i, v)
	{
		all &= store_tag_remove(c->api->store, c->tenant, name ? name : "",
					json_string_value(v));
	}
	if (all)
		http_reply_empty(c->r, 204);
	else
		call_fail_text(c, 404, "template '%.63s' has not all of these tags",
			       name ? name : "");
}

/* ---- what is not there ---- */

static void not_built_here(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_UNSUPPORTED, 0,
		     "template builds are not part of this version of brig");
	brig_err_remedy(&err, "make an image on the server: brig image build -f FILE -t NAME, or brig image pull");
	api_fail_e2b(c->r, 501, &err);
}

static void no_secrets(struct call *c)
{
	call_fail_text(c, 501, "secrets are kept by brig's own API: /v1/secrets");
}

static void teams(struct call *c)
{
	http_reply_json(c->r, 200,
			json_pack("[{s:s,s:s,s:s,s:b}]", "teamID", c->tenant, "name", c->tenant,
				  "apiKey", "", "isDefault", 1));
}

#define E2B ROUTE_E2B
#define E2B_BODY (ROUTE_E2B | ROUTE_BODY)
const struct route template_routes[] = {
	{ "GET", "/templates", E2B, PERM_TEMPLATE_READ, template_list },
	{ "GET", "/v2/templates", E2B, PERM_TEMPLATE_READ, template_list },
	{ "GET", "/templates/aliases/{}", E2B, PERM_TEMPLATE_READ, template_alias },
	{ "POST", "/templates/tags", E2B_BODY, PERM_TEMPLATE_WRITE, tag_put },
	{ "DELETE", "/templates/tags", E2B_BODY, PERM_TEMPLATE_WRITE, tag_delete },
	{ "GET", "/templates/{}/tags", E2B, PERM_TEMPLATE_READ, tag_list },
	{ "POST", "/templates", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "POST", "/v2/templates", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "POST", "/v3/templates", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "PATCH", "/v2/templates/{}", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "PATCH", "/templates/{}", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "GET", "/templates/{}/files/{}", E2B, PERM_TEMPLATE_READ, not_built_here },
	{ "POST", "/templates/{}/builds/{}", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "POST", "/v2/templates/{}/builds/{}", E2B, PERM_TEMPLATE_WRITE, not_built_here },
	{ "GET", "/templates/{}/builds/{}/status", E2B, PERM_TEMPLATE_READ, not_built_here },
	{ "GET", "/secrets", E2B, PERM_BOX_READ, no_secrets },
	{ "POST", "/secrets", E2B, PERM_BOX_WRITE, no_secrets },
	{ "GET", "/secrets/{}", E2B, PERM_BOX_READ, no_secrets },
	{ "POST", "/secrets/{}", E2B, PERM_BOX_WRITE, no_secrets },
	{ "DELETE", "/secrets/{}", E2B, PERM_BOX_WRITE, no_secrets },
	{ "GET", "/teams", E2B, PERM_SERVER, teams },
	{ .method = NULL },
};
