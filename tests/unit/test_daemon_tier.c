/* SPDX-License-Identifier: Apache-2.0 */
/* Which tier serves a request, for every combination of what a host has, the server's word and a floor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/tier.h"

enum { C = BRIG_TIER_container, G = BRIG_TIER_gvisor, V = BRIG_TIER_microvm };

static const struct jail_tier host_all[BRIG_TIER__N] = { { .offered = 1 }, { .offered = 1 }, { .offered = 1 } };
static const struct jail_tier host_cg[BRIG_TIER__N] = {
	{ .offered = 1 }, { .offered = 1 }, { .text = "no /dev/kvm", .remedy = "load kvm_amd" }
};
static const struct jail_tier host_c[BRIG_TIER__N] = {
	{ .offered = 1 }, { .text = "no runsc", .remedy = "apt-get install runsc" }, { .text = "no /dev/kvm" }
};
static const char *const nothing[BRIG_TIER__N];
static const char *const without_g[BRIG_TIER__N] = { [G] = "3 attacks escaped" };

static void the_tier_is_the_strongest_the_server_s_or_the_named_one(void **state)
{
	(void)state;
	static const struct {
		const struct jail_tier *host;
		const char *const *refused;
		int usual, asked, floor, expect; /* expect: -1 refused */
		const char *words;
	} rows[] = {
		{ host_all, nothing, C, TIER_ABSENT, C, C, NULL },
		{ host_all, nothing, G, TIER_ABSENT, C, G, NULL },
		{ host_all, nothing, TIER_AUTO, TIER_ABSENT, C, V, NULL },
		{ host_all, nothing, C, TIER_AUTO, C, V, NULL },
		{ host_cg, nothing, C, TIER_AUTO, C, G, NULL },
		{ host_c, nothing, C, TIER_AUTO, C, C, NULL },
		{ host_all, nothing, C, V, C, V, NULL },
		{ host_cg, nothing, C, V, C, -1, "no /dev/kvm; no weaker tier is substituted" },
		{ host_c, nothing, G, TIER_ABSENT, C, -1, "no runsc" },
		/* The operator's refusal, after a selftest. */
		{ host_all, without_g, C, G, C, -1, "3 attacks escaped; no weaker tier" },
		{ host_cg, without_g, C, TIER_AUTO, C, C, NULL },
		/* A floor. */
		{ host_all, nothing, C, TIER_ABSENT, G, G, NULL },
		{ host_all, nothing, V, TIER_ABSENT, G, V, NULL },
		{ host_all, nothing, C, TIER_AUTO, G, V, NULL },
		{ host_cg, nothing, C, TIER_AUTO, G, G, NULL },
		{ host_c, nothing, C, TIER_AUTO, G, -1, "no runsc" },
		{ host_cg, nothing, C, TIER_ABSENT, V, -1, "no /dev/kvm" },
		{ host_all, nothing, C, C, G, -1, "tier 'container' is below 'gvisor'" },
		{ host_cg, without_g, C, TIER_AUTO, G, -1, "3 attacks escaped" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct tier_offer o = { rows[i].host, rows[i].refused, rows[i].usual };
		struct brig_err err = BRIG_ERR_INIT;
		int got = tier_resolve(&o, rows[i].asked, rows[i].floor, &err);
		if (got != rows[i].expect)
			fail_msg("row %zu: %d, expected %d: %s", i, got, rows[i].expect, err.msg);
		if (got >= 0)
			continue;
		assert_true(err.code == BRIG_E_UNSUPPORTED || err.code == BRIG_E_DENIED);
		assert_non_null(strstr(err.msg, rows[i].words));
		assert_true(err.remedy[0]);
	}
}

static void a_remedy_is_the_host_s_own(void **state)
{
	(void)state;
	const struct tier_offer o = { host_c, nothing, C };
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(tier_resolve(&o, G, C, &err), -1);
	assert_non_null(strstr(err.remedy, "apt-get install runsc"));
}

static void words_are_names_or_refused(void **state)
{
	(void)state;
	int t;
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(tier_parse("auto", &t, &err), 0);
	assert_int_equal(t, TIER_AUTO);
	for (int k = 0; k < BRIG_TIER__N; k++) {
		assert_int_equal(tier_parse(brig_tier_name((uint32_t)k), &t, &err), 0);
		assert_int_equal(t, k);
	}
	assert_int_equal(tier_parse("", &t, &err), -1);
	assert_int_equal(tier_parse("gVisor", &t, &err), -1);
	assert_non_null(strstr(err.remedy, "gvisor"));
}

static void what_is_told_is_what_is_served(void **state)
{
	(void)state;
	const struct tier_offer o = { host_cg, without_g, C };
	json_t *names = tier_names(&o), *all = tier_details(&o), *refused = tier_refused(&o);
	assert_int_equal(json_array_size(names), 1);
	assert_string_equal(json_string_value(json_array_get(names, 0)), "container");
	assert_int_equal(json_object_size(all), BRIG_TIER__N);
	assert_string_equal(json_string_value(json_object_get(json_object_get(all, "microvm"), "remedy")),
			    "load kvm_amd");
	assert_true(json_is_false(json_object_get(json_object_get(all, "gvisor"), "offered")));
	assert_int_equal(json_object_size(refused), 1);
	json_decref(names);
	json_decref(all);
	json_decref(refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tier_is_the_strongest_the_server_s_or_the_named_one),
		cmocka_unit_test(a_remedy_is_the_host_s_own),
		cmocka_unit_test(words_are_names_or_refused),
		cmocka_unit_test(what_is_told_is_what_is_served),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
