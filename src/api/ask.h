/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask.h: what a request asks for in brig's own terms (tier, image, limits), read from JSON: the
 * fields of the body of /v1/run and of E2B's create, and metadata whose keys begin with "brig.".
 */
#ifndef BRIG_API_ASK_H
#define BRIG_API_ASK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "brig/limits.h"

/* Adds the limits of `from` to `limits`, a SPEC object of client_proto.h. A key is the JSON key of
 * limits.h (a number of its unit, or null for none) or its flag's name (text as on the command
 * line, or a number). The range is brigd's to check. */
int ask_limits(json_t *from, json_t *limits, struct brig_err *err);
/* brig.tier, brig.image and brig.limits.NAME of E2B metadata: into spec ("tier", "image",
 * "limits"). An unknown key with that prefix is refused. */
int ask_metadata(json_t *metadata, json_t *spec, struct brig_err *err);
/* An object of strings as "NAME=value" list. New reference. */
int ask_env(json_t *envs, json_t **ret, struct brig_err *err);

#endif
