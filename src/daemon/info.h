/* SPDX-License-Identifier: Apache-2.0 */
/* info.h: brigd and its sandboxes as the JSON that clients see. sandbox_info() is in sandbox.h. */
#ifndef BRIG_DAEMON_INFO_H
#define BRIG_DAEMON_INFO_H

#include <jansson.h>

struct brigd;
json_t *info_version(const struct brigd *d);

#endif
