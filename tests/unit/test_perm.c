/* SPDX-License-Identifier: Apache-2.0 */
/* Roles and scopes: no scope adds to a role, and what is written is what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/perm.h"

static void roles_are_what_they_say(void **state)
{
	(void)state;
	assert_int_equal(role_perms("run-only"), PERM_BIT(PERM_RUN));
	assert_int_equal(role_perms("admin"), PERM_ALL);
	assert_int_equal(role_perms("developer"), PERM_ALL & ~PERM_BIT(PERM_KEYS));
	perm_set change = PERM_BIT(PERM_RUN) | PERM_BIT(PERM_BOX_WRITE) | PERM_BIT(PERM_FILES) |
			  PERM_BIT(PERM_SNAPSHOT_WRITE) | PERM_BIT(PERM_TEMPLATE_WRITE) |
			  PERM_BIT(PERM_KEYS);
	assert_int_equal(role_perms("read-only") & change, 0);
	assert_int_equal(role_perms("root"), 0);
	assert_int_equal(role_perms(""), 0);
	/* Nobody's but who may open the operator's socket. */
	assert_int_equal(PERM_ALL & (PERM_BIT(PERM_OPERATOR) | PERM_BIT(PERM_OPEN) |
				     PERM_BIT(PERM_UNDECLARED)),
			 0);
}

static void scopes_are_read_back(void **state)
{
	char text[SCOPES_TEXT_MAX];
	perm_set got;
	(void)state;
	for (perm_set set = 0; set <= PERM_ALL; set += PERM_BIT(PERM_RUN)) {
		scopes_text(set, text);
		assert_int_equal(scopes_parse(text, &got), 0);
		assert_int_equal(got, set);
	}
	static const char *const bad[] = { "runs",     ",",    "run,,files",	   "run ",
					   "operator", "none", "sandboxes:read:x", "undeclared" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(scopes_parse(bad[i], &got), -1);
}

static void a_scope_adds_nothing_to_a_role(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	perm_set got;
	(void)state;
	json_t *list = json_pack("[s,s]", "metrics", "sandboxes:read");
	assert_int_equal(scopes_from_json(list, "read-only", &got, &err), 0);
	assert_int_equal(got, PERM_BIT(PERM_METRICS) | PERM_BIT(PERM_BOX_READ));
	assert_int_equal(scopes_from_json(list, "run-only", &got, &err), -1);
	assert_non_null(strstr(err.msg, "not within role run-only"));
	assert_non_null(strstr(err.remedy, "run"));
	json_decref(list);
	list = json_pack("[i]", 1);
	assert_int_equal(scopes_from_json(list, "admin", &got, &err), -1);
	json_decref(list);
	assert_int_equal(scopes_from_json(NULL, "admin", &got, &err), 0);
	assert_int_equal(got, 0);
	assert_int_equal(perms_of("run-only", PERM_BIT(PERM_FILES)), 0);
	assert_int_equal(perms_of("developer", 0), role_perms("developer"));
	assert_int_equal(perms_of("nobody", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(roles_are_what_they_say),
		cmocka_unit_test(scopes_are_read_back),
		cmocka_unit_test(a_scope_adds_nothing_to_a_role),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
