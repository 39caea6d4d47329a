/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h: what the commands of brig-image share: options that all take, and how they report. */
#ifndef BRIG_IMAGE_CLI_H
#define BRIG_IMAGE_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* As in the whole of brig: its own failures are told apart from those of a command inside. */
enum { EXIT_OK = 0, EXIT_UNEXPLAINED = 1, EXIT_USAGE = 2, EXIT_BRIG = 125 };

struct cli {
	const char *data; /* --data; NULL = the default place */
	bool json;	  /* -o json */
	bool quiet;	  /* -q */
	int cancel;	  /* signalfd of INT, TERM, HUP; -1 = those keep their default */
};

struct cli_command {
	const char *name, *args;
	const char *summary; /* half a line, for the overview */
	const char *about;   /* what --help says */
	const char *help;    /* its own options, one a line */
	int (*run)(struct cli *cli, int argc, char **argv);
};
extern const struct cli_command image_commands[]; /* ends with name NULL */
/* NULL for an unknown name. */
const struct cli_command *cli_command_find(const char *name);

/* Options of every command, for getopt_long. */
#define CLI_SHORT ":o:qh"
#define CLI_LONG                                                                         \
	{ "output", 1, NULL, 'o' }, { "data", 1, NULL, 'D' }, { "quiet", 0, NULL, 'q' }, \
		{ "help", 0, NULL, 'h' },                                                \
	{                                                                                \
		NULL, 0, NULL, 0                                                         \
	}
/* Handles one of them, or an unknown one. 0 = go on; else return *ret_exit. */
int cli_option(struct cli *cli, const struct cli_command *c, int opt, char **argv, int *ret_exit);

/* Prints err as "brig: ..." and its remedy to stderr. Returns EXIT_BRIG. */
int cli_fail(const struct brig_err *err);
/* A usage error of a command. Returns EXIT_USAGE. */
int cli_usage(const struct cli_command *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void cli_note(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints and releases; EXIT_OK, or EXIT_BRIG when stdout takes no more. */
int cli_print_json(json_t *value);
/* Flushes stdout. */
int cli_finish(void);
/* From here on INT, TERM and HUP arrive at cli->cancel. */
int cli_catch_signals(struct cli *cli, struct brig_err *err);

struct import_result;
/* Tells what an import made. */
int cli_imported(const struct cli *cli, const char *name, const struct import_result *r);

int cmd_build(struct cli *cli, int argc, char **argv);
int cmd_pull(struct cli *cli, int argc, char **argv);
int cmd_import(struct cli *cli, int argc, char **argv);
int cmd_ls(struct cli *cli, int argc, char **argv);
int cmd_rm(struct cli *cli, int argc, char **argv);
int cmd_inspect(struct cli *cli, int argc, char **argv);
int cmd_gc(struct cli *cli, int argc, char **argv);

#endif
