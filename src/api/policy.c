/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c: reading and holding requests against a tenant's policy; pure functions. */
#include "api/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "daemon/fields.h"
#include "daemon/portask.h"

enum kind { KIND_CPU, KIND_BYTES, KIND_COUNT, KIND_MS };
static const struct row {
	const char *field, *flag;
	enum kind kind;
	uint64_t min, max;
} rows[POLICY__N] = {
#define X(field, flag, kind, min, max, what) { #field, flag, KIND_##kind, min, max },
	BRIG_POLICY(X)
#undef X
};

static const char *const tiers[] = { "container", "gvisor", "microvm" };
static const char *const networks[] = { "none", "deny", "public" };
static const char *const publishes[] = { "none", "loopback", "any" };

static const struct brig_limits defaults = {
#define X(field, flag, kind, def, min, max, none, what) .field = (def),
	BRIG_LIMITS(X)
#undef X
};

void policy_init(struct policy *p)
{
	*p = (struct policy){ .tier_floor = POLICY_CONTAINER, .network = POLICY_NET_PUBLIC,
			      .publish = POLICY_PUBLISH_ANY };
	for (unsigned i = 0; i < POLICY__N; i++)
		p->v[i] = POLICY_UNSET;
}

void policy_done(struct policy *p)
{
	json_decref(p->images);
	p->images = NULL;
}

const char *policy_field(enum policy_index i)
{
	return rows[i].field;
}

/* ---- reading ---- */

static int word_index(const char *const *words, const char *text)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	return -1;
}

static int known(json_t *body, struct brig_err *err)
{
	const char *names[POLICY__N + 5] = { "tier_floor", "network", "images", "publish" };
	for (unsigned i = 0; i < POLICY__N; i++)
		names[4 + i] = rows[i].field;
	return fields_known(body, "the policy", names, err);
}

static int number_change(struct policy *p, unsigned i, json_t *body, struct brig_err *err)
{
	json_t *v = json_object_get(body, rows[i].field);
	if (json_is_null(v))
		p->v[i] = POLICY_UNSET;
	return !v || json_is_null(v)
		       ? 0
		       : field_u64(body, rows[i].field, rows[i].min, rows[i].max, &p->v[i], err);
}

static int word_change(json_t *body, const char *key, const char *const *words, int unset, int *ret,
		       struct brig_err *err)
{
	json_t *v = json_object_get(body, key);
	const char *s = json_string_value(v);
	if (!v)
		return 0;
	*ret = json_is_null(v) ? unset : s ? word_index(words, s) : -1;
	return *ret >= 0
		       ? 0
		       : brig_fail(err, BRIG_E_INVALID, 0, "'%s' is one of %s, %s and %s, or null",
				   key, words[0], words[1], words[2]);
}

/* New reference, or NULL for none. */
static int images_change(json_t *body, json_t **images, struct brig_err *err)
{
	json_t *v = json_object_get(body, "images"), *list = NULL, *one;
	size_t i;
	if (!v)
		return 0;
	if (json_is_null(v)) {
		json_decref(*images);
		*images = NULL;
		return 0;
	}
	if (field_strings(body, "images", POLICY_IMAGES_MAX, 32768, &list, err) < 0)
		return -1;
	json_array_foreach(list, i, one)
	{
		size_t n = json_string_length(one);
		if (n < 1 || n > 128)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "entry %zu of 'images' is no name of an image", i + 1);
	}
	json_decref(*images);
	*images = json_deep_copy(list);
	return *images ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
}

int policy_change(struct policy *p, json_t *body, struct brig_err *err)
{
	struct policy new = *p;
	int tier = (int)p->tier_floor, network = (int)p->network, publish = (int)p->publish;
	json_incref(new.images);
	int r = known(body, err);
	for (unsigned i = 0; r == 0 && i < POLICY__N; i++)
		r = number_change(&new, i, body, err);
	if (r < 0 || word_change(body, "tier_floor", tiers, POLICY_CONTAINER, &tier, err) < 0 ||
	    word_change(body, "network", networks, POLICY_NET_PUBLIC, &network, err) < 0 ||
	    word_change(body, "publish", publishes, POLICY_PUBLISH_ANY, &publish, err) < 0 ||
	    images_change(body, &new.images, err) < 0) {
		json_decref(new.images);
		return -1;
	}
	new.tier_floor = (enum policy_tier)tier;
	new.network = (enum policy_net)network;
	new.publish = (enum policy_publish)publish;
	json_decref(p->images);
	*p = new;
	return 0;
}

json_t *policy_json(const struct policy *p, bool all)
{
	json_t *o = json_object();
	for (unsigned i = 0; i < POLICY__N; i++)
		if (p->v[i] != POLICY_UNSET)
			json_object_set_new(o, rows[i].field, json_integer((json_int_t)p->v[i]));
		else if (all)
			json_object_set_new(o, rows[i].field, json_null());
	if (all || p->tier_floor != POLICY_CONTAINER)
		json_object_set_new(o, "tier_floor", json_string(tiers[p->tier_floor]));
	if (all || p->network != POLICY_NET_PUBLIC)
		json_object_set_new(o, "network", json_string(networks[p->network]));
	if (all || p->publish != POLICY_PUBLISH_ANY)
		json_object_set_new(o, "publish", json_string(publishes[p->publish]));
	if (all || p->images)
		json_object_set_new(o, "images", p->images ? json_incref(p->images) : json_null());
	return o;
}

/* ---- refusing ---- */

/* limit and asked are stolen. */
__attribute__((format(printf, 6, 7))) static int refuse(struct refusal *ret, const char *tenant,
							const char *field, json_t *limit,
							json_t *asked, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	brig_err_set(&ret->err, BRIG_E_DENIED, 0, "%s: the policy of tenant '%s' (%s)", text,
		     tenant, field);
	json_decref(ret->details);
	ret->details = json_pack("{s:s,s:s,s:o,s:o}", "tenant", tenant, "policy", field, "limit",
				 limit, "asked", asked);
	return -1;
}

static void quantity(enum kind kind, uint64_t v, char ret[SIZE_TEXT_MAX])
{
	if (kind == KIND_BYTES)
		size_format_exact(v, ret);
	else if (kind == KIND_MS)
		size_format_ms(v, ret);
	else if (kind == KIND_CPU)
		size_format_cpus(v, ret);
	else
		snprintf(ret, SIZE_TEXT_MAX, "%llu", (unsigned long long)v);
}

/* asked: POLICY_UNSET for none at all. */
static int beyond(const struct policy *p, const char *tenant, enum policy_index i, const char *what,
		  uint64_t asked, struct refusal *ret)
{
	char text[SIZE_TEXT_MAX] = "none", most[SIZE_TEXT_MAX];
	quantity(rows[i].kind, p->v[i], most);
	if (asked != POLICY_UNSET)
		quantity(rows[i].kind, asked, text);
	refuse(ret, tenant, rows[i].field, json_integer((json_int_t)p->v[i]),
	       asked == POLICY_UNSET ? json_null() : json_integer((json_int_t)asked),
	       "limit '%s' of %s is more than %s", what, text, most);
	return brig_fix(&ret->err,
			"ask for at most %s, or have the operator change it: brig tenant "
			"set %s --%s",
			most, tenant, rows[i].flag);
}

/* ---- tier, limits ---- */

static int tier_check(const struct policy *p, const char *tenant, json_t *spec, struct refusal *ret)
{
	const char *tier = json_string_value(json_object_get(spec, "tier"));
	if (p->tier_floor == POLICY_CONTAINER)
		return 0;
	/* brigd knows what is there, and serves no other than one of these. */
	json_object_set_new(spec, "tier_floor", json_string(tiers[p->tier_floor]));
	if (!tier || strcmp(tier, "auto") == 0)
		return 0;
	/* What is no tier is brigd's to refuse. */
	int asked = word_index(tiers, tier);
	if (asked < 0 || asked >= (int)p->tier_floor)
		return 0;
	refuse(ret, tenant, "tier_floor", json_string(tiers[p->tier_floor]), json_string(tier),
	       "tier %s is below %s", tier, tiers[p->tier_floor]);
	return brig_fix(&ret->err, "ask for tier %s or above, or for none", tiers[p->tier_floor]);
}

/* Of what was not asked for; as brigd has it. */
static uint64_t default_of(const json_t *limits, const char *field, uint64_t def)
{
	if (strcmp(field, "disk_bytes") != 0)
		return def;
	json_t *memory = json_object_get(limits, "memory_bytes");
	uint64_t half = (memory ? (uint64_t)json_integer_value(memory) : defaults.memory_bytes) / 2;
	return half < def ? half : def;
}

static int limit_check(const struct policy *p, const char *tenant, json_t *limits,
		       enum policy_index i, const char *field, uint64_t def, struct refusal *ret)
{
	uint64_t most = p->v[i];
	json_t *v = json_object_get(limits, field);
	if (most == POLICY_UNSET)
		return 0;
	if (!v) {
		if (default_of(limits, field, def) > most)
			json_object_set_new(limits, field, json_integer((json_int_t)most));
		return 0;
	}
	if (json_is_null(v))
		return beyond(p, tenant, i, field, POLICY_UNSET, ret);
	if (json_is_integer(v) && json_integer_value(v) > 0 &&
	    (uint64_t)json_integer_value(v) > most)
		return beyond(p, tenant, i, field, (uint64_t)json_integer_value(v), ret);
	return 0;
}

int policy_spec(const struct policy *p, const char *tenant, json_t *spec, bool timed,
		struct refusal *ret)
{
	/* Memory before disk, whose default follows it. */
	const struct {
		enum policy_index i;
		const char *field;
		uint64_t def;
	} held[] = {
		{ POLICY_max_memory_bytes, "memory_bytes", defaults.memory_bytes },
		{ POLICY_max_cpu_milli, "cpu_milli", defaults.cpu_milli },
		{ POLICY_max_disk_bytes, "disk_bytes", defaults.disk_bytes },
		{ POLICY_max_pids, "pids", defaults.pids },
		{ POLICY_max_timeout_ms, "timeout_ms", defaults.timeout_ms },
	};
	json_t *limits = json_object_get(spec, "limits");
	if (tier_check(p, tenant, spec, ret) < 0)
		return -1;
	if (!limits) {
		limits = json_object();
		json_object_set_new(spec, "limits", limits);
	}
	for (unsigned k = 0; k < sizeof(held) / sizeof(held[0]); k++) {
		bool absent = !json_object_get(limits, held[k].field);
		if (held[k].i == POLICY_max_timeout_ms && absent && !timed)
			continue;
		if (limit_check(p, tenant, limits, held[k].i, held[k].field, held[k].def, ret) < 0)
			return -1;
	}
	return 0;
}

/* ---- image, network, time ---- */

bool policy_has_image(const struct policy *p, const char *name, const char *digest)
{
	for (size_t i = 0; p->images && i < json_array_size(p->images); i++) {
		const char *one = json_string_value(json_array_get(p->images, i));
		if ((name && strcmp(one, name) == 0) || (digest && strcmp(one, digest) == 0))
			return true;
	}
	return !p->images;
}

int policy_image(const struct policy *p, const char *tenant, const char *name, const char *digest,
		 struct refusal *ret)
{
	const char *told = name && name[0] ? name : digest ? digest : "";
	if (policy_has_image(p, name, digest))
		return 0;
	refuse(ret, tenant, "images", json_incref(p->images), json_string(told),
	       "image '%.128s' is not allowed", told);
	return brig_fix(&ret->err, "name one that is: GET /v1/quota lists them");
}

int policy_network(const struct policy *p, const char *tenant, enum policy_net asked,
		   struct refusal *ret)
{
	if (asked <= p->network)
		return 0;
	refuse(ret, tenant, "network", json_string(networks[p->network]),
	       json_string(networks[asked]), "network %s is more than %s", networks[asked],
	       networks[p->network]);
	return brig_fix(&ret->err, "ask for less: allow_internet_access false%s",
			p->network == POLICY_NET_NONE ? ", and no allowOut" : "");
}

static bool is_loopback(const struct portask *p)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&p->at;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&p->at;
	return p->at.ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) >> 24 == 127
					  : IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

int policy_ports(const struct policy *p, const char *tenant, const json_t *ports, struct refusal *ret)
{
	size_t i;
	const json_t *v;
	json_array_foreach(ports, i, v)
	{
		struct portask one;
		const char *text = json_string_value(v);
		if (portask_parse(text ? text : "", &one, &ret->err) < 0)
			return -1;
		enum policy_publish asked = is_loopback(&one) ? POLICY_PUBLISH_LOOPBACK : POLICY_PUBLISH_ANY;
		if (asked <= p->publish)
			continue;
		refuse(ret, tenant, "publish", json_string(publishes[p->publish]), json_string(text),
		       "port '%.64s' is not to be published", text);
		return brig_fix(&ret->err, "%s, or have the operator change it: brig tenant set %s --publish",
				p->publish == POLICY_PUBLISH_NONE ? "publish none" : "publish it on loopback",
				tenant);
	}
	return 0;
}

int policy_timeout(const struct policy *p, const char *tenant, bool given, uint64_t *s,
		   struct refusal *ret)
{
	uint64_t most = p->v[POLICY_max_timeout_ms];
	if (most == POLICY_UNSET || *s <= most / 1000)
		return 0;
	if (given)
		return beyond(p, tenant, POLICY_max_timeout_ms, "timeout", *s * 1000, ret);
	*s = most / 1000;
	return 0;
}
