/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_why.c: `brig why`: what was refused to a sandbox, and what would allow it. */
#include <stdio.h>

#include "cli/conn.h"

static const struct flag flags[] = {
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void print_entry(const json_t *e)
{
	char line[1024];
	const char *rule = text_of(e, "rule"), *command = text_of(e, "command");
	json_int_t repeats = json_integer_value(json_object_get(e, "repeats"));
	snprintf(line, sizeof(line), "%s  %s", text_of(e, "time"), text_of(e, "message"));
	text_make_safe(line);
	printf("%s", line);
	if (repeats)
		printf(" (and %lld more)", (long long)repeats);
	if (rule) {
		snprintf(line, sizeof(line), "\n    rule: %s", rule);
		text_make_safe(line + 1);
		printf("%s", line);
	}
	if (command) {
		snprintf(line, sizeof(line), "\n    to allow it: %s", command);
		text_make_safe(line + 1);
		printf("%s", line);
	}
	printf("\n");
}

static int print(struct cli *cli, const json_t *ok)
{
	json_t *list = json_object_get(ok, "denials"), *e;
	const json_t *packets = json_object_get(ok, "packets");
	json_int_t lost = json_integer_value(json_object_get(ok, "lost"));
	size_t i;
	if (cli->json)
		return cli_print_json(cli, ok);
	json_array_foreach(list, i, e) print_entry(e);
	if (lost)
		printf("%lld more have no entry of their own\n", (long long)lost);
	if (json_is_object(packets))
		printf("packets that the rules dropped: %lld, and %lld with a forged source\n",
		       (long long)json_integer_value(json_object_get(packets, "refused")),
		       (long long)json_integer_value(json_object_get(packets, "forged")));
	else if (!json_array_size(list))
		printf("nothing was refused\n");
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	json_t *ok = NULL;
	(void)opts;
	(void)argc;
	int code = conn_call(cli, json_pack("{s:s,s:s}", "op", "denials", "id", argv[0]), &ok);
	if (code == 0)
		code = print(cli, ok);
	json_decref(ok);
	return code;
}

const struct cmd cmd_why = {
	.name = "why",
	.operands = "SANDBOX",
	.summary = "show what was refused to a sandbox, and what would allow it",
	.about = "Connections and names that its policy refused, packets that the rules dropped, limits that "
		 "it met, system calls that ended it; the newest last, each with the rule that decided and "
		 "the command that would allow it.",
	.flags = flags,
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
