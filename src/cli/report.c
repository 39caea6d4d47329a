/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The one place where brig speaks about itself. Errors go to standard error as two lines, message
 * and remedy, or with -o json to standard output as the error object of client_proto.h, so that a
 * program has one stream to read. Texts can come from a sandbox (a file name, a command): control
 * characters never reach the terminal.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cli/cli.h"

void text_make_safe(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			*p = '?';
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
			/* C1 controls: U+009B is another way to say ESC [. */
			p[0] = '?';
			p[1] = '?';
			p++;
		}
	}
}

/* One write per line, so that lines of several processes do not mix. */
static void say(const char *head, const char *text)
{
	char line[1200];
	int n = snprintf(line, sizeof(line) - 1, "%s%s", head, text);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	text_make_safe(line);
	line[n] = '\n';
	(void)fd_write_full(2, line, (size_t)n + 1);
}

void cli_note(const char *fmt, ...)
{
	char text[1100];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say("brig: ", text);
}

json_t *err_to_json(const struct brig_err *err)
{
	char msg[sizeof(err->msg)], remedy[sizeof(err->remedy)];
	snprintf(msg, sizeof(msg), "%s", err->msg);
	snprintf(remedy, sizeof(remedy), "%s", err->remedy);
	text_make_safe(msg);
	text_make_safe(remedy);
	json_t *text = json_string(msg), *fix = remedy[0] ? json_string(remedy) : NULL;
	/* Bytes of a file name that are not UTF-8 cannot be said in JSON. */
	if (!text)
		text = json_string("the message is not valid UTF-8");
	return json_pack("{s:s,s:o,s:o,s:o?,s:{},s:b}", "code", brig_code_name(err->code),
			 "message", text, "cause",
			 err->sys ? json_string(strerror(err->sys)) : json_null(), "remediation",
			 fix, "details", "retryable", brig_code_retryable(err->code));
}

void err_from_json(const json_t *error, struct brig_err *err)
{
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *msg = json_string_value(json_object_get(error, "message"));
	const char *fix = json_string_value(json_object_get(error, "remediation"));
	brig_err_set(err, code ? brig_code_from_name(code) : BRIG_E_INTERNAL, 0, "%s",
		     msg ? msg : "the server failed without a message");
	if (fix)
		brig_err_remedy(err, "%s", fix);
}

static int print_error(struct cli *cli, const struct brig_err *err, const json_t *object)
{
	if (cli->printed_error)
		return BRIG_EXIT_FAILED;
	cli->printed_error = true;
	if (cli->json) {
		char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
		if (text) {
			(void)fd_write_full(1, text, strlen(text));
			(void)fd_write_full(1, "\n", 1);
			free(text);
			return BRIG_EXIT_FAILED;
		}
	}
	say("brig: ", err->msg);
	if (err->remedy[0])
		say("  remedy: ", err->remedy);
	return BRIG_EXIT_FAILED;
}

int cli_fail(struct cli *cli, const struct brig_err *err)
{
	json_t *object = cli->json ? err_to_json(err) : NULL;
	print_error(cli, err, object);
	json_decref(object);
	return BRIG_EXIT_FAILED;
}

int cli_fail_json(struct cli *cli, const json_t *error)
{
	struct brig_err err = BRIG_ERR_INIT;
	err_from_json(error, &err);
	return print_error(cli, &err, error);
}

int cli_usage_err(struct cli *cli, const struct brig_err *err)
{
	struct brig_err e = *err;
	if (!e.remedy[0])
		brig_err_remedy(&e, "see `brig %s%s--help`", cli->cmd ? cli->cmd->name : "",
				cli->cmd ? " " : "");
	cli_fail(cli, &e);
	return BRIG_EXIT_USAGE;
}

int cli_usage(struct cli *cli, const char *fmt, ...)
{
	struct brig_err err = BRIG_ERR_INIT;
	char text[sizeof(err.msg)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	brig_err_set(&err, BRIG_E_INVALID, 0, "%s", text);
	return cli_usage_err(cli, &err);
}

int cli_flush(struct cli *cli, int code)
{
	struct brig_err err = BRIG_ERR_INIT;
	int failed = fflush(stdout) != 0 || ferror(stdout);
	/* Nobody reads any more: as silent as any program of a pipeline. */
	if (!failed || errno == EPIPE)
		return failed ? BRIG_EXIT_FAILED : code;
	brig_err_set(&err, BRIG_E_EXHAUSTED, errno, "write standard output");
	cli->json = false;
	return cli_fail(cli, &err);
}

int cli_print_json(struct cli *cli, const json_t *value)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (!value || json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0) {
		if (value && ferror(stdout))
			return cli_flush(cli, BRIG_EXIT_FAILED);
		brig_err_set(&err, BRIG_E_INTERNAL, value ? 0 : ENOMEM, "write the answer as JSON");
		return cli_fail(cli, &err);
	}
	putchar('\n');
	return cli_flush(cli, 0);
}
