/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.h: what a template id of a client leads to: an image of brig's store by name, one by a
 * tag, or a snapshot.
 */
#ifndef BRIG_API_TEMPLATE_H
#define BRIG_API_TEMPLATE_H

#include "api/api.h"

struct template
{
	char image[160];      /* name or digest, for brigd */
	char image_name[160]; /* by which a policy may allow it; "" = not known */
	const char *fallback; /* image to take if there is none of that name; NULL = none */
	char alias[192];      /* the name without its tag */
	char snapshot[32];    /* id of the snapshot; "" = none */
	char user[80];	      /* of the sandbox that it was taken of */
	int snapshot_fd;      /* its file, owned; -1 = none */
	json_t *envs, *limits; /* of the sandbox that a snapshot was made of; owned */
};

/* NOT_FOUND with the text that E2B's clients show; whether an image exists is seen at the create.
 */
int template_find(struct api *a, const char *tenant, const char *id, struct template *ret,
		  struct brig_err *err);
void template_done(struct template *t);
/* Splits "ns/name:tag"; the tag is "default" if none was given. 0 or -EINVAL. */
int template_split(const char *id, char name[64], char tag[64]);

#endif
