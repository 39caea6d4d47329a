/* SPDX-License-Identifier: Apache-2.0 */
/* What runsc is told of a sandbox: JSON whatever the texts hold, and no right, mount or limit too many. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/caps.h"
#include "engine/gvisor/bundle.h"

static char text[BUNDLE_MAX];

static json_t *written(const struct jail_spec *p, int own_tmp)
{
	int n = bundle_write(p, own_tmp, text, sizeof(text));
	assert_true(n > 0);
	assert_int_equal((size_t)n, strlen(text));
	json_error_t e;
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &e);
	if (!o)
		fail_msg("%s: %s", e.text, text);
	return o;
}

static json_t *mount_at(const json_t *o, const char *path)
{
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(o, "mounts"), i, v)
		if (strcmp(json_string_value(json_object_get(v, "destination")), path) == 0)
			return v;
	return NULL;
}

static bool has_option(const json_t *mount, const char *option)
{
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(mount, "options"), i, v)
		if (strcmp(json_string_value(v), option) == 0)
			return true;
	return false;
}

static void every_text_is_a_string_of_json(void **state)
{
	(void)state;
	static const char *const paths[] = { "/a", "/with \"quotes\"", "/back\\slash", "/new\nline\t\x01\x7f",
					     "/\xc3\xa9t\xc3\xa9" };
	struct jail_spec p = { .hostname = "box-1", .nofile = 77 };
	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		strcpy(p.volumes[i].path, paths[i]);
		p.volumes[i].readonly = i % 2;
	}
	p.nvolumes = sizeof(paths) / sizeof(paths[0]);
	json_t *o = written(&p, 1);
	assert_string_equal(json_string_value(json_object_get(o, "hostname")), "box-1");
	for (unsigned i = 0; i < p.nvolumes; i++) {
		json_t *m = mount_at(o, paths[i]);
		char from[64];
		assert_non_null(m);
		snprintf(from, sizeof(from), "/r%s", paths[i]);
		assert_string_equal(json_string_value(json_object_get(m, "source")), from);
		assert_int_equal(has_option(m, "ro"), i % 2);
		assert_int_equal(has_option(m, "rw"), !(i % 2));
		assert_true(has_option(m, "nosuid") && has_option(m, "nodev"));
	}
	json_decref(o);
}

static void the_agent_gets_its_capabilities_and_no_other(void **state)
{
	(void)state;
	struct jail_spec p = { .hostname = "b" };
	json_t *o = written(&p, 0), *caps;
	const char *set;
	json_object_foreach(json_object_get(json_object_get(o, "process"), "capabilities"), set, caps)
	{
		assert_true(strcmp(set, "inheritable") != 0 && strcmp(set, "ambient") != 0);
		assert_int_equal(json_array_size(caps), __builtin_popcountll(BRIG_CAPS_AGENT));
	}
	assert_true(json_is_true(json_object_get(json_object_get(o, "process"), "noNewPrivileges")));
	assert_true(has_option(mount_at(o, "/dev/.brig-agent"), "ro"));
	json_decref(o);
}

static void a_network_namespace_is_its_own_unless_there_is_a_link(void **state)
{
	(void)state;
	for (uint32_t net = 0; net < 2; net++) {
		struct jail_spec p = { .hostname = "b", .net = net };
		json_t *o = written(&p, 0), *v;
		size_t i;
		bool own = false;
		json_array_foreach(json_object_get(json_object_get(o, "linux"), "namespaces"), i, v)
			own |= strcmp(json_string_value(json_object_get(v, "type")), "network") == 0;
		assert_int_equal(own, !net);
		json_decref(o);
	}
}

static void the_largest_specification_fits_and_less_room_is_an_error(void **state)
{
	(void)state;
	static struct jail_spec p;
	memset(p.hostname, 'h', sizeof(p.hostname) - 1);
	p.nvolumes = JAIL_VOLUMES_MAX;
	for (unsigned i = 0; i < p.nvolumes; i++) {
		/* Each byte takes six. */
		memset(p.volumes[i].path, 1, JAIL_PATH_MAX - 1);
		p.volumes[i].path[0] = '/';
	}
	/* Texts of this kind are refused before (path_is_clean); here they must end in an error at worst. */
	int n = bundle_write(&p, 1, text, sizeof(text));
	assert_true(n == -EOVERFLOW || (size_t)n == strlen(text));
	for (unsigned i = 0; i < p.nvolumes; i++)
		memset(p.volumes[i].path + 1, 'x', JAIL_PATH_MAX - 2);
	json_t *o = written(&p, 1);
	json_decref(o);
	assert_int_equal(bundle_write(&p, 1, text, 100), -EOVERFLOW);
	assert_int_equal(bundle_write(&p, 1, text, 0), -EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_text_is_a_string_of_json),
		cmocka_unit_test(the_agent_gets_its_capabilities_and_no_other),
		cmocka_unit_test(a_network_namespace_is_its_own_unless_there_is_a_link),
		cmocka_unit_test(the_largest_specification_fits_and_less_room_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
