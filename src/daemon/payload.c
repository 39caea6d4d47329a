/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/spec.h"

/* Open addressing by name; at most SPEC_STRINGS_MAX entries, so it is at most half full. */
#define TABLE (2 * SPEC_STRINGS_MAX)

struct env_set {
	const char *at[TABLE];
	unsigned n;
};

static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

/* 1 when the name is new, 0 when it is there already, -1 when the set is full. */
static int env_add(struct env_set *set, const char *entry)
{
	size_t n = name_len(entry);
	uint32_t h = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)entry[i]) * 16777619u;
	for (uint32_t i = h % TABLE;; i = (i + 1) % TABLE) {
		if (!set->at[i]) {
			if (set->n == SPEC_STRINGS_MAX)
				return -1;
			set->at[i] = entry;
			set->n++;
			return 1;
		}
		if (name_len(set->at[i]) == n && memcmp(set->at[i], entry, n) == 0)
			return 0;
	}
}

/* Adds what is not set yet, the last of a source first: it would win in a shell, too. */
static int env_put(struct env_set *set, const char *entry, struct buf *out)
{
	int r = env_add(set, entry);
	return r < 0 ? -E2BIG : r == 0 ? 0 : buf_add_str(out, entry);
}

static int env_build(const struct payload_exec *req, struct env_set *set, struct buf *out)
{
	json_t *const sources[] = { req->cmd_secret_env, req->cmd_env, req->secret_env, req->spec_env };
	int r = 0;
	for (unsigned s = 0; s < sizeof(sources) / sizeof(sources[0]); s++)
		for (size_t i = json_array_size(sources[s]); i-- > 0 && r == 0;)
			r = env_put(set, json_string_value(json_array_get(sources[s], i)), out);
	for (size_t i = 0; i < req->image->env_n && r == 0; i++)
		r = env_put(set, req->image->env[i], out);
	return r;
}

int payload_exec_build(struct payload_exec *req, struct buf *out, struct brig_err *err)
{
	struct env_set *set = calloc(1, sizeof(*set));
	size_t i;
	json_t *arg;
	if (!set)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "compose the command");
	req->h.argc = (uint32_t)json_array_size(req->argv);
	int r = buf_add(out, &req->h, sizeof(req->h));
	r = r < 0 ? r : buf_add_str(out, req->user);
	r = r < 0 ? r : buf_add_str(out, req->cwd);
	json_array_foreach(req->argv, i, arg) r =
		r < 0 ? r : buf_add_str(out, json_string_value(arg));
	if (r == 0)
		r = env_build(req, set, out);
	req->h.envc = set->n;
	free(set);
	if (r == -ENOMEM)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "compose the command");
	if (r < 0) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "arguments and environment exceed %u KiB or %u strings",
			     BRIG_FRAME_MAX / 1024, SPEC_STRINGS_MAX);
		return brig_fix(err, "pass large data by stdin or `brig cp`");
	}
	memcpy(buf_head(out), &req->h, sizeof(req->h));
	return 0;
}
