/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h: NetworkConfig of E2B. Sandboxes of this version have no way out, so what it allows
 * changes nothing; it is checked, kept and told all the same, for a client must learn of a
 * malformed rule now and not on a host that applies it.
 */
#ifndef BRIG_API_NETWORK_H
#define BRIG_API_NETWORK_H

#include <jansson.h>
#include <stdbool.h>

#include "api/policy.h"
#include "base/err.h"

int network_check(json_t *network, struct brig_err *err);
/* allowPublicTraffic, true unless it says otherwise. */
bool network_public(const json_t *network);
/* The most that it asks for; internet: allow_internet_access, -1 not said. */
enum policy_net network_asked(const json_t *network, int internet);

#endif
