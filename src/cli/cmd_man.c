/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_man.c: the manual pages.
 *
 * Theory of operation
 * -------------------
 * `brig __man DIR`, run by the build, writes one mdoc(7) page per verb and brig.1 from the same
 * tables that parse the command line, so a flag cannot exist without its documentation. The pages
 * pass mandoc -Tlint.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/limit.h"

/* Of the last change to the interface; the build must give the same bytes on any day. */
#define MAN_DATE "November 24, 2026"

static const struct {
	const char *name, *text;
} environment[] = {
	{ "BRIG_SOCKET",
	  "Path of the server's socket. Default: " BRIG_SOCKET_ROOT
	  " for root, else brig/brigd.sock in XDG_RUNTIME_DIR, or in /tmp/brig-UID if that is "
	  "not set." },
	{ "BRIG_URL",
	  "URL of a server on another machine, https://HOST:PORT or http://HOST:PORT: what a verb "
	  "does is done there. The same as --url before the verb. Volumes are folders of this "
	  "machine and do not travel." },
	{ "BRIG_API_KEY",
	  "API key for BRIG_URL, as brig key create on the server's machine prints it." },
	{ "BRIG_API_KEY_FILE", "File that holds the key, if BRIG_API_KEY is not set." },
	{ "BRIG_CA_FILE",
	  "Certificates, PEM, of whom the server's certificate for BRIG_URL is trusted, in place of "
	  "the system's. The same as --cacert before the verb." },
	{ "http_proxy, https_proxy, all_proxy, no_proxy",
	  "Proxies on the way to BRIG_URL, as curl(1) has them." },
	{ "BRIG_DATA",
	  "Folder of images. Default: /var/lib/brig for root, else brig in XDG_DATA_HOME, or "
	  "~/.local/share/brig." },
	{ "BRIG_RUN", "Folder of the state of running servers." },
	{ "BRIG_ACCEPT",
	  "Names, separated by commas, of guarantees that may be missing on this host, as with "
	  "--accept: memory, cpu, pids, swap, accounting, uidrange, idmap, timens, io." },
	{ "BRIG_GUEST_KERNEL", "Kernel of microVMs, PREFIX/boot/vmlinuz-RELEASE with PREFIX/lib/modules/RELEASE beside it. "
			       "Default: the newest cloud kernel of Debian in /boot." },
	{ "BRIG_TIER", "Isolation tier of sandboxes that are asked for without --tier, and of a server without one." },
	{ "BRIG_REGISTRY", "Where brig image pull looks for a name without a host: HOST or HOST/PREFIX." },
	{ "BRIG_REGISTRY_USER", "Who brig image pull is to a registry, with BRIG_REGISTRY_PASSWORD. Default: nobody." },
	{ "BRIG_REGISTRY_PASSWORD", "The password, or access token, of BRIG_REGISTRY_USER." },
	{ "BRIG_LIBEXEC",
	  "Folder of brigd, brig-jaild, brig-agent, brig-image, brig-pull and brig-remote. Default: where brig is, or "
	  "../libexec/brig from there." },
};

static const struct {
	int code;
	const char *text;
} codes[] = {
	{ 2, "A mistake in the command line." },
	{ BRIG_EXIT_TIMEOUT, "The command was stopped by --timeout." },
	{ BRIG_EXIT_FAILED, "brig itself failed; the message says why and what to do." },
	{ BRIG_EXIT_NOT_EXECUTABLE, "The command is not executable." },
	{ BRIG_EXIT_NOT_FOUND, "The command was not found." },
};

/* mandoc -Tlint wants the source readable, too. */
#define SOURCE_WIDTH 80

/* Text in lines of words: a backslash is an escape, and a line must not begin like a request. */
static void put_text(FILE *f, const char *s, size_t n)
{
	size_t column = 0;
	for (size_t i = 0; i < n;) {
		size_t word = i;
		while (word < n && s[word] != ' ')
			word++;
		if (column && column + 1 + (word - i) > SOURCE_WIDTH) {
			putc('\n', f);
			column = 0;
		} else if (column) {
			putc(' ', f);
			column++;
		}
		if (column == 0 && (s[i] == '.' || s[i] == '\''))
			fputs("\\&", f);
		column += word - i;
		for (; i < word; i++) {
			if (s[i] == '\\')
				fputs("\\e", f);
			else
				putc(s[i], f);
		}
		while (i < n && s[i] == ' ')
			i++;
	}
}

/* Each sentence on a line of its own, as mdoc wants it: the formatter puts the right space behind
 * it. */
static void put_sentences(FILE *f, const char *s, size_t n)
{
	while (n) {
		size_t k = 0;
		while (k < n && !(s[k] == '.' && k + 1 < n && s[k + 1] == ' '))
			k++;
		if (k < n)
			k++;
		put_text(f, s, k);
		putc('\n', f);
		s += k;
		n -= k;
		while (n && *s == ' ') {
			s++;
			n--;
		}
	}
}

static void put_line(FILE *f, const char *s)
{
	put_sentences(f, s, strlen(s));
}

static void put_paragraphs(FILE *f, const char *text)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		size_t n = end ? (size_t)(end - text) : strlen(text);
		fputs(".Pp\n", f);
		put_sentences(f, text, n);
		text += n + (end ? 2 : 0);
	}
}

static const char *arg_name(const struct flag *f)
{
	return f->kind == FLAG_LIMIT ? limit_arg_name(limit_get(f->limit)->kind) : f->arg;
}

static void put_flag(FILE *f, const struct flag *flag)
{
	char help[FLAG_HELP_MAX];
	const char *arg = arg_name(flag);
	fputs(".It ", f);
	if (flag->letter)
		fprintf(f, "Fl %c , ", flag->letter);
	fprintf(f, "Fl -%s", flag->name);
	if (arg)
		fprintf(f, " Ar %s", arg);
	putc('\n', f);
	flag_help(flag, help);
	if (help[0] >= 'a' && help[0] <= 'z')
		help[0] = (char)(help[0] - 'a' + 'A');
	size_t n = strlen(help);
	snprintf(help + n, sizeof(help) - n, ".");
	put_line(f, help);
	if (flag->choices) {
		fputs("One of:\n", f);
		put_text(f, flag->choices, strlen(flag->choices));
		fputs(".\n", f);
	}
}

static void put_flags(FILE *f, const struct cmd *cmd)
{
	fputs(".Pp\nThe flags are:\n.Bl -tag -width Ds\n", f);
	for (const struct flag *flag = cmd->flags; flag && flag->name; flag++)
		if (!flag->hidden)
			put_flag(f, flag);
	fputs(".It Fl h , Fl -help\nPrint a short text.\n.El\n", f);
}

/* The configuration file of a verb whose flags have keys in one. */
static void put_keys(FILE *f, const struct cmd *cmd)
{
	bool any = false;
	for (const struct flag *flag = cmd->flags; flag && flag->name; flag++) {
		if (!flag->key)
			continue;
		if (!any)
			fputs(".Sh CONFIGURATION\n"
			      "The file is TOML 1.0 without dates.\n"
			      "A flag that is given outweighs it, and it outweighs the environment.\n"
			      "A key that is not listed here is refused.\n"
			      ".Pp\n"
			      "Without\n.Fl -config\n"
			      "root's server reads\n.Pa /etc/brig/brig.toml ,\n"
			      "that of another user\n.Pa brig/brig.toml\nin\n.Ev XDG_CONFIG_HOME\n"
			      "or\n.Pa ~/.config ,\nif it exists.\n"
			      "The file must belong to the server's user or to root, and nobody else "
			      "may\nbe able to write it.\n"
			      ".Pp\n"
			      "The keys, and the flags that they stand for, are:\n"
			      ".Bl -tag -width Ds\n",
			      f);
		any = true;
		fprintf(f, ".It Cm %s\n", flag->key);
		if (strstr(flag->key, "[]."))
			fprintf(f, "With\n.Cm size\nin a table\n.Cm [[%.*s]] :\n.Fl -%s\n",
				(int)strcspn(flag->key, "["), flag->key, flag->name);
		else
			fprintf(f, "%s\n.Fl -%s\n",
				flag->key_negates ? "The opposite of" : "As", flag->name);
	}
	if (any)
		fputs(".El\n", f);
}

static void put_operands(FILE *f, const char *operands)
{
	if (!operands[0])
		return;
	fputs(".Ar ", f);
	for (const char *p = operands; *p; p++) {
		/* Punctuation that mdoc would take for its own. */
		if (*p == '|')
			fputs("\\&|", f);
		else
			putc(*p, f);
	}
	putc('\n', f);
}

static void put_environment(FILE *f)
{
	fputs(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n", f);
	for (size_t i = 0; i < sizeof(environment) / sizeof(environment[0]); i++) {
		fprintf(f, ".It Ev %s\n", environment[i].name);
		put_line(f, environment[i].text);
	}
	fputs(".El\n", f);
}

static void put_codes(FILE *f, bool runs)
{
	fputs(".Sh EXIT STATUS\n", f);
	fputs(runs ? "The exit status of the command, or:\n" : "0 on success, or:\n", f);
	fputs(".Bl -tag -width Ds\n", f);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		int c = codes[i].code;
		if (!runs && c != BRIG_EXIT_USAGE && c != BRIG_EXIT_FAILED)
			continue;
		fprintf(f, ".It %d\n", c);
		put_line(f, codes[i].text);
	}
	if (runs)
		fputs(".It 128+ Ns Em n\nThe command was ended by signal\n.Em n .\n"
		      "137 also stands for a memory, CPU time or output limit; "
		      "the message and\n.Fl -status-json\ntell which.\n"
		      ".It 141\nNobody read the output any more.\n",
		      f);
	fputs(".El\n", f);
}

static void put_head(FILE *f, const char *title, const char *name, const char *summary)
{
	fprintf(f,
		".\\\" SPDX-License-Identifier: Apache-2.0\n.\\\" Generated by brig __man.\n"
		".Dd " MAN_DATE "\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n",
		title, name, summary);
}

static void page_cmd(FILE *f, const struct cmd *cmd)
{
	char title[64], name[64];
	snprintf(name, sizeof(name), "brig-%s", cmd->name);
	snprintf(title, sizeof(title), "%s", name);
	for (char *p = title; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	put_head(f, title, name, cmd->summary);
	fprintf(f, ".Sh SYNOPSIS\n.Nm brig Cm %s\n", cmd->name);
	if (cmd->flags)
		fputs(".Op Ar FLAG ...\n", f);
	put_operands(f, cmd->operands);
	fputs(".Sh DESCRIPTION\n", f);
	fprintf(f, "%c%s.\n", cmd->summary[0] - 'a' + 'A', cmd->summary + 1);
	if (cmd->alias)
		fprintf(f, "Also called\n.Nm brig Cm %s .\n", cmd->alias);
	if (cmd->about)
		put_paragraphs(f, cmd->about);
	put_flags(f, cmd);
	put_keys(f, cmd);
	put_environment(f);
	put_codes(f, cmd->first_ends);
	fputs(".Sh SEE ALSO\n.Xr brig 1\n", f);
}

static void page_all(FILE *f)
{
	put_head(f, "BRIG", "brig", "run code that nobody vouches for");
	fputs(".Sh SYNOPSIS\n.Nm\n.Ar COMMAND\n.Op Ar FLAG ...\n.Op Ar ARG ...\n.Sh DESCRIPTION\n"
	      "Runs commands in sandboxes, each behind the boundary that fits it.\n"
	      "The commands are:\n.Bl -tag -width completion\n",
	      f);
	for (const struct cmd *const *c = cmd_table; *c; c++)
		if (!(*c)->hidden)
			fprintf(f, ".It Cm %s\n%c%s.\nSee\n.Xr brig-%s 1 .\n", (*c)->name,
				(*c)->summary[0] - 'a' + 'A', (*c)->summary + 1, (*c)->name);
	fputs(".El\n.Pp\n"
	      "Flags may be written\n.Fl -name Ar value ,\n.Fl -name Ns = Ns Ar value ,\nor, where "
	      "there is "
	      "a letter,\n.Fl n Ar value ;\nswitches may be joined.\n"
	      "Sizes are numbers with b, k, m, g, t or p, in powers of 1024.\n",
	      f);
	put_line(f,
		 "Durations are numbers with ms, s, m, h or d, as in 1m30s; without a unit they "
		 "are seconds. "
		 "A sandbox is named by its id, by an unambiguous beginning of it of at least four "
		 "characters, or by its name.");
	put_environment(f);
	put_codes(f, true);
	fputs(".Sh EXAMPLES\n"
	      "Run a script with half a gigabyte and ten seconds:\n"
	      ".Pp\n.Dl brig run -m 512m --timeout 10s -v ./job:/job:ro \\-\\- python3 "
	      "/job/main.py\n"
	      ".Pp\nKeep a sandbox and work in it:\n"
	      ".Pp\n.Dl id=$(brig create) && brig cp ./src $id:/tmp && brig exec $id \\-\\- ls "
	      "/tmp/src\n",
	      f);
}

static int write_page(int dir, const char *name, const struct cmd *cmd, struct brig_err *err)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		return brig_fail(err, BRIG_E_DENIED, errno, "write '%s'", name);
	(void)fd_steal(&fd);
	if (cmd)
		page_cmd(f, cmd);
	else
		page_all(f);
	int bad = ferror(f);
	if (fclose(f) != 0 || bad)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "write '%s'", name);
	return 0;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	(void)opts;
	(void)argc;
	AUTO_FD dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		brig_err_set(&err, BRIG_E_NOT_FOUND, errno, "open '%.256s'", argv[0]);
		return cli_fail(cli, &err);
	}
	int r = write_page(dir, "brig.1", NULL, &err);
	for (const struct cmd *const *c = cmd_table; *c && r == 0; c++) {
		char name[64];
		snprintf(name, sizeof(name), "brig-%s.1", (*c)->name);
		if (!(*c)->hidden)
			r = write_page(dir, name, *c, &err);
	}
	return r < 0 ? cli_fail(cli, &err) : 0;
}

const struct cmd cmd_man = {
	.name = "__man",
	.operands = "DIR",
	.summary = "write the manual pages",
	.min_args = 1,
	.max_args = 1,
	.hidden = true,
	.run = run,
};
