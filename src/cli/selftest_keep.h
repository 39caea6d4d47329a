/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest_keep.h: the result that `brig serve --require-selftest` goes by: kept in the data
 * folder, for the kernel, the version and the programs that it was found with.
 */
#ifndef BRIG_CLI_SELFTEST_KEEP_H
#define BRIG_CLI_SELFTEST_KEEP_H

#include <jansson.h>

#include "base/err.h"

/* accept: what sandboxes may do without, as for selftest_run(); NULL. The report of selftest_run()
 * that is kept for what is here now, a new reference; NULL if there is none, or for another kernel
 * or another brig. */
json_t *selftest_kept(const char *data, const char *accept);
int selftest_keep(const char *data, const char *accept, const json_t *report, struct brig_err *err);

/* Why a tier failed, in one line: "3 attacks escaped (host-files, ..)". 0 if it did not fail. */
int selftest_reason(const json_t *report, const char *tier, char *ret, size_t cap);

#endif
