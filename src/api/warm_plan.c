/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm_plan.c: from "TEMPLATE=N" to a pool whose sandboxes are what a create of that template makes
 * when it asks for nothing more (create.c).
 */
#include "api/box.h"
#include "api/key.h"
#include "api/template.h"
#include "api/warm.h"

static int add(struct api *a, const char *text, struct brig_err *err)
{
	char id[192];
	unsigned size;
	struct template t;
	if (warm_parse(text, id, &size, err) < 0)
		return -1;
	if (template_find(a, KEY_TENANT_DEFAULT, id, &t, err) < 0)
		return brig_ctx(err, "--warm '%.64s'", text);
	json_t *spec =
		json_pack("{s:{},s:[s,o],s:{s:s}}", "limits", "env", "E2B_SANDBOX=true",
			  json_sprintf("E2B_TEMPLATE_ID=%s", id), "labels", API_LABEL, "sandbox");
	const struct warm_plan plan = { .template_id = id,
					.image = t.image,
					.fallback = t.fallback,
					.size = size,
					.spec = spec };
	int r = t.snapshot[0] ? brig_fail(err, BRIG_E_INVALID, 0,
					  "--warm '%.64s': a snapshot cannot be kept ready", text)
			      : warm_add(a->warm, &plan, err);
	json_decref(spec);
	template_done(&t);
	return r;
}

int warm_start(struct api *a, const char *const *texts, unsigned n, struct brig_err *err)
{
	if (n > 0 && warm_open(a, &a->warm, err) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (add(a, texts[i], err) < 0)
			return -1;
	return 0;
}
