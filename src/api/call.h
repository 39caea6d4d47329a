/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h: one request of the control plane: which route it met, who asks, and what it holds until
 * its client has its answer or has gone.
 */
#ifndef BRIG_API_CALL_H
#define BRIG_API_CALL_H

#include "api/api.h"
#include "api/box.h"
#include "api/perm.h"

#define CALL_ARGS_MAX 2
#define CALL_ARG_MAX 256

struct call;

#define ROUTE_E2B 0x1u /* errors in E2B's shape */
#define ROUTE_BODY                                                                    \
	0x8u /* reads a JSON object; empty stands for {}; top-level nulls are dropped \
	      */

/* path: "{}" stands for one segment, which becomes arg[]. needs stands in the middle, so that a row
 * without it has a function there and does not compile; api_init() refuses to start with what is
 * left. The last row of a table has no method. */
struct route {
	const char *method, *path;
	unsigned flags;
	enum perm needs; /* what the key must be allowed to do */
	void (*run)(struct call *c);
};

struct call {
	struct api *api;
	struct http_req *r;
	const struct route *route;
	char arg[CALL_ARGS_MAX][CALL_ARG_MAX];
	char tenant[40];
	bool operator;	 /* came over the operator's socket: sees the sandboxes of all tenants */
	perm_set perms;	 /* what its key may do */
	char key_id[24]; /* "" = none was needed */
	int64_t key_expires_ms;
	json_t *body;	    /* with ROUTE_BODY */
	json_t *details;    /* of why it is refused, for call_fail() (admit.h) */
	struct box *box;    /* call_box() */
	struct link_op *op; /* cancelled when the client goes */
	/* Called once, last: releases priv. */
	void (*gone)(struct call *c);
	void (*drained)(struct call *c); /* may be NULL; as http_handler's */
	void *priv;
};

/* auth.c: who asks, and whether that key may do what the route needs. False: it was answered. */
bool call_authenticate(struct call *c);
/* Whether this call's key has a permission beside the one that its route needs. */
static inline bool call_may(const struct call *c, enum perm p)
{
	return (c->perms & PERM_BIT(p)) != 0;
}
/* The first row that declares no permission, or NULL. */
const struct route *routes_undeclared(void);
/* The box that arg[0] names, referenced by the call; NULL: 404 was answered. */
struct box *call_box(struct call *c);
bool call_may_see(const struct call *c, const char *tenant);
void call_fail(struct call *c, const struct brig_err *err);
void call_fail_text(struct call *c, unsigned status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* With a status of its own (0: that of the code) and details, which are stolen. */
void call_fail_details(struct call *c, unsigned status, const struct brig_err *err,
		       json_t *details);
/* One operation of brigd that answers at once: ops->reply or ops->failed with c as ctx, which must
 * begin with call_op_done(c). Fails the call if it cannot be started. */
void call_op(struct call *c, json_t *req, const struct link_ops *ops);
static inline void call_op_done(struct call *c)
{
	c->op = NULL;
}
/* A link_ops.failed that answers with brigd's error. */
void call_op_failed(void *ctx, json_t *error);

/* The handlers behind the routes, one table per file. */
extern const struct route keys_routes[], create_routes[], control_routes[], list_routes[],
	snapshot_routes[], template_routes[], run_routes[], v1_routes[], ready_routes[],
	events_routes[], openapi_routes[], tenants_routes[], remote_routes[], secrets_routes[],
	receipt_routes[], snapshot_v1_routes[], volumes_routes[], networks_routes[];
/* All of them, in the order in which they are looked at; the last one is NULL. */
extern const struct route *const route_tables[];

/* control.c: kills the box and answers when nothing of it is left */
void control_delete(struct call *c);
/* fork.c: POST /sandboxes/{id}/fork */
void fork_run(struct call *c);

/* ---- match.c ---- */
/* Finds the route: 0; -ENOENT; -EPERM for a path that has other methods. */
int route_match(const struct route *table, const char *method, const char *path,
		const struct route **ret, char arg[CALL_ARGS_MAX][CALL_ARG_MAX]);
/* "<port>-<id>" at the beginning of a host name; 0 or -EINVAL. */
#define ROUTE_ID_MAX 64
int route_port(const char *text, size_t n, unsigned *ret); /* 1 to 65535, or -EINVAL */
int route_host_label(const char *host, unsigned *ret_port, char ret_id[ROUTE_ID_MAX]);

#endif
