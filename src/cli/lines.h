/* SPDX-License-Identifier: Apache-2.0 */
/* lines.h: what brig-jaild says about the host: one JSON object a line. */
#ifndef BRIG_CLI_LINES_H
#define BRIG_CLI_LINES_H

#include <jansson.h>

#include "base/err.h"

/* The objects of text as an array, a new reference. A line that is no object is an error. */
int lines_parse(const char *text, json_t **ret, struct brig_err *err);
/* Runs a program of brig and parses what it prints. */
int lines_run(const char *program, const char *const *argv, json_t **ret, int *ret_status,
	      struct brig_err *err);

#endif
