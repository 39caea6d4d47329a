/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sudo_args.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_PRESERVE_LIST = 256 };

static const struct option longopts[] = {
	{ "user", required_argument, NULL, 'u' },
	{ "group", required_argument, NULL, 'g' },
	{ "preserve-env", optional_argument, NULL, OPT_PRESERVE_LIST },
	{ "set-home", no_argument, NULL, 'H' },
	{ "non-interactive", no_argument, NULL, 'n' },
	{ "stdin", no_argument, NULL, 'S' },
	{ "login", no_argument, NULL, 'i' },
	{ "shell", no_argument, NULL, 's' },
	{ "reset-timestamp", no_argument, NULL, 'k' },
	{ "remove-timestamp", no_argument, NULL, 'K' },
	{ "validate", no_argument, NULL, 'v' },
	{ "prompt", required_argument, NULL, 'p' },
	{ "chdir", required_argument, NULL, 'D' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static bool is_assignment(const char *word)
{
	size_t n = strcspn(word, "=");
	if (n == 0 || word[n] != '=' || isdigit((unsigned char)word[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)word[i]) && word[i] != '_')
			return false;
	return true;
}

static int option_take(int opt, struct sudo_args *a)
{
	switch (opt) {
	case 'u':
		a->user = optarg;
		break;
	case 'g':
		a->group = optarg;
		break;
	case 'D':
		a->directory = optarg;
		break;
	case 'E':
		a->preserve = true;
		break;
	case OPT_PRESERVE_LIST:
		a->preserve = a->preserve || !optarg;
		a->preserve_list = optarg;
		break;
	case 'H':
		a->set_home = true;
		break;
	case 'i':
		a->login = true;
		break;
	case 's':
		a->shell = true;
		break;
	case 'v':
		a->verb = SUDO_VALIDATE;
		break;
	case 'h':
		a->verb = SUDO_HELP;
		break;
	case 'V':
		a->verb = SUDO_VERSION;
		break;
	case 'K':
		a->verb = SUDO_NOTHING;
		break;
	case 'n': /* there is never a password to ask for, */
	case 'S': /* to read, */
	case 'p': /* to prompt for, */
	case 'k': /* or to forget */
		break;
	default:
		return -1;
	}
	return 0;
}

int sudo_args_parse(int argc, char **argv, struct sudo_args *ret, char *err, size_t cap)
{
	struct sudo_args a = { .verb = SUDO_RUN };
	bool forget = false;
	int opt;
	opterr = 0;
	optind = 1;
	while ((opt = getopt_long(argc, argv, "+:u:g:D:p:EHnSiskKvhV", longopts, NULL)) != -1) {
		forget = forget || opt == 'k';
		if (option_take(opt, &a) == 0)
			continue;
		if (opt == ':' || !optopt)
			snprintf(err, cap, "%s: %s", argv[optind - 1],
				 opt == ':' ? "the option needs an argument" : "unknown option");
		else
			snprintf(err, cap, "-%c: unknown option", optopt);
		return -1;
	}
	a.assign = argv + optind;
	while (optind < argc && is_assignment(argv[optind])) {
		a.nassign++;
		optind++;
	}
	a.command = argv + optind;
	bool any = a.command[0] || a.shell || a.login;
	if (a.verb == SUDO_RUN && !any) {
		if (!forget) {
			snprintf(err, cap, "no command");
			return -1;
		}
		a.verb = SUDO_NOTHING;
	}
	if (a.shell && a.login) {
		snprintf(err, cap, "-i and -s exclude each other");
		return -1;
	}
	*ret = a;
	return 0;
}

char *sudo_shell_quote(char *const *words)
{
	size_t n = 1;
	for (char *const *w = words; *w; w++)
		n += 2 * strlen(*w) + 3;
	char *text = malloc(n), *at = text;
	if (!text)
		return NULL;
	for (char *const *w = words; *w; w++) {
		if (w != words)
			*at++ = ' ';
		if (**w == '\0') {
			*at++ = '\'';
			*at++ = '\'';
		}
		for (const char *p = *w; *p; p++) {
			/* sudo(8) leaves $ to the shell. */
			if (!isalnum((unsigned char)*p) && !strchr("_-$", *p))
				*at++ = '\\';
			*at++ = *p;
		}
	}
	*at = '\0';
	return text;
}
