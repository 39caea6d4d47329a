/* SPDX-License-Identifier: Apache-2.0 */
/* tier.c: see tier.h. brig-jaild has tried what is there, once, at its start. */
#include "daemon/tier.h"

#include <stdbool.h>

int tier_parse(const char *text, int *ret, struct brig_err *err)
{
	enum brig_tier t = brig_tier_by_name(text);
	*ret = strcmp(text, "auto") == 0 ? TIER_AUTO : (int)t;
	if (*ret < BRIG_TIER__N)
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "unknown tier '%.32s'", text);
	return brig_fix(err, "tiers are auto, container, gvisor and microvm");
}

static bool offered(const struct tier_offer *o, int tier)
{
	return o->host[tier].offered && !o->refused[tier];
}

static int missing(const struct tier_offer *o, int tier, struct brig_err *err)
{
	const char *name = brig_tier_name((uint32_t)tier);
	if (o->host[tier].offered) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "this server does not offer tier '%s': %.300s; no weaker tier is substituted",
			     name, o->refused[tier]);
		return brig_fix(err, "run `brig selftest --attack` there to see what got out, update "
				     "kernel or brig, and start the server again");
	}
	brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
		     "tier '%s' is not available on this host: %.190s; no weaker tier is substituted", name,
		     o->host[tier].text);
	return brig_fix(err, "%.190s; or ask for another --tier if its boundary is enough for this code",
			o->host[tier].remedy);
}

int tier_resolve(const struct tier_offer *o, int asked, int floor, struct brig_err *err)
{
	int tier = asked == TIER_ABSENT ? o->usual : asked;
	if (tier == TIER_AUTO) {
		for (tier = BRIG_TIER__N - 1; tier > floor && !offered(o, tier); tier--)
			;
	} else if (tier < floor && asked == TIER_ABSENT) {
		tier = floor;
	} else if (tier < floor) {
		brig_err_set(err, BRIG_E_DENIED, 0, "tier '%s' is below '%s'",
			     brig_tier_name((uint32_t)tier), brig_tier_name((uint32_t)floor));
		return brig_fix(err, "ask for tier %s or above, or for none",
				brig_tier_name((uint32_t)floor));
	}
	return offered(o, tier) ? tier : missing(o, tier, err);
}

json_t *tier_names(const struct tier_offer *o)
{
	json_t *a = json_array();
	for (int t = 0; t < BRIG_TIER__N; t++)
		if (offered(o, t))
			json_array_append_new(a, json_string(brig_tier_name((uint32_t)t)));
	return a;
}

json_t *tier_details(const struct tier_offer *o)
{
	json_t *all = json_object();
	for (int t = 0; t < BRIG_TIER__N; t++)
		json_object_set_new(all, brig_tier_name((uint32_t)t),
				    json_pack("{s:b,s:s,s:s}", "offered", (int)offered(o, t), "text",
					      o->host[t].text, "remedy", o->host[t].remedy));
	return all;
}

json_t *tier_refused(const struct tier_offer *o)
{
	json_t *all = json_object();
	for (int t = 0; t < BRIG_TIER__N; t++)
		if (o->host[t].offered && o->refused[t])
			json_object_set_new(all, brig_tier_name((uint32_t)t), json_string(o->refused[t]));
	return all;
}
