/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answers is whoever the URL leads to: a brig server, another one, or something in between. The
 * answer is parsed strictly and bounded, and each way not to be a brig server of this version gets
 * its own message.
 */
#include "remote/greet.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"

#define BODY_MAX 65536u

/* more: the headers that differ, each ended. */
static int request_add(struct buf *out, const struct url *u, const char *key, const char *method,
		       const char *path, const char *more)
{
	AUTO_FREE char *text = NULL;
	int n = asprintf(&text,
			 "%s %s%s HTTP/1.1\r\nHost: %s\r\n%sX-API-KEY: %s\r\n"
			 "User-Agent: brig/%s\r\n\r\n",
			 method, u->path, path, u->host, more, key, BRIG_VERSION);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	int r = buf_add(out, text, (size_t)n);
	explicit_bzero(text, (size_t)n);
	return r;
}

int greet_request(struct buf *out, const struct url *u, const char *key)
{
	return request_add(out, u, key, "GET", "/v1/connect",
			   "Connection: Upgrade\r\nUpgrade: " GREET_PROTOCOL "\r\n");
}

int greet_call(struct buf *out, const struct url *u, const char *key, const char *method,
	       const char *path, size_t n)
{
	char more[128];
	snprintf(more, sizeof(more),
		 "Connection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n", n);
	return request_add(out, u, key, method, path, more);
}

int greet_key(char *key, struct brig_err *err)
{
	size_t n = strlen(key);
	while (n && strchr(" \t\r\n", key[n - 1]))
		key[--n] = '\0';
	for (size_t i = 0; i < n; i++)
		if (key[i] <= 0x20 || key[i] >= 0x7f)
			n = 0;
	if (n)
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "the API key is empty or has characters that no key has");
	return brig_fix(err, "set BRIG_API_KEY to what `brig key create` printed");
}

void greet_init(struct greet *g)
{
	*g = (struct greet){ .have_head = false };
	response_init(&g->head);
	g->head.may_upgrade = true;
	g->body = (struct buf)BUF_INIT(BODY_MAX);
}

void greet_done(struct greet *g)
{
	response_done(&g->head);
	buf_done(&g->body);
}

static int no_server(struct brig_err *err, const char *what)
{
	brig_err_set(err, BRIG_E_PROTOCOL, 0, "no brig server answers there: %s", what);
	return brig_fix(err, "check BRIG_URL, and that `brig serve --http` or --https runs there");
}

/* The error object of a brig server, or NULL. */
static json_t *error_object(struct greet *g)
{
	json_t *v = buf_len(&g->body) ? json_loadb((const char *)buf_head(&g->body),
						   buf_len(&g->body), JSON_REJECT_DUPLICATES, NULL)
				      : NULL;
	if (json_is_object(v) && json_is_string(json_object_get(v, "code")) &&
	    json_is_string(json_object_get(v, "message")))
		return v;
	json_decref(v);
	return NULL;
}

static void from_object(const json_t *o, struct brig_err *err)
{
	const char *fix = json_string_value(json_object_get(o, "remediation"));
	brig_err_set(err, brig_code_from_name(json_string_value(json_object_get(o, "code"))), 0, "%s",
		     json_string_value(json_object_get(o, "message")));
	if (fix)
		brig_err_remedy(err, "%s", fix);
}

static int refused(struct greet *g, struct brig_err *err)
{
	unsigned status = g->head.status;
	json_t *o = error_object(g);
	char text[64];
	if (!o) {
		snprintf(text, sizeof(text), "status %u", status);
		return no_server(err, text);
	}
	from_object(o, err);
	if (status == 401) {
		err->code = BRIG_E_DENIED;
		brig_err_remedy(err, "set BRIG_API_KEY to a key that `brig key create` made on the "
				     "server's machine");
	} else if (status == 426) {
		err->code = BRIG_E_UNSUPPORTED;
		brig_err_remedy(err, "install the same version of brig on both machines; this is "
				     "%s",
				BRIG_VERSION);
	} else if (status == 404) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "the server there has nothing for command lines elsewhere (status 404)");
		brig_err_remedy(err, "install a brig of this version (%s) there, or check the path "
				     "in BRIG_URL",
				BRIG_VERSION);
	}
	json_decref(o);
	return -1;
}

static int upgraded(struct greet *g, struct brig_err *err)
{
	const char *to = response_header(&g->head, "Upgrade");
	if (to && strcasecmp(to, GREET_PROTOCOL) == 0)
		return 1;
	return no_server(err, "it changed to another protocol");
}

int greet_answer(struct greet *g, struct buf *in, bool eof, struct brig_err *err)
{
	for (;;) {
		size_t n = 0;
		struct brig_err why = BRIG_ERR_INIT;
		switch (response_next(&g->head, in, eof, &n, &why)) {
		case RESPONSE_MORE:
			return eof ? no_server(err, "it closed the connection") : 0;
		case RESPONSE_HEAD:
			g->have_head = true;
			if (g->head.status == 101)
				return upgraded(g, err);
			if (g->head.status < 400)
				return refused(g, err);
			break;
		case RESPONSE_DATA:
			if (buf_add(&g->body, buf_head(in), n) < 0)
				return refused(g, err);
			response_took(&g->head, in, n);
			break;
		case RESPONSE_END:
			return refused(g, err);
		case RESPONSE_BAD:
			/* Of a refusal whose body does not come, the status is enough. */
			return g->have_head ? refused(g, err) : no_server(err, "its answer is malformed or cut off");
		}
	}
}
