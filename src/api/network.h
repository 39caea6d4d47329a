/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h: NetworkConfig of E2B and "network" of brig's own routes, checked and put into the words of
 * brigd (src/daemon/netask.h). Where E2B's rules meet, allowing ones win.
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
/* What brigd is asked for, or NULL if it is nothing; new reference. own: a string or object as `network` of
 * /v1/run has it. */
json_t *network_spec(const json_t *network, int internet, const char *tenant);
/* The same with private networks, which need a link, too; spec is stolen, and may be NULL. */
json_t *network_with(json_t *spec, json_t *networks, const char *tenant);
json_t *network_own_spec(const json_t *own, const char *tenant);
int network_own_check(const json_t *own, struct brig_err *err);
enum policy_net network_own_asked(const json_t *own);
/* The most that it asks for; internet: allow_internet_access, -1 not said. */
enum policy_net network_asked(const json_t *network, int internet);

#endif
