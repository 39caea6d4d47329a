/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h: typed reading of a JSON object from a client. Each getter leaves *ret alone when the
 * key is absent and refuses a wrong type by the key's name; fields_known() refuses keys nobody
 * reads.
 */
#ifndef BRIG_DAEMON_FIELDS_H
#define BRIG_DAEMON_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Parses one request. Refuses nesting beyond 32 levels (counted before the
 * recursive parser sees it), duplicate keys, NUL in strings and anything but an object. */
int fields_parse(const void *text, size_t n, json_t **ret, struct brig_err *err);

/* `what` names the object in the message; known ends with NULL. */
int fields_known(json_t *obj, const char *what, const char *const *known, struct brig_err *err);
int field_str(json_t *obj, const char *key, size_t max, const char **ret, struct brig_err *err);
int field_bool(json_t *obj, const char *key, bool *ret, struct brig_err *err);
int field_u64(json_t *obj, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
	      struct brig_err *err);
/* An array of at most `count` strings with at most `bytes` bytes in all, terminators included. */
int field_strings(json_t *obj, const char *key, size_t count, size_t bytes, json_t **ret,
		  struct brig_err *err);
/* The required array or object at key, or NULL if absent. */
int field_array(json_t *obj, const char *key, json_t **ret, struct brig_err *err);
int field_object(json_t *obj, const char *key, json_t **ret, struct brig_err *err);

#endif
