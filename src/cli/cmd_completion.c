/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_completion.c: `brig completion SHELL`: completion scripts from the table of verbs.
 *
 * Theory of operation: the scripts carry the verbs and flags as words; names of sandboxes and
 * images are asked for when they are needed, by `brig ls` and `brig image ls`. Whatever could mean
 * something to a shell is quoted here: the tables hold plain words and sentences, but sentences
 * have apostrophes.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/limit.h"

#define NAMES                                                                      \
	"command brig ls -o json 2>/dev/null | sed -n 's/^ *\"\\(id\\|name\\)\": " \
	"\"\\(.*\\)\".*/\\2/p'"
#define IMAGES "command brig image ls 2>/dev/null | awk 'NR > 1 { print $1 }'"

static bool takes_value(const struct flag *f)
{
	return f->kind != FLAG_BOOL && f->kind != FLAG_TRI;
}

/* Inside single quotes of a POSIX shell. */
static void put_quoted(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	}
}

static void put_verbs(void)
{
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (!(*c)->hidden)
			printf("%s%s", c == cmd_table ? "" : " ", (*c)->name);
}

/* ---- bash ---- */

/* case patterns of the flags with one kind of value: "--image|--pool". */
static bool bash_pattern(const struct cmd *cmd, bool (*wanted)(const struct flag *))
{
	bool any = false;
	for (const struct flag *f = cmd->flags; f && f->name; f++) {
		if (f->hidden || !wanted(f))
			continue;
		printf("%s--%s", any ? "|" : "\t\t", f->name);
		if (f->letter)
			printf("|-%c", f->letter);
		any = true;
	}
	return any;
}

static bool wants_file(const struct flag *f)
{
	return f->complete == COMPLETE_FILE;
}
static bool wants_dir(const struct flag *f)
{
	return f->complete == COMPLETE_DIR;
}
static bool wants_image(const struct flag *f)
{
	return f->complete == COMPLETE_IMAGE;
}
static bool wants_nothing(const struct flag *f)
{
	return takes_value(f) && f->complete == COMPLETE_NONE && !f->choices;
}

static void bash_flag_values(const struct cmd *cmd)
{
	printf("\t\tcase $prev in\n");
	for (const struct flag *f = cmd->flags; f && f->name; f++) {
		if (f->hidden || !f->choices)
			continue;
		printf("\t\t--%s", f->name);
		if (f->letter)
			printf("|-%c", f->letter);
		printf(") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", f->choices);
	}
	if (bash_pattern(cmd, wants_file))
		printf(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
	if (bash_pattern(cmd, wants_dir))
		printf(") COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n");
	if (bash_pattern(cmd, wants_image))
		printf(") COMPREPLY=($(compgen -W \"$(" IMAGES ")\" -- \"$cur\")); return ;;\n");
	if (bash_pattern(cmd, wants_nothing))
		printf(") return ;;\n");
	printf("\t\tesac\n");
}

static void bash_cmd(const struct cmd *cmd)
{
	printf("\t%s%s%s)\n", cmd->name, cmd->alias ? "|" : "", cmd->alias ? cmd->alias : "");
	if (cmd->flags)
		bash_flag_values(cmd);
	printf("\t\tflags='");
	for (const struct flag *f = cmd->flags; f && f->name; f++)
		if (!f->hidden)
			printf("--%s ", f->name);
	printf("--help'\n");
	if (cmd->complete == COMPLETE_SANDBOX)
		printf("\t\twords=$(" NAMES ")\n");
	else if (cmd->complete == COMPLETE_COMMAND)
		printf("\t\twords=$verbs\n");
	else if (cmd->operands[0] && strchr(cmd->operands, '|'))
		/* "bash|zsh|fish": the operand is one of these words. */
		printf("\t\twords='%.*s'\n", (int)strcspn(cmd->operands, " "), cmd->operands);
	printf("\t\t;;\n");
}

static void complete_bash(void)
{
	printf("# bash completion for brig; made by: brig completion bash\n"
	       "_brig() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal verbs='");
	put_verbs();
	printf("' flags='' words=''\n"
	       "\tCOMPREPLY=()\n"
	       "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$verbs --help --version\" -- \"$cur\"))\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tcase ${COMP_WORDS[1]} in\n");
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (!(*c)->hidden)
			bash_cmd(*c);
	printf("\tesac\n"
	       "\tcase $cur in\n"
	       "\t-*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n"
	       "\t*) COMPREPLY=($(compgen -W \"${words//|/ }\" -- \"$cur\"))\n"
	       "\t   [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
	       "\tesac\n"
	       "}\n"
	       "complete -F _brig brig\n");
}

/* ---- zsh ---- */

/* In the brackets of an _arguments specification. */
static void zsh_help(const struct flag *f)
{
	char help[FLAG_HELP_MAX];
	flag_help(f, help);
	for (const char *p = help; *p; p++) {
		if (*p == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", *p))
			printf("\\%c", *p);
		else
			putchar(*p);
	}
}

static const char *zsh_action(enum complete complete)
{
	switch (complete) {
	case COMPLETE_FILE:
		return "_files";
	case COMPLETE_DIR:
		return "_files -/";
	case COMPLETE_SANDBOX:
		return "_brig_sandboxes";
	case COMPLETE_IMAGE:
		return "_brig_images";
	case COMPLETE_COMMAND:
		return "_brig_verbs";
	case COMPLETE_NONE:
		break;
	}
	return " ";
}

static void zsh_flag(const struct flag *f)
{
	const char *arg =
		f->kind == FLAG_LIMIT ? limit_arg_name(limit_get(f->limit)->kind) : f->arg;
	const char *repeat = f->kind == FLAG_LIST ? "*" : "";
	const char *names[2] = { NULL, NULL };
	char letter[3] = { '-', f->letter, 0 }, name[64];
	snprintf(name, sizeof(name), "--%s", f->name);
	names[0] = name;
	names[1] = f->letter ? letter : NULL;
	for (int i = 0; i < 2 && names[i]; i++) {
		printf(" \\\n\t\t\t'%s%s%s[", repeat, names[i],
		       takes_value(f) ? (i == 0 ? "=" : "+") : "");
		zsh_help(f);
		putchar(']');
		if (takes_value(f) && f->choices)
			printf(":%s:(%s)", arg, f->choices);
		else if (takes_value(f))
			printf(":%.*s:%s", (int)strcspn(arg, ":["), arg, zsh_action(f->complete));
		putchar('\'');
	}
}

static void zsh_cmd(const struct cmd *cmd)
{
	printf("\t%s%s%s)\n\t\t_arguments -s", cmd->name, cmd->alias ? "|" : "",
	       cmd->alias ? cmd->alias : "");
	for (const struct flag *f = cmd->flags; f && f->name; f++)
		if (!f->hidden)
			zsh_flag(f);
	printf(" \\\n\t\t\t'--help[print a short text]'");
	if (cmd->first_ends && cmd->complete == COMPLETE_SANDBOX)
		printf(" \\\n\t\t\t'1:sandbox:_brig_sandboxes' '*::command:_normal'");
	else if (cmd->first_ends)
		printf(" \\\n\t\t\t'*::command:_normal'");
	else if (strchr(cmd->operands, '|')) {
		printf(" \\\n\t\t\t'1:command:(");
		for (const char *p = cmd->operands; *p && *p != ' '; p++)
			putchar(*p == '|' ? ' ' : *p);
		printf(")'");
	} else if (cmd->operands[0])
		printf(" \\\n\t\t\t'*:operand:%s'",
		       cmd->complete == COMPLETE_NONE ? "_files" : zsh_action(cmd->complete));
	printf("\n\t\t;;\n");
}

static void complete_zsh(void)
{
	printf("#compdef brig\n"
	       "# zsh completion for brig; made by: brig completion zsh\n"
	       "_brig_sandboxes() { local -a l; l=(${(f)\"$(" NAMES ")\"}); compadd -a l }\n"
	       "_brig_images() { local -a l; l=(${(f)\"$(" IMAGES ")\"}); compadd -a l }\n"
	       "_brig_verbs() {\n\tlocal -a l\n\tl=(\n");
	for (const struct cmd *const *c = cmd_table; *c; c++) {
		if ((*c)->hidden)
			continue;
		printf("\t\t'%s:", (*c)->name);
		put_quoted((*c)->summary);
		printf("'\n");
	}
	printf("\t)\n\t_describe command l\n}\n"
	       "_brig() {\n"
	       "\tif (( CURRENT == 2 )); then _brig_verbs; return; fi\n"
	       "\tlocal verb=$words[2]\n"
	       "\tshift words; (( CURRENT-- ))\n"
	       "\tcase $verb in\n");
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (!(*c)->hidden)
			zsh_cmd(*c);
	printf("\tesac\n}\n"
	       "if [ \"$funcstack[1]\" = _brig ]; then _brig \"$@\"; else compdef _brig brig; "
	       "fi\n");
}

/* ---- fish ---- */

/* In single quotes of fish a backslash quotes only itself and the quote. */
static void fish_quoted(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
}

static void fish_flag(const struct cmd *cmd, const struct flag *f)
{
	char help[FLAG_HELP_MAX];
	flag_help(f, help);
	printf("complete -c brig -n '__fish_seen_subcommand_from %s%s%s' -l %s", cmd->name,
	       cmd->alias ? " " : "", cmd->alias ? cmd->alias : "", f->name);
	if (f->letter)
		printf(" -s %c", f->letter);
	if (takes_value(f) && f->choices)
		printf(" -x -a '%s'", f->choices);
	else if (f->complete == COMPLETE_FILE || f->complete == COMPLETE_DIR)
		printf(" -r -F");
	else if (f->complete == COMPLETE_IMAGE)
		printf(" -x -a '(__brig_images)'");
	else if (takes_value(f))
		printf(" -x");
	printf(" -d '");
	fish_quoted(help);
	printf("'\n");
}

static void complete_fish(void)
{
	printf("# fish completion for brig; made by: brig completion fish\n"
	       "function __brig_sandboxes\n\t" NAMES "\nend\n"
	       "function __brig_images\n\t" IMAGES "\nend\n"
	       "complete -c brig -n __fish_use_subcommand -f\n");
	for (const struct cmd *const *c = cmd_table; *c; c++) {
		const struct cmd *cmd = *c;
		if (cmd->hidden)
			continue;
		printf("complete -c brig -n __fish_use_subcommand -f -a %s -d '", cmd->name);
		fish_quoted(cmd->summary);
		printf("'\n");
		for (const struct flag *f = cmd->flags; f && f->name; f++)
			if (!f->hidden)
				fish_flag(cmd, f);
		if (cmd->complete == COMPLETE_SANDBOX)
			printf("complete -c brig -n '__fish_seen_subcommand_from %s%s%s' "
			       "-a '(__brig_sandboxes)'\n",
			       cmd->name, cmd->alias ? " " : "", cmd->alias ? cmd->alias : "");
		if (strchr(cmd->operands, '|')) {
			printf("complete -c brig -n '__fish_seen_subcommand_from %s' -f -a '",
			       cmd->name);
			for (const char *p = cmd->operands; *p && *p != ' '; p++)
				putchar(*p == '|' ? ' ' : *p);
			printf("'\n");
		}
	}
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	(void)opts;
	(void)argc;
	if (strcmp(argv[0], "bash") == 0)
		complete_bash();
	else if (strcmp(argv[0], "zsh") == 0)
		complete_zsh();
	else if (strcmp(argv[0], "fish") == 0)
		complete_fish();
	else
		return cli_usage(cli, "'%.64s' is none of bash, zsh and fish", argv[0]);
	return cli_flush(cli, 0);
}

const struct cmd cmd_completion = {
	.name = "completion",
	.operands = "bash|zsh|fish",
	.summary = "print a completion script for a shell",
	.about = "For bash, for example: brig completion bash > "
		 "~/.local/share/bash-completion/completions/brig",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
