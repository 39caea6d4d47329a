/* SPDX-License-Identifier: Apache-2.0 */
/* networks.h: the private networks that tenants have by name. */
#ifndef BRIG_API_NETWORKS_H
#define BRIG_API_NETWORKS_H

#include <jansson.h>

#include "base/err.h"

struct api;

/* networks: as a request has them (daemon/netask.h), or NULL. -1: the tenant has not all of them. */
int networks_exist(struct api *a, const char *tenant, const json_t *networks, struct brig_err *err);

#endif
