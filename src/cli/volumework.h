/* SPDX-License-Identifier: Apache-2.0 */
/* volumework.h: what is done with the files of a volume: always by a sandbox that has it. */
#ifndef BRIG_CLI_VOLUMEWORK_H
#define BRIG_CLI_VOLUMEWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

struct volumework {
	const char *image; /* NULL: host */
	const char *user;  /* of cp; NULL: root */
	const char *timeout;
};

/* Each returns an exit code. file NULL: standard output or input. */
int volumework_backup(struct cli *cli, const struct volumework *w, const char *name, const char *file);
int volumework_restore(struct cli *cli, const struct volumework *w, const char *name, const char *file);
/* As `brig cp`, with VOLUME:PATH in place of SANDBOX:PATH. */
int volumework_cp(struct cli *cli, const struct volumework *w, int argc, char **argv);

#endif
