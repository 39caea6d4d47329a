/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admit.h"

#include <string.h>

#include "api/tenant.h"

#define IMAGE_DEFAULT "base" /* of a run that names none; without a store it is IMAGE_HOST */
#define IMAGE_HOST "host"

struct tenant *call_tenant(const struct call *c)
{
	/* What is made of a sandbox over the operator's socket is its tenant's. */
	return tenant_find(c->api, c->box ? c->box->tenant : c->tenant);
}

static int refused(struct call *c, struct refusal *r, struct brig_err *err)
{
	json_decref(c->details);
	c->details = r->details;
	*err = r->err;
	return -1;
}

/* What brigd would take is not known here: with a list of images it is settled. */
static int default_image(const struct tenant *t, json_t *spec, struct refusal *r)
{
	bool base = policy_has_image(&t->policy, IMAGE_DEFAULT, NULL);
	bool host = policy_has_image(&t->policy, IMAGE_HOST, NULL);
	if (base && !host)
		json_object_set_new(spec, "image", json_string(IMAGE_DEFAULT));
	return base ? 0 : policy_image(&t->policy, t->name, IMAGE_DEFAULT, NULL, r);
}

int admit(struct api *a, const char *tenant, const struct admission *ask, struct charge **out,
	  struct refusal *ret)
{
	struct tenant *t = tenant_find(a, tenant);
	struct amounts each;
	if (!t)
		return brig_fail(&ret->err, BRIG_E_DENIED, 0, "tenant '%s' was removed", tenant);
	int bad = ask->image ? policy_image(&t->policy, t->name, ask->image, ask->digest, ret)
			     : default_image(t, ask->spec, ret);
	if (bad < 0 || policy_network(&t->policy, t->name, ask->network, ret) < 0 ||
	    policy_ports(&t->policy, t->name, json_object_get(ask->spec, "ports"), ret) < 0 ||
	    policy_spec(&t->policy, t->name, ask->spec, ask->timed, ret) < 0)
		return -1;
	amounts_of(json_object_get(ask->spec, "limits"), &each);
	return quota_take(a, t, &each, ask->n, out, ret);
}

int call_admit(struct call *c, const struct admission *ask, struct charge **out,
	       struct brig_err *err)
{
	struct refusal r = REFUSAL_INIT;
	const char *tenant = c->box ? c->box->tenant : c->tenant;
	return admit(c->api, tenant, ask, out, &r) < 0 ? refused(c, &r, err) : 0;
}

int call_admit_snapshot(struct call *c, struct charge **out, struct brig_err *err)
{
	const struct amounts one = { .snapshots = 1 };
	struct tenant *t = call_tenant(c);
	struct refusal r = REFUSAL_INIT;
	if (!t)
		return brig_fail(err, BRIG_E_DENIED, 0, "tenant '%s' was removed", c->tenant);
	return quota_take(c->api, t, &one, 1, out, &r) < 0 ? refused(c, &r, err) : 0;
}

int call_admit_timeout(struct call *c, bool given, uint64_t *s, struct brig_err *err)
{
	const struct tenant *t = call_tenant(c);
	struct refusal r = REFUSAL_INIT;
	return t && policy_timeout(&t->policy, t->name, given, s, &r) < 0 ? refused(c, &r, err) : 0;
}

int admit_network(struct api *a, const char *tenant, enum policy_net asked, struct refusal *ret)
{
	const struct tenant *t = tenant_find(a, tenant);
	if (!t)
		return brig_fail(&ret->err, BRIG_E_DENIED, 0, "tenant '%s' was removed", tenant);
	return policy_network(&t->policy, t->name, asked, ret);
}

int call_admit_network(struct call *c, enum policy_net asked, struct brig_err *err)
{
	const struct tenant *t = call_tenant(c);
	struct refusal r = REFUSAL_INIT;
	return t && policy_network(&t->policy, t->name, asked, &r) < 0 ? refused(c, &r, err) : 0;
}
