/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h: what run and exec have in common: a command in the foreground with our standard
 * streams, or in the background, and how its end becomes ours.
 */
#ifndef BRIG_CLI_COMMAND_H
#define BRIG_CLI_COMMAND_H

#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/stream.h"

struct command_opts {
	bool detach, quiet, no_tty;
	enum tri tty, interactive;
	const char *status_json;
};

/* By hand: the formatter takes every other row of such a table for something else. */
/* clang-format off */
#define COMMAND_ROWS(type, member)                                                                \
	{ .name = "detach",                                                                       \
	  .letter = 'd',                                                                          \
	  .kind = FLAG_BOOL,                                                                      \
	  .at = offsetof(type, member.detach),                                                    \
	  .help = "run in the background and print the id" },                                     \
	{ .name = "interactive",                                                                  \
	  .letter = 'i',                                                                          \
	  .kind = FLAG_TRI,                                                                       \
	  .at = offsetof(type, member.interactive),                                               \
	  .help = "pass standard input on (the default; --interactive=false gives none)" },       \
	{ .name = "tty",                                                                          \
	  .letter = 't',                                                                          \
	  .kind = FLAG_TRI,                                                                       \
	  .at = offsetof(type, member.tty),                                                       \
	  .help = "give the command a terminal; default: if input and output are one" },          \
	{ .name = "no-tty",                                                                       \
	  .letter = 'T',                                                                          \
	  .kind = FLAG_BOOL,                                                                      \
	  .at = offsetof(type, member.no_tty),                                                    \
	  .help = "give the command pipes, even on a terminal" },                                 \
	{ .name = "status-json",                                                                  \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(type, member.status_json),                                               \
	  .arg = "FILE|FD",                                                                       \
	  .complete = COMPLETE_FILE,                                                              \
	  .help = "write how the command ended, as JSON, to a file or an open descriptor" },      \
	{ .name = "quiet",                                                                        \
	  .letter = 'q',                                                                          \
	  .kind = FLAG_BOOL,                                                                      \
	  .at = offsetof(type, member.quiet),                                                     \
	  .help = "no warnings, and no word on why the command was stopped" }
/* clang-format on */

struct command {
	struct cli *cli;
	const struct command_opts *o;
	struct stream_opts stream;
	bool tty;	/* the command gets a PTY */
	int sink;	/* --status-json, -1 = none */
	const char *id; /* of exec; NULL = a new sandbox */
};

/* Decides about terminal and input and opens --status-json. 0, or an exit code after the message.
 * Call it before any descriptor is opened. */
int command_begin(struct command *c, struct cli *cli, const struct command_opts *o);
/* Adds "tty", "stdin", "rows", "cols" and "detach" to the request; 0 or -1. */
int command_add(const struct command *c, json_t *req);
/* Opens the connection, sends the request with the descriptors, runs it to its end and returns the
 * exit code of brig. Everything about it is told to whom it concerns. Ends what command_begin()
 * began. */
int command_run(struct command *c, enum conn_mode mode, const json_t *req, const int *fds,
		unsigned nfds);
/* A failure before command_run(): prints, writes --status-json, returns the exit code. */
int command_fail(struct command *c, const struct brig_err *err);
void command_done(struct command *c);

#endif
