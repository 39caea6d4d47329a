/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec.h: the flags that describe a sandbox (run, create) and a command (run, exec), and the parts
 * of a request that are made of them. What can be known to be wrong without asking a server is
 * refused here, as a mistake in the command line.
 */
#ifndef BRIG_CLI_SPEC_H
#define BRIG_CLI_SPEC_H

#include <jansson.h>

#include "brig/jail_proto.h"
#include "cli/cli.h"
#include "cli/limit.h"
#include "cli/netopts.h"
#include "cli/secretuse.h"

struct spec_opts {
	const char *tier, *image, *snapshot, *name, *hostname, *workdir, *user;
	struct strlist labels, env, env_files, secrets, volumes, accept, ports;
	struct net_opts net;
	uint64_t limits[LIMIT__N];
};

/* By hand: the formatter takes every other row of such a table for something else. */
/* clang-format off */
#define ENV_ROWS(type, env_, files_)                                                              \
	{ .name = "env",                                                                          \
	  .letter = 'e',                                                                          \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, env_),                                                             \
	  .arg = "NAME[=VALUE]",                                                                  \
	  .help = "set a variable; without =VALUE it is copied from the caller's environment" },  \
	{ .name = "env-file",                                                                     \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, files_),                                                           \
	  .arg = "FILE",                                                                          \
	  .complete = COMPLETE_FILE,                                                              \
	  .help = "read variables from a file, one NAME=VALUE a line" }
#define WHERE_ROWS(type, workdir_, user_)                                                         \
	{ .name = "workdir",                                                                      \
	  .letter = 'w',                                                                          \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(type, workdir_),                                                         \
	  .arg = "DIR",                                                                           \
	  .help = "working directory inside; default: the image's" },                             \
	{ .name = "user",                                                                         \
	  .letter = 'u',                                                                          \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(type, user_),                                                            \
	  .arg = "USER[:GROUP]",                                                                  \
	  .help = "user and group inside, by name or number; default: the image's" }

/* One row per line of limits.h. Short names are Docker's, which has one. */
#define SPEC_LIMIT_ROW(field, flag, kind_, def, min, max, none, what)                             \
	{ .name = flag,                                                                           \
	  .letter = LIMIT_##field == LIMIT_memory_bytes ? 'm' : 0,                                \
	  .kind = FLAG_LIMIT,                                                                     \
	  .limit = LIMIT_##field,                                                                 \
	  .at = offsetof(struct spec_opts, limits) + LIMIT_##field * sizeof(uint64_t) },

/* The rows of a sandbox. A verb that has them begins its options with a struct spec_opts. */
#define SPEC_ROWS                                                                                 \
	{ .name = "tier",                                                                         \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(struct spec_opts, tier),                                                 \
	  .arg = "TIER",                                                                          \
	  .choices = "auto container gvisor microvm",                                             \
	  .help = "isolation tier; auto is the strongest that this host offers; default: BRIG_TIER, or " \
		  "the server's, most often container" },                                        \
	{ .name = "image",                                                                        \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(struct spec_opts, image),                                                \
	  .arg = "IMAGE",                                                                         \
	  .complete = COMPLETE_IMAGE,                                                             \
	  .help = "root file system, by name or digest; default: base if built, else host" },     \
	{ .name = "snapshot",                                                                     \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(struct spec_opts, snapshot),                                             \
	  .arg = "SNAPSHOT",                                                                      \
	  .help = "begin with the files of a snapshot, and with its image and settings where nothing else is said" },  \
	{ .name = "name",                                                                         \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(struct spec_opts, name),                                                 \
	  .arg = "NAME",                                                                          \
	  .help = "name of the sandbox" },                                                        \
	{ .name = "hostname",                                                                     \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(struct spec_opts, hostname),                                             \
	  .arg = "NAME",                                                                          \
	  .help = "host name inside" },                                                           \
	{ .name = "label",                                                                        \
	  .letter = 'l',                                                                          \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(struct spec_opts, labels),                                               \
	  .arg = "KEY[=VALUE]",                                                                   \
	  .help = "a note for people and programs, shown by inspect" },                           \
	ENV_ROWS(struct spec_opts, env, env_files), SECRET_ROW(struct spec_opts, secrets),        \
	WHERE_ROWS(struct spec_opts, workdir, user),  \
	{ .name = "publish",                                                                      \
	  .letter = 'p',                                                                          \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(struct spec_opts, ports),                                                \
	  .arg = "[[ADDR:]HOSTPORT:]PORT",                                                        \
	  .help = "lead a TCP port of this host, on loopback unless ADDR is given, to PORT "      \
		  "inside; HOSTPORT 0, or none: any that is free" },                              \
	{ .name = "volume",                                                                       \
	  .letter = 'v',                                                                          \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(struct spec_opts, volumes),                                              \
	  .arg = "HOST:GUEST[:ro]",                                                               \
	  .complete = COMPLETE_FILE,                                                              \
	  .help = "show a file or directory of the host, or, without a slash in HOST, a volume "  \
		  "(brig volume) at the path GUEST inside" },                                      \
	BRIG_LIMITS(SPEC_LIMIT_ROW)                                                               \
	NET_ROWS(struct spec_opts, net),                                                          \
	{ .name = "accept",                                                                       \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(struct spec_opts, accept),                                               \
	  .arg = "NAME[,NAME]",                                                                   \
	  .help = "run even if this host cannot enforce NAME (see ENVIRONMENT, BRIG_ACCEPT)" }
/* clang-format on */

/* One --volume. */
struct volume {
	char *host; /* owned, with what guest points to */
	const char *guest;
	bool readonly;
};
int volume_parse(const char *text, struct volume *ret, struct brig_err *err);

/* The SPEC object and the descriptors that it names, which the caller closes. */
struct spec_built {
	json_t *spec;
	int fds[JAIL_VOLUMES_MAX + 1]; /* and of a snapshot */
	unsigned nfds;
};
/* 0, or an exit code after the error was printed; ret is then empty. tty: a terminal will be used.
 */
int spec_build(struct cli *cli, const struct spec_opts *o, bool tty, struct spec_built *ret);
void spec_built_done(struct spec_built *b);
/* Adds the names of "memory,cpu" to an array of strings; source is what errors call the text. */
int spec_accept_add(json_t *array, const char *source, const char *text, struct brig_err *err);

/* Checks shared with exec; 0 or -1 with err (a mistake in the command line). */
int workdir_check(const char *dir, struct brig_err *err);
int user_check(const char *user, struct brig_err *err);
/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62} */
int name_check(const char *name, struct brig_err *err);
/* The command as an array; NULL after err was filled. */
json_t *command_json(int argc, char **argv, struct brig_err *err);

#endif
