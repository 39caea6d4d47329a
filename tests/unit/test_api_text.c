/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of the API: what anybody may send, read exactly; what is told, told exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/ask.h"
#include "api/call.h"
#include "api/language.h"
#include "api/list.h"
#include "api/network.h"
#include "api/runtext.h"
#include "api/text.h"

static void times_are_rfc_3339(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t ms; /* -1: refused */
	} rows[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-11-24T17:00:00.123Z", 1795539600123 },
		{ "2026-11-24T18:30:00.1239+01:30", 1795539600123 },
		{ "2000-02-29T23:59:59z", 951868799000 },
		{ "2026-11-24 17:00:00Z", 1795539600000 },
		{ "2026-11-24T17:00:00", -1 },
		{ "2026-13-24T17:00:00Z", -1 },
		{ "2026-11-31T17:00:00Z", -1 },
		{ "2026-11-24T24:00:00Z", -1 },
		{ "2026-11-24T17:00:00.Z", -1 },
		{ "2026-11-24T17:00:00Zx", -1 },
		{ "2026-11-24T17:00:00+1:00", -1 },
		{ "-026-11-24T17:00:00Z", -1 },
		{ "", -1 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t ms = -1;
		int r = text_time_parse(rows[i].text, &ms);
		if ((r == 0) != (rows[i].ms >= 0) || (r == 0 && ms != rows[i].ms))
			fail_msg("'%s': %d, %lld", rows[i].text, r, (long long)ms);
	}
	char text[TEXT_TIME_MAX];
	text_time(1795539600123, text);
	assert_string_equal(text, "2026-11-24T17:00:00.123Z");
	for (int64_t ms = 0; ms < 4102444800000; ms += 86400000ll * 7 + 12345) {
		int64_t back;
		text_time(ms, text);
		assert_int_equal(text_time_parse(text, &back), 0);
		assert_int_equal(back, ms);
	}
}

/* As E2B's client sent it for {"k e": "v&=é", "b": "c"}, the query's own encoding undone. */
static void metadata_is_encoded_twice_more(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *o = NULL;
	assert_int_equal(text_metadata_parse("k%2520e=v%2526%253D%25C3%25A9&b=c", &o, &err), 0);
	assert_int_equal(json_object_size(o), 2);
	assert_string_equal(json_string_value(json_object_get(o, "k e")), "v&=\xc3\xa9");
	assert_string_equal(json_string_value(json_object_get(o, "b")), "c");
	json_decref(o);
	assert_int_equal(text_metadata_parse("", &o, &err), 0);
	assert_int_equal(json_object_size(o), 0);
	json_decref(o);
	assert_int_equal(text_metadata_parse("a+b=1%2B1", &o, &err), 0);
	assert_string_equal(json_string_value(json_object_get(o, "a b")), "1+1");
	json_decref(o);
	static const char *const bad[] = { "a=%", "a=%2", "a=%zz", "a=%00", "a=%2500", "a=%25ff" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (text_metadata_parse(bad[i], &o, &err) == 0)
			fail_msg("'%s' was taken", bad[i]);
	char many[1024] = "";
	for (unsigned i = 0; i <= TEXT_METADATA_MAX; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many), "k%u=v&", i);
	assert_int_equal(text_metadata_parse(many, &o, &err), -1);
}

static void signatures_are_those_of_the_clients(void **state)
{
	(void)state;
	char sig[TEXT_SIGNATURE_MAX];
	assert_int_equal(text_signature("hello.txt", "read", "user",
					"0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0", NULL, sig),
			 0);
	assert_string_equal(sig, "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E");
	char other[TEXT_SIGNATURE_MAX];
	text_signature("hello.txt", "read", "user", "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0", "1", other);
	assert_string_not_equal(sig, other);
}

static void tokens_are_random_and_compared_whole(void **state)
{
	(void)state;
	char a[64], b[64];
	assert_int_equal(text_token("e2b_", 20, a, sizeof(a)), 0);
	assert_int_equal(text_token("e2b_", 20, b, sizeof(b)), 0);
	assert_int_equal(strlen(a), 44);
	assert_int_equal(strspn(a + 4, "0123456789abcdef"), 40);
	assert_string_not_equal(a, b);
	assert_true(text_same_secret(a, a));
	assert_false(text_same_secret(a, b));
	assert_false(text_same_secret("abc", "ab"));
	assert_false(text_same_secret("", "a"));
	assert_int_not_equal(text_token("", 20, a, 40), 0);
}

static void utf8_is_told_from_bytes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t n, whole;
		bool bad;
	} rows[] = {
		{ "", 0, 0, false },
		{ "abc", 3, 3, false },
		{ "a\xc3\xa9", 3, 3, false },
		{ "a\xc3", 2, 1, false },
		{ "\xe2\x82", 2, 0, false },
		{ "\xf0\x9f\x98\x80x", 5, 5, false },
		{ "\xf0\x9f\x98", 3, 0, false },
		{ "a\xff", 2, 1, true },
		{ "\x80", 1, 0, true },
		{ "\xc0\x80", 2, 0, true },
		{ "\xed\xa0\x80", 3, 0, true },
		{ "\xe0\x80\x80", 3, 0, true },
		{ "\xf4\x90\x80\x80", 4, 0, true },
		{ "a\0b", 3, 1, true },
		{ "\xc3(", 2, 0, true },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool bad;
		size_t whole = text_utf8(rows[i].text, rows[i].n, &bad);
		if (whole != rows[i].whole || bad != rows[i].bad)
			fail_msg("row %u: %zu %d", i, whole, bad);
	}
}

static void base64_goes_both_ways(void **state)
{
	(void)state;
	static const struct {
		const char *plain, *coded;
	} rows[] = { { "", "" },
		     { "f", "Zg==" },
		     { "fo", "Zm8=" },
		     { "foo", "Zm9v" },
		     { "\xff\xfe", "//4=" } };
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *text = text_base64(rows[i].plain, strlen(rows[i].plain));
		uint8_t *back = NULL;
		size_t n = 0;
		assert_string_equal(text, rows[i].coded);
		assert_int_equal(text_base64_decode(text, strlen(text), &back, &n), 0);
		assert_int_equal(n, strlen(rows[i].plain));
		assert_memory_equal(back, rows[i].plain, n);
		free(text);
		free(back);
	}
	static const char *const bad[] = { "Z", "Zg=", "Zg", "Z===", "Zg==Zg==", "Zm 9", "Zm9-" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t *back = NULL;
		size_t n;
		if (text_base64_decode(bad[i], strlen(bad[i]), &back, &n) == 0)
			fail_msg("'%s' was taken", bad[i]);
	}
}

static void emitted(void *ctx, json_t *event)
{
	char *all = ctx;
	json_t *text = json_object_get(event, "data"), *b64 = json_object_get(event, "data_base64");
	strcat(all, text ? "[" : "{");
	strcat(all, json_string_value(text ? text : b64));
	strcat(all, text ? "]" : "}");
	json_decref(event);
}

static void characters_that_were_cut_come_whole(void **state)
{
	(void)state;
	struct runtext t = { .n = 0 };
	char all[256] = "";
	runtext_feed(&t, "stdout", "a\xe2\x82", 3, emitted, all);
	runtext_feed(&t, "stdout", "\xac", 1, emitted, all);
	runtext_feed(&t, "stdout", "\xf0", 1, emitted, all);
	runtext_feed(&t, "stdout", "\x9f\x98\x80!", 4, emitted, all);
	runtext_feed(&t, "stdout", "\xff", 1, emitted, all);
	runtext_feed(&t, "stdout", "\xc3", 1, emitted, all);
	runtext_end(&t, "stdout", emitted, all);
	assert_string_equal(all, "[a][\xe2\x82\xac][\xf0\x9f\x98\x80!]{/w==}{ww==}");
}

static void hosts_name_a_port_of_a_sandbox(void **state)
{
	(void)state;
	static const struct {
		const char *host, *id;
		unsigned port; /* 0: no sandbox */
	} rows[] = {
		{ "3000-abc1.sb.example:8443", "abc1", 3000 },
		{ "49983-abc1-x.sb.example", "abc1", 49983 },
		{ "abc1.sb.example", "", 0 },
		{ "3000-abc1", "", 0 },
		{ "0-abc1.sb.example", "", 0 },
		{ "65536-abc1.sb.example", "", 0 },
		{ "3000-ABC.sb.example", "", 0 },
		{ "3000-.sb.example", "", 0 },
		{ "127.0.0.1:3000", "", 0 },
		{ "", "", 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned port = 0;
		char id[ROUTE_ID_MAX] = "";
		if (route_host_label(rows[i].host, &port, id) < 0)
			port = 0;
		if (port != rows[i].port || (port && strcmp(id, rows[i].id) != 0))
			fail_msg("'%s': %u '%s'", rows[i].host, port, id);
	}
}

static void nothing(struct call *c)
{
	(void)c;
}

static void paths_meet_their_route(void **state)
{
	(void)state;
	static const struct route table[] = {
		{ "GET", "/a", 0, PERM_RUN, nothing },
		{ "POST", "/a", 0, PERM_RUN, nothing },
		{ "GET", "/a/{}", 0, PERM_RUN, nothing },
		{ "GET", "/a/{}/b/{}", 0, PERM_RUN, nothing },
		{ "DELETE", "/x/y", 0, PERM_RUN, nothing },
		{ "DELETE", "/x/{}", 0, PERM_RUN, nothing },
		{ .method = NULL },
	};
	const struct route *r = NULL;
	char arg[CALL_ARGS_MAX][CALL_ARG_MAX];
	assert_int_equal(route_match(table, "POST", "/a", &r, arg), 0);
	assert_ptr_equal(r, &table[1]);
	assert_int_equal(route_match(table, "GET", "/a/q:1", &r, arg), 0);
	assert_string_equal(arg[0], "q:1");
	assert_int_equal(route_match(table, "GET", "/a/q/b/w", &r, arg), 0);
	assert_string_equal(arg[1], "w");
	assert_int_equal(route_match(table, "DELETE", "/x/y", &r, arg), 0);
	assert_ptr_equal(r, &table[4]);
	assert_int_equal(route_match(table, "PUT", "/a", &r, arg), -1);	 /* EPERM */
	assert_int_equal(route_match(table, "GET", "/a/", &r, arg), -2); /* ENOENT */
	assert_int_equal(route_match(table, "GET", "/a/q/b", &r, arg), -2);
	assert_int_equal(route_match(table, "GET", "/b", &r, arg), -2);
	char longer[CALL_ARG_MAX + 8];
	memset(longer, 'q', sizeof(longer));
	memcpy(longer, "/a/", 3);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(route_match(table, "GET", longer, &r, arg), -2);
}

/* ---- lists ---- */

#define BOXES 25
static struct api api;
static struct box boxes[BOXES];

static void boxes_make(void)
{
	memset(&api, 0, sizeof(api));
	memset(boxes, 0, sizeof(boxes));
	for (unsigned i = 0; i < BOXES; i++) {
		struct box *b = &boxes[i];
		snprintf(b->id, sizeof(b->id), "id%02u", i);
		snprintf(b->tenant, sizeof(b->tenant), "%s", i % 5 ? "t" : "u");
		b->started_ms = 1000 + i / 2; /* two of each time */
		b->state = i % 3 ? BOX_RUNNING : BOX_PAUSED;
		b->metadata = json_pack("{s:s,s:s}", "n", i % 2 ? "odd" : "even", "x", "y");
		LIST_INSERT_HEAD(&api.all, b, all);
		api.nboxes++;
	}
}

static void boxes_drop(void)
{
	for (unsigned i = 0; i < BOXES; i++)
		json_decref(boxes[i].metadata);
}

static void pages_tell_each_box_once(void **state)
{
	(void)state;
	boxes_make();
	for (int ascending = 0; ascending < 2; ascending++) {
		struct list_filter f = {
			.running = true, .paused = true, .limit = 4, .ascending = ascending
		};
		struct box *page[LIST_LIMIT_MAX], *last = NULL;
		unsigned total = 0, pages = 0;
		char next[LIST_TOKEN_MAX];
		do {
			unsigned n = list_page(&api, &f, page, next);
			for (unsigned i = 0; i < n; i++) {
				if (last && ascending)
					assert_true(page[i]->started_ms >= last->started_ms);
				else if (last)
					assert_true(page[i]->started_ms <= last->started_ms);
				last = page[i];
			}
			total += n;
			pages++;
			memcpy(f.after, next, sizeof(f.after));
		} while (f.after[0]);
		assert_int_equal(total, BOXES);
		assert_int_equal(pages, 7);
	}
	boxes_drop();
}

static void filters_are_and(void **state)
{
	(void)state;
	boxes_make();
	struct brig_err err = BRIG_ERR_INIT;
	struct list_filter f = { .tenant = "t", .running = true, .limit = LIST_LIMIT_MAX };
	struct box *page[LIST_LIMIT_MAX];
	char next[LIST_TOKEN_MAX];
	assert_int_equal(text_metadata_parse("n=odd&x=y", &f.metadata, &err), 0);
	unsigned want = 0, n = list_page(&api, &f, page, next);
	for (unsigned i = 0; i < BOXES; i++)
		want += i % 5 && i % 3 && i % 2;
	assert_int_equal(n, want);
	assert_string_equal(next, "");
	f.started_after_ms = 1010;
	assert_int_equal(list_page(&api, &f, page, next), 1);
	assert_string_equal(page[0]->id, "id23");
	json_decref(f.metadata);
	boxes_drop();
}

static void tokens_of_pages_are_checked(void **state)
{
	(void)state;
	int64_t ms;
	const char *id;
	assert_int_equal(list_token_parse("1000.abc", &ms, &id), 0);
	assert_int_equal(ms, 1000);
	assert_string_equal(id, "abc");
	static const char *const bad[] = { "",	   "1000",  "1000.",
					   ".abc", "x.abc", "9999999999999999999.abc" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_not_equal(list_token_parse(bad[i], &ms, &id), 0);
}

/* ---- wishes ---- */

static void limits_are_read_in_both_forms(void **state)
{
	(void)state;
	static const struct {
		const char *text, *want; /* NULL: refused */
	} rows[] = {
		{ "{\"memory\":\"1g\"}", "{\"memory_bytes\":1073741824}" },
		{ "{\"memory_bytes\":5}", "{\"memory_bytes\":5}" },
		{ "{\"memory\":1048576}", "{\"memory_bytes\":1048576}" },
		{ "{\"cpus\":1.5}", "{\"cpu_milli\":1500}" },
		{ "{\"cpus\":2}", "{\"cpu_milli\":2000}" },
		{ "{\"cpus\":\"0.25\"}", "{\"cpu_milli\":250}" },
		{ "{\"timeout\":\"1m30s\"}", "{\"timeout_ms\":90000}" },
		{ "{\"timeout\":2}", "{\"timeout_ms\":2000}" },
		{ "{\"timeout\":\"none\"}", "{\"timeout_ms\":null}" },
		{ "{\"timeout_ms\":null}", "{\"timeout_ms\":null}" },
		{ "{\"pids\":10,\"max-output\":\"1k\"}",
		  "{\"pids\":10,\"max_output_bytes\":1024}" },
		{ "{\"ram\":1}", NULL },
		{ "{\"memory\":\"much\"}", NULL },
		{ "{\"memory\":true}", NULL },
		{ "{\"memory\":-1}", NULL },
		{ "{\"pids\":1.5}", NULL },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *from = json_loads(rows[i].text, 0, NULL), *to = json_object();
		int r = ask_limits(from, to, &err);
		char *text = json_dumps(to, JSON_COMPACT);
		if (r < 0 ? rows[i].want != NULL : !rows[i].want || strcmp(text, rows[i].want) != 0)
			fail_msg("%s: %d %s", rows[i].text, r, text);
		free(text);
		json_decref(from);
		json_decref(to);
	}
}

static void metadata_may_ask_for_limits(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *spec = json_pack("{s:{}}", "limits");
	json_t *m = json_pack("{s:s,s:s,s:s}", "brig.tier", "container", "brig.limits.memory", "1g",
			      "other", "x");
	assert_int_equal(ask_metadata(m, spec, &err), 0);
	char *text = json_dumps(spec, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(text,
			    "{\"limits\":{\"memory_bytes\":1073741824},\"tier\":\"container\"}");
	free(text);
	json_object_set_new(m, "brig.limit.memory", json_string("1g"));
	assert_int_equal(ask_metadata(m, spec, &err), -1);
	json_decref(m);
	json_decref(spec);
}

static void network_rules_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
	} rows[] = {
		{ "{}", true },
		{ "{\"allowOut\":[\"1.1.1.1\",\"10.0.0.0/8\",\"::1/"
		  "128\",\"*.a.example\",\"b.example\"]}",
		  true },
		{ "{\"denyOut\":[\"0.0.0.0/0\"],\"allowPublicTraffic\":false}", true },
		{ "{\"denyOut\":[\"a.example\"]}", false },
		{ "{\"denyOut\":[\"10.0.0.0/33\"]}", false },
		{ "{\"denyOut\":[\"10.0.0.0/\"]}", false },
		{ "{\"denyOut\":\"10.0.0.0\"}", false },
		{ "{\"allowOut\":[\"a b\"]}", false },
		{ "{\"allowOut\":[1]}", false },
		{ "{\"allowPublicTraffic\":\"no\"}", false },
		{ "{\"httpsPorts\":[443]}", true },
		{ "{\"httpsPorts\":[0]}", false },
		{ "{\"egressProxy\":{\"address\":\"p:1\"}}", true },
		{ "{\"egressProxy\":{}}", false },
		{ "{\"egressProxy\":null}", true },
		{ "[]", false },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *o = json_loads(rows[i].text, 0, NULL);
		if ((network_check(o, &err) == 0) != rows[i].ok)
			fail_msg("%s: %s", rows[i].text, err.msg);
		json_decref(o);
	}
}

static void own_networks_are_checked_and_put_into_words(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	static const struct {
		const char *text;
		enum policy_net asked;
	} ok[] = { { "\"none\"", POLICY_NET_NONE },
		   { "false", POLICY_NET_NONE },
		   { "null", POLICY_NET_NONE },
		   { "{}", POLICY_NET_NONE },
		   { "\"deny\"", POLICY_NET_DENY },
		   { "\"public\"", POLICY_NET_PUBLIC },
		   { "{\"allow\":[\"a.example\"]}", POLICY_NET_DENY },
		   { "{\"mode\":\"public\",\"deny\":[\"a.example\"]}", POLICY_NET_PUBLIC } };
	static const char *const bad[] = { "\"full\"", "true", "{\"allowOut\":[]}", "1" };
	for (unsigned i = 0; i < sizeof(ok) / sizeof(ok[0]); i++) {
		json_t *v = json_loads(ok[i].text, JSON_DECODE_ANY, NULL);
		assert_int_equal(network_own_check(v, &err), 0);
		assert_int_equal(network_own_asked(v), ok[i].asked);
		json_t *spec = network_own_spec(v, "acme");
		assert_int_equal(spec != NULL, ok[i].asked != POLICY_NET_NONE);
		json_decref(spec);
		json_decref(v);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *w = json_loads(bad[i], JSON_DECODE_ANY, NULL);
		assert_int_equal(network_own_check(w, &err), -1);
		assert_int_equal(err.code, BRIG_E_INVALID);
		json_decref(w);
	}
	/* Grants are the operator's. */
	json_t *grant = json_loads("{\"grant\":[\"10.0.0.1\"]}", JSON_DECODE_ANY, NULL);
	assert_int_equal(network_own_check(grant, &err), -1);
	assert_int_equal(err.code, BRIG_E_DENIED);
	json_decref(grant);
}

static const char *mode_of(const char *network, int internet, json_t **ret)
{
	json_t *n = json_loads(network, 0, NULL);
	json_decref(*ret);
	*ret = network_spec(n, internet, "acme");
	json_decref(n);
	const char *mode = json_string_value(json_object_get(*ret, "mode"));
	return mode ? mode : "none";
}

static void networks_of_e2b_are_put_into_words(void **state)
{
	(void)state;
	json_t *o = NULL;
	assert_string_equal(mode_of("{}", -1, &o), "none");
	assert_string_equal(mode_of("{}", 0, &o), "none");
	assert_string_equal(mode_of("{}", 1, &o), "public");
	assert_true(json_is_true(json_object_get(o, "optional")));
	assert_string_equal(mode_of("{\"allowOut\":[\"a.example\"]}", -1, &o), "deny");
	assert_true(json_is_false(json_object_get(o, "optional")));
	assert_string_equal(mode_of("{\"allowOut\":[\"a.example\"],\"denyOut\":[\"0.0.0.0/0\"]}", 1, &o),
			    "deny");
	assert_int_equal(json_array_size(json_object_get(o, "deny")), 0);
	assert_string_equal(mode_of("{\"denyOut\":[\"10.0.0.0/8\"]}", 1, &o), "public");
	assert_int_equal(json_array_size(json_object_get(o, "deny")), 1);
	assert_string_equal(json_string_value(json_object_get(o, "prefer")), "allow");
	assert_string_equal(json_string_value(json_object_get(o, "tenant")), "acme");
	json_decref(o);
}

static void languages_become_commands(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	char name[LANGUAGE_NAME_MAX];
	assert_int_equal(language_name("JS", name, &err), 0);
	assert_string_equal(name, "javascript");
	assert_int_equal(language_name("", name, &err), -1);
	assert_int_equal(language_name("a b", name, &err), -1);
	assert_int_equal(language_name("../x", name, &err), -1);
	json_t *cmd = language_command("python", "print(1)", NULL);
	assert_string_equal(json_string_value(json_array_get(cmd, 2)), "print(1)");
	json_decref(cmd);
	cmd = language_command("python", "print(1)", "/f.py");
	assert_int_equal(json_array_size(cmd), 2);
	json_decref(cmd);
	assert_null(language_command("cobol", "x", NULL));
	json_t *env = json_pack("{s:s}", "BRIG_LANG_RUBY", " ruby  -e");
	cmd = language_declared("ruby", env, "puts 1");
	char *text = json_dumps(cmd, JSON_COMPACT);
	assert_string_equal(text, "[\"ruby\",\"-e\",\"puts 1\"]");
	free(text);
	json_decref(cmd);
	assert_null(language_declared("perl", env, "x"));
	json_decref(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_rfc_3339),
		cmocka_unit_test(metadata_is_encoded_twice_more),
		cmocka_unit_test(signatures_are_those_of_the_clients),
		cmocka_unit_test(tokens_are_random_and_compared_whole),
		cmocka_unit_test(utf8_is_told_from_bytes),
		cmocka_unit_test(base64_goes_both_ways),
		cmocka_unit_test(characters_that_were_cut_come_whole),
		cmocka_unit_test(hosts_name_a_port_of_a_sandbox),
		cmocka_unit_test(paths_meet_their_route),
		cmocka_unit_test(pages_tell_each_box_once),
		cmocka_unit_test(filters_are_and),
		cmocka_unit_test(tokens_of_pages_are_checked),
		cmocka_unit_test(limits_are_read_in_both_forms),
		cmocka_unit_test(metadata_may_ask_for_limits),
		cmocka_unit_test(network_rules_are_checked),
		cmocka_unit_test(own_networks_are_checked_and_put_into_words),
		cmocka_unit_test(networks_of_e2b_are_put_into_words),
		cmocka_unit_test(languages_become_commands),
	};
	return cmocka_run_group_tests_name("api_text", tests, NULL, NULL);
}
