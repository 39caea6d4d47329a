/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.h: making a box: a sandbox of brigd, files of a snapshot in it if wanted, and its record.
 * Until done tells the box, nobody knows of it, and cancelling leaves nothing behind.
 */
#ifndef BRIG_API_SPAWN_H
#define BRIG_API_SPAWN_H

#include "api/api.h"

/* Strings are copied, JSON is referenced. */
struct box_plan {
	const char *tenant, *template_id, *alias;
	const char *request_id;		   /* of who asked for it, for the events; may be NULL */
	const char *image, *fallback;	   /* fallback: if there is no such image; may be NULL */
	const char *image_name;		   /* for the record; NULL: what brigd answers */
	json_t *spec;			   /* SPEC of client_proto.h, without image; changed */
	json_t *metadata, *envs, *network; /* may be NULL */
	int allow_internet;
	bool private_traffic; /* ports need a token */
	bool pause_on_timeout, auto_resume;
	int64_t timeout_ms; /* 0 = it stays until it is removed */
	int layer_fd; /* a snapshot of a sandbox of the same image; -1 = none. Duplicated; its offset is
		       * brigd's from then on. */
	struct charge *charge; /* for it (quota.h); taken over, also by a failure; may be NULL */
};

struct spawn;
/* b is in the table and saved; borrowed. Or err. */
typedef void (*box_spawned)(void *ctx, struct box *b, const struct brig_err *err);
int box_spawn(struct api *a, const struct box_plan *plan, box_spawned done, void *ctx,
	      struct spawn **ret, struct brig_err *err);
void box_spawn_cancel(struct spawn *s);

#endif
