/* SPDX-License-Identifier: Apache-2.0 */
/* payload.h: the EXEC message: its strings, and the environment from three sources. */
#ifndef BRIG_DAEMON_PAYLOAD_H
#define BRIG_DAEMON_PAYLOAD_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "brig/agent_proto.h"
#include "image/config.h"

struct payload_exec {
	struct brig_exec h; /* argc and envc are filled in */
	const struct image_config *image;
	/* Arrays of NAME=value, or NULL; a later source wins. */
	json_t *spec_env, *secret_env, *cmd_env, *cmd_secret_env;
	json_t *argv;
	const char *user, *cwd;
};
/* Appends the payload to an empty buffer whose maximum is one frame. */
int payload_exec_build(struct payload_exec *req, struct buf *out, struct brig_err *err);

#endif
