/* SPDX-License-Identifier: Apache-2.0 */
#include "api/network.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fields.h"

#define ENTRIES_MAX 256u
#define ENTRY_MAX 255u

/* An address, with or without the length of its prefix. */
static bool is_cidr(const char *s)
{
	char addr[INET6_ADDRSTRLEN];
	unsigned char raw[16];
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	if (n >= sizeof(addr))
		return false;
	memcpy(addr, s, n);
	addr[n] = '\0';
	int max = inet_pton(AF_INET, addr, raw) == 1	? 32
		  : inet_pton(AF_INET6, addr, raw) == 1 ? 128
							: -1;
	if (max < 0 || !slash)
		return max >= 0;
	size_t digits = strspn(slash + 1, "0123456789");
	return digits >= 1 && digits <= 3 && !slash[1 + digits] && strtol(slash + 1, NULL, 10) <= max;
}

/* A host name, or "*." and one, or "*". */
static bool is_domain(const char *s)
{
	if (strcmp(s, "*") == 0)
		return true;
	if (strncmp(s, "*.", 2) == 0)
		s += 2;
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
	return n >= 1 && n <= 253 && s[n] == '\0' && s[0] != '.' && s[0] != '-' && !strstr(s, "..");
}

static int list_check(json_t *list, const char *key, bool domains, struct brig_err *err)
{
	size_t i;
	json_t *v;
	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > ENTRIES_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' must be an array of at most %u", key,
				 ENTRIES_MAX);
	json_array_foreach(list, i, v)
	{
		const char *s = json_string_value(v);
		if (!s || json_string_length(v) > ENTRY_MAX ||
		    !(is_cidr(s) || (domains && is_domain(s))))
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "entry %zu of '%s' is no address, no prefix%s", i + 1, key,
					 domains ? " and no domain" : "");
	}
	return 0;
}

static int type_check(json_t *network, const char *key, bool right, const char *want,
		      struct brig_err *err)
{
	json_t *v = json_object_get(network, key);
	if (!v || json_is_null(v) || right)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "'%s' must be %s", key, want);
}

int network_check(json_t *network, struct brig_err *err)
{
	size_t i;
	json_t *v, *ports = json_object_get(network, "httpsPorts");
	json_t *proxy = json_object_get(network, "egressProxy");
	if (!network)
		return 0;
	if (!json_is_object(network))
		return brig_fail(err, BRIG_E_INVALID, 0, "'network' must be an object");
	if (list_check(json_object_get(network, "allowOut"), "allowOut", true, err) < 0 ||
	    list_check(json_object_get(network, "denyOut"), "denyOut", false, err) < 0 ||
	    type_check(network, "allowPublicTraffic",
		       json_is_boolean(json_object_get(network, "allowPublicTraffic")),
		       "true or false", err) < 0 ||
	    type_check(network, "maskRequestHost",
		       json_is_string(json_object_get(network, "maskRequestHost")), "a string",
		       err) < 0 ||
	    type_check(network, "httpsPorts", json_is_array(ports), "an array of ports", err) < 0 ||
	    type_check(network, "egressProxy", json_is_string(json_object_get(proxy, "address")),
		       "an object with an address", err) < 0 ||
	    type_check(network, "rules", json_is_object(json_object_get(network, "rules")),
		       "an object", err) < 0)
		return -1;
	json_array_foreach(ports, i, v)
	{
		if (!json_is_integer(v) || json_integer_value(v) < 1 ||
		    json_integer_value(v) > 65535)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "entry %zu of 'httpsPorts' is no port", i + 1);
	}
	return 0;
}

bool network_public(const json_t *network)
{
	return !json_is_false(json_object_get(network, "allowPublicTraffic"));
}

/* E2B's way to say "nothing that is not allowed". */
static bool denies_all(const json_t *network)
{
	size_t i;
	const json_t *v;
	json_array_foreach(json_object_get(network, "denyOut"), i, v)
	{
		const char *s = json_string_value(v);
		if (s && (strcmp(s, "0.0.0.0/0") == 0 || strcmp(s, "::/0") == 0))
			return true;
	}
	return false;
}

enum policy_net network_asked(const json_t *network, int internet)
{
	if (internet == 1 && !denies_all(network))
		return POLICY_NET_PUBLIC;
	return json_array_size(json_object_get(network, "allowOut")) ? POLICY_NET_DENY
								     : POLICY_NET_NONE;
}

static json_t *list_of(const json_t *network, const char *key, bool all)
{
	size_t i;
	json_t *a = json_array(), *v;
	json_array_foreach(json_object_get(network, key), i, v)
	{
		const char *s = json_string_value(v);
		/* That is the mode. */
		if (s && (all || (strcmp(s, "0.0.0.0/0") != 0 && strcmp(s, "::/0") != 0)))
			json_array_append(a, v);
	}
	return a;
}

json_t *network_with(json_t *spec, json_t *networks, const char *tenant)
{
	if (!spec && json_array_size(networks))
		spec = json_pack("{s:s,s:s,s:s}", "mode", "deny", "prefer", "allow", "tenant", tenant);
	if (json_array_size(networks)) {
		json_object_set(spec, "networks", networks);
		json_object_del(spec, "optional"); /* without a link it could not be in them */
	}
	return spec;
}

json_t *network_spec(const json_t *network, int internet, const char *tenant)
{
	static const char *const modes[] = { "none", "deny", "public" };
	enum policy_net asked = network_asked(network, internet);
	if (asked == POLICY_NET_NONE)
		return NULL;
	json_t *allow = list_of(network, "allowOut", true), *deny = list_of(network, "denyOut", false);
	/* E2B's clients say true of themselves: such a one runs without where there is no network. */
	bool plain = asked == POLICY_NET_PUBLIC && !json_array_size(allow) && !json_array_size(deny);
	return json_pack("{s:s,s:s,s:o,s:o,s:s,s:b}", "mode", modes[asked], "prefer", "allow", "allow", allow,
			 "deny", deny, "tenant", tenant, "optional", plain);
}

/* ---- of brig's own routes ---- */

enum policy_net network_own_asked(const json_t *own)
{
	const char *s = json_is_object(own) ? json_string_value(json_object_get(own, "mode"))
					    : json_string_value(own);
	if (s)
		return strcmp(s, "public") == 0 ? POLICY_NET_PUBLIC
		       : strcmp(s, "deny") == 0 ? POLICY_NET_DENY
						: POLICY_NET_NONE;
	return json_array_size(json_object_get(own, "allow")) || json_array_size(json_object_get(own, "deny")) ||
			       json_array_size(json_object_get(own, "networks"))
		       ? POLICY_NET_DENY
		       : POLICY_NET_NONE;
}

int network_own_check(const json_t *own, struct brig_err *err)
{
	/* Grants are the operator's. */
	static const char *const keys[] = { "mode", "allow", "deny", "budget", "destination_budget", "networks",
					    "connections", "connects_per_second", "rate_out", "rate_in", NULL };
	const char *s = json_string_value(own);
	if (!own || json_is_null(own) || json_is_false(own))
		return 0;
	if (s && (strcmp(s, "none") == 0 || strcmp(s, "deny") == 0 || strcmp(s, "public") == 0))
		return 0;
	if (!json_is_object(own)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'network' is no network");
		return brig_fix(err, "give \"none\", \"deny\", \"public\", or {\"mode\",\"allow\":[..],"
				     "\"deny\":[..]}");
	}
	if (json_object_get(own, "grant")) {
		brig_err_set(err, BRIG_E_DENIED, 0, "a grant is the operator's: it opens what the server protects");
		return brig_fix(err, "have it granted on the server's machine: brig net SANDBOX --grant DEST");
	}
	return fields_known((json_t *)(uintptr_t)own, "network", keys, err);
}

json_t *network_own_spec(const json_t *own, const char *tenant)
{
	if (network_own_asked(own) == POLICY_NET_NONE)
		return NULL;
	json_t *o = json_is_object(own) ? json_copy((json_t *)(uintptr_t)own)
					: json_pack("{s:s}", "mode", json_string_value(own));
	json_object_set_new(o, "tenant", json_string(tenant));
	return o;
}
