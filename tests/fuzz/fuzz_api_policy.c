/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may stand in the database or come from an operator as a policy, what a client may ask for
 * under it, and texts of scopes and of charges.
 *
 * Oracle: a policy that was accepted is written and read back as the same; one that was refused
 * changed nothing. A specification that passed has no limit above a maximum, and what was refused
 * says by which field. A text of scopes or amounts that was accepted reads back as the same set.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/amounts.h"
#include "api/perm.h"
#include "api/policy.h"
#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void texts(const char *text)
{
	char again[SCOPES_TEXT_MAX], charge[AMOUNTS_TEXT_MAX];
	struct amounts a, b;
	perm_set set, back;
	if (scopes_parse(text, &set) == 0) {
		scopes_text(set, again);
		must(scopes_parse(again, &back) == 0 && back == set);
		must((set & ~PERM_ALL) == 0);
	}
	if (amounts_parse(text, &a) == 0) {
		amounts_text(&a, charge);
		must(amounts_parse(charge, &b) == 0 && memcmp(&a, &b, sizeof(a)) == 0);
	}
}

static void within(const struct policy *p, const json_t *limits, enum policy_index i,
		   const char *field)
{
	const json_t *v = json_object_get(limits, field);
	if (p->v[i] == POLICY_UNSET)
		return;
	must(!json_is_null(v));
	if (json_is_integer(v) && json_integer_value(v) > 0)
		must((uint64_t)json_integer_value(v) <= p->v[i]);
}

static void ask(const struct policy *p, json_t *spec)
{
	struct refusal r = REFUSAL_INIT;
	const char *image = json_string_value(json_object_get(spec, "image"));
	if (policy_spec(p, "t", spec, true, &r) == 0) {
		json_t *limits = json_object_get(spec, "limits");
		within(p, limits, POLICY_max_memory_bytes, "memory_bytes");
		within(p, limits, POLICY_max_cpu_milli, "cpu_milli");
		within(p, limits, POLICY_max_disk_bytes, "disk_bytes");
		within(p, limits, POLICY_max_pids, "pids");
		within(p, limits, POLICY_max_timeout_ms, "timeout_ms");
	} else {
		must(r.err.code == BRIG_E_DENIED && r.err.remedy[0]);
		must(json_is_string(json_object_get(r.details, "policy")));
	}
	if (policy_image(p, "t", image, NULL, &r) < 0)
		must(p->images && r.details);
	json_decref(r.details);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct policy p, again;
	char *text = buf_text(data, size);
	if (!text)
		return 0;
	texts(text);
	free(text);
	json_t *o = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	json_t *body = json_object_get(o, "policy"), *spec = json_object_get(o, "spec");
	policy_init(&p);
	policy_init(&again);
	if (json_is_object(body)) {
		if (policy_change(&p, body, &err) == 0) {
			json_t *kept = policy_json(&p, false), *told = policy_json(&p, true);
			must(policy_change(&again, kept, &err) == 0);
			json_t *twice = policy_json(&again, true);
			must(json_equal(told, twice));
			json_decref(kept);
			json_decref(told);
			json_decref(twice);
		} else {
			must((err.code == BRIG_E_INVALID || err.code == BRIG_E_LIMIT) &&
			     memcmp(&p, &again, sizeof(p)) == 0);
		}
	}
	if (json_is_object(spec))
		ask(&p, spec);
	policy_done(&p);
	policy_done(&again);
	json_decref(o);
	return 0;
}
