/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h: what a verb of the command line is. Each cmd_<verb>.c exports one const struct cmd; the
 * table in commands.c lists them. A verb declares its flags once, and parsing, --help, man pages
 * and shell completions are all made from that declaration.
 *
 * A verb's options are a plain struct, zeroed before parsing; each flag says where its value goes.
 */
#ifndef BRIG_CLI_CLI_H
#define BRIG_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "brig/client_proto.h"

/* One invocation. */
struct cli {
	const struct cmd *cmd; /* NULL before it is known */
	bool json;	       /* -o json */
	bool printed_error;    /* one error per invocation is enough */
};

/* What a shell may offer for a value. */
enum complete {
	COMPLETE_NONE,
	COMPLETE_FILE,
	COMPLETE_DIR,
	COMPLETE_SANDBOX, /* ids and names of living sandboxes */
	COMPLETE_IMAGE,
	COMPLETE_COMMAND, /* a verb of brig */
};

enum flag_kind {
	FLAG_BOOL,   /* bool; --flag, --flag=false */
	FLAG_TRI,    /* enum tri; as FLAG_BOOL, but "not given" is told apart */
	FLAG_STR,    /* const char *; the last one counts, as with Docker */
	FLAG_LIST,   /* struct strlist; may be given more than once */
	FLAG_LIMIT,  /* uint64_t of limits.h, 0 = not given, LIMIT_NONE = none */
	FLAG_SIZE,   /* uint64_t bytes, 0 = not given */
	FLAG_TIME,   /* uint64_t milliseconds, 0 = not given */
	FLAG_COUNT,  /* uint64_t, 0 = not given */
	FLAG_OUTPUT, /* "table" or "json", into struct cli; no place of its own */
};

enum tri { TRI_UNSET = 0, TRI_ON, TRI_OFF };

/* The strings are borrowed, usually from argv. */
struct strlist {
	const char **v;
	size_t n;
};

struct flag {
	const char *name; /* without "--"; NULL ends a table */
	char letter;	  /* 0 = none */
	enum flag_kind kind;
	size_t at;	     /* offsetof in the options of the verb */
	const char *arg;     /* name of the value in help; NULL for FLAG_BOOL and FLAG_TRI */
	const char *help;    /* one sentence without full stop; FLAG_LIMIT adds default and range */
	const char *choices; /* "table json": the only values accepted; NULL = any */
	enum complete complete;
	unsigned limit; /* FLAG_LIMIT: index into the table of limit.h */
	bool hidden;	/* for brig itself: in no help */
	/* Its name in a configuration file (config.h); NULL = it has none there. */
	const char *key;
	bool key_negates; /* true there means false here */
};
#define FLAG_END             \
	{                    \
		.name = NULL \
	}

#define FLAG_OUTPUT_ROW                                                                          \
	{                                                                                        \
		.name = "output", .letter = 'o', .kind = FLAG_OUTPUT, .arg = "FORMAT",           \
		.choices = "table json", .help = "print a table for people or JSON for programs" \
	}

struct cmd {
	const char *name, *alias; /* alias may be NULL */
	const char *operands;	  /* "SANDBOX...", "" = none */
	const char *summary;	  /* one line, imperative, without full stop */
	const char *about;	  /* paragraphs separated by an empty line; NULL = none */
	const struct flag *flags; /* NULL = none */
	size_t opts_size;
	int min_args, max_args; /* operands; max -1 = any number */
	bool first_ends;	/* options end at the first operand: what follows is a command */
	bool raw;		/* arguments are handed on untouched */
	bool hidden;
	enum complete complete; /* of the operands */
	/* Returns the exit code of brig. */
	int (*run)(struct cli *cli, void *opts, int argc, char **argv);
};

extern const struct cmd *const cmd_table[]; /* ends with NULL */
/* By name or alias; NULL. */
const struct cmd *cmd_find(const char *name);

/* args.c: fills opts and moves the operands to the front of argv. Returns their number, ARGS_HELP
 * if help was asked for, or -1 with err. argv[0] is the first argument behind the verb. */
#define ARGS_HELP (-2)
int args_parse(struct cli *cli, const struct cmd *cmd, int argc, char **argv, void *opts,
	       struct brig_err *err);
void args_done(const struct cmd *cmd, void *opts);
/* Stores the value of one flag as if it had been given; NULL is a switch's "on". */
int args_store(struct cli *cli, const struct flag *f, const char *value, void *opts,
	       struct brig_err *err);
/* Whether a value of it is stored; of a FLAG_BOOL: whether it is on. */
bool args_given(const struct flag *f, const void *opts);
int strlist_add(struct strlist *l, const char *s);

/* help.c */
void help_print_all(void);
void help_print_cmd(const struct cmd *cmd);
/* The full help sentence of a flag, with default and range where there are some. */
#define FLAG_HELP_MAX 256
void flag_help(const struct flag *f, char ret[FLAG_HELP_MAX]);

/* report.c: everything that brig says about itself. */

/* Prints the error (and its remedy) and returns BRIG_EXIT_FAILED. */
int cli_fail(struct cli *cli, const struct brig_err *err);
/* The same for an error object of the server, which is printed unchanged with -o json. */
int cli_fail_json(struct cli *cli, const json_t *error);
/* A mistake in the command line: prints it with a pointer to the help, returns BRIG_EXIT_USAGE. */
int cli_usage(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int cli_usage_err(struct cli *cli, const struct brig_err *err);
/* "brig: text" on standard error. */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* One JSON value and a newline on standard output; 0, or BRIG_EXIT_FAILED after saying why not. */
int cli_print_json(struct cli *cli, const json_t *value);
/* Flushes standard output: a full disk must not look like success. Returns code, or
 * BRIG_EXIT_FAILED after saying why. */
int cli_flush(struct cli *cli, int code);
/* Replaces what could steer a terminal by '?', in place: texts may come from a sandbox. */
void text_make_safe(char *text);
/* Fills err from an error object; unknown or missing parts become an internal error. */
void err_from_json(const json_t *error, struct brig_err *err);
/* The error object of client_proto.h; NULL when out of memory. */
json_t *err_to_json(const struct brig_err *err);

#endif
