/* SPDX-License-Identifier: Apache-2.0 */
/* volumeuse.h: --volume NAME:GUEST: a volume that the server keeps, in a request for a sandbox. */
#ifndef BRIG_CLI_VOLUMEUSE_H
#define BRIG_CLI_VOLUMEUSE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Whether HOST of a --volume names a volume: it has no slash. */
bool volumeuse_named(const char *host);
/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62} */
int volumeuse_check(const char *name, struct brig_err *err);
/* What stands for it in a request; new reference, NULL with err. The server of this machine is asked for its
 * id, one elsewhere looks it up itself. */
json_t *volumeuse_json(const char *name, const char *guest, bool readonly, struct brig_err *err);

#endif
