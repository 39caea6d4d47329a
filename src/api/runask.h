/* SPDX-License-Identifier: Apache-2.0 */
/* runask.h: the body of POST /v1/run, parsed and checked as far as brigd does not. */
#ifndef BRIG_API_RUNASK_H
#define BRIG_API_RUNASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/language.h"
#include "base/err.h"

#define RUN_FILES_MAX 256u
/* One file that is read back, and all of them. */
#define RUN_OUTPUT_FILE_MAX (16u * 1024u * 1024u)
#define RUN_OUTPUT_FILES_MAX (32u * 1024u * 1024u)

struct charge;

struct run_file {
	char *path;
	uint8_t *data;
	size_t n;
};

struct run_ask {
	json_t *spec; /* SPEC of client_proto.h */
	json_t *cmd;  /* NULL until the image was asked what its language means */
	char language[LANGUAGE_NAME_MAX]; /* "" = cmd was given */
	char *code;
	const char *user; /* of spec; "" = the image's */
	uint8_t *input;	  /* stdin */
	size_t input_n;
	bool has_input;
	struct run_file *file;
	size_t nfiles;
	json_t *outputs; /* array of paths, or NULL */
	json_t *volumes, *network; /* as it was given, checked: network.h; or NULL */
	json_t *secrets; /* as it was given: secrets.h; or NULL */
	struct charge *charge; /* quota.h; NULL: none */
};

/* What a body may have; everything else is refused. */
extern const char *const runask_fields[];
int runask_parse(json_t *body, struct run_ask *ret, struct brig_err *err);
void runask_done(struct run_ask *ask);

#endif
