/* SPDX-License-Identifier: Apache-2.0 */
#include "api/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/describe.h"
#include "api/text.h"

static int states_parse(const char *s, struct list_filter *f, struct brig_err *err)
{
	f->running = f->paused = !s || !*s;
	while (s && *s) {
		size_t n = strcspn(s, ",");
		if (n == 7 && strncmp(s, "running", n) == 0)
			f->running = true;
		else if (n == 6 && strncmp(s, "paused", n) == 0)
			f->paused = true;
		else
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "'state' is a list of running and paused");
		s += n + (s[n] == ',');
	}
	return 0;
}

static int metadata_parse(struct call *c, struct list_filter *f, struct brig_err *err)
{
	const char *s = http_query(c->r, "metadata");
	return s && *s ? text_metadata_parse(s, &f->metadata, err) : 0;
}

static int limit_parse(const char *s, unsigned *ret, struct brig_err *err)
{
	size_t n = s ? strspn(s, "0123456789") : 0;
	*ret = LIST_LIMIT_MAX;
	if (!s || !*s)
		return 0;
	*ret = n >= 1 && n <= 3 && !s[n] ? (unsigned)strtoul(s, NULL, 10) : 0;
	if (*ret >= 1 && *ret <= LIST_LIMIT_MAX)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "'limit' is a number from 1 to %u",
			 LIST_LIMIT_MAX);
}

static int filter_parse(struct call *c, struct list_filter *f, struct brig_err *err)
{
	const char *after = http_query(c->r, "startedAfter"), *way = http_query(c->r, "order");
	const char *token = http_query(c->r, "nextToken"), *id;
	int64_t ms;
	f->tenant = c->operator? NULL : c->tenant;
	f->template_id = http_query(c->r, "template");
	if (f->template_id && !f->template_id[0])
		f->template_id = NULL;
	f->ascending = way && strcmp(way, "asc") == 0;
	if (way && *way && !f->ascending && strcmp(way, "desc") != 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'order' is asc or desc");
	if (after && *after && text_time_parse(after, &f->started_after_ms) < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'startedAfter' is no RFC 3339 time");
	if (token && *token &&
	    (strlen(token) >= sizeof(f->after) || list_token_parse(token, &ms, &id) < 0))
		return brig_fail(err, BRIG_E_INVALID, 0, "'nextToken' is none of ours");
	snprintf(f->after, sizeof(f->after), "%s", token ? token : "");
	return states_parse(http_query(c->r, "state"), f, err) < 0 ||
			       limit_parse(http_query(c->r, "limit"), &f->limit, err) < 0 ||
			       metadata_parse(c, f, err) < 0
		       ? -1
		       : 0;
}

static unsigned running_count(struct call *c)
{
	struct box *b;
	unsigned n = 0;
	for (b = LIST_FIRST(&c->api->all); b; b = LIST_NEXT(b, all)) {
		n += call_may_see(c, b->tenant) && !b->stopped && strcmp(box_state_name(b), "running") == 0;
	}
	return n;
}

static void list_v2(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct list_filter f = { .limit = LIST_LIMIT_MAX };
	struct box *page[LIST_LIMIT_MAX];
	char next[LIST_TOKEN_MAX], total[16];
	if (filter_parse(c, &f, &err) < 0) {
		call_fail(c, &err);
	} else {
		json_t *all = json_array();
		unsigned n = list_page(c->api, &f, page, next);
		for (unsigned i = 0; i < n; i++)
			json_array_append_new(all, describe_listed(page[i]));
		if (next[0])
			http_answer_header(c->r, "X-Next-Token", next);
		snprintf(total, sizeof(total), "%u", running_count(c));
		http_answer_header(c->r, "X-Total-Running", total);
		http_reply_json(c->r, 200, all);
	}
	json_decref(f.metadata);
}

/* The deprecated one: running ones only, all at once. */
static void list_v1(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct list_filter f = { .tenant = c->operator? NULL : c->tenant,
				 .running = true,
				 .limit = LIST_LIMIT_MAX };
	struct box *page[LIST_LIMIT_MAX];
	if (metadata_parse(c, &f, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	json_t *all = json_array();
	do {
		char next[LIST_TOKEN_MAX];
		unsigned n = list_page(c->api, &f, page, next);
		for (unsigned i = 0; i < n; i++)
			json_array_append_new(all, describe_listed(page[i]));
		memcpy(f.after, next, sizeof(f.after));
	} while (f.after[0]);
	json_decref(f.metadata);
	http_reply_json(c->r, 200, all);
}

const struct route list_routes[] = {
	{ "GET", "/v2/sandboxes", ROUTE_E2B, PERM_BOX_READ, list_v2 },
	{ "GET", "/sandboxes", ROUTE_E2B, PERM_BOX_READ, list_v1 },
	{ .method = NULL },
};
