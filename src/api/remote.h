/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h: a command line elsewhere: GET /v1/connect, upgraded to `brig/1`, is one operation of
 * client_proto.h between that client and brigd, with the rights of the request's API key.
 */
#ifndef BRIG_API_REMOTE_H
#define BRIG_API_REMOTE_H

#include "api/api.h"
#include "api/quota.h"
#include "api/remote_ask.h"

#define REMOTE_PROTOCOL "brig/1"
/* At a time; one more is told to come back later. Each holds at most two frames and
 * REMOTE_QUEUE_HIGH. */
#define REMOTES_MAX 1024u
/* A client that does not say what it wants. */
#define REMOTE_REQUEST_MS 10000u
/* One that does not close when all was said. */
#define REMOTE_CLOSE_MS 5000u
/* What may wait for a client that does not read before brigd is held back. */
#define REMOTE_QUEUE_HIGH (1024u * 1024u)
/* Answers of brigd are up to 16 MiB (link.c). */
#define REMOTE_QUEUE_MAX (32u * 1024u * 1024u)

/* Breaks all of them: brig-api ends. */
void remotes_close(struct api *a);

/* ---- remote_box.c ---- */

/* Who asks. */
struct remote_who {
	const char *tenant;
	bool operator; /* sees the sandboxes of all tenants */
	const char *request; /* its id */
};
bool remote_may_see(const struct remote_who *who, const struct box *b);
/* brigd's sandboxes ("ls") or figures ("stats"): removes the rows of others from the array. */
void remote_filter(struct api *a, const struct remote_who *who, json_t *rows);
/* The one of brigd's sandboxes that a name or the beginning of an id means among those that may be
 * seen; rows: all of brigd's. NULL with err. */
struct box *remote_resolve(struct api *a, const struct remote_who *who, json_t *rows,
			   const char *ref, struct brig_err *err);
/* Prepares a request that makes a sandbox, so that its reply is enough for a record, and holds it
 * against its tenant's policy and quotas (admit.h). *ret_layer: the file of the snapshot that it names, to be
 * sent along; -1 = none. */
int remote_box_prepare(struct api *a, const struct remote_who *who, json_t *req,
		       struct charge **ret, int *ret_layer, struct refusal *why);
/* The same for a change of what b may reach. */
int remote_network_prepare(struct api *a, const struct remote_who *who, const struct box *b, json_t *req,
			   struct refusal *why);
/* The record of a sandbox that brigd made: ok is its reply, which is reduced to what the client
 * expects of this verb. transient: it ends with its client's connection. NULL with err: the sandbox
 * is removed. The charge is taken over. */
struct box *remote_box_made(struct api *a, const struct remote_who *who,
			    const struct remote_ask *ask, struct charge *charge, bool transient,
			    json_t *ok, struct brig_err *err);

#endif
