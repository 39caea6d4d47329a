/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h: pages of sandboxes: filter, order, and the place where the next page begins.
 *
 * A page ends at a sandbox, not at a count: what is created or ends between two requests neither
 * repeats nor hides others. The token is "<started_ms>.<id>" of the last one told.
 */
#ifndef BRIG_API_LIST_H
#define BRIG_API_LIST_H

#include "api/api.h"

#define LIST_LIMIT_MAX 100u
#define LIST_TOKEN_MAX 64

struct list_filter {
	const char *tenant;	  /* NULL = all */
	bool running, paused;	  /* wanted states */
	int64_t started_after_ms; /* 0 = any */
	const char *template_id;  /* NULL = any */
	json_t *metadata;	  /* all pairs must be there; NULL = any */
	bool ascending;
	unsigned limit;
	char after[LIST_TOKEN_MAX]; /* "" = the first page */
};

/* Pointers to at most f->limit boxes; the array is the caller's. *ret_next is "" on the last page.
 */
unsigned list_page(struct api *a, const struct list_filter *f, struct box *ret[LIST_LIMIT_MAX],
		   char ret_next[LIST_TOKEN_MAX]);
/* Splits a token; -EINVAL. */
int list_token_parse(const char *token, int64_t *ret_ms, const char **ret_id);

#endif
