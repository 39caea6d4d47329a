/* SPDX-License-Identifier: Apache-2.0 */
#include "api/runtext.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/text.h"

void runtext_set(json_t *o, const char *name, const void *p, size_t n)
{
	bool bad;
	char key[64];
	if (text_utf8(p, n, &bad) == n) {
		json_object_set_new(o, name, json_stringn(n ? p : "", n));
		return;
	}
	char *b64 = text_base64(p, n);
	snprintf(key, sizeof(key), "%s_base64", name);
	json_object_set_new(o, key, b64 ? json_string(b64) : json_null());
	free(b64);
}

static void event(const char *type, const void *p, size_t n, void (*emit)(void *ctx, json_t *event),
		  void *ctx)
{
	json_t *o = json_pack("{s:s}", "type", type);
	runtext_set(o, "data", p, n);
	emit(ctx, o);
}

/* Whole text goes at once; a piece with bytes that can be no text goes as it is, whole. */
static void feed(struct runtext *t, const char *type, const uint8_t *p, size_t n,
		 void (*emit)(void *ctx, json_t *event), void *ctx)
{
	bool bad;
	size_t whole = text_utf8(p, n, &bad);
	if (bad)
		whole = n;
	t->n = n - whole;
	memcpy(t->rest, p + whole, t->n);
	if (whole)
		event(type, p, whole, emit, ctx);
}

void runtext_feed(struct runtext *t, const char *type, const void *p, size_t n,
		  void (*emit)(void *ctx, json_t *event), void *ctx)
{
	if (t->n == 0) {
		feed(t, type, p, n, emit, ctx);
		return;
	}
	uint8_t *joined = malloc(t->n + n);
	if (!joined) { /* as two pieces, of which the first is no text */
		event(type, t->rest, t->n, emit, ctx);
		feed(t, type, p, n, emit, ctx);
		return;
	}
	size_t had = t->n;
	memcpy(joined, t->rest, had);
	memcpy(joined + had, p, n);
	feed(t, type, joined, had + n, emit, ctx);
	free(joined);
}

void runtext_end(struct runtext *t, const char *type, void (*emit)(void *ctx, json_t *event),
		 void *ctx)
{
	if (t->n)
		event(type, t->rest, t->n, emit, ctx);
	t->n = 0;
}
