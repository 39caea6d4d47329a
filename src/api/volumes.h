/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volumes.h: named volumes of tenants: /v1/volumes, E2B's /volumes, and the field "volumes" of what starts a
 * sandbox.
 */
#ifndef BRIG_API_VOLUMES_H
#define BRIG_API_VOLUMES_H

#include <jansson.h>

#include "api/api.h"
#include "api/perm.h"

/* In all, of all tenants. */
#define VOLUMES_MAX 65536u

int volumes_open(struct api *a, struct brig_err *err);
void volumes_close(struct api *a);

/* want, which stands under `key` of the request: [{"name": NAME, "path": PATH inside, "readonly": bool}], or NULL. Adds them to spec as "volumes" of
 * client_proto.h, in which their ids stand. perms: of who asks; to write takes another than to read. */
int volumes_resolve(struct api *a, const char *tenant, perm_set perms, const char *key, const json_t *want,
		    json_t *spec, struct brig_err *err);
/* Of a request that came as client_proto.h has it: [{"volume": NAME, "guest": PATH, "readonly": bool}]. */
int volumes_rename(struct api *a, const char *tenant, perm_set perms, json_t *spec, struct brig_err *err);
/* What a tenant has. */
void volumes_use(struct api *a, const char *tenant, uint64_t *ret_n, uint64_t *ret_bytes);

#endif
