/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c: the list of verbs, in the order in which help shows them. */
#include <string.h>

#include "cli/cli.h"

#define CLI_VERBS(X)  \
	X(run)        \
	X(create)     \
	X(exec)       \
	X(attach)     \
	X(ls)         \
	X(inspect)    \
	X(cp)         \
	X(snapshot)   \
	X(fork)       \
	X(checkpoint) \
	X(undo)       \
	X(diff)       \
	X(logs)       \
	X(kill)       \
	X(pause)      \
	X(unpause)    \
	X(rm)         \
	X(stats)      \
	X(net)        \
	X(port)       \
	X(network)    \
	X(why)        \
	X(image)      \
	X(serve)      \
	X(key)        \
	X(tenant)     \
	X(secret)     \
	X(volume)     \
	X(audit)      \
	X(receipt)    \
	X(pool)       \
	X(doctor)     \
	X(selftest)   \
	X(gc)         \
	X(version)    \
	X(completion) \
	X(help)       \
	X(man)

#define X(name) extern const struct cmd cmd_##name;
CLI_VERBS(X)
#undef X

const struct cmd *const cmd_table[] = {
#define X(name) &cmd_##name,
	CLI_VERBS(X)
#undef X
		NULL,
};

const struct cmd *cmd_find(const char *name)
{
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (strcmp((*c)->name, name) == 0 ||
		    ((*c)->alias && strcmp((*c)->alias, name) == 0))
			return *c;
	return NULL;
}
