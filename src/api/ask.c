/* SPDX-License-Identifier: Apache-2.0 */
#include "api/ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

#define METADATA_PREFIX "brig."

enum kind { KIND_CPU, KIND_BYTES, KIND_COUNT, KIND_MS };
static const struct row {
	const char *field, *flag;
	enum kind kind;
	int none;
} rows[] = {
#define X(field, flag, kind, def, min, max, none, what) { #field, flag, KIND_##kind, none },
	BRIG_LIMITS(X)
#undef X
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct row *row_find(const char *key, bool *ret_by_flag)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		*ret_by_flag = strcmp(rows[i].flag, key) == 0;
		if (*ret_by_flag || strcmp(rows[i].field, key) == 0)
			return &rows[i];
	}
	return NULL;
}

static int text_value(const struct row *row, const char *text, uint64_t *ret)
{
	switch (row->kind) {
	case KIND_CPU:
		return size_parse_cpus(text, ret);
	case KIND_BYTES:
		return size_parse_bytes(text, ret);
	case KIND_COUNT:
		return size_parse_count(text, ret);
	case KIND_MS:
		return size_parse_ms(text, ret);
	}
	return -EINVAL;
}

static int malformed(const struct row *row, const char *key, struct brig_err *err)
{
	static const char *const forms[] = { "CPUs such as 1.5", "a size such as 512m",
					     "a whole number", "a time such as 90s" };
	return brig_fail(err, BRIG_E_INVALID, 0, "limit '%.64s' is not %s", key, forms[row->kind]);
}

/* One limit; text of the command line, or a number: of the unit if the key is the JSON key, as the
 * command line reads it if it is the flag's. */
static int limit_set(json_t *limits, const char *key, json_t *v, struct brig_err *err)
{
	bool by_flag;
	char text[64];
	uint64_t n = 0;
	const struct row *row = row_find(key, &by_flag);
	int r = 0;
	if (!row) {
		brig_err_set(err, BRIG_E_INVALID, 0, "there is no limit '%.64s'", key);
		return brig_fix(err, "limits are cpus, memory, pids, disk, inodes, timeout, "
				     "cpu-time, max-output and nofile");
	}
	const char *s = json_string_value(v);
	if (json_is_null(v) || (s && strcmp(s, "none") == 0)) {
		json_object_set_new(limits, row->field, json_null());
		return 0;
	}
	if (json_is_integer(v) && !by_flag) {
		json_object_set(limits, row->field, v);
		return 0;
	}
	if (json_is_integer(v)) {
		snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
		s = text;
	} else if (json_is_real(v)) {
		snprintf(text, sizeof(text), "%.3f", json_real_value(v));
		s = text;
	}
	if (s)
		r = text_value(row, s, &n);
	if (!s || r < 0 || n > INT64_MAX)
		return malformed(row, key, err);
	json_object_set_new(limits, row->field, json_integer((json_int_t)n));
	return 0;
}

int ask_limits(json_t *from, json_t *limits, struct brig_err *err)
{
	const char *key;
	json_t *v;
	if (!from)
		return 0;
	if (!json_is_object(from))
		return brig_fail(err, BRIG_E_INVALID, 0, "'limits' must be an object");
	json_object_foreach(from, key, v)
	{
		if (limit_set(limits, key, v, err) < 0)
			return -1;
	}
	return 0;
}

int ask_metadata(json_t *metadata, json_t *spec, struct brig_err *err)
{
	const char *key;
	json_t *v, *limits = json_object_get(spec, "limits");
	json_object_foreach(metadata, key, v)
	{
		if (strncmp(key, METADATA_PREFIX, strlen(METADATA_PREFIX)) != 0)
			continue;
		const char *name = key + strlen(METADATA_PREFIX);
		if (strcmp(name, "tier") == 0 || strcmp(name, "image") == 0) {
			json_object_set(spec, name, v);
		} else if (strcmp(name, "interpreter") == 0 && json_is_string(v) &&
			   strcmp(json_string_value(v), "python") == 0) {
			continue; /* warm.h: its kernel is started with it */
		} else if (strncmp(name, "limits.", 7) == 0) {
			if (limit_set(limits, name + 7, v, err) < 0)
				return -1;
		} else {
			brig_err_set(err, BRIG_E_INVALID, 0, "metadata '%.64s' means nothing", key);
			return brig_fix(err,
					"keys that begin with brig. are brig.tier, brig.image, "
					"brig.limits.NAME and brig.interpreter (python)");
		}
	}
	return 0;
}

int ask_env(json_t *envs, json_t **ret, struct brig_err *err)
{
	const char *key;
	json_t *v, *list = json_array();
	json_object_foreach(envs, key, v)
	{
		if (!json_is_string(v) || !key[0] || strchr(key, '=')) {
			json_decref(list);
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "variable '%.64s' is not a name with a string", key);
		}
		json_array_append_new(list, json_sprintf("%s=%s", key, json_string_value(v)));
	}
	*ret = list;
	return 0;
}
