/* SPDX-License-Identifier: Apache-2.0 */
/* spawn.h: from a checked request to a process that has called execve(). */
#ifndef BRIG_AGENT_SPAWN_H
#define BRIG_AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/creds.h"

struct agent;

/* argv and envp in one allocation; the strings are the caller's. */
struct spawn_args {
	char **mem;
	char **argv; /* argv[-1] is writable: room for an interpreter */
	char **envp;
	unsigned envc, envcap;
};
/* Room for argc arguments and envc variables, of which none is set yet. 0 or -ENOMEM. */
int spawn_args_init(struct spawn_args *sa, unsigned argc, unsigned envc);
void spawn_args_done(struct spawn_args *sa);
/* Appends "NAME=value"; without a place left it is dropped (spawn_args_init counts them). */
void spawn_env_add(struct spawn_args *sa, char *text);
/* The value of the last NAME in the environment, or NULL. */
const char *spawn_env_get(const struct spawn_args *sa, const char *name);

/* HOME, USER, LOGNAME and SHELL from u where the environment lacks them. buf keeps the text. */
#define SPAWN_ENV_DEFAULTS 4
struct spawn_env_text {
	char home[512 + 8], user[USER_NAME_MAX + 8], logname[USER_NAME_MAX + 8], shell[256 + 8];
};
void spawn_env_defaults(struct spawn_args *sa, const struct user *u, struct spawn_env_text *buf);

struct spawn_result {
	int32_t err;   /* 0 = execve() succeeded */
	uint32_t step; /* enum brig_exec_step */
};

struct spawn {
	const struct spawn_args *args;
	const char *file;	/* NULL = argv[0] */
	const char *cwd, *home; /* cwd "" = home, or / where that is missing */
	struct creds creds;
	int fd[3]; /* become 0, 1, 2; may be equal to each other; stay open in the agent */
	bool tty;  /* fd[0] becomes the controlling terminal */

	int gate; /* set by spawn_start() */

	/* Out. */
	pid_t pid;
	int report_fd; /* >= 0: the result is not known yet; see spawn_report() */
	struct spawn_result result;
};

/*
 * Starts the process. 0, and then either s->result says how it went or s->report_fd becomes
 * readable when it is known; or -errno of pipe or clone. After a failed exec the process still has
 * to be reaped.
 */
int spawn_start(struct agent *a, struct spawn *s);
/* Reads and closes report_fd. */
struct spawn_result spawn_report(int *report_fd);

#endif
