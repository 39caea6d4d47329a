/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.h: a build file, parsed. Its language is a part of the Dockerfile's; docs/images.md has it.
 *
 * Pure: no files, no store. What is not in the language is refused with the line it stands in and what to do
 * instead, never skipped.
 */
#ifndef BRIG_IMAGE_RECIPE_H
#define BRIG_IMAGE_RECIPE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "image/config.h"

#define RECIPE_BYTES_MAX (256u * 1024u)
#define RECIPE_STEPS_MAX 500u

#define RECIPE_OPS(X) \
	X(FROM)       \
	X(RUN)        \
	X(COPY)       \
	X(ENV)        \
	X(WORKDIR)    \
	X(USER)       \
	X(EXPOSE)     \
	X(CMD)        \
	X(ENTRYPOINT) \
	X(ARG)        \
	X(LABEL)

enum recipe_op {
#define X(name) RECIPE_##name,
	RECIPE_OPS(X)
#undef X
		RECIPE__N
};

struct recipe_step {
	enum recipe_op op;
	unsigned line; /* where it begins */
	char *text;    /* what follows the word, continued lines joined; owned */
	/* RUN, CMD, ENTRYPOINT, COPY: the words of a JSON array, or those that the shell form means.
	 * FROM, WORKDIR, USER, EXPOSE, ARG: the words, with variables still in them. ENV, LABEL: name, value,
	 * name, value. */
	struct image_words words;
	bool exec; /* it was a JSON array */
	char *chown; /* of COPY; NULL = 0:0; owned */
};

struct recipe {
	struct recipe_step *steps;
	size_t n;
};

/* err names the line. *ret: recipe_done(). */
int recipe_parse(const char *text, size_t n, struct recipe *ret, struct brig_err *err);
void recipe_done(struct recipe *r);
const char *recipe_op_name(enum recipe_op op);

/*
 * Replaces $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word} by what lookup says (NULL = not set); \$ is a
 * dollar. To be freed; NULL with err for what is malformed or too long.
 */
char *recipe_expand(const char *text, const char *(*lookup)(void *ctx, const char *name), void *ctx,
		    struct brig_err *err);

#endif
