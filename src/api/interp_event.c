/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * kernel line -> bounds -> jansson -> known fields of the known type -> line of the client's
 * protocol. Unknown fields and fields of another type are dropped; a line that is no event at all
 * is an error, for which the caller ends the kernel. Lines leave as ASCII (\uXXXX): clients decode
 * each piece of the stream by itself, and one that ends within a UTF-8 sequence would be corrupted
 * there.
 */
#include "api/interp_event.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum field_type { STRING, OBJECT, ANY, BOOL };
static const struct field {
	const char *key;
	enum field_type type;
} result_fields[] = {
	{ "text", STRING },	  { "html", STRING },	      { "markdown", STRING },
	{ "svg", STRING },	  { "png", STRING },	      { "jpeg", STRING },
	{ "pdf", STRING },	  { "latex", STRING },	      { "json", ANY },
	{ "javascript", STRING }, { "data", OBJECT },	      { "chart", OBJECT },
	{ "extra", OBJECT },	  { "is_main_result", BOOL },
};

/* What jansson would use memory or stack for, counted before it does. */
static int bounded(const char *p, size_t n, struct brig_err *err)
{
	size_t depth = 0, values = 0;
	bool string = false;
	if (n > INTERP_LINE_MAX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a line of more than %u bytes",
				 INTERP_LINE_MAX);
	for (size_t i = 0; i < n; i++) {
		if (string) {
			if (p[i] == '\\')
				i++;
			else
				string = p[i] != '"';
			continue;
		}
		switch (p[i]) {
		case '"':
			string = true;
			break;
		case '[':
		case '{':
			if (++depth > INTERP_DEPTH_MAX)
				return brig_fail(err, BRIG_E_PROTOCOL, 0, "nested deeper than %u",
						 INTERP_DEPTH_MAX);
			values++;
			break;
		case ']':
		case '}':
			depth -= depth > 0;
			break;
		case ',':
			values++;
			break;
		default:
			break;
		}
		if (values > INTERP_VALUES_MAX)
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "more than %u values",
					 INTERP_VALUES_MAX);
	}
	return 0;
}

static bool field_fits(enum field_type type, const json_t *v)
{
	switch (type) {
	case STRING:
		return json_is_string(v);
	case OBJECT:
		return json_is_object(v);
	case BOOL:
		return json_is_boolean(v);
	case ANY:
		break;
	}
	return v && !json_is_null(v);
}

static void copy_field(json_t *to, json_t *from, const char *key, enum field_type type)
{
	json_t *v = json_object_get(from, key);
	if (field_fits(type, v))
		json_object_set(to, key, v);
}

/* "2026-01-01T00:00:00.123456Z" */
static void set_time(json_t *to, uint64_t wall_ns)
{
	char text[48], day[32];
	time_t s = (time_t)(wall_ns / 1000000000u);
	struct tm tm;
	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%06uZ", day, (unsigned)(wall_ns % 1000000000u / 1000u));
	json_object_set_new(to, "timestamp", json_string(text));
}

static int line_of(json_t *o, char **ret, size_t *ret_n)
{
	size_t n = json_dumpb(o, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII);
	char *p = n ? malloc(n + 1) : NULL;
	if (!p)
		return -1;
	json_dumpb(o, p, n, JSON_COMPACT | JSON_ENSURE_ASCII);
	p[n] = '\n';
	*ret = p;
	*ret_n = n + 1;
	return 0;
}

char *interp_event_error(const char *name, const char *value, size_t *ret_n)
{
	char *line = NULL;
	json_t *text = json_string(value);
	json_t *o =
		json_pack("{s:s,s:s,s:o,s:O}", "type", "error", "name", name, "value",
			  text ? text : json_string("?"), "traceback", text ? text : json_null());
	if (!o || line_of(o, &line, ret_n) < 0)
		line = NULL;
	json_decref(o);
	return line;
}

/* The client's event; NULL for one that is none of the client's. */
static json_t *client_event(json_t *in, const char *type, uint64_t wall_ns)
{
	json_t *out = json_object();
	if (strcmp(type, "stdout") == 0 || strcmp(type, "stderr") == 0) {
		json_object_set_new(out, "type", json_string(type));
		copy_field(out, in, "text", STRING);
		if (!json_object_get(out, "text"))
			json_object_set_new(out, "text", json_string(""));
		set_time(out, wall_ns);
	} else if (strcmp(type, "result") == 0) {
		json_object_set_new(out, "type", json_string(type));
		for (size_t i = 0; i < sizeof(result_fields) / sizeof(result_fields[0]); i++)
			copy_field(out, in, result_fields[i].key, result_fields[i].type);
		if (!json_object_get(out, "is_main_result"))
			json_object_set_new(out, "is_main_result", json_false());
	} else if (strcmp(type, "error") == 0) {
		static const char *const keys[] = { "name", "value", "traceback" };
		json_object_set_new(out, "type", json_string(type));
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
			copy_field(out, in, keys[i], STRING);
			if (!json_object_get(out, keys[i]))
				json_object_set_new(out, keys[i], json_string(""));
		}
	} else if (strcmp(type, "count") == 0) {
		json_int_t n = json_integer_value(json_object_get(in, "execution_count"));
		json_object_set_new(out, "type", json_string("number_of_executions"));
		json_object_set_new(out, "execution_count", json_integer(n < 0 ? 0 : n));
	} else {
		json_decref(out);
		return NULL;
	}
	return out;
}

static int convert(json_t *in, uint64_t wall_ns, struct interp_event *ret, struct brig_err *err)
{
	const char *type = json_string_value(json_object_get(in, "type"));
	json_int_t id = json_integer_value(json_object_get(in, "id"));
	struct interp_event e = { .kind = INTERP_LINE, .id = id > 0 ? (uint64_t)id : 0 };
	if (!type)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a line without a type");
	if (strcmp(type, "ready") == 0 || strcmp(type, "warm") == 0 || strcmp(type, "done") == 0) {
		e.kind = *type == 'r' ? INTERP_READY : *type == 'w' ? INTERP_WARM : INTERP_DONE;
		*ret = e;
		return 0;
	}
	if (strcmp(type, "fatal") == 0) {
		const char *text = json_string_value(json_object_get(in, "text"));
		e.kind = INTERP_FATAL;
		e.line = strndup(text ? text : "", 4096);
		e.n = e.line ? strlen(e.line) : 0;
		*ret = e;
		return 0;
	}
	json_t *out = client_event(in, type, wall_ns);
	if (!out)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a line of an unknown type");
	int r = line_of(out, &e.line, &e.n);
	json_decref(out);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "no memory for an event");
	*ret = e;
	return 0;
}

int interp_event_parse(const char *p, size_t n, uint64_t wall_ns, struct interp_event *ret,
		       struct brig_err *err)
{
	json_error_t why;
	if (bounded(p, n, err) < 0)
		return -1;
	json_t *in = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	if (!json_is_object(in)) {
		json_decref(in);
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a line that is no JSON object");
	}
	int r = convert(in, wall_ns, ret, err);
	json_decref(in);
	return r;
}
