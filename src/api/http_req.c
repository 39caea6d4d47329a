/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says. Headers stay in the library's memory, which lives as long as the request. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/http_conn.h"

/* Deeper than any request needs; what walks a JSON value recurses as deep. */
#define DEPTH_MAX 64

const char *http_method(const struct http_req *r)
{
	return r->method;
}

const char *http_path(const struct http_req *r)
{
	return r->target.path;
}

const char *http_target(const struct http_req *r)
{
	return r->target.raw;
}

const char *http_header(const struct http_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->mc, MHD_HEADER_KIND, name);
}

struct visit {
	int (*fn)(void *ctx, const char *name, const char *value);
	void *ctx;
};

static enum MHD_Result visit_one(void *cls, enum MHD_ValueKind kind, const char *name,
				 const char *value)
{
	struct visit *v = cls;
	(void)kind;
	return v->fn(v->ctx, name, value ? value : "") ? MHD_NO : MHD_YES;
}

void http_headers(const struct http_req *r,
		  int (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
	struct visit v = { .fn = fn, .ctx = ctx };
	MHD_get_connection_values(r->mc, MHD_HEADER_KIND, visit_one, &v);
}

const char *http_query(const struct http_req *r, const char *name)
{
	return http_target_arg(&r->target, name);
}

const char *http_query_raw(const struct http_req *r)
{
	return r->target.query;
}

const char *http_body(const struct http_req *r, size_t *ret_n)
{
	/* The NUL is there from ready on. */
	if (r->phase < HTTP_READY || r->body.tail == r->body.head) {
		*ret_n = 0;
		return "";
	}
	*ret_n = buf_len(&r->body) - 1;
	return (const char *)r->body.mem + r->body.head;
}

void http_body_wipe(struct http_req *r)
{
	if (r->body.mem)
		explicit_bzero(r->body.mem, r->body.cap);
}

static int depth_check(const char *text, size_t n, struct brig_err *err)
{
	int depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > DEPTH_MAX)
				return brig_fail(err, BRIG_E_INVALID, 0,
						 "the body nests deeper than %d levels", DEPTH_MAX);
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	return 0;
}

int http_body_json(const struct http_req *r, json_t **ret, struct brig_err *err)
{
	size_t n;
	const char *text = http_body(r, &n);
	json_error_t je;
	json_t *v;
	if (n && depth_check(text, n, err) < 0)
		return -1;
	if (n == 0)
		v = json_object();
	else
		v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
	if (!v && n == 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "parse the body");
	if (!v)
		return brig_fail(err, BRIG_E_INVALID, 0, "the body is not JSON: %s, byte %d",
				 je.text, je.position);
	*ret = v;
	return 0;
}

void *http_ctx(const struct http_req *r)
{
	return r->ctx;
}

void http_set_ctx(struct http_req *r, void *ctx)
{
	r->ctx = ctx;
}

const char *http_id(const struct http_req *r)
{
	return r->id;
}

const char *http_peer(const struct http_req *r)
{
	return r->conn->peer;
}

void http_note_key(struct http_req *r, const char *key_id)
{
	snprintf(r->key, sizeof(r->key), "%s", key_id);
}

void http_note_box(struct http_req *r, const char *box_id)
{
	snprintf(r->box, sizeof(r->box), "%s", box_id);
}

struct http *http_of(const struct http_req *r)
{
	return r->h;
}

void http_body_hold(struct http_req *r, bool hold)
{
	if (r->held == hold)
		return;
	r->held = hold;
	if (hold || r->phase != HTTP_BODY)
		return;
	http_conn_deadline(r->conn, r->h->body_ms);
	http_req_wake(r);
}

int64_t http_peer_uid(const struct http_req *r)
{
	struct ucred u;
	socklen_t n = sizeof(u);
	if (!r->h->local || getsockopt(r->conn->fd, SOL_SOCKET, SO_PEERCRED, &u, &n) < 0)
		return -1;
	return (int64_t)u.uid;
}

void http_observe(struct http_req *r, const struct http_observer *o, void *ctx)
{
	r->observer = o;
	r->observer_ctx = ctx;
}

void *http_observed(const struct http_req *r, const struct http_observer *o)
{
	return r->observer == o ? r->observer_ctx : NULL;
}
