/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h: ports of a sandbox that this host listens at.
 *
 * In a SPEC, "ports" is an array of texts (portask.h). When the sandbox is made each has become what was bound,
 * so that the next brigd takes the same.
 */
#ifndef BRIG_DAEMON_PUBLISH_H
#define BRIG_DAEMON_PUBLISH_H

#include <jansson.h>

#include "base/err.h"

#define PUBLISH_MAX 32u

struct sandbox;
struct spec;
struct publish;

/* Listens at all that the spec asks for, and puts what was bound in its place; *ret is NULL where it asks for
 * none. 0 or -1: then nothing listens. */
int publish_open(struct spec *spec, struct publish **ret, struct brig_err *err);
/* Nothing listens any more, and every connection is reset. NULL is allowed. */
void publish_close(struct publish *p);
/* Its connections lead to sb from now on; p is sb's. */
void publish_give(struct publish *p, struct sandbox *sb);
/* The state of sb has changed: who comes while its commands cannot run waits in the kernel. */
void publish_update(struct sandbox *sb);
/* The sandbox of a former brigd listens again where it did. */
void publish_restore(struct sandbox *sb);
/* The channel has room again. */
void publish_drained(struct sandbox *sb);
/* [{"address","host_port","port","protocol"}], of p or of nothing. */
json_t *publish_json(const struct publish *p);

#endif
