/* SPDX-License-Identifier: Apache-2.0 */
/*
 * language.h: the command that runs a piece of code of a language.
 *
 * Built in: python, javascript, typescript, bash, c. An image declares more by variables of its
 * own: BRIG_LANG_<NAME>="word word ..", to which the code is added as the last word.
 */
#ifndef BRIG_API_LANGUAGE_H
#define BRIG_API_LANGUAGE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Longer code does not fit a command line of brigd and goes into a file. */
#define LANGUAGE_INLINE_MAX (60u * 1024u)
#define LANGUAGE_NAME_MAX 32

/* [a-z0-9+#_-]{1,31}, lower-cased into ret. */
int language_name(const char *text, char ret[LANGUAGE_NAME_MAX], struct brig_err *err);
bool language_built_in(const char *name);
/* Name of the file for code that is too long, or NULL if the language takes none. */
const char *language_file(const char *name);
/* The command; file != NULL: the code is in that file. New reference; NULL: not built in. */
json_t *language_command(const char *name, const char *code, const char *file);
/* From the variables of an image, an object. New reference, or NULL if it does not declare it. */
json_t *language_declared(const char *name, json_t *env, const char *code);
/* What tells that the image lacks the language's program: exit code 127 and this at the beginning
 * of stderr. */
#define LANGUAGE_MISSING "brig-run: "

#endif
