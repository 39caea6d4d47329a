/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secrets.h: values that are given to the server once and to a sandbox by name: /v1/secrets, and
 * the field "secrets" of what starts one.
 */
#ifndef BRIG_API_SECRETS_H
#define BRIG_API_SECRETS_H

#include <jansson.h>

#include "api/api.h"

/* As an environment variable has it: below brigd's bound for an entry, with room for its name. */
#define SECRET_VALUE_MAX 65536u
#define SECRET_NAME_MAX 64u
#define SECRET_PER_TENANT_MAX 256u
/* The key's file, and the one of a `brig secret rekey` that was cut off. */
#define SECRET_KEYS_MAX 2u

/* fds: files with a key, -1 = none; the first that fits the secrets there are is taken. With none
 * that fits the server runs, and secrets answer why. -1 only without memory. */
int secrets_open(struct api *a, const int fds[SECRET_KEYS_MAX], struct brig_err *err);
void secrets_close(struct api *a);

/* want: {"ENV_NAME": "secret", ..} or ["secret", ..], or NULL. Adds their values to spec as
 * "secret_env" of client_proto.h. The call's key must be allowed to use secrets. */
struct call;
int secrets_attach(struct call *c, const json_t *want, json_t *spec, struct brig_err *err);
/* The same of a tenant's secrets, for who may use them; want may not be NULL. */
int secrets_resolve(struct api *a, const char *tenant, const json_t *want, json_t *spec,
		    struct brig_err *err);
/* Who may not. Always -1. */
int secrets_deny(struct brig_err *err);
/* Overwrites what secrets_attach() added, if nobody else holds spec. NULL is allowed. */
void secrets_wipe_spec(json_t *spec);

#endif
