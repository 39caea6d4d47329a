/* SPDX-License-Identifier: Apache-2.0 */
/* amounts.h: what sandboxes and snapshots stand for in a tenant's quotas; pure functions. */
#ifndef BRIG_API_AMOUNTS_H
#define BRIG_API_AMOUNTS_H

#include <jansson.h>
#include <stdint.h>

struct amounts {
	uint64_t sandboxes, cpu_milli, memory_bytes, disk_bytes, snapshots;
};

/* Of one sandbox with these limits (SPEC of client_proto.h); brigd's defaults for what is not
 * there. */
void amounts_of(const json_t *limits, struct amounts *ret);

/* "1000 536870912 268435456": of one sandbox; and back, 0 or -1. */
#define AMOUNTS_TEXT_MAX 72
void amounts_text(const struct amounts *a, char ret[AMOUNTS_TEXT_MAX]);
int amounts_parse(const char *text, struct amounts *ret);

#endif
