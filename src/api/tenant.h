/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.h: those whose sandboxes, snapshots, tags and keys are kept apart. Every record has the
 * name of one.
 */
#ifndef BRIG_API_TENANT_H
#define BRIG_API_TENANT_H

#include "api/api.h"
#include "api/policy.h"
#include "api/quota.h"

#define TENANT_NAME_MAX 39u

struct tenant {
	LIST_ENTRY(tenant) link;
	char name[TENANT_NAME_MAX + 1];
	bool disabled; /* none of its keys is good; what runs goes on to its end */
	int64_t created_ms;
	struct policy policy;
	/* quota.c */
	struct amounts use;
	uint64_t tokens_milli, refilled_ns; /* creates per second */
	unsigned charges;
	bool removed; /* out of the table; freed with the last charge */
};

/* Reads them back. The tenant of the first key and of the operator always exists. */
int tenants_open(struct api *a, struct brig_err *err);
void tenants_close(struct api *a);

/* NULL: there is none. */
struct tenant *tenant_find(const struct api *a, const char *name);
bool tenant_name_ok(const char *name);
/* ALREADY_EXISTS, or too many. */
int tenant_add(struct api *a, const char *name, struct tenant **ret, struct brig_err *err);
/* Writes what was changed. */
int tenant_save(struct api *a, const struct tenant *t, struct brig_err *err);
/* With its keys, tags and kept results. It has no sandbox and no snapshot. */
void tenant_remove(struct api *a, struct tenant *t);
/* A charge is gone: frees it if it was removed and this was the last. */
void tenant_unused(struct tenant *t);

#endif
