/* SPDX-License-Identifier: Apache-2.0 */
/* key.h: API keys: made here, kept as hashes (store.h), shown once. */
#ifndef BRIG_API_KEY_H
#define BRIG_API_KEY_H

#include "api/api.h"
#include "store/store.h"

#define KEY_TENANT_DEFAULT "default"

/* ret: the key itself, which exists nowhere else. */
int key_make(struct api *a, const char *name, const char *tenant, struct store_key *ret_record,
	     char ret[API_KEY_MAX], struct brig_err *err);

#endif
