/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/each.h"

#include <stdio.h>

#include "cli/conn.h"

int each_sandbox(struct cli *cli, int argc, char **argv,
		 json_t *(*make)(const void *opts, const char *id), const void *opts)
{
	json_t *rows = json_array();
	int code = 0;
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *ok = NULL, *error = NULL;
		int r = conn_try(make(opts, argv[i]), &ok, &error, &err);
		if (r < 0 && !error) {
			conn_absent(argv[i], &err);
			error = err_to_json(&err);
		}
		if (r < 0)
			code = BRIG_EXIT_FAILED;
		if (cli->json) {
			json_array_append_new(rows, json_pack("{s:s,s:b,s:O?}", "sandbox", argv[i],
							      "ok", r == 0, "error", error));
		} else if (r == 0) {
			printf("%s\n", argv[i]);
		} else {
			/* Each name has its own error. */
			cli->printed_error = false;
			cli_fail(cli, &err);
		}
		json_decref(ok);
		json_decref(error);
	}
	int printed = cli->json ? cli_print_json(cli, rows) : cli_flush(cli, 0);
	json_decref(rows);
	return printed ? printed : code;
}
