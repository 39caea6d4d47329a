/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/lines.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "cli/spawn.h"

#define TEXT_MAX (16u * 1024 * 1024)

int lines_parse(const char *text, json_t **ret, struct brig_err *err)
{
	json_t *rows = json_array();
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");
		json_t *v = n ? json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
		if (n && !json_is_object(v)) {
			json_decref(v);
			json_decref(rows);
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "'%.*s' is no JSON object",
					 (int)(n < 80 ? n : 80), p);
		}
		if (v && json_array_append_new(rows, v) < 0) {
			json_decref(rows);
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the report");
		}
		p += n;
		p += *p == '\n';
	}
	*ret = rows;
	return 0;
}

int lines_run(const char *program, const char *const *argv, json_t **ret, int *ret_status,
	      struct brig_err *err)
{
	AUTO_FREE char *text = NULL;
	if (spawn_capture(program, argv, TEXT_MAX, &text, ret_status, err) < 0)
		return -1;
	if (lines_parse(text, ret, err) < 0)
		return brig_ctx(err, "%s %s", program, argv[1]);
	return 0;
}
