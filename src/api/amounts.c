/* SPDX-License-Identifier: Apache-2.0 */
#include "api/amounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "brig/limits.h"

static const struct brig_limits defaults = {
#define X(field, flag, kind, def, min, max, none, what) .field = (def),
	BRIG_LIMITS(X)
#undef X
};

static uint64_t limit_of(const json_t *limits, const char *field, uint64_t def)
{
	json_int_t v = json_integer_value(json_object_get(limits, field));
	return v > 0 ? (uint64_t)v : def;
}

void amounts_of(const json_t *limits, struct amounts *ret)
{
	uint64_t memory = limit_of(limits, "memory_bytes", defaults.memory_bytes);
	uint64_t disk = memory / 2 < defaults.disk_bytes ? memory / 2 : defaults.disk_bytes;
	*ret = (struct amounts){ .sandboxes = 1,
				 .cpu_milli = limit_of(limits, "cpu_milli", defaults.cpu_milli),
				 .memory_bytes = memory,
				 .disk_bytes = limit_of(limits, "disk_bytes", disk) };
}

void amounts_text(const struct amounts *a, char ret[AMOUNTS_TEXT_MAX])
{
	snprintf(ret, AMOUNTS_TEXT_MAX, "%llu %llu %llu", (unsigned long long)a->cpu_milli,
		 (unsigned long long)a->memory_bytes, (unsigned long long)a->disk_bytes);
}

int amounts_parse(const char *text, struct amounts *ret)
{
	uint64_t v[3];
	for (unsigned i = 0; i < 3; i++) {
		char *end;
		if (text[0] < '0' || text[0] > '9')
			return -1;
		errno = 0;
		v[i] = strtoull(text, &end, 10);
		if (errno || *end != (i < 2 ? ' ' : '\0'))
			return -1;
		text = end + 1;
	}
	*ret = (struct amounts){
		.sandboxes = 1, .cpu_milli = v[0], .memory_bytes = v[1], .disk_bytes = v[2]
	};
	return 0;
}
