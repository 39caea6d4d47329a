/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenAPI document against the program that serves it: every route is in it and it names no
 * other; its references lead somewhere; fields and codes are those of the parsers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/call.h"
#include "api/envd.h"
#include "api/events.h"
#include "api/runask.h"
#include "brig/limits.h"
#include "openapi.h"

static json_t *doc;

static int setup(void **state)
{
	json_error_t e;
	(void)state;
	doc = json_loadb((const char *)openapi_text, openapi_size, JSON_REJECT_DUPLICATES, &e);
	if (!doc)
		fail_msg("the document is no JSON: %s, byte %d", e.text, e.position);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(doc);
	return 0;
}

/* "/a/{id}/b" becomes "/a/{}/b". */
static void plain_path(const char *path, char *ret)
{
	bool inside = false;
	for (; *path; path++) {
		if (*path == '}')
			inside = false;
		if (!inside)
			*ret++ = *path;
		if (*path == '{')
			inside = true;
	}
	*ret = '\0';
}

/* The operation of a method ("GET") and a path of the router; NULL: none. */
static json_t *documented(const char *method, const char *path)
{
	const char *key;
	json_t *item, *op = NULL;
	char lower[8] = "", plain[256];
	for (unsigned i = 0; method[i] && i < sizeof(lower) - 1; i++)
		lower[i] = (char)(method[i] | 0x20);
	json_object_foreach(json_object_get(doc, "paths"), key, item)
	{
		assert_true(strlen(key) < sizeof(plain));
		plain_path(key, plain);
		if (strcmp(plain, path) == 0 && json_object_get(item, lower))
			op = json_object_get(item, lower);
	}
	return op;
}

static const struct envd_method *const envd_tables[] = { envd_process_methods, envd_input_methods,
							 envd_fs_methods, envd_watch_methods };

static bool is_route(const char *method, const char *plain)
{
	for (unsigned i = 0; route_tables[i]; i++)
		for (const struct route *r = route_tables[i]; r->method; r++)
			if (strcmp(r->method, method) == 0 && strcmp(r->path, plain) == 0)
				return true;
	return false;
}

static bool is_of_a_port(const char *method, const char *plain)
{
	for (unsigned i = 0; i < 4; i++)
		for (const struct envd_method *m = envd_tables[i]; m->path; m++)
			if (strcmp(m->path, plain) == 0)
				return strcmp(method, "POST") == 0;
	return envd_serves(method, plain) || interp_serves(method, plain);
}

static void every_route_is_in_the_document(void **state)
{
	unsigned n = 0;
	(void)state;
	for (unsigned i = 0; route_tables[i]; i++)
		for (const struct route *r = route_tables[i]; r->method; r++, n++) {
			json_t *op = documented(r->method, r->path);
			if (!op)
				fail_msg("%s %s is not in the document", r->method, r->path);
			/* Who may use it, and what it reads. */
			bool open = json_array_size(json_object_get(op, "security")) == 0;
			if (open != (r->needs == PERM_OPEN || r->needs == PERM_OPERATOR))
				fail_msg("%s %s: the document is wrong about the key", r->method,
					 r->path);
			if (!!(r->flags & ROUTE_BODY) != !!json_object_get(op, "requestBody"))
				fail_msg("%s %s: the document is wrong about the body", r->method,
					 r->path);
			json_t *fail = json_object_get(json_object_get(op, "responses"), "default");
			char *text = json_dumps(fail, 0);
			assert_non_null(text);
			if (!strstr(text, r->flags & ROUTE_E2B ? "/ErrorE2B\"" : "/Error\""))
				fail_msg("%s %s: the document is wrong about its errors", r->method,
					 r->path);
			free(text);
		}
	assert_true(n > 50);
	for (unsigned i = 0; i < 4; i++)
		for (const struct envd_method *m = envd_tables[i]; m->path; m++)
			if (!documented("POST", m->path))
				fail_msg("POST %s is not in the document", m->path);
}

static void every_operation_of_the_document_is_a_route(void **state)
{
	const char *path, *method;
	json_t *item, *op;
	(void)state;
	json_object_foreach(json_object_get(doc, "paths"), path, item)
	{
		char plain[256], upper[16];
		plain_path(path, plain);
		json_object_foreach(item, method, op)
		{
			if (strcmp(method, "parameters") == 0)
				continue;
			for (unsigned i = 0; i <= strlen(method); i++)
				upper[i] = method[i] ? (char)(method[i] & ~0x20) : '\0';
			if (!is_route(upper, plain) && !is_of_a_port(upper, plain))
				fail_msg("nothing serves %s %s", upper, path);
			assert_true(json_is_string(json_object_get(op, "operationId")));
			assert_true(json_object_size(json_object_get(op, "responses")) >= 1);
		}
	}
}

/* ---- the document by itself ---- */

static json_t *lookup(const char *pointer)
{
	char part[128];
	json_t *o = doc;
	assert_memory_equal(pointer, "#/", 2);
	for (pointer += 2; o && *pointer;) {
		size_t n = strcspn(pointer, "/");
		assert_true(n < sizeof(part));
		memcpy(part, pointer, n);
		part[n] = '\0';
		o = json_object_get(o, part);
		pointer += n + (pointer[n] == '/');
	}
	return o;
}

static unsigned references(json_t *o)
{
	const char *key;
	json_t *v;
	size_t i;
	unsigned n = 0;
	if (json_is_array(o)) {
		json_array_foreach(o, i, v) n += references(v);
	}
	json_object_foreach(o, key, v)
	{
		if (strcmp(key, "$ref") == 0 && json_is_string(v)) {
			if (!lookup(json_string_value(v)))
				fail_msg("%s leads nowhere", json_string_value(v));
			n++;
		}
		n += references(v);
	}
	return n;
}

static void references_lead_somewhere(void **state)
{
	const char *name;
	json_t *schema;
	(void)state;
	assert_string_equal(json_string_value(json_object_get(doc, "openapi")), "3.1.0");
	assert_true(references(doc) > 50);
	/* And every schema is one that somebody refers to. */
	char *text = json_dumps(doc, JSON_COMPACT);
	json_object_foreach(lookup("#/components/schemas"), name, schema)
	{
		char ref[128];
		snprintf(ref, sizeof(ref), "\"#/components/schemas/%s\"", name);
		if (!strstr(text, ref))
			fail_msg("nothing refers to the schema %s", name);
	}
	free(text);
}

static void security_is_of_schemes_that_exist(void **state)
{
	const char *path, *method, *name;
	json_t *item, *op, *one, *unused;
	size_t i;
	(void)state;
	json_object_foreach(json_object_get(doc, "paths"), path, item)
	{
		json_object_foreach(item, method, op)
		{
			json_array_foreach(json_object_get(op, "security"), i, one)
			{
				json_object_foreach(one, name, unused)
					assert_non_null(json_object_get(
						lookup("#/components/securitySchemes"), name));
			}
		}
	}
}

/* ---- against the parsers ---- */

static bool in_list(json_t *list, const char *word)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		if (strcmp(json_string_value(v), word) == 0)
			return true;
	}
	return false;
}

static void a_run_has_the_fields_of_its_parser(void **state)
{
	json_t *known = lookup("#/components/schemas/RunRequest/properties");
	size_t n = 0;
	(void)state;
	for (; runask_fields[n]; n++)
		if (!json_object_get(known, runask_fields[n]))
			fail_msg("'%s' is taken and not documented", runask_fields[n]);
	assert_int_equal(json_object_size(known), n);
}

static void limits_are_the_limits(void **state)
{
	static const struct {
		const char *field, *flag;
	} rows[] = {
#define X(field, flag, kind, def, min, max, none, what) { #field, flag },
		BRIG_LIMITS(X)
#undef X
	};
	json_t *known = lookup("#/components/schemas/Limits/properties");
	size_t names = 0;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_non_null(json_object_get(known, rows[i].field));
		assert_non_null(json_object_get(known, rows[i].flag));
		names += strcmp(rows[i].field, rows[i].flag) == 0 ? 1 : 2;
	}
	assert_int_equal(json_object_size(known), names);
}

static void codes_and_events_are_those_there_are(void **state)
{
	json_t *codes = lookup("#/components/schemas/Error/properties/code/enum");
	json_t *types = lookup("#/components/schemas/Event/properties/type/enum");
	(void)state;
	assert_int_equal(json_array_size(codes), BRIG_E__N_CODES - 1);
	for (unsigned i = 1; i < BRIG_E__N_CODES; i++)
		assert_true(in_list(codes, brig_code_name((enum brig_code)i)));
	assert_int_equal(json_array_size(types), EVENT__N);
	for (unsigned i = 0; i < EVENT__N; i++)
		assert_true(in_list(types, event_type_name((enum event_type)i)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_route_is_in_the_document),
		cmocka_unit_test(every_operation_of_the_document_is_a_route),
		cmocka_unit_test(references_lead_somewhere),
		cmocka_unit_test(security_is_of_schemes_that_exist),
		cmocka_unit_test(a_run_has_the_fields_of_its_parser),
		cmocka_unit_test(limits_are_the_limits),
		cmocka_unit_test(codes_and_events_are_those_there_are),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
