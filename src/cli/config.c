/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The tree of the file is walked once, with the dotted name of each place; a name is looked up
 * among the keys of the verb's flags and the value stored as the flag would be. What the flags do
 * not have is refused with its place and the nearest key that exists.
 *
 * Which flags were given is noted before the first value is stored: a list of the file must not
 * add to one of the command line.
 */
#include "cli/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"

#define KEY_MAX 128
#define FLAGS_MAX 64u

struct walk {
	struct config *c;
	struct cli *cli;
	const struct cmd *cmd;
	void *opts;
	uint64_t given; /* 1 << index of a flag */
	struct brig_err *err;
};

/* ---- the file ---- */

void config_default_path(char ret[PATH_MAX])
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = 0;
	ret[0] = '\0';
	if (geteuid() == 0)
		n = snprintf(ret, PATH_MAX, "/etc/brig/brig.toml");
	else if (xdg && xdg[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s/brig/brig.toml", xdg);
	else if (home && home[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s/.config/brig/brig.toml", home);
	if (n >= PATH_MAX)
		ret[0] = '\0';
}

static int trusted(const char *path, const struct stat *st, struct brig_err *err)
{
	if (!S_ISREG(st->st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the configuration '%.256s' is no regular file", path);
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		brig_err_set(err, BRIG_E_DENIED, 0, "the configuration '%.256s' belongs to user %u",
			     path, (unsigned)st->st_uid);
		return brig_fix(err, "give it to the user of the server: chown");
	}
	if (st->st_mode & 022) {
		brig_err_set(err, BRIG_E_DENIED, 0,
			     "the configuration '%.256s' can be changed by others", path);
		return brig_fix(err, "chmod go-w it");
	}
	return 0;
}

int config_load(const char *path, struct config *ret, struct brig_err *err)
{
	struct stat st;
	AUTO_FREE char *text = malloc(TOML_BYTES_MAX + 1);
	if (strlen(path) >= sizeof(ret->path))
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "open the configuration");
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, errno,
				 "open the configuration '%.256s'", path);
	if (trusted(path, &st, err) < 0)
		return -1;
	ssize_t n = text ? fd_read_full(fd, text, TOML_BYTES_MAX + 1) : -ENOMEM;
	if (n < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, (int)-n,
				 "read the configuration '%.256s'", path);
	strcpy(ret->path, path);
	ret->root = toml_parse(path, text, (size_t)n, err);
	return ret->root ? 0 : -1;
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < c->owned.n; i++)
		free((void *)(uintptr_t)c->owned.v[i]);
	free(c->owned.v);
	toml_free(c->root);
	*c = (struct config)CONFIG_NONE;
}

/* ---- names ---- */

/* How many characters must be added, removed or replaced. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[KEY_MAX + 1];
	size_t na = strlen(a), nb = strlen(b);
	if (na > KEY_MAX || nb > KEY_MAX)
		return UINT32_MAX;
	for (unsigned j = 0; j <= nb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
			unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			diagonal = row[j];
			row[j] = least < replaced ? least : replaced;
		}
	}
	return row[nb];
}

static int fail_at(struct walk *w, const struct toml *t, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail_at(struct walk *w, const struct toml *t, const char *fmt, ...)
{
	char what[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return brig_fail(w->err, BRIG_E_INVALID, 0, "%.200s:%u:%u: %s", w->c->path, t->line,
			 t->column, what);
}

static int unknown(struct walk *w, const struct toml *t, const char *key)
{
	char one[KEY_MAX + 1], nearest[KEY_MAX + 1] = "";
	unsigned best = UINT32_MAX;
	for (const struct flag *f = w->cmd->flags; f->name; f++) {
		/* A name at the top may be meant as that of a table. */
		size_t n = !f->key ? 0 : strchr(key, '.') ? strlen(f->key) : strcspn(f->key, ".[");
		snprintf(one, sizeof(one), "%.*s", (int)n, n ? f->key : "");
		unsigned d = n ? distance(key, one) : UINT32_MAX;
		if (d < best) {
			best = d;
			strcpy(nearest, one);
		}
	}
	(void)fail_at(w, t, "unknown key '%.64s'", key);
	return brig_fix(w->err, "the nearest known key is '%s'; brig-%s(1) lists all",
			nearest, w->cmd->name);
}

static int wrong_kind(struct walk *w, const struct toml *t, const char *key, const char *wanted)
{
	(void)fail_at(w, t, "'%.64s' is %s here", key, toml_kind_name(t->kind));
	return brig_fix(w->err, "make it %s", wanted);
}

static const struct flag *flag_by_key(const struct walk *w, const char *key)
{
	for (const struct flag *f = w->cmd->flags; f->name; f++)
		if (f->key && strcmp(f->key, key) == 0)
			return f;
	return NULL;
}

/* Some key begins with text, behind which comes `next`. */
static bool is_prefix(const struct walk *w, const char *text, const char *next)
{
	size_t n = strlen(text), k = strlen(next);
	for (const struct flag *f = w->cmd->flags; f->name; f++)
		if (f->key && strncmp(f->key, text, n) == 0 && strncmp(f->key + n, next, k) == 0)
			return true;
	return false;
}

/* ---- values ---- */

static int store(struct walk *w, const struct flag *f, const struct toml *t, const char *value)
{
	if (w->given & (uint64_t)1 << (f - w->cmd->flags))
		return 0;
	if (args_store(w->cli, f, value, w->opts, w->err) == 0)
		return 0;
	return brig_ctx(w->err, "%.200s:%u:%u: %s", w->c->path, t->line, t->column, f->key);
}

static int list_store(struct walk *w, const struct flag *f, const struct toml *t)
{
	static const char wanted[] = "an array of strings: [\"..\"]";
	if (t->kind != TOML_ARRAY)
		return wrong_kind(w, t, f->key, wanted);
	for (const struct toml *e = t->first; e; e = e->next) {
		if (e->kind != TOML_STRING)
			return wrong_kind(w, e, f->key, wanted);
		if (store(w, f, e, e->text) < 0)
			return -1;
	}
	return 0;
}

static int value_store(struct walk *w, const struct flag *f, const struct toml *t)
{
	char number[24];
	switch (f->kind) {
	case FLAG_BOOL:
	case FLAG_TRI:
		if (t->kind != TOML_BOOLEAN)
			return wrong_kind(w, t, f->key, "true or false, without quotes");
		return store(w, f, t, t->boolean != f->key_negates ? "true" : "false");
	case FLAG_LIST:
		return list_store(w, f, t);
	case FLAG_STR:
	case FLAG_OUTPUT:
		if (t->kind != TOML_STRING)
			return wrong_kind(w, t, f->key, "a string: \"..\"");
		return store(w, f, t, t->text);
	case FLAG_LIMIT:
	case FLAG_SIZE:
	case FLAG_TIME:
	case FLAG_COUNT:
		if (t->kind == TOML_STRING)
			return store(w, f, t, t->text);
		if (t->kind != TOML_INTEGER)
			return wrong_kind(w, t, f->key, "a string, as the flag takes it: \"..\"");
		snprintf(number, sizeof(number), "%lld", (long long)t->integer);
		return store(w, f, t, number);
	}
	return 0;
}

/* One table of [[prefix]]: NAME = "..", size = N becomes "..=N" of the flag prefix[].NAME; with tier = "T"
 * "..=N:T". */
static int element_store(struct walk *w, const struct toml *t, const char *prefix)
{
	const struct toml *size = NULL, *named = NULL, *tier = NULL;
	const struct flag *flag = NULL;
	char key[2 * KEY_MAX + 8], *text;
	for (const struct toml *e = t->first; e; e = e->next) {
		if (strcmp(e->key, "size") == 0) {
			size = e;
			if (e->kind != TOML_INTEGER)
				return wrong_kind(w, e, "size", "a number, without quotes");
			continue;
		}
		if (strcmp(e->key, "tier") == 0) {
			tier = e;
			if (e->kind != TOML_STRING)
				return wrong_kind(w, e, "tier", "a string: \"..\"");
			continue;
		}
		snprintf(key, sizeof(key), "%.*s[].%.*s", KEY_MAX, prefix, KEY_MAX, e->key);
		const struct flag *f = flag_by_key(w, key);
		if (!f)
			return unknown(w, e, key);
		if (e->kind != TOML_STRING)
			return wrong_kind(w, e, e->key, "a string: \"..\"");
		if (named)
			return fail_at(w, e, "'%.64s' and '%.64s' exclude each other", named->key,
				       e->key);
		named = e;
		flag = f;
	}
	if (!size || !named)
		return fail_at(w, t, "[[%.64s]] needs %s", prefix,
			       named ? "size = N" : "what it is of, and size = N");
	if (asprintf(&text, "%s=%lld%s%s", named->text, (long long)size->integer, tier ? ":" : "",
		     tier ? tier->text : "") < 0 ||
	    strlist_add(&w->c->owned, text) < 0)
		return brig_fail(w->err, BRIG_E_EXHAUSTED, ENOMEM, "read the configuration");
	return store(w, flag, named, text);
}

static int table_apply(struct walk *w, const struct toml *table, const char *prefix);

static int entry_apply(struct walk *w, const struct toml *t, const char *key)
{
	char inner[KEY_MAX + 2];
	const struct flag *f = flag_by_key(w, key);
	if (f)
		return value_store(w, f, t);
	if (is_prefix(w, key, ".")) {
		if (t->kind != TOML_TABLE)
			return wrong_kind(w, t, key, "a table: [..]");
		snprintf(inner, sizeof(inner), "%.*s.", KEY_MAX, key);
		return table_apply(w, t, inner);
	}
	if (!is_prefix(w, key, "[]."))
		return unknown(w, t, key);
	if (t->kind != TOML_ARRAY)
		return wrong_kind(w, t, key, "an array of tables: [[..]]");
	for (const struct toml *e = t->first; e; e = e->next)
		if (e->kind != TOML_TABLE ? wrong_kind(w, e, key, "an array of tables: [[..]]") < 0
					  : element_store(w, e, key) < 0)
			return -1;
	return 0;
}

static int table_apply(struct walk *w, const struct toml *table, const char *prefix)
{
	for (const struct toml *t = table->first; t; t = t->next) {
		char key[KEY_MAX + 1];
		int n = snprintf(key, sizeof(key), "%s%s", prefix, t->key);
		/* Longer than any key that exists. */
		if (n < 0 || (size_t)n >= sizeof(key))
			return unknown(w, t, key);
		if (entry_apply(w, t, key) < 0)
			return -1;
	}
	return 0;
}

int config_apply(struct config *c, struct cli *cli, const struct cmd *cmd, void *opts,
		 struct brig_err *err)
{
	struct walk w = { c, cli, cmd, opts, 0, err };
	for (unsigned i = 0; cmd->flags[i].name && i < FLAGS_MAX; i++)
		if (args_given(&cmd->flags[i], opts))
			w.given |= (uint64_t)1 << i;
	return c->root ? table_apply(&w, c->root, "") : 0;
}

/* ---- the way back ---- */

static void put_text(FILE *f, const char *text)
{
	size_t cap = 6 * strlen(text) + 8;
	AUTO_FREE char *quoted = malloc(cap);
	if (quoted && toml_quote(text, quoted, cap) == 0)
		fputs(quoted, f);
}

static void put_value(FILE *f, const struct flag *flag, const void *opts)
{
	const void *at = (const char *)opts + flag->at;
	const struct strlist *list = at;
	char text[SIZE_TEXT_MAX];
	bool on;
	switch (flag->kind) {
	case FLAG_BOOL:
	case FLAG_TRI:
		on = flag->kind == FLAG_BOOL ? *(const bool *)at
					     : *(const enum tri *)at == TRI_ON;
		fputs(on != flag->key_negates ? "true" : "false", f);
		break;
	case FLAG_LIST:
		putc('[', f);
		for (size_t i = 0; i < list->n; i++) {
			fputs(i ? ", " : "", f);
			put_text(f, list->v[i]);
		}
		putc(']', f);
		break;
	case FLAG_STR:
	case FLAG_OUTPUT:
		put_text(f, *(const char *const *)at);
		break;
	case FLAG_TIME:
		size_format_ms(*(const uint64_t *)at, text);
		put_text(f, text);
		break;
	case FLAG_LIMIT:
	case FLAG_SIZE:
	case FLAG_COUNT:
		fprintf(f, "%llu", (unsigned long long)*(const uint64_t *)at);
		break;
	}
}

/* "IMAGE=N" or "IMAGE=N:TIER" as [[pool]] tables; name: behind "pool[].". */
static void put_elements(FILE *f, const char *prefix, size_t n, const char *name,
			 const struct strlist *list)
{
	for (size_t i = 0; i < list->n; i++) {
		const char *eq = strrchr(list->v[i], '=');
		AUTO_FREE char *of = eq ? strndup(list->v[i], (size_t)(eq - list->v[i])) : NULL;
		if (!of)
			continue;
		fprintf(f, "\n[[%.*s]]\n%s = ", (int)n, prefix, name);
		put_text(f, of);
		const char *tier = strchr(eq, ':');
		fprintf(f, "\nsize = %.*s\n", (int)strspn(eq + 1, "0123456789"), eq + 1);
		if (tier) {
			fputs("tier = ", f);
			put_text(f, tier + 1);
			putc('\n', f);
		}
	}
}

int config_print(FILE *f, const struct cmd *cmd, const void *opts)
{
	const char *section = NULL;
	for (const struct flag *flag = cmd->flags; flag->name; flag++) {
		if (flag->key && !strpbrk(flag->key, ".[") && args_given(flag, opts)) {
			fprintf(f, "%s = ", flag->key);
			put_value(f, flag, opts);
			putc('\n', f);
		}
	}
	/* Flags of one table stand together in the verb's list. */
	for (const struct flag *flag = cmd->flags; flag->name; flag++) {
		const char *dot = flag->key ? strchr(flag->key, '.') : NULL;
		if (!dot || dot[-1] == ']' || !args_given(flag, opts))
			continue;
		size_t n = (size_t)(dot - flag->key);
		if (!section || strncmp(section, flag->key, n + 1) != 0)
			fprintf(f, "\n[%.*s]\n", (int)n, flag->key);
		section = flag->key;
		fprintf(f, "%s = ", dot + 1);
		put_value(f, flag, opts);
		putc('\n', f);
	}
	for (const struct flag *flag = cmd->flags; flag->name; flag++) {
		const char *at = flag->key ? strstr(flag->key, "[].") : NULL;
		if (at)
			put_elements(f, flag->key, (size_t)(at - flag->key), at + 3,
				     (const void *)((const char *)opts + flag->at));
	}
	return ferror(f) ? -EIO : 0;
}
