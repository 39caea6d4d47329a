/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/limit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

static const struct limit limits[] = {
#define X(field_, flag_, kind_, def_, min_, max_, none_, what_) \
	{ .field = #field_,                                     \
	  .flag = flag_,                                        \
	  .what = what_,                                        \
	  .kind = LIMIT_##kind_,                                \
	  .def = (def_),                                        \
	  .min = (min_),                                        \
	  .max = (max_),                                        \
	  .none = (none_) },
	BRIG_LIMITS(X)
#undef X
};
_Static_assert(sizeof(limits) / sizeof(limits[0]) == LIMIT__N, "one row per limit");

static const struct {
	const char *arg, *form;
	int (*parse)(const char *, uint64_t *);
} kinds[] = {
	[LIMIT_CPU] = { "CPUS", "a number of CPUs such as 0.5 or 2", size_parse_cpus },
	[LIMIT_BYTES] = { "SIZE", "a size such as 512m or 1.5g", size_parse_bytes },
	[LIMIT_COUNT] = { "N", "a whole number", size_parse_count },
	[LIMIT_MS] = { "DURATION", "a duration such as 90s, 1m30s or 250ms", size_parse_ms },
};

const struct limit *limit_get(unsigned index)
{
	return &limits[index];
}

const char *limit_arg_name(enum limit_kind kind)
{
	return kinds[kind].arg;
}

void limit_format(enum limit_kind kind, uint64_t value, char ret[LIMIT_TEXT_MAX])
{
	_Static_assert(LIMIT_TEXT_MAX >= SIZE_TEXT_MAX, "room for a size");
	if (value == LIMIT_NONE) {
		snprintf(ret, LIMIT_TEXT_MAX, "none");
		return;
	}
	switch (kind) {
	case LIMIT_CPU:
		size_format_cpus(value, ret);
		return;
	case LIMIT_BYTES:
		size_format_exact(value, ret);
		return;
	case LIMIT_MS:
		size_format_ms(value, ret);
		return;
	case LIMIT_COUNT:
		break;
	}
	snprintf(ret, LIMIT_TEXT_MAX, "%llu", (unsigned long long)value);
}

void limit_range(unsigned index, char *ret, size_t cap)
{
	const struct limit *l = &limits[index];
	char min[LIMIT_TEXT_MAX], max[LIMIT_TEXT_MAX];
	limit_format(l->kind, l->min, min);
	limit_format(l->kind, l->max, max);
	snprintf(ret, cap, "%s to %s%s", min, max, l->none ? ", or none" : "");
}

/* -EDOM of the parsers is "too fine", which each kind says in its own unit. */
static const char *finest(enum limit_kind kind)
{
	switch (kind) {
	case LIMIT_CPU:
		return "a thousandth of a CPU";
	case LIMIT_BYTES:
		return "a byte";
	case LIMIT_MS:
		return "a millisecond";
	case LIMIT_COUNT:
		break;
	}
	return "one";
}

int quantity_parse(enum limit_kind kind, const char *flag, const char *text, uint64_t *ret,
		   struct brig_err *err)
{
	switch (kinds[kind].parse(text, ret)) {
	case 0:
		return 0;
	case -ERANGE:
		return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' is far too large", flag,
				 text);
	case -EDOM:
		return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' is finer than %s", flag,
				 text, finest(kind));
	default:
		return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' is not %s", flag, text,
				 kinds[kind].form);
	}
}

int limit_parse(unsigned index, const char *text, uint64_t *ret, struct brig_err *err)
{
	const struct limit *l = &limits[index];
	char range[3 * LIMIT_TEXT_MAX];
	uint64_t v = 0;
	if (l->none && strcmp(text, "none") == 0) {
		*ret = LIMIT_NONE;
		return 0;
	}
	limit_range(index, range, sizeof(range));
	if (quantity_parse(l->kind, l->flag, text, &v, err) < 0) {
		brig_err_remedy(err, "give %s, %s", kinds[l->kind].form, range);
		return -1;
	}
	if (v < l->min || v > l->max) {
		brig_err_set(err, BRIG_E_INVALID, 0, "--%s '%.64s' is out of range: %s", l->flag,
			     text, range);
		return v == 0 && l->none ? brig_fix(err, "give --%s none for no limit", l->flag)
					 : -1;
	}
	*ret = v;
	return 0;
}

json_t *limits_to_json(const uint64_t values[LIMIT__N])
{
	json_t *o = json_object();
	int r = 0;
	for (unsigned i = 0; o && i < LIMIT__N; i++)
		if (values[i])
			r |= json_object_set_new(o, limits[i].field,
						 values[i] == LIMIT_NONE
							 ? json_null()
							 : json_integer((json_int_t)values[i]));
	if (r) {
		json_decref(o);
		return NULL;
	}
	return o;
}
