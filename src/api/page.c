/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/list.h"

int list_token_parse(const char *token, int64_t *ret_ms, const char **ret_id)
{
	size_t n = strspn(token, "0123456789");
	if (n < 1 || n > 18 || token[n] != '.' || !token[n + 1])
		return -EINVAL;
	*ret_ms = strtoll(token, NULL, 10);
	*ret_id = token + n + 1;
	return 0;
}

/* Oldest first; ids settle what the clock does not. */
static int order(int64_t ms_a, const char *id_a, int64_t ms_b, const char *id_b)
{
	return ms_a != ms_b ? (ms_a < ms_b ? -1 : 1) : strcmp(id_a, id_b);
}

static int oldest_first(const void *a, const void *b)
{
	const struct box *x = *(struct box *const *)a, *y = *(struct box *const *)b;
	return order(x->started_ms, x->id, y->started_ms, y->id);
}

static int newest_first(const void *a, const void *b)
{
	return oldest_first(b, a);
}

static bool has_metadata(const struct box *b, json_t *wanted)
{
	const char *key;
	json_t *v;
	json_object_foreach(wanted, key, v)
	{
		const char *have = json_string_value(json_object_get(b->metadata, key));
		if (!have || strcmp(have, json_string_value(v)) != 0)
			return false;
	}
	return true;
}

static bool passes(const struct box *b, const struct list_filter *f)
{
	bool paused = strcmp(box_state_name(b), "paused") == 0;
	return !b->stopped && (!f->tenant || strcmp(f->tenant, b->tenant) == 0) &&
	       (paused ? f->paused : f->running) &&
	       (!f->started_after_ms || b->started_ms > f->started_after_ms) &&
	       (!f->template_id || strcmp(f->template_id, b->template_id) == 0 ||
		strcmp(f->template_id, b->alias) == 0) &&
	       (!f->metadata || has_metadata(b, f->metadata));
}

unsigned list_page(struct api *a, const struct list_filter *f, struct box *ret[LIST_LIMIT_MAX],
		   char ret_next[LIST_TOKEN_MAX])
{
	int64_t ms = 0;
	const char *id = NULL;
	unsigned n = 0, told = 0;
	struct box *b, **all = calloc(a->nboxes + 1, sizeof(struct box *));
	ret_next[0] = '\0';
	if (!all)
		return 0;
	for (b = LIST_FIRST(&a->all); b; b = LIST_NEXT(b, all)) {
		if (passes(b, f))
			all[n++] = b;
	}
	qsort(all, n, sizeof(struct box *), f->ascending ? oldest_first : newest_first);
	bool from = f->after[0] && list_token_parse(f->after, &ms, &id) == 0;
	for (unsigned i = 0; i < n; i++) {
		int o = from ? order(all[i]->started_ms, all[i]->id, ms, id) : 0;
		if (from && (f->ascending ? o <= 0 : o >= 0))
			continue;
		if (told == f->limit) {
			b = ret[told - 1];
			snprintf(ret_next, LIST_TOKEN_MAX, "%lld.%s", (long long)b->started_ms,
				 b->id);
			break;
		}
		ret[told++] = all[i];
	}
	free(all);
	return told;
}
