/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secretuse.h: --secret of run, create and exec: a secret that the server keeps, as a variable.
 */
#ifndef BRIG_CLI_SECRETUSE_H
#define BRIG_CLI_SECRETUSE_H

#include <jansson.h>

#include "base/err.h"
#include "cli/cli.h"

/* By hand: the formatter takes every other row of such a table for something else. */
/* clang-format off */
#define SECRET_ROW(type, member)                                                                  \
	{ .name = "secret",                                                                       \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member),                                                           \
	  .arg = "NAME[=VARIABLE]",                                                               \
	  .help = "set a variable to a secret that the server keeps; without =VARIABLE the one "  \
		  "that is called like it (see secret)" }
/* clang-format on */

/* Adds what the texts name to the SPEC of a sandbox, or to the request of an exec. With a server
 * elsewhere that is the names, else the values, which this process asks the server for. *ret_usage:
 * the error is one of the command line. An empty list adds nothing. */
int secretuse_add(json_t *object, const struct strlist *texts, bool *ret_usage,
		  struct brig_err *err);
/* Overwrites the values in a request that was sent, or will not be. */
void secretuse_wipe(const json_t *req);

#endif
