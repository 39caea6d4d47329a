/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h: a sandbox as text in the ledger, and back. What changes often, and what must change in one
 * store, stands beside it in its place (include/brig/ledger.h).
 *
 * {"id","name","image": digest, "host" or "","image_name","spec": SPEC of client_proto.h, the values of
 * secrets among it,"missing","warnings":[..],"created_ns","created_real_ns","cmd":[..] of the main command
 * or null,"status": STATUS or null,"fault","user"}
 */
#ifndef BRIG_DAEMON_RECORD_H
#define BRIG_DAEMON_RECORD_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/spec.h"

struct sandbox;

/* Strings and objects are borrowed from root; spec holds its own references. */
struct record {
	json_t *root;
	const char *id, *name, *image, *image_name, *fault, *user;
	struct spec spec;
	uint64_t missing, created_ns, created_real_ns;
	json_t *warnings, *cmd, *status; /* cmd and status: NULL = none */
};

/* Any bytes. 0 with *ret to be released, or -1 with err and nothing to be released. */
int record_parse(const void *text, size_t n, struct record *ret, struct brig_err *err);
void record_done(struct record *r);

/* Notes the sandbox for the next brigd, anew if it is noted already. A sandbox that cannot be noted is
 * one that the next brigd removes; the log says so. */
void record_sandbox(struct sandbox *sb);
/* The words of its place: state, flags, times. Nothing for a sandbox that is not noted. */
void record_touch(struct sandbox *sb);
/* It is nobody's any more. */
void record_drop(struct sandbox *sb);

#endif
