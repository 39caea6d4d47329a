/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request of the control plane says in small texts: the first byte chooses the reader, the
 * rest is its text (JSON for the readers of bodies).
 *
 * Oracle: what is taken can be told again and read back as the same; what is refused leaves
 * nothing; an output stays within its bound.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/ask.h"
#include "api/call.h"
#include "api/list.h"
#include "api/network.h"
#include "api/runask.h"
#include "api/runtext.h"
#include "api/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void try_time(const char *text)
{
	int64_t ms, again;
	char told[TEXT_TIME_MAX];
	if (text_time_parse(text, &ms) < 0 || ms < 0 || ms >= 253402300800000)
		return;
	text_time(ms, told);
	must(text_time_parse(told, &again) == 0 && again == ms);
}

static void try_metadata(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *o = NULL, *v;
	const char *key;
	if (text_metadata_parse(text, &o, &err) < 0) {
		must(!o && err.msg[0]);
		return;
	}
	must(json_object_size(o) <= TEXT_METADATA_MAX);
	json_object_foreach(o, key, v)
	{
		must(json_is_string(v));
	}
	json_decref(o);
}

static void try_base64(const char *text, size_t n)
{
	uint8_t *raw = NULL;
	size_t raw_n = 0;
	if (text_base64_decode(text, n, &raw, &raw_n) < 0)
		return;
	must(raw_n <= n / 4 * 3);
	char *again = text_base64(raw, raw_n);
	must(strlen(again) == n);
	free(again);
	free(raw);
}

static void try_host(const char *text)
{
	unsigned port;
	char id[ROUTE_ID_MAX];
	int64_t ms;
	const char *rest;
	if (route_host_label(text, &port, id) == 0)
		must(port >= 1 && port <= 65535 && id[0] && strlen(id) < ROUTE_ID_MAX);
	if (list_token_parse(text, &ms, &rest) == 0)
		must(ms >= 0 && rest[0]);
}

struct joined {
	uint8_t *p;
	size_t n;
};

static void join(void *ctx, json_t *event)
{
	struct joined *j = ctx;
	json_t *text = json_object_get(event, "data");
	const char *b64 = json_string_value(json_object_get(event, "data_base64"));
	uint8_t *raw = NULL;
	size_t n = 0;
	if (text) {
		memcpy(j->p + j->n, json_string_value(text), json_string_length(text));
		j->n += json_string_length(text);
	} else {
		must(b64 && text_base64_decode(b64, strlen(b64), &raw, &n) == 0);
		memcpy(j->p + j->n, raw, n);
		j->n += n;
		free(raw);
	}
	json_decref(event);
}

/* Whatever the pieces, the events are the bytes. */
static void try_events(const uint8_t *p, size_t n)
{
	struct runtext t = { .n = 0 };
	struct joined j = { .p = malloc(n + 1) };
	for (size_t at = 0; at < n;) {
		size_t piece = 1 + p[at] % 7;
		piece = piece < n - at ? piece : n - at;
		runtext_feed(&t, "stdout", p + at, piece, join, &j);
		at += piece;
	}
	runtext_end(&t, "stdout", join, &j);
	must(j.n == n && memcmp(j.p, p, n) == 0);
	free(j.p);
}

static void try_json(const char *text, size_t n)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct run_ask ask;
	json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	json_t *limits = json_object(), *spec = json_pack("{s:{}}", "limits");
	if (json_is_object(o)) {
		(void)ask_limits(o, limits, &err);
		(void)ask_metadata(o, spec, &err);
		(void)network_check(o, &err);
		if (runask_parse(o, &ask, &err) == 0) {
			must(ask.cmd || ask.code);
			must(ask.nfiles <= RUN_FILES_MAX + 1);
			runask_done(&ask);
		} else {
			must(err.msg[0]);
		}
	}
	json_decref(o);
	json_decref(limits);
	json_decref(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	size_t n = size - 1;
	char *text = malloc(n + 1);
	if (!text)
		return 0;
	memcpy(text, data + 1, n);
	text[n] = '\0';
	switch (data[0] % 6) {
	case 0:
		try_time(text);
		break;
	case 1:
		try_metadata(text);
		break;
	case 2:
		try_base64(text, strlen(text));
		break;
	case 3:
		try_host(text);
		break;
	case 4:
		try_events(data + 1, n);
		break;
	default:
		try_json(text, n);
		break;
	}
	free(text);
	return 0;
}
