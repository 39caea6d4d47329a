/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.h: the table of limits.h as the command line sees it: reading a value, and saying what is
 * accepted. What this host has is not known here; brigd checks that.
 */
#ifndef BRIG_CLI_LIMIT_H
#define BRIG_CLI_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "brig/limits.h"

enum limit_index {
#define X(field, flag, kind, def, min, max, none, what) LIMIT_##field,
	BRIG_LIMITS(X)
#undef X
		LIMIT__N
};

enum limit_kind { LIMIT_CPU, LIMIT_BYTES, LIMIT_COUNT, LIMIT_MS };

struct limit {
	const char *field, *flag, *what;
	enum limit_kind kind;
	uint64_t def, min, max;
	int none; /* "none" is accepted */
};

const struct limit *limit_get(unsigned index);
/* "SIZE", "DURATION": what the value is called in help. */
const char *limit_arg_name(enum limit_kind kind);

/* The value of --FLAG; *ret is LIMIT_NONE for "none". The error names flag, value, form and range.
 */
int limit_parse(unsigned index, const char *text, uint64_t *ret, struct brig_err *err);
/* "512 MiB", "1m30s", "none". */
#define LIMIT_TEXT_MAX 32
void limit_format(enum limit_kind kind, uint64_t value, char ret[LIMIT_TEXT_MAX]);
/* "16 MiB to 16 TiB, or none". */
void limit_range(unsigned index, char *ret, size_t cap);

/* What a quantity flag that is no limit accepts; the same messages. */
int quantity_parse(enum limit_kind kind, const char *flag, const char *text, uint64_t *ret,
		   struct brig_err *err);

/* Values by index, 0 = not given, as a "limits" object; NULL when out of memory. */
json_t *limits_to_json(const uint64_t values[LIMIT__N]);

#endif
