/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cli.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/fd.h"
#include "image/name.h"

const struct cli_command *cli_command_find(const char *name)
{
	for (const struct cli_command *c = image_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static void print_help(const struct cli_command *c)
{
	printf("Usage: brig image %s [OPTIONS]%s%s\n\n%s\n\nOptions:\n%s", c->name,
	       c->args[0] ? " " : "", c->args, c->about, c->help);
	fputs("  -o, --output table|json  how to print (default: table)\n"
	      "  -q, --quiet              no progress on stderr\n"
	      "      --data DIR           the image store (default: $BRIG_DATA, or\n"
	      "                           /var/lib/brig for root, or ~/.local/share/brig)\n"
	      "  -h, --help               this text\n",
	      stdout);
}

int cli_option(struct cli *cli, const struct cli_command *c, int opt, char **argv, int *ret_exit)
{
	const char *arg = optarg;
	switch (opt) {
	case 'o':
		if (strcmp(arg, "json") == 0 || strcmp(arg, "table") == 0) {
			cli->json = arg[0] == 'j';
			return 0;
		}
		*ret_exit = cli_usage(c, "-o takes table or json, not '%s'", arg);
		return -1;
	case 'q':
		cli->quiet = true;
		return 0;
	case 'D':
		if (arg[0] != '/') {
			*ret_exit = cli_usage(c, "--data takes an absolute path, not '%s'", arg);
			return -1;
		}
		cli->data = arg;
		return 0;
	case 'h':
		print_help(c);
		*ret_exit = cli_finish();
		return -1;
	case ':':
		*ret_exit = cli_usage(c, "option '%s' needs a value", argv[optind - 1]);
		return -1;
	default:
		/* getopt_long leaves a long option behind it, of a short one only its letter. */
		if (optopt > 0 && optopt < 256)
			*ret_exit = cli_usage(c, "unknown option '-%c'", optopt);
		else
			*ret_exit = cli_usage(c, "unknown option '%s'", argv[optind - 1]);
		return -1;
	}
}

int cli_fail(const struct brig_err *err)
{
	fprintf(stderr, "brig: %s\n", err->msg);
	if (err->remedy[0])
		fprintf(stderr, "  remedy: %s\n", err->remedy);
	return EXIT_BRIG;
}

int cli_usage(const struct cli_command *c, const char *fmt, ...)
{
	char text[512], shown[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "brig: image %s: %s\n", c->name,
		image_name_print(text, shown, sizeof(shown)));
	fprintf(stderr, "  remedy: see `brig image %s --help`\n", c->name);
	return EXIT_USAGE;
}

void cli_note(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;
	if (cli->quiet)
		return;
	fputs("brig: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_finish(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	fprintf(stderr, "brig: write to stdout: %s\n", strerror(errno));
	return EXIT_BRIG;
}

int cli_print_json(json_t *value)
{
	int r = value ? json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : -1;
	json_decref(value);
	if (r < 0) {
		fprintf(stderr, "brig: write JSON to stdout: %s\n",
			strerror(errno ? errno : ENOMEM));
		return EXIT_BRIG;
	}
	putchar('\n');
	return cli_finish();
}

int cli_catch_signals(struct cli *cli, struct brig_err *err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 ||
	    (cli->cancel = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "catch signals");
	return 0;
}
