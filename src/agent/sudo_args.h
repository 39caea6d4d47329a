/* SPDX-License-Identifier: Apache-2.0 */
/* sudo_args.h: the command line of brig-sudo, the part of sudo(8) that needs no password. */
#ifndef BRIG_AGENT_SUDO_ARGS_H
#define BRIG_AGENT_SUDO_ARGS_H

#include <stdbool.h>
#include <stddef.h>

enum sudo_verb { SUDO_RUN, SUDO_VALIDATE, SUDO_NOTHING, SUDO_HELP, SUDO_VERSION };

struct sudo_args {
	enum sudo_verb verb;
	const char *user, *group;  /* -u, -g; NULL = root, its group */
	const char *directory;	   /* -D; NULL = where we are */
	const char *preserve_list; /* --preserve-env=A,B; NULL = none */
	bool preserve, set_home;   /* -E, -H */
	bool shell, login;	   /* -s, -i */
	char **assign;		   /* VAR=value words */
	size_t nassign;
	char **command; /* up to a NULL; command[0] NULL = none */
};
/* 0, or -1 with a text in err. */
int sudo_args_parse(int argc, char **argv, struct sudo_args *ret, char *err, size_t cap);
/* The words of a command for `sh -c`: joined by spaces, what a shell would act on escaped. Caller
 * frees; NULL without memory. */
char *sudo_shell_quote(char *const *words);

#endif
