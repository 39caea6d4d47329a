/* SPDX-License-Identifier: Apache-2.0 */
/* help.c: --help of brig and of each verb, from the tables of commands.c. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/limit.h"

#define WIDTH 80

/* Words of text, wrapped to WIDTH, each line indented; the first begins where the caller stopped.
 */
static void put_wrapped(const char *text, size_t n, unsigned indent, unsigned column)
{
	const char *p = text, *end = text + n;
	while (p < end) {
		size_t word = 0;
		while (p + word < end && p[word] != ' ')
			word++;
		if (column > indent && column + 1 + word > WIDTH) {
			printf("\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			putchar(' ');
			column++;
		}
		fwrite(p, 1, word, stdout);
		column += (unsigned)word;
		p += word;
		while (p < end && *p == ' ')
			p++;
	}
	putchar('\n');
}

void flag_help(const struct flag *f, char ret[FLAG_HELP_MAX])
{
	if (f->kind != FLAG_LIMIT) {
		snprintf(ret, FLAG_HELP_MAX, "%s", f->help);
		return;
	}
	const struct limit *l = limit_get(f->limit);
	char range[3 * LIMIT_TEXT_MAX], def[LIMIT_TEXT_MAX];
	limit_range(f->limit, range, sizeof(range));
	limit_format(l->kind, l->def, def);
	/* The writable layer lives in memory: its default follows --memory. */
	snprintf(ret, FLAG_HELP_MAX, "%s; %s; default %s%s", l->what, range, def,
		 f->limit == LIMIT_disk_bytes ? ", at most half of --memory" : "");
}

static void put_flag(const struct flag *f)
{
	char head[80], help[FLAG_HELP_MAX];
	const char *arg =
		f->kind == FLAG_LIMIT ? limit_arg_name(limit_get(f->limit)->kind) : f->arg;
	int n = f->letter ? snprintf(head, sizeof(head), "  -%c, --%s", f->letter, f->name)
			  : snprintf(head, sizeof(head), "      --%s", f->name);
	if (arg)
		n += snprintf(head + n, sizeof(head) - (size_t)n, " %s", arg);
	flag_help(f, help);
	if (f->choices) {
		size_t k = strlen(help);
		snprintf(help + k, sizeof(help) - k, " (%s)", f->choices);
	}
	if (n < 34)
		printf("%-34s", head);
	else
		printf("%s\n%34s", head, "");
	put_wrapped(help, strlen(help), 34, 34);
}

static void put_paragraphs(const char *text)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		size_t n = end ? (size_t)(end - text) : strlen(text);
		putchar('\n');
		put_wrapped(text, n, 0, 0);
		text += n + (end ? 2 : 0);
	}
}

void help_print_cmd(const struct cmd *cmd)
{
	printf("Usage: brig %s%s%s%s\n", cmd->name, cmd->flags ? " [FLAG...]" : "",
	       cmd->operands[0] ? " " : "", cmd->operands);
	if (cmd->alias)
		printf("Also: brig %s\n", cmd->alias);
	printf("\n%c%s.\n", cmd->summary[0] - 'a' + 'A', cmd->summary + 1);
	if (cmd->about)
		put_paragraphs(cmd->about);
	if (!cmd->flags)
		return;
	printf("\nFlags:\n");
	for (const struct flag *f = cmd->flags; f->name; f++)
		if (!f->hidden)
			put_flag(f);
	printf("  -h, --help                      print this text\n");
}

void help_print_all(void)
{
	printf("Usage: brig [--url URL] [--cacert FILE] COMMAND [FLAG...] [ARG...]\n"
	       "\n"
	       "Run code that nobody vouches for, behind the boundary that fits it.\n"
	       "\n"
	       "Commands:\n");
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (!(*c)->hidden)
			printf("  %-12s %s\n", (*c)->name, (*c)->summary);
	printf("\n"
	       "`brig COMMAND --help` and the manual page brig-COMMAND(1) tell more.\n"
	       "\n"
	       "With --url, or BRIG_URL, the server is on another machine; BRIG_API_KEY is its "
	       "key.\n"
	       "\n"
	       "Exit codes: the command's own; 2 mistake in the command line; 124 timeout;\n"
	       "125 brig failed; 126 not executable; 127 not found; 128+n signal n.\n");
}
