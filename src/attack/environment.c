/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for variables that came from the daemon or the client: they may hold tokens and paths.
 */
#include "attack/attack.h"

extern char **environ;

ATTACK(environment)
{
	static const char *const expected[] = { "PATH",	  "HOME",  "USER", "LOGNAME",
						"SHELL",  "TERM",  "LANG", "PWD",
						"OLDPWD", "SHLVL", "_" };
	unsigned count = 0;
	for (char **e = environ; *e; e++, count++) {
		size_t n = strcspn(*e, "=");
		/* The runner's own, but for the one that must not arrive. */
		bool known = strncmp(*e, "BRIG_CANARY_", 12) == 0 &&
			     strncmp(*e, "BRIG_CANARY_LEAK=", 17) != 0;
		for (size_t i = 0; i < N(expected); i++)
			known |= strlen(expected[i]) == n && memcmp(expected[i], *e, n) == 0;
		if (!known)
			broken("%.*s is set", (int)n, *e);
	}
	held("%u variables, all of them expected", count);
}
