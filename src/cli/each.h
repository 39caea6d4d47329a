/* SPDX-License-Identifier: Apache-2.0 */
/* each.h: verbs that do one simple operation to each sandbox named. */
#ifndef BRIG_CLI_EACH_H
#define BRIG_CLI_EACH_H

#include "cli/cli.h"

/* Calls the server once per name with what make returns (NULL: out of memory); all are tried.
 * Prints the names that succeeded, or with -o json an array of {"sandbox","ok","error"}. Returns
 * the exit code. */
int each_sandbox(struct cli *cli, int argc, char **argv,
		 json_t *(*make)(const void *opts, const char *id), const void *opts);

#endif
