/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: a configuration file: the flags of one verb, written down.
 *
 * A flag names its place in the file itself (struct flag, key): "data" is a key at the top,
 * "http.listen" one of the table [http], and "pool[].image" one of the tables [[pool]], of which each
 * adds "IMAGE=SIZE" to a list. So the file knows no option that the command line lacks, both are
 * checked by the same code, and a flag that is given outweighs the file.
 */
#ifndef BRIG_CLI_CONFIG_H
#define BRIG_CLI_CONFIG_H

#include <limits.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/toml.h"

struct config {
	char path[PATH_MAX]; /* "" = there is none */
	struct toml *root;
	struct strlist owned; /* texts that were made here */
};
#define CONFIG_NONE { .path = "" }

/* Where this user's file is: /etc/brig/brig.toml for root, else brig/brig.toml in XDG_CONFIG_HOME
 * or ~/.config. "" if there is no such place. */
void config_default_path(char ret[PATH_MAX]);
/* Reads the file. It must be a regular one that belongs to this user or to root and that nobody
 * else can write: what it says is done with the server's rights. ret is the caller's to
 * config_done(), also on failure. BRIG_E_NOT_FOUND if it is not there. */
int config_load(const char *path, struct config *ret, struct brig_err *err);
/* Stores what the file says for flags that have no value yet. Texts in opts are borrowed from c. */
int config_apply(struct config *c, struct cli *cli, const struct cmd *cmd, void *opts,
		 struct brig_err *err);
void config_done(struct config *c);

/* Writes the values of all flags with a key, as a file that would say the same. */
int config_print(FILE *f, const struct cmd *cmd, const void *opts);

#endif
