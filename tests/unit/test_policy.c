/* SPDX-License-Identifier: Apache-2.0 */
/* A tenant's policy: what is beyond it is refused by the field, what is left out is made to fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/amounts.h"
#include "api/policy.h"

static struct policy policy_of(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct policy p;
	json_t *o = json_loads(text, 0, NULL);
	policy_init(&p);
	if (policy_change(&p, o, &err) < 0)
		fail_msg("%s", err.msg);
	json_decref(o);
	return p;
}

/* The specification as it passed, or the field that refused it. */
static void spec_is(const char *policy, const char *spec, bool timed, const char *want)
{
	struct refusal r = REFUSAL_INIT;
	struct policy p = policy_of(policy);
	json_t *o = json_loads(spec, 0, NULL);
	int done = policy_spec(&p, "t", o, timed, &r);
	char *text = done == 0 ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	const char *got = text ? text : json_string_value(json_object_get(r.details, "policy"));
	assert_string_equal(got, want);
	if (done < 0) {
		assert_int_equal(r.err.code, BRIG_E_DENIED);
		assert_non_null(strstr(r.err.msg, want));
		assert_true(r.err.remedy[0]);
	}
	free(text);
	json_decref(o);
	json_decref(r.details);
	policy_done(&p);
}

static void limits_are_held(void **state)
{
	(void)state;
	spec_is("{}", "{}", true, "{\"limits\":{}}");
	spec_is("{\"max_memory_bytes\":268435456}", "{\"limits\":{\"memory_bytes\":268435457}}",
		true, "max_memory_bytes");
	spec_is("{\"max_memory_bytes\":268435456}", "{\"limits\":{\"memory_bytes\":268435456}}",
		true, "{\"limits\":{\"memory_bytes\":268435456}}");
	/* The default of 512 MiB would be beyond it; the layer is then half of what there is. */
	spec_is("{\"max_memory_bytes\":268435456,\"max_disk_bytes\":134217728}", "{}", true,
		"{\"limits\":{\"memory_bytes\":268435456}}");
	spec_is("{\"max_disk_bytes\":134217727}", "{}", true,
		"{\"limits\":{\"disk_bytes\":134217727}}");
	/* A limit that was waived is more than any. */
	spec_is("{\"max_timeout_ms\":1000}", "{\"limits\":{\"timeout_ms\":null}}", true,
		"max_timeout_ms");
	spec_is("{\"max_timeout_ms\":1000}", "{}", true, "{\"limits\":{\"timeout_ms\":1000}}");
	spec_is("{\"max_timeout_ms\":1000}", "{}", false, "{\"limits\":{}}");
}

static void a_tier_is_no_weaker_than_the_floor(void **state)
{
	(void)state;
	spec_is("{\"tier_floor\":\"gvisor\"}", "{\"tier\":\"container\"}", true, "tier_floor");
	spec_is("{\"tier_floor\":\"gvisor\"}", "{\"tier\":\"microvm\"}", true,
		"{\"limits\":{},\"tier\":\"microvm\",\"tier_floor\":\"gvisor\"}");
	spec_is("{\"tier_floor\":\"gvisor\"}", "{\"tier\":\"auto\"}", true,
		"{\"limits\":{},\"tier\":\"auto\",\"tier_floor\":\"gvisor\"}");
	spec_is("{\"tier_floor\":\"gvisor\"}", "{}", true,
		"{\"limits\":{},\"tier_floor\":\"gvisor\"}");
}

static void images_and_network_are_bounded(void **state)
{
	struct refusal r = REFUSAL_INIT;
	struct policy p = policy_of("{\"images\":[\"a\",\"sha256:1\"],\"network\":\"deny\"}");
	(void)state;
	assert_int_equal(policy_image(&p, "t", "a", NULL, &r), 0);
	assert_int_equal(policy_image(&p, "t", "", "sha256:1", &r), 0);
	assert_int_equal(policy_image(&p, "t", "a:v1", "sha256:2", &r), -1);
	assert_int_equal(policy_network(&p, "t", POLICY_NET_DENY, &r), 0);
	assert_int_equal(policy_network(&p, "t", POLICY_NET_PUBLIC, &r), -1);
	json_decref(r.details);
	policy_done(&p);
}

static void where_ports_are_published_is_bounded(void **state)
{
	static const struct {
		const char *policy, *ports;
		int want;
	} rows[] = {
		{ "{}", "[\"0.0.0.0:1:1\"]", 0 },
		{ "{\"publish\":\"any\"}", "[\"[::]:1:1\"]", 0 },
		{ "{\"publish\":\"loopback\"}", "[\"80\",\"127.9.9.9:0:1\",\"[::1]:1:1\"]", 0 },
		{ "{\"publish\":\"loopback\"}", "[\"80\",\"0.0.0.0:1:1\"]", -1 },
		{ "{\"publish\":\"loopback\"}", "[\"[::]:1:1\"]", -1 },
		{ "{\"publish\":\"none\"}", "[\"80\"]", -1 },
		{ "{\"publish\":\"none\"}", "[]", 0 },
		{ "{}", "[\"no port\"]", -1 },
		{ "{}", "[5]", -1 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct refusal r = REFUSAL_INIT;
		struct policy p = policy_of(rows[i].policy);
		json_t *ports = json_loads(rows[i].ports, 0, NULL);
		assert_int_equal(policy_ports(&p, "t", ports, &r), rows[i].want);
		json_decref(ports);
		json_decref(r.details);
		policy_done(&p);
	}
}

static void a_bad_change_changes_nothing(void **state)
{
	static const char *const bad[] = { "{\"max_pids\":5,\"colour\":1}",
					   "{\"max_pids\":1}",
					   "{\"max_pids\":\"5\"}",
					   "{\"max_pids\":5,\"tier_floor\":\"vm\"}",
					   "{\"max_pids\":5,\"network\":\"all\"}",
					   "{\"max_pids\":5,\"publish\":\"all\"}",
					   "{\"max_pids\":5,\"images\":[\"\"]}",
					   "{\"max_pids\":5,\"images\":[1]}",
					   "{\"max_pids\":5,\"images\":\"a\"}" };
	struct policy p = policy_of("{\"max_pids\":7,\"images\":[\"a\"]}");
	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *o = json_loads(bad[i], 0, NULL);
		assert_int_equal(policy_change(&p, o, &err), -1);
		assert_int_equal(err.code, i == 1 ? BRIG_E_LIMIT : BRIG_E_INVALID);
		assert_int_equal(p.v[POLICY_max_pids], 7);
		assert_int_equal(json_array_size(p.images), 1);
		json_decref(o);
	}
	policy_done(&p);
}

static void amounts_are_those_of_brigd(void **state)
{
	struct amounts a;
	(void)state;
	amounts_of(NULL, &a);
	assert_int_equal(a.cpu_milli, 1000);
	assert_int_equal(a.memory_bytes, 512u << 20);
	assert_int_equal(a.disk_bytes, 256u << 20);
	json_t *o = json_pack("{s:i}", "memory_bytes", 64 << 20);
	amounts_of(o, &a);
	assert_int_equal(a.disk_bytes, 32u << 20);
	json_decref(o);
	char text[AMOUNTS_TEXT_MAX];
	amounts_text(&a, text);
	assert_string_equal(text, "1000 67108864 33554432");
	assert_int_equal(amounts_parse("1 2", &a), -1);
	assert_int_equal(amounts_parse("1 2 3 4", &a), -1);
	assert_int_equal(amounts_parse("1 -2 3", &a), -1);
	assert_int_equal(amounts_parse("99999999999999999999 2 3", &a), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_are_held),
		cmocka_unit_test(a_tier_is_no_weaker_than_the_floor),
		cmocka_unit_test(images_and_network_are_bounded),
		cmocka_unit_test(where_ports_are_published_is_bounded),
		cmocka_unit_test(a_bad_change_changes_nothing),
		cmocka_unit_test(amounts_are_those_of_brigd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
