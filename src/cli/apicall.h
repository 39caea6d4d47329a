/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apicall.h: one request to brig-api: over the operator's socket (apiproc.h), which needs no key, or with
 * BRIG_URL to a server elsewhere, with the rights of its key.
 */
#ifndef BRIG_CLI_APICALL_H
#define BRIG_CLI_APICALL_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"

/* body is stolen; NULL: none. 0 with a new reference to the answer's value in *ret (null where it
 * has no body); -1 with err, code BRIG_E_NOT_FOUND also if no server speaks HTTP here. */
int api_call(const char *method, const char *path, json_t *body, json_t **ret,
	     struct brig_err *err);

/* Whether text can stand in a path as it is: an id or a name. */
bool apicall_segment(const char *text);

/* The same for what the server's disk decides about: an answer of this machine's server may take so long. */
int api_call_within(unsigned wait_s, const char *method, const char *path, json_t *body, json_t **ret,
		    struct brig_err *err);

/* The parts of an answer that was read to its end: text is terminated behind n bytes. 0 with the
 * status and the body, -1 if it is no whole HTTP answer. */
int api_answer_parse(char *text, size_t n, unsigned *ret_status, char **ret_body, size_t *ret_n);

#endif
