/* SPDX-License-Identifier: Apache-2.0 */
/* env.h: the environment of a command, from --env and --env-file. */
#ifndef BRIG_CLI_ENV_H
#define BRIG_CLI_ENV_H

#include <stddef.h>

#include <jansson.h>

#include "base/err.h"
#include "cli/cli.h"

/* Bytes of one --env-file, and of one line of it. */
#define ENV_FILE_MAX (1024u * 1024u)
#define ENV_LINE_MAX (128u * 1024u)

/* Adds one "NAME=value" to the array; "NAME" alone takes the value from our own environment and
 * adds nothing if there is none, as with Docker. An earlier entry of the same name is replaced. */
int env_add(json_t *array, const char *entry, struct brig_err *err);
/* Adds a file's text: one entry a line, "#" begins a comment line, leading blanks are dropped,
 * nothing is unquoted or expanded. name is for messages. text is changed. */
int env_add_text(json_t *array, const char *name, char *text, size_t n, struct brig_err *err);
int env_add_file(json_t *array, const char *path, struct brig_err *err);

/* Files first, then entries; TERM is added for a terminal if nobody set it. *ret is a new
 * reference. *ret_usage tells whether the error is one of the command line (an unreadable file is
 * none). */
int env_build(const struct strlist *files, const struct strlist *entries, bool tty, json_t **ret,
	      bool *ret_usage, struct brig_err *err);

#endif
