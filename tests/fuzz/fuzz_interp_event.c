/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of a kernel, which runs inside a sandbox and may write anything.
 *
 * Oracle: a line is refused, or gives an event; what goes on to the client is one line of
 * ASCII that is again a JSON object with a type of the client's protocol, and no field beyond
 * those.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/interp_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static int known(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(s, *list) == 0)
			return 1;
	return 0;
}

static void check_line(const char *p, size_t n)
{
	static const char *const types[] = {
		"stdout", "stderr", "result", "error", "number_of_executions", NULL
	};
	static const char *const keys[] = { "type",
					    "text",
					    "timestamp",
					    "html",
					    "markdown",
					    "svg",
					    "png",
					    "jpeg",
					    "pdf",
					    "latex",
					    "json",
					    "javascript",
					    "data",
					    "chart",
					    "extra",
					    "name",
					    "value",
					    "traceback",
					    "is_main_result",
					    "execution_count",
					    NULL };
	const char *key;
	json_t *value;
	must(n > 1 && p[n - 1] == '\n');
	for (size_t i = 0; i + 1 < n; i++)
		must(p[i] >= ' '); /* char is signed here: ASCII without control characters */
	json_t *o = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	must(json_is_object(o));
	const char *type = json_string_value(json_object_get(o, "type"));
	must(type && known(type, types));
	json_object_foreach(o, key, value) must(known(key, keys));
	json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct interp_event e = { .line = NULL };
	struct brig_err err = BRIG_ERR_INIT;
	if (interp_event_parse((const char *)data, size, 1700000000123456789u, &e, &err) < 0) {
		must(e.line == NULL && err.code != BRIG_E_OK && err.msg[0]);
		return 0;
	}
	if (e.kind == INTERP_LINE)
		check_line(e.line, e.n);
	else
		must(e.kind == INTERP_FATAL || !e.line);
	free(e.line);
	return 0;
}
