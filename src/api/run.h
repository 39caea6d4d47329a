/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h: POST /v1/run towards clients: one answer, or events as they come; and the promise of
 * Idempotency-Key, that a request which is sent again is not run again.
 */
#ifndef BRIG_API_RUN_H
#define BRIG_API_RUN_H

#include "api/api.h"

/* Output that is kept for an answer, each of stdout and stderr; more is dropped, and `truncated`
 * says so. Events are not kept and have no bound but the sandbox's. */
#define RUN_KEPT_MAX (4u * 1024u * 1024u)
/* How long a result is kept for its Idempotency-Key. */
#define RUN_RESULT_HOURS 24
#define RUN_KEY_MAX 255u

int runs_open(struct api *a, struct brig_err *err);
/* Cancels what is under way; no request is left. */
void runs_close(struct api *a);

#endif
