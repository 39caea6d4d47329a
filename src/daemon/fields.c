/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in brigd, without privilege, over bytes of a client that may be hostile. jansson parses by
 * recursion and allows 2048 levels; the scan before it counts brackets outside of strings, so the
 * stack that a request can use is known. Messages quote keys, never values: a value may be a
 * secret.
 */
#include "daemon/fields.h"

#include <string.h>

#define DEPTH_MAX 32

static int depth_check(const char *text, size_t n, struct brig_err *err)
{
	int depth = 0, in_string = 0;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = 0;
		} else if (c == '"') {
			in_string = 1;
		} else if (c == '{' || c == '[') {
			if (++depth > DEPTH_MAX)
				return brig_fail(err, BRIG_E_PROTOCOL, 0,
						 "request nests deeper than %d levels", DEPTH_MAX);
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	return 0;
}

int fields_parse(const void *text, size_t n, json_t **ret, struct brig_err *err)
{
	if (depth_check(text, n, err) < 0)
		return -1;
	json_error_t je;
	json_t *obj = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
	if (!obj)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "request is not JSON: %s, byte %d",
				 je.text, je.position);
	if (!json_is_object(obj)) {
		json_decref(obj);
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "request is not a JSON object");
	}
	*ret = obj;
	return 0;
}

int fields_known(json_t *obj, const char *what, const char *const *known, struct brig_err *err)
{
	const char *key;
	json_t *value;
	json_object_foreach(obj, key, value)
	{
		const char *const *k = known;
		while (*k && strcmp(*k, key) != 0)
			k++;
		if (!*k)
			return brig_fail(err, BRIG_E_INVALID, 0, "unknown key '%.64s' in %s", key,
					 what);
	}
	return 0;
}

static int wrong_type(const char *key, const char *want, struct brig_err *err)
{
	return brig_fail(err, BRIG_E_INVALID, 0, "'%s' must be %s", key, want);
}

int field_str(json_t *obj, const char *key, size_t max, const char **ret, struct brig_err *err)
{
	json_t *v = json_object_get(obj, key);
	if (!v)
		return 0;
	if (!json_is_string(v))
		return wrong_type(key, "a string", err);
	if (json_string_length(v) > max)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is longer than %zu bytes", key, max);
	*ret = json_string_value(v);
	return 0;
}

int field_bool(json_t *obj, const char *key, bool *ret, struct brig_err *err)
{
	json_t *v = json_object_get(obj, key);
	if (!v)
		return 0;
	if (!json_is_boolean(v))
		return wrong_type(key, "true or false", err);
	*ret = json_is_true(v);
	return 0;
}

int field_u64(json_t *obj, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
	      struct brig_err *err)
{
	json_t *v = json_object_get(obj, key);
	if (!v)
		return 0;
	if (!json_is_integer(v))
		return wrong_type(key, "a whole number", err);
	json_int_t n = json_integer_value(v);
	if (n < 0 || (uint64_t)n < min || (uint64_t)n > max)
		return brig_fail(err, BRIG_E_LIMIT, 0, "'%s' is %lld, outside %llu to %llu", key,
				 (long long)n, (unsigned long long)min, (unsigned long long)max);
	*ret = (uint64_t)n;
	return 0;
}

int field_array(json_t *obj, const char *key, json_t **ret, struct brig_err *err)
{
	json_t *v = json_object_get(obj, key);
	if (!v)
		return 0;
	if (!json_is_array(v))
		return wrong_type(key, "an array", err);
	*ret = v;
	return 0;
}

int field_object(json_t *obj, const char *key, json_t **ret, struct brig_err *err)
{
	json_t *v = json_object_get(obj, key);
	if (!v)
		return 0;
	if (!json_is_object(v))
		return wrong_type(key, "an object", err);
	*ret = v;
	return 0;
}

int field_strings(json_t *obj, const char *key, size_t count, size_t bytes, json_t **ret,
		  struct brig_err *err)
{
	json_t *arr = NULL;
	if (field_array(obj, key, &arr, err) < 0)
		return -1;
	if (!arr)
		return 0;
	if (json_array_size(arr) > count)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' has more than %zu entries", key,
				 count);
	size_t i, sum = 0;
	json_t *v;
	json_array_foreach(arr, i, v)
	{
		if (!json_is_string(v))
			return wrong_type(key, "an array of strings", err);
		sum += json_string_length(v) + 1;
		if (sum > bytes)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "'%s' is larger than %zu bytes in all", key, bytes);
	}
	*ret = arr;
	return 0;
}
