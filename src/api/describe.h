/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h: a box as the JSON that clients of either API see; names are E2B's, exact. */
#ifndef BRIG_API_DESCRIBE_H
#define BRIG_API_DESCRIBE_H

#include "api/api.h"

/* Sandbox: what create, connect, resume and fork answer. tokens: whether those who ask may enter it
 * (PERM_FILES); others get none. */
json_t *describe_sandbox(const struct box *b, bool tokens);
/* ListedSandbox. */
json_t *describe_listed(const struct box *b);
/* SandboxDetail. */
json_t *describe_detail(const struct box *b, bool tokens);
/* brig's own: GET /v1/sandboxes. */
json_t *describe_v1(const struct box *b);

#endif
