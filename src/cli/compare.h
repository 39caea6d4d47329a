/* SPDX-License-Identifier: Apache-2.0 */
/* compare.h: `brig run --compare-tiers`: one command in every tier, side by side. */
#ifndef BRIG_CLI_COMPARE_H
#define BRIG_CLI_COMPARE_H

#include "cli/cli.h"

/* operands: how many words at the end of brig's own command line are the command. Returns the exit code: 0 if all
 * tiers that this host offers ended alike and wrote the same, else 1. */
int compare_tiers(struct cli *cli, int operands);

#endif
