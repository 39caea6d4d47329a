/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start.c: what brig-api has before it listens, and gives back after it has stopped: the database,
 * the tenants, the snapshots, the first key, the boxes that still live.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/audit.h"
#include "api/box.h"
#include "api/call.h"
#include "api/events.h"
#include "api/key.h"
#include "api/metrics.h"
#include "api/remote.h"
#include "api/run.h"
#include "api/secrets.h"
#include "api/volumes.h"
#include "api/snapshot.h"
#include "api/tenant.h"
#include "api/warm.h"
#include "store/store.h"

/* A server that nobody has a key for is of no use: the first start makes one. */
static int first_key(struct api *a, struct brig_err *err)
{
	struct store_key k = { .name = "first", .tenant = KEY_TENANT_DEFAULT, .role = "admin" };
	const struct store_key *have;
	for (size_t i = 0; (have = store_key_at(a->store, i)); i++)
		if (!have->revoked_ms)
			return 0;
	if (key_make(a, &k, NULL, 0, a->first_key, err) < 0)
		return -1;
	const struct audit_event e = {
		.what = "key.create", .id = k.id, .outcome = "ok", .tenant = k.tenant, .uid = -1
	};
	auditor_add(a, &e);
	return 0;
}

/* A route that does not say what it needs would be everybody's. */
static int routes_check(struct brig_err *err)
{
	const struct route *row = routes_undeclared();
	if (!row)
		return 0;
	return brig_fail(err, BRIG_E_INTERNAL, 0, "route %s %s declares no permission", row->method,
			 row->path);
}

int api_init(struct api *a, api_ready ready, struct brig_err *err)
{
	LIST_INIT(&a->all);
	LIST_INIT(&a->remotes);
	for (unsigned i = 0; i < API_ID_BUCKETS; i++)
		LIST_INIT(&a->by_id[i]);
	return routes_check(err) < 0 ||
			       auditor_open(a, &a->audit_opts, a->audit_goes_on, err) < 0 ||
			       store_open(a->data_fd, &a->store, err) < 0 ||
			       snapshots_check(a, err) < 0 || tenants_open(a, err) < 0 ||
			       events_open(a, err) < 0 || metrics_open(a, err) < 0 ||
			       runs_open(a, err) < 0 || first_key(a, err) < 0 ||
			       secrets_open(a, a->secret_fd, err) < 0 ||
			       volumes_open(a, err) < 0 ||
			       boxes_adopt(a, ready, err) < 0
		       ? -1
		       : 0;
}

void api_done(struct api *a)
{
	warm_close(a->warm);
	a->warm = NULL;
	remotes_close(a);
	boxes_done(a);
	runs_close(a);
	metrics_close(a);
	events_close(a);
	tenants_close(a);
	volumes_close(a);
	secrets_close(a);
	store_close(a->store);
	a->store = NULL;
	auditor_close(a);
}
