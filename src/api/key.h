/* SPDX-License-Identifier: Apache-2.0 */
/* key.h: API keys: made here, kept as hashes (store.h), shown once. */
#ifndef BRIG_API_KEY_H
#define BRIG_API_KEY_H

#include "api/api.h"
#include "store/store.h"

#define KEY_TENANT_DEFAULT "default"
/* Ten years, and what a key that was replaced may live on at most. */
#define KEY_LIFE_MAX_S 315360000u
#define KEY_OVERLAP_MAX_S 2592000u

/* Makes the secret and the id of *k, whose other fields the caller has set, and keeps it; with
 * `replaces`, in place of that key, which is good until until_ms. ret: the secret, which exists
 * nowhere else. */
int key_make(struct api *a, struct store_key *k, const char *replaces, int64_t until_ms,
	     char ret[API_KEY_MAX], struct brig_err *err);

#endif
