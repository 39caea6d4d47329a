/* SPDX-License-Identifier: Apache-2.0 */
#include "api/describe.h"

#include "api/box.h"
#include "api/text.h"

#define MIB 1048576u
/* Deprecated there, and still required by E2B's Python client. */
#define CLIENT_ID "brig"

/* 9999-12-31T23:59:59Z: E2B's clients want a time. */
#define NEVER_MS 253402300799000ll

static void set(json_t *o, const char *key, json_t *v)
{
	json_object_set_new(o, key, v);
}

static void set_optional(json_t *o, const char *key, const char *text)
{
	if (text[0])
		set(o, key, json_string(text));
}

json_t *describe_sandbox(const struct box *b, bool tokens)
{
	const char *domain = b->api->domain;
	json_t *o = json_pack("{s:s,s:s,s:s,s:s}", "templateID", b->template_id, "sandboxID", b->id,
			      "clientID", CLIENT_ID, "envdVersion", API_ENVD_VERSION);
	set_optional(o, "alias", b->alias);
	if (tokens)
		set_optional(o, "envdAccessToken", b->token);
	set(o, "trafficAccessToken",
	    tokens && b->traffic_token[0] ? json_string(b->traffic_token) : json_null());
	set(o, "domain", domain[0] ? json_string(domain) : json_null());
	return o;
}

json_t *describe_listed(const struct box *b)
{
	char started[TEXT_TIME_MAX], end[TEXT_TIME_MAX];
	text_time(b->started_ms, started);
	text_time(b->end_ms ? b->end_ms : NEVER_MS, end);
	/* Whole CPUs there; a fraction is told as the next one. */
	json_t *o =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:I,s:I,s:s,s:s}", "templateID", b->template_id,
			  "sandboxID", b->id, "clientID", CLIENT_ID, "startedAt", started, "endAt",
			  end, "cpuCount", (int)((b->cpu_milli + 999) / 1000), "memoryMB",
			  (json_int_t)(b->memory_bytes / MIB), "diskSizeMB",
			  (json_int_t)(b->disk_bytes / MIB), "state", box_state_name(b),
			  "envdVersion", API_ENVD_VERSION);
	set_optional(o, "alias", b->alias);
	set(o, "metadata", b->metadata ? json_incref(b->metadata) : json_object());
	return o;
}

json_t *describe_detail(const struct box *b, bool tokens)
{
	const char *domain = b->api->domain;
	json_t *o = describe_listed(b);
	if (tokens)
		set_optional(o, "envdAccessToken", b->token);
	set(o, "domain", domain[0] ? json_string(domain) : json_null());
	set(o, "allowInternetAccess",
	    b->allow_internet < 0 ? json_null() : json_boolean(b->allow_internet));
	set(o, "lifecycle",
	    json_pack("{s:b,s:s}", "autoResume", (int)b->auto_resume, "onTimeout",
		      b->pause_on_timeout ? "pause" : "kill"));
	if (b->network)
		set(o, "network", json_incref(b->network));
	return o;
}

json_t *describe_v1(const struct box *b)
{
	char started[TEXT_TIME_MAX], end[TEXT_TIME_MAX];
	text_time(b->started_ms, started);
	text_time(b->end_ms, end);
	json_t *o =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:{s:I,s:I,s:I}}", "id", b->id,
			  "tenant", b->tenant, "tier", b->tier, "template", b->template_id, "image",
			  b->image, "state", b->stopped ? "stopped" : box_state_name(b), "started", started, "ends", end,
			  "limits", "cpu_milli", (json_int_t)b->cpu_milli, "memory_bytes",
			  (json_int_t)b->memory_bytes, "disk_bytes", (json_int_t)b->disk_bytes);
	set_optional(o, "name", b->name);
	if (!b->end_ms)
		set(o, "ends", json_null());
	set(o, "metadata", b->metadata ? json_incref(b->metadata) : json_object());
	return o;
}
