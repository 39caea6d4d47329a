/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perm.h: what a key may do: permissions, the roles that bundle them, and the scopes that narrow a
 * role. Every route names the one permission that it needs (call.h).
 */
#ifndef BRIG_API_PERM_H
#define BRIG_API_PERM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* X(name, text): the text is what scopes and errors say; it never changes. */
#define PERMISSIONS(X)                       \
	X(RUN, "run")                        \
	X(BOX_READ, "sandboxes:read")        \
	X(BOX_WRITE, "sandboxes:write")      \
	X(FILES, "files")                    \
	X(SNAPSHOT_READ, "snapshots:read")   \
	X(SNAPSHOT_WRITE, "snapshots:write") \
	X(TEMPLATE_READ, "templates:read")   \
	X(TEMPLATE_WRITE, "templates:write") \
	X(METRICS, "metrics")                \
	X(QUOTA, "quota:read")               \
	X(SERVER, "server:read")             \
	X(KEYS, "keys")                      \
	X(SECRETS, "secrets")                \
	X(VOLUME_READ, "volumes:read")       \
	X(VOLUME_WRITE, "volumes:write")

/*
 * FILES is the way into a sandbox: who has it is told the sandbox's tokens, by which commands are
 * started and files are read and written (envd). Without it an answer leaves them out.
 *
 * UNDECLARED is 0, so that a route without a declaration is found (route.c). OPEN needs no key,
 * ANY needs a good one: what it may do is looked at behind the route (remote.c).
 * OPERATOR is had by nobody but who may open the operator's socket.
 */
enum perm {
	PERM_UNDECLARED,
	PERM_OPEN,
	PERM_ANY,
#define X(name, text) PERM_##name,
	PERMISSIONS(X)
#undef X
		PERM_OPERATOR,
	PERM__N
};

typedef uint32_t perm_set;
#define PERM_BIT(p) ((perm_set)1 << (p))
#define PERM_ALL (PERM_BIT(PERM_OPERATOR) - PERM_BIT(PERM_RUN))

/* "sandboxes:read"; "none" for OPEN, "operator". */
const char *perm_name(enum perm p);
/* PERM_UNDECLARED for a text that is no permission of keys. */
enum perm perm_from_name(const char *text);

#define ROLE_NAME_MAX 16u
#define ROLE_DEFAULT "developer"
/* What a role may do; 0 for a text that is no role. */
perm_set role_perms(const char *role);
/* "admin, developer, read-only, run-only" */
const char *role_names(void);

/* A list of permissions' names with commas, in the order above; "" for an empty set. */
#define SCOPES_TEXT_MAX 192u
void scopes_text(perm_set set, char ret[SCOPES_TEXT_MAX]);
/* The reverse; 0 or -1 for a text that scopes_text() does not make. */
int scopes_parse(const char *text, perm_set *ret);
/* An array of names: each must be within `role`. NULL: no scopes, *ret is 0. */
int scopes_from_json(const json_t *list, const char *role, perm_set *ret, struct brig_err *err);
json_t *scopes_json(perm_set set);

/* What a key with this role and these scopes (0 = none given) may do. */
perm_set perms_of(const char *role, perm_set scopes);

#endif
