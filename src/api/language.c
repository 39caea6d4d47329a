/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: interpreters take the code as an argument. A compiler and the runners of
 * TypeScript want a file, so a script inside makes one from its argument; which of them the image
 * has is found out inside, too.
 */
#include "api/language.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* $1 is the code, $2 the file that it is in if it was too long for an argument. */
#define SCRIPT_FILE(name)                                                               \
	"if [ -n \"$2\" ]; then f=$2; else d=$(mktemp -d) || exit 125; f=$d/" name "; " \
	"printf %s \"$1\" >\"$f\" || exit 125; fi; "

static const char c_script[] = SCRIPT_FILE(
	"main.c") "for cc in cc gcc clang tcc; do if command -v $cc >/dev/null 2>&1; then "
		  "o=$(mktemp -d)/main; $cc -O1 -o \"$o\" \"$f\" -lm || exit $?; exec \"$o\"; fi; "
		  "done; "
		  "echo '" LANGUAGE_MISSING "no C compiler (cc, gcc, clang, tcc)' >&2; exit 127";

static const char ts_script[] = SCRIPT_FILE(
	"main.ts") "if command -v tsx >/dev/null 2>&1; then exec tsx \"$f\"; fi; "
		   "if command -v deno >/dev/null 2>&1; then exec deno run --no-prompt \"$f\"; fi; "
		   "if command -v bun >/dev/null 2>&1; then exec bun run \"$f\"; fi; "
		   "if command -v node >/dev/null 2>&1 && node --experimental-strip-types -e 0 "
		   ">/dev/null 2>&1; then exec node --no-warnings --experimental-strip-types "
		   "\"$f\"; fi; "
		   "if command -v node >/dev/null 2>&1 && command -v esbuild >/dev/null 2>&1; then "
		   "exec node -e \"$(esbuild --format=cjs --loader=ts <\"$f\")\"; fi; "
		   "if command -v node >/dev/null 2>&1 && command -v tsc >/dev/null 2>&1; then "
		   "o=$(mktemp -d); tsc --outDir \"$o\" \"$f\" >/dev/null; exec node "
		   "\"$o/main.js\"; fi; "
		   "echo '" LANGUAGE_MISSING "no runner of TypeScript (tsx, deno, bun, esbuild, "
					     "tsc, or a node that strips types)' >&2; "
		   "exit 127";

static const struct language {
	const char *name, *file;
	const char *word[2]; /* program and the flag before code; no script */
	const char *script;
} languages[] = {
	{ "python", "main.py", { "python3", "-c" }, NULL },
	{ "javascript", "main.js", { "node", "-e" }, NULL },
	{ "bash", "main.sh", { "bash", "-c" }, NULL },
	{ "typescript", "main.ts", { NULL }, ts_script },
	{ "c", "main.c", { NULL }, c_script },
};
static const struct {
	const char *name, *means;
} aliases[] = {
	{ "py", "python" },	  { "python3", "python" }, { "js", "javascript" },
	{ "node", "javascript" }, { "ts", "typescript" },  { "sh", "bash" },
	{ "shell", "bash" },
};

static const struct language *find(const char *name)
{
	for (unsigned i = 0; i < sizeof(languages) / sizeof(languages[0]); i++)
		if (strcmp(languages[i].name, name) == 0)
			return &languages[i];
	return NULL;
}

int language_name(const char *text, char ret[LANGUAGE_NAME_MAX], struct brig_err *err)
{
	size_t n = strlen(text);
	if (n < 1 || n >= LANGUAGE_NAME_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'language' is a name of 1 to %d characters",
				 LANGUAGE_NAME_MAX - 1);
	for (size_t i = 0; i <= n; i++)
		ret[i] = (char)tolower((unsigned char)text[i]);
	if (ret[strspn(ret, "abcdefghijklmnopqrstuvwxyz0123456789+#_-")])
		return brig_fail(err, BRIG_E_INVALID, 0, "'language' has a forbidden character");
	for (unsigned i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcmp(aliases[i].name, ret) == 0)
			snprintf(ret, LANGUAGE_NAME_MAX, "%s", aliases[i].means);
	return 0;
}

bool language_built_in(const char *name)
{
	return find(name) != NULL;
}

const char *language_file(const char *name)
{
	const struct language *l = find(name);
	return l ? l->file : NULL;
}

json_t *language_command(const char *name, const char *code, const char *file)
{
	const struct language *l = find(name);
	if (!l)
		return NULL;
	if (l->script)
		return json_pack("[s,s,s,s,s,s]", "/bin/sh", "-c", l->script, "sh",
				 file ? "" : code, file ? file : "");
	return file ? json_pack("[s,s]", l->word[0], file)
		    : json_pack("[s,s,s]", l->word[0], l->word[1], code);
}

json_t *language_declared(const char *name, json_t *env, const char *code)
{
	char key[LANGUAGE_NAME_MAX + 16] = "BRIG_LANG_";
	size_t at = strlen(key);
	for (; *name; name++)
		key[at++] =
			isalnum((unsigned char)*name) ? (char)toupper((unsigned char)*name) : '_';
	key[at] = '\0';
	const char *words = json_string_value(json_object_get(env, key));
	if (!words)
		return NULL;
	json_t *cmd = json_array();
	while (*(words += strspn(words, " "))) {
		size_t n = strcspn(words, " ");
		json_array_append_new(cmd, json_stringn(words, n));
		words += n;
	}
	json_array_append_new(cmd, json_string(code));
	return cmd;
}
