/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Reads one verb's arguments by its table of flags: --name value, --name=value, -n value, -nvalue,
 * -n=value, joined switches (-it), "--" before operands. A switch takes "=true" or "=false" and
 * never the next word. Long names are not abbreviated: a script written today must not change its
 * meaning when a flag is added tomorrow.
 *
 * Operands are moved to the front of argv in their order. Where `first_ends` is set the first
 * operand ends the flags, because what follows is somebody else's command line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/limit.h"

int strlist_add(struct strlist *l, const char *s)
{
	/* Doubles at powers of two. */
	if ((l->n & (l->n - 1)) == 0) {
		const char **v = realloc(l->v, (l->n ? 2 * l->n : 1) * sizeof(*v));
		if (!v)
			return -ENOMEM;
		l->v = v;
	}
	l->v[l->n++] = s;
	return 0;
}

static bool takes_value(const struct flag *f)
{
	return f->kind != FLAG_BOOL && f->kind != FLAG_TRI;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t n = strlen(value);
	while (*choices) {
		size_t k = strcspn(choices, " ");
		if (k == n && n && memcmp(choices, value, n) == 0)
			return true;
		choices += k;
		choices += *choices == ' ';
	}
	return false;
}

static int switch_parse(const struct flag *f, const char *value, bool *ret, struct brig_err *err)
{
	if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*ret = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*ret = false;
	else
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--%s is a switch and takes true or false, not '%.64s'", f->name,
				 value);
	return 0;
}

/* A quantity of a flag that is no sandbox limit: zero is never a meaning of it. */
static int positive_parse(enum limit_kind kind, const struct flag *f, const char *value,
			  uint64_t *ret, struct brig_err *err)
{
	if (quantity_parse(kind, f->name, value, ret, err) < 0)
		return -1;
	if (*ret == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' must be more than zero",
				 f->name, value);
	return 0;
}

int args_store(struct cli *cli, const struct flag *f, const char *value, void *opts,
	       struct brig_err *err)
{
	void *at = (char *)opts + f->at;
	bool on;
	if (f->choices && value && !is_choice(f->choices, value))
		return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' is not one of: %s", f->name,
				 value, f->choices);
	switch (f->kind) {
	case FLAG_BOOL:
		return switch_parse(f, value, at, err);
	case FLAG_TRI:
		if (switch_parse(f, value, &on, err) < 0)
			return -1;
		*(enum tri *)at = on ? TRI_ON : TRI_OFF;
		return 0;
	case FLAG_STR:
		*(const char **)at = value;
		return 0;
	case FLAG_LIST:
		if (strlist_add(at, value) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the arguments");
		return 0;
	case FLAG_LIMIT:
		return limit_parse(f->limit, value, at, err);
	case FLAG_SIZE:
		return positive_parse(LIMIT_BYTES, f, value, at, err);
	case FLAG_TIME:
		return positive_parse(LIMIT_MS, f, value, at, err);
	case FLAG_COUNT:
		return positive_parse(LIMIT_COUNT, f, value, at, err);
	case FLAG_OUTPUT:
		cli->json = strcmp(value, "json") == 0;
		return 0;
	}
	return 0;
}

bool args_given(const struct flag *f, const void *opts)
{
	const void *at = (const char *)opts + f->at;
	switch (f->kind) {
	case FLAG_BOOL:
		return *(const bool *)at;
	case FLAG_TRI:
		return *(const enum tri *)at != TRI_UNSET;
	case FLAG_STR:
		return *(const char *const *)at != NULL;
	case FLAG_LIST:
		return ((const struct strlist *)at)->n != 0;
	case FLAG_LIMIT:
	case FLAG_SIZE:
	case FLAG_TIME:
	case FLAG_COUNT:
		return *(const uint64_t *)at != 0;
	case FLAG_OUTPUT:
		return false;
	}
	return false;
}

static const struct flag *flag_by_name(const struct cmd *cmd, const char *name, size_t n)
{
	for (const struct flag *f = cmd->flags; f && f->name; f++)
		if (strlen(f->name) == n && memcmp(f->name, name, n) == 0)
			return f;
	return NULL;
}

static const struct flag *flag_by_letter(const struct cmd *cmd, char letter)
{
	for (const struct flag *f = cmd->flags; f && f->name; f++)
		if (f->letter == letter)
			return f;
	return NULL;
}

/* What is left to read: args[at] is the next argument. */
struct reader {
	struct cli *cli;
	const struct cmd *cmd;
	int argc, at;
	char **argv;
	void *opts;
	struct brig_err *err;
};

static int value_next(struct reader *r, const struct flag *f, const char **ret)
{
	if (r->at >= r->argc)
		return brig_fail(r->err, BRIG_E_INVALID, 0, "--%s needs a value: %s", f->name,
				 f->arg);
	*ret = r->argv[r->at++];
	return 0;
}

static int long_parse(struct reader *r, const char *text)
{
	const char *eq = strchr(text, '=');
	size_t n = eq ? (size_t)(eq - text) : strlen(text);
	const struct flag *f = flag_by_name(r->cmd, text, n);
	const char *value = eq ? eq + 1 : NULL;
	if (!f && n == 4 && memcmp(text, "help", 4) == 0)
		return ARGS_HELP;
	if (!f)
		return brig_fail(r->err, BRIG_E_INVALID, 0, "unknown flag --%.*s",
				 (int)(n < 64 ? n : 64), text);
	if (takes_value(f) && !value && value_next(r, f, &value) < 0)
		return -1;
	return args_store(r->cli, f, value, r->opts, r->err);
}

static int letters_parse(struct reader *r, const char *text)
{
	for (const char *p = text; *p; p++) {
		const struct flag *f = flag_by_letter(r->cmd, *p);
		const char *value = NULL;
		if (!f && *p == 'h')
			return ARGS_HELP;
		if (!f)
			return brig_fail(r->err, BRIG_E_INVALID, 0, "unknown flag -%c", *p);
		if (takes_value(f) || p[1] == '=') {
			if (p[1] == '=')
				value = p + 2;
			else if (p[1])
				value = p + 1;
			else if (value_next(r, f, &value) < 0)
				return -1;
			return args_store(r->cli, f, value, r->opts, r->err);
		}
		if (args_store(r->cli, f, NULL, r->opts, r->err) < 0)
			return -1;
	}
	return 0;
}

int args_parse(struct cli *cli, const struct cmd *cmd, int argc, char **argv, void *opts,
	       struct brig_err *err)
{
	struct reader r = { cli, cmd, argc, 0, argv, opts, err };
	int n = 0;
	if (cmd->raw)
		return argc;
	while (r.at < argc) {
		char *a = argv[r.at++];
		int e = 0;
		if (strcmp(a, "--") == 0)
			break;
		if (a[0] == '-' && a[1] == '-') {
			e = long_parse(&r, a + 2);
		} else if (a[0] == '-' && a[1]) {
			e = letters_parse(&r, a + 1);
		} else {
			argv[n++] = a;
			if (cmd->first_ends)
				break;
		}
		if (e < 0)
			return e;
	}
	while (r.at < argc)
		argv[n++] = argv[r.at++];
	if (n < cmd->min_args)
		return brig_fail(err, BRIG_E_INVALID, 0, "%s is missing", cmd->operands);
	if (cmd->max_args >= 0 && n > cmd->max_args)
		return brig_fail(err, BRIG_E_INVALID, 0, "unexpected argument '%.64s'",
				 argv[cmd->max_args]);
	return n;
}

void args_done(const struct cmd *cmd, void *opts)
{
	for (const struct flag *f = cmd->flags; opts && f && f->name; f++) {
		if (f->kind == FLAG_LIST) {
			struct strlist *l = (struct strlist *)(void *)((char *)opts + f->at);
			free(l->v);
			*l = (struct strlist){ .v = NULL };
		}
	}
}
