/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A build file, the variables in it, and the patterns of .dockerignore.
 *
 * Input: one byte that chooses, then a text. Of patterns: the path after the last empty line.
 *
 * Oracle: what was accepted has one FROM, before all but ARG, and words where they are needed; a text without
 * variables and quotes is expanded to itself; a path that no pattern names is not ignored.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/context.h"
#include "image/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static const char *lookup(void *ctx, const char *name)
{
	(void)ctx;
	must(name[0] && strlen(name) < 129);
	return name[0] == 'A' ? "value $B" : name[0] == 'E' ? "" : NULL;
}

static void check(const struct recipe *r)
{
	unsigned from = 0;
	for (size_t i = 0; i < r->n; i++) {
		const struct recipe_step *s = &r->steps[i];
		from += s->op == RECIPE_FROM;
		must(from || s->op == RECIPE_ARG);
		must(s->line >= 1 && s->text[0]);
		must(s->op == RECIPE_CMD || s->op == RECIPE_ENTRYPOINT || s->words.n >= 1 ||
		     s->op == RECIPE_EXPOSE);
		if (s->op == RECIPE_ENV || s->op == RECIPE_LABEL)
			must(s->words.n % 2 == 0);
		if (s->op == RECIPE_COPY)
			must(s->words.n >= 2);
		for (size_t k = 0; k < s->words.n; k++) {
			struct brig_err err = BRIG_ERR_INIT;
			char *text = recipe_expand(s->words.v[k], lookup, NULL, &err);
			must(text || err.remedy[0] || err.code != BRIG_E_INVALID);
			if (text && !strpbrk(s->words.v[k], "$\\\"'"))
				must(strcmp(text, s->words.v[k]) == 0);
			free(text);
		}
	}
	must(from == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipe r;
	struct brig_err err = BRIG_ERR_INIT;
	if (size == 0)
		return 0;
	char *text = malloc(size);
	must(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] & 1) {
		char *path = strstr(text, "\n\n");
		if (path) {
			*path = '\0';
			path += 2;
			bool ignored = context_ignored(text, path);
			must(!ignored || text[0]);
			must(!context_ignored("", path));
		}
	} else if (recipe_parse(text, size - 1, &r, &err) == 0) {
		check(&r);
		recipe_done(&r);
	} else {
		must(err.msg[0] != '\0');
	}
	free(text);
	return 0;
}
