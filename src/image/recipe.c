/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.c: lines of a build file into steps.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-image over a file that its caller chose, and in a fuzzer. First the text is cut into logical
 * lines: a backslash at an end goes on with the next line, and within such a line comments and empty lines
 * are left out, as docker does. Then each is taken apart by what its first word demands.
 *
 * Source of the language: the Dockerfile reference of the Docker documentation.
 */
#include "image/recipe.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"

static const char *const op_names[] = {
#define X(name) #name,
	RECIPE_OPS(X)
#undef X
};

const char *recipe_op_name(enum recipe_op op)
{
	return op_names[op];
}

/* What docker knows and this language has not, and what to do instead. */
static const struct {
	const char *name, *remedy;
} unknown[] = {
	{ "ADD", "use COPY, and fetch or unpack in a RUN" },
	{ "VOLUME", "leave it out, and give --volume to brig run" },
	{ "HEALTHCHECK", "leave it out; nothing here would run it" },
	{ "ONBUILD", "write the steps where they are to happen" },
	{ "SHELL", "name the shell in a RUN: RUN [\"/bin/bash\", \"-c\", \"..\"]" },
	{ "STOPSIGNAL", "leave it out, and give --signal to brig kill" },
	{ "MAINTAINER", "use LABEL maintainer=.." },
};

static int bad(struct brig_err *err, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int bad(struct brig_err *err, unsigned line, const char *fmt, ...)
{
	char text[300], shown[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return brig_fail(err, BRIG_E_INVALID, 0, "line %u: %s", line,
			 image_name_print(text, shown, sizeof(shown)));
}

static int no_memory(struct brig_err *err)
{
	return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the build file");
}

static int add_word(struct recipe_step *s, const char *text, size_t n, struct brig_err *err)
{
	AUTO_FREE char *copy = strndup(text, n);
	int r = copy ? image_words_add(&s->words, copy) : -ENOMEM;
	if (r == -E2BIG)
		return bad(err, s->line, "%s has more than %d words", op_names[s->op], IMAGE_WORDS_MAX);
	if (r == -EINVAL)
		return bad(err, s->line, "%s: a word is too long, or no UTF-8", op_names[s->op]);
	return r < 0 ? no_memory(err) : 0;
}

/* ---- words ---- */

static size_t skip_space(const char *s)
{
	return strspn(s, " \t");
}

/* Words between spaces; quotes keep spaces together and are left in place for recipe_expand to drop. */
static size_t word_len(const char *s)
{
	size_t n = 0;
	char quote = 0;
	for (; s[n]; n++) {
		if (s[n] == '\\' && s[n + 1] && quote != '\'') {
			n++;
		} else if (quote) {
			quote = s[n] == quote ? 0 : quote;
		} else if (s[n] == '"' || s[n] == '\'') {
			quote = s[n];
		} else if (s[n] == ' ' || s[n] == '\t') {
			break;
		}
	}
	return n;
}

static int take_words(struct recipe_step *s, const char *at, struct brig_err *err)
{
	for (at += skip_space(at); *at; at += skip_space(at)) {
		size_t n = word_len(at);
		if (add_word(s, at, n, err) < 0)
			return -1;
		at += n;
	}
	return 0;
}

/* NAME=VALUE NAME=VALUE .., or NAME VALUE to the end of the line. */
static int take_pairs(struct recipe_step *s, const char *at, struct brig_err *err)
{
	size_t first = word_len(at);
	const char *eq = memchr(at, '=', first);
	if (!eq) {
		const char *value = at + first + skip_space(at + first);
		if (!*value)
			return bad(err, s->line, "%s takes NAME=VALUE", op_names[s->op]);
		return add_word(s, at, first, err) < 0 ? -1
						       : add_word(s, value, strlen(value), err);
	}
	for (; *at; at += skip_space(at)) {
		size_t n = word_len(at);
		eq = memchr(at, '=', n);
		if (!eq || eq == at)
			return bad(err, s->line, "%s takes NAME=VALUE", op_names[s->op]);
		if (add_word(s, at, (size_t)(eq - at), err) < 0 ||
		    add_word(s, eq + 1, n - (size_t)(eq + 1 - at), err) < 0)
			return -1;
		at += n;
	}
	return 0;
}

/* A JSON array of strings: 1; 0: it is none. */
static int take_array(struct recipe_step *s, const char *at, struct brig_err *err)
{
	size_t i;
	json_t *v, *list = at[0] == '[' ? json_loads(at, 0, NULL) : NULL;
	int r = json_is_array(list);
	json_array_foreach(list, i, v)
	{
		if (!json_is_string(v))
			r = 0;
	}
	if (r)
		json_array_foreach(list, i, v)
		{
			const char *text = json_string_value(v);
			if (r > 0 && add_word(s, text, strlen(text), err) < 0)
				r = -1;
		}
	json_decref(list);
	s->exec = r > 0;
	return r;
}

/* ---- each instruction ---- */

static int count_is(const struct recipe_step *s, size_t least, size_t most, const char *what,
		    struct brig_err *err)
{
	return s->words.n >= least && s->words.n <= most
		       ? 0
		       : bad(err, s->line, "%s takes %s", op_names[s->op], what);
}

static int take_command(struct recipe_step *s, const char *at, struct brig_err *err)
{
	if (strncmp(at, "--", 2) == 0) {
		bad(err, s->line, "%s has no flags here: '%.*s'", op_names[s->op], (int)strcspn(at, " \t"), at);
		return brig_fix(err, "leave it out; --net and --allow of the build say what RUN may reach");
	}
	if (s->op == RECIPE_RUN && strstr(at, "<<") && strncmp(strstr(at, "<<"), "<<<", 3) != 0 &&
	    (isalpha((unsigned char)strstr(at, "<<")[2]) || strchr("-\"'", strstr(at, "<<")[2]))) {
		bad(err, s->line, "here-documents are not known");
		return brig_fix(err, "put the text into a file of the context and COPY it");
	}
	int r = take_array(s, at, err);
	if (r < 0)
		return -1;
	if (r == 0 && (add_word(s, "/bin/sh", 7, err) < 0 || add_word(s, "-c", 2, err) < 0 ||
		       add_word(s, at, strlen(at), err) < 0))
		return -1;
	if (r && s->words.n == 0 && s->op == RECIPE_RUN)
		return bad(err, s->line, "RUN has no command");
	return 0;
}

static int take_copy(struct recipe_step *s, const char *at, struct brig_err *err)
{
	while (strncmp(at, "--", 2) == 0) {
		size_t n = word_len(at);
		if (strncmp(at, "--chown=", 8) != 0 || n == 8) {
			bad(err, s->line, "COPY has no flag '%.*s' here", (int)n, at);
			return brig_fix(err, "the one that is known is --chown=USER[:GROUP]");
		}
		free(s->chown);
		s->chown = strndup(at + 8, n - 8);
		if (!s->chown)
			return no_memory(err);
		at += n + skip_space(at + n);
	}
	int r = take_array(s, at, err);
	if (r < 0 || (r == 0 && take_words(s, at, err) < 0))
		return -1;
	return count_is(s, 2, IMAGE_WORDS_MAX, "SOURCE.. DESTINATION", err);
}

static int take_step(struct recipe_step *s, const char *at, struct brig_err *err)
{
	switch (s->op) {
	case RECIPE_RUN:
	case RECIPE_CMD:
	case RECIPE_ENTRYPOINT:
		return take_command(s, at, err);
	case RECIPE_COPY:
		return take_copy(s, at, err);
	case RECIPE_ENV:
	case RECIPE_LABEL:
		return take_pairs(s, at, err);
	case RECIPE_EXPOSE:
		return take_words(s, at, err);
	case RECIPE_WORKDIR:
		/* With spaces in it, too. */
		return add_word(s, at, strlen(at), err);
	case RECIPE_FROM:
		if (take_words(s, at, err) < 0)
			return -1;
		if (s->words.n != 1 || s->words.v[0][0] == '-') {
			bad(err, s->line, "FROM takes one image of the store");
			return brig_fix(err, "get it first (brig image pull), and name it as `brig image "
					     "ls` does; there are no stages and no platforms");
		}
		return 0;
	default:
		return take_words(s, at, err) < 0 ? -1 : count_is(s, 1, 1, "one word", err);
	}
}

static int find_op(const char *word, size_t n, unsigned line, enum recipe_op *ret, struct brig_err *err)
{
	for (unsigned i = 0; i < RECIPE__N; i++)
		if (strlen(op_names[i]) == n && strncasecmp(op_names[i], word, n) == 0) {
			*ret = (enum recipe_op)i;
			return 0;
		}
	bad(err, line, "there is no instruction '%.*s' here", n < 40 ? (int)n : 40, word);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		if (strlen(unknown[i].name) == n && strncasecmp(unknown[i].name, word, n) == 0)
			return brig_fix(err, "%s", unknown[i].remedy);
	return brig_fix(err, "known are FROM RUN COPY ENV WORKDIR USER EXPOSE CMD ENTRYPOINT ARG LABEL");
}

static int add_step(struct recipe *r, const char *text, unsigned line, struct brig_err *err)
{
	enum recipe_op op;
	size_t n = strcspn(text, " \t");
	if (find_op(text, n, line, &op, err) < 0)
		return -1;
	const char *at = text + n + skip_space(text + n);
	if (!*at)
		return bad(err, line, "%s says nothing", op_names[op]);
	if (r->n == RECIPE_STEPS_MAX)
		return bad(err, line, "there are more than %u steps", RECIPE_STEPS_MAX);
	if (op == RECIPE_FROM && r->n) {
		for (size_t i = 0; i < r->n; i++)
			if (r->steps[i].op == RECIPE_FROM) {
				bad(err, line, "there is a second FROM");
				return brig_fix(err, "build the first image alone, and begin with it here");
			}
	}
	if (op != RECIPE_FROM && op != RECIPE_ARG) {
		bool begun = false;
		for (size_t i = 0; i < r->n; i++)
			begun |= r->steps[i].op == RECIPE_FROM;
		if (!begun) {
			bad(err, line, "%s stands before FROM", op_names[op]);
			return brig_fix(err, "begin with FROM base, another image, or FROM scratch");
		}
	}
	struct recipe_step *steps = realloc(r->steps, (r->n + 1) * sizeof(*steps));
	if (!steps)
		return no_memory(err);
	r->steps = steps;
	struct recipe_step *s = &steps[r->n++];
	*s = (struct recipe_step){ .op = op, .line = line, .text = strdup(at) };
	return s->text ? take_step(s, at, err) : no_memory(err);
}

/* ---- lines ---- */

/* The next line of text without what ends it; NULL behind the last. */
static const char *next_line(const char **at, const char *end, size_t *ret_n)
{
	const char *line = *at;
	if (line == end)
		return NULL;
	const char *lf = memchr(line, '\n', (size_t)(end - line));
	*at = lf ? lf + 1 : end;
	size_t n = (size_t)((lf ? lf : end) - line);
	while (n && strchr(" \t\r", line[n - 1]))
		n--;
	*ret_n = n;
	return line;
}

static int parse_lines(const char *text, size_t n, char *logical, struct recipe *r,
		       struct brig_err *err)
{
	const char *at = text, *end = text + n, *line;
	size_t len, used = 0;
	unsigned number = 0, begun = 0;
	while ((line = next_line(&at, end, &len))) {
		number++;
		while (len && (*line == ' ' || *line == '\t')) {
			line++;
			len--;
		}
		if (len == 0 || *line == '#')
			continue; /* also in the middle of a continued line */
		bool more = line[len - 1] == '\\';
		begun = used ? begun : number;
		if (used)
			logical[used++] = ' ';
		memcpy(logical + used, line, len - more);
		used += len - more;
		while (more && used && logical[used - 1] == ' ')
			used--;
		if (more)
			continue;
		logical[used] = '\0';
		if (add_step(r, logical, begun, err) < 0)
			return -1;
		used = 0;
	}
	if (used)
		return bad(err, begun, "the file ends in the middle of it");
	for (size_t i = 0; i < r->n; i++)
		if (r->steps[i].op == RECIPE_FROM)
			return 0;
	bad(err, 1, "there is no FROM");
	return brig_fix(err, "begin with FROM base, another image, or FROM scratch");
}

int recipe_parse(const char *text, size_t n, struct recipe *ret, struct brig_err *err)
{
	struct recipe r = { .steps = NULL };
	if (n > RECIPE_BYTES_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the build file has more than %u bytes",
				 RECIPE_BYTES_MAX);
	if (memchr(text, 0, n))
		return brig_fail(err, BRIG_E_INVALID, 0, "the build file is no text");
	AUTO_FREE char *logical = malloc(2 * n + 2);
	int e = logical ? parse_lines(text, n, logical, &r, err) : no_memory(err);
	if (e < 0)
		recipe_done(&r);
	else
		*ret = r;
	return e;
}

void recipe_done(struct recipe *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->steps[i].text);
		free(r->steps[i].chown);
		image_words_done(&r->steps[i].words);
	}
	free(r->steps);
	*r = (struct recipe){ .steps = NULL };
}

/* ---- variables ---- */

struct out {
	char *p;
	size_t n;
};

static int put(struct out *o, const char *s, size_t n)
{
	if (n > IMAGE_CONFIG_MAX / 4 - o->n)
		return -E2BIG;
	memcpy(o->p + o->n, s, n);
	o->n += n;
	return 0;
}

static size_t name_len(const char *s)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return isdigit((unsigned char)s[0]) ? 0 : n;
}

/* What stands at a dollar; returns the characters used, or 0 if it is none of the forms. */
static size_t variable(const char *s, struct out *o, const char *(*lookup)(void *, const char *),
		       void *ctx, int *e)
{
	char name[129];
	bool braces = s[1] == '{';
	const char *at = s + 1 + braces;
	size_t n = name_len(at);
	if (n == 0 || n >= sizeof(name))
		return 0;
	memcpy(name, at, n);
	name[n] = '\0';
	const char *value = lookup(ctx, name);
	at += n;
	if (!braces) {
		*e = value ? put(o, value, strlen(value)) : 0;
		return (size_t)(at - s);
	}
	if (*at == '}') {
		*e = value ? put(o, value, strlen(value)) : 0;
		return (size_t)(at + 1 - s);
	}
	size_t word = at[0] == ':' && (at[1] == '-' || at[1] == '+') ? strcspn(at + 2, "}") : 0;
	if (at[0] != ':' || (at[1] != '-' && at[1] != '+') || at[2 + word] != '}' ||
	    memchr(at + 2, '$', word))
		return 0;
	bool set = value && value[0];
	if (at[1] == '+')
		*e = set ? put(o, at + 2, word) : 0;
	else
		*e = set ? put(o, value, strlen(value)) : put(o, at + 2, word);
	return (size_t)(at + 3 + word - s);
}

char *recipe_expand(const char *text, const char *(*lookup)(void *ctx, const char *name), void *ctx,
		    struct brig_err *err)
{
	struct out o = { .p = malloc(IMAGE_CONFIG_MAX / 4 + 1) };
	char quote = 0;
	int e = o.p ? 0 : -ENOMEM;
	for (const char *s = text; e == 0 && *s;) {
		size_t used = 1;
		if (*s == '\\' && quote != '\'' && s[1]) {
			e = put(&o, s + 1, 1);
			used = 2;
		} else if ((*s == '"' || *s == '\'') && (!quote || quote == *s)) {
			quote = quote ? 0 : *s;
		} else if (*s == '$' && quote != '\'' && (s[1] == '{' || name_len(s + 1))) {
			used = variable(s, &o, lookup, ctx, &e);
			if (used == 0)
				e = -EINVAL;
		} else {
			e = put(&o, s, 1);
		}
		s += used;
	}
	if (e == 0 && quote)
		e = -EINVAL;
	if (e < 0) {
		char shown[128];
		free(o.p);
		if (e == -EINVAL) {
			brig_fail(err, BRIG_E_INVALID, 0, "'%s' has an open quote or a variable of no known form",
				  image_name_print(text, shown, sizeof(shown)));
			brig_fix(err, "write $NAME, ${NAME}, ${NAME:-word} or ${NAME:+word}; \\$ is a dollar");
		} else {
			brig_fail(err, e == -E2BIG ? BRIG_E_LIMIT : BRIG_E_EXHAUSTED, -e, "replace variables");
		}
		return NULL;
	}
	o.p[o.n] = '\0';
	return o.p;
}
