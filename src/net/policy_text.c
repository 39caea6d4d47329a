/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A policy is parsed twice from one text: where it is written (so that a mistake is told there),
 * and by the gateway. It has two copies of its text: `text` with each line as it was written, for
 * records, and `names` with the names in canonical form.
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/policy.h"

static int bad(struct brig_err *err, const char *dest, size_t n, const char *why,
	       const char *remedy)
{
	char shown[80];
	size_t k = 0;
	for (; k < n && k < sizeof(shown) - 1; k++)
		shown[k] = dest[k] >= ' ' && dest[k] <= '~' ? dest[k] : '?';
	shown[k] = '\0';
	brig_err_set(err, BRIG_E_INVALID, 0, "destination '%s': %s", shown, why);
	return brig_fix(err, "%s", remedy);
}

#define FORMS "write HOST[:PORT], *.HOST[:PORT], ADDRESS or ADDRESS/BITS, [IPV6/BITS]:PORT, or *"

static bool port_number(const char *s, size_t n, uint16_t *ret)
{
	unsigned v = 0;
	if (n < 1 || n > 5 || s[0] == '0')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	*ret = (uint16_t)v;
	return v <= 65535;
}

static bool ports_parse(const char *s, size_t n, struct net_rule *r)
{
	const char *dash = memchr(s, '-', n);
	size_t first = dash ? (size_t)(dash - s) : n;
	if (!port_number(s, first, &r->port_from))
		return false;
	r->port_to = r->port_from;
	return !dash ||
	       (port_number(dash + 1, n - first - 1, &r->port_to) && r->port_to >= r->port_from);
}

/* name: NET_NAME_MAX bytes, for the canonical name. */
static int dest_parse(const char *s, size_t n, struct net_rule *r, char *name, struct brig_err *err)
{
	const char *where = s, *port = NULL;
	size_t wn = n;
	struct net_addr addr;
	r->port_from = 0;
	r->port_to = 65535;
	name[0] = '\0';
	if (n > 0 && s[0] == '[') {
		const char *end = memchr(s, ']', n);
		if (!end || !memchr(s, ':', (size_t)(end - s)))
			return bad(err, s, n, "no IPv6 address in brackets", FORMS);
		where = s + 1;
		wn = (size_t)(end - where);
		if (end + 1 < s + n) {
			if (end[1] != ':')
				return bad(err, s, n, "something else than :PORT after ']'", FORMS);
			port = end + 2;
		}
	} else {
		const char *colon = n ? memchr(s, ':', n) : NULL;
		/* With more than one colon it is IPv6 without a port. */
		if (colon && !memchr(colon + 1, ':', n - (size_t)(colon + 1 - s))) {
			wn = (size_t)(colon - s);
			port = colon + 1;
		}
	}
	if (port && !ports_parse(port, n - (size_t)(port - s), r))
		return bad(err, s, n, "no port between 1 and 65535, and no FROM-TO of two", FORMS);
	if (wn == 1 && where[0] == '*') {
		r->where = NET_ANY;
		return 0;
	}
	if (net_prefix_parse(where, wn, &r->addr, &r->bits)) {
		r->where = NET_PREFIX;
		return 0;
	}
	if (memchr(where, '/', wn))
		return bad(err, s, n,
			   "no prefix: bits beyond its length are set, or a number is wrong",
			   FORMS);
	r->where = NET_HOST;
	if (wn > 2 && where[0] == '*' && where[1] == '.') {
		r->where = NET_BELOW;
		where += 2;
		wn -= 2;
	}
	for (size_t i = 0; i < wn; i++)
		if ((unsigned char)where[i] > '~')
			return bad(err, s, n, "names are ASCII",
				   "write an international name in its xn-- form");
	if (net_name_read(where, wn, name, &addr) != NET_NAME_HOST)
		return bad(err, s, n, "neither a name nor an address in the usual form", FORMS);
	return 0;
}

int net_dest_check(const char *dest, struct brig_err *err)
{
	struct net_rule r;
	char name[NET_NAME_MAX];
	size_t n = strlen(dest);
	if (n + sizeof("allow ") > EGRESS_RULE_MAX)
		return bad(err, dest, n, "too long", FORMS);
	return dest_parse(dest, n, &r, name, err);
}

static bool word(const char **at, const char *end, const char *w)
{
	size_t n = strlen(w);
	if ((size_t)(end - *at) < n || memcmp(*at, w, n) != 0)
		return false;
	*at += n;
	return true;
}

static int line_bad(struct brig_err *err, unsigned line, const char *why)
{
	return brig_fail(err, BRIG_E_INVALID, 0, "line %u of the network policy: %s", line, why);
}

/* NAME ADDRESS */
static int host_parse(struct net_policy *p, const char *s, const char *end, unsigned line, size_t *names_at,
		      struct brig_err *err)
{
	char name[NET_NAME_MAX];
	struct net_addr addr, none;
	const char *space = memchr(s, ' ', (size_t)(end - s));
	if (!space || net_name_read(s, (size_t)(space - s), name, &none) != NET_NAME_HOST ||
	    !net_addr_parse(space + 1, (size_t)(end - space - 1), &addr) || !net_addr_is_v4(&addr))
		return line_bad(err, line, "not 'host NAME IPV4'");
	if (p->nhosts == EGRESS_HOSTS_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %u names of other sandboxes", EGRESS_HOSTS_MAX);
	/* It is found with the suffix as it is without. */
	for (size_t n; net_name_below(name, &EGRESS_HOST_SUFFIX[1]); name[n] = '\0')
		n = strlen(name) - strlen(EGRESS_HOST_SUFFIX);
	strcpy(p->names + *names_at, name);
	p->hosts[p->nhosts++] = (struct net_host){ .name = p->names + *names_at, .addr = addr };
	*names_at += strlen(name) + 1;
	return 0;
}

static int line_parse(struct net_policy *p, const char *s, const char *end, unsigned line,
		      size_t *names_at, struct brig_err *err)
{
	struct net_rule *r = &p->rules[p->nrules];
	const char *at = s;
	if (line == 1) {
		if (!word(&at, end, "net "))
			return line_bad(err, line, "not 'net none', 'net deny' or 'net public'");
		if ((size_t)(end - at) == 4 && memcmp(at, "none", 4) == 0)
			p->mode = NET_MODE_NONE;
		else if ((size_t)(end - at) == 4 && memcmp(at, "deny", 4) == 0)
			p->mode = NET_MODE_DENY;
		else if ((size_t)(end - at) == 6 && memcmp(at, "public", 6) == 0)
			p->mode = NET_MODE_PUBLIC;
		else
			return line_bad(err, line, "not 'net none', 'net deny' or 'net public'");
		return 0;
	}
	if (word(&at, end, "prefer ")) {
		bool allow = word(&at, end, "allow");
		if (line != 2 || (!allow && !word(&at, end, "deny")) || at != end)
			return line_bad(err, line, "'prefer deny' or 'prefer allow' is line 2");
		p->prefer_allow = allow;
		return 0;
	}
	if (word(&at, end, "host "))
		return host_parse(p, at, end, line, names_at, err);
	if (word(&at, end, "allow "))
		r->verb = NET_ALLOW;
	else if (word(&at, end, "deny "))
		r->verb = NET_DENY;
	else if (word(&at, end, "grant "))
		r->verb = NET_GRANT;
	else
		return line_bad(err, line, "begins with none of prefer, allow, deny, grant, host");
	if (end - s >= (ptrdiff_t)EGRESS_RULE_MAX)
		return line_bad(err, line, "too long");
	if (p->nrules == EGRESS_RULES_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %u rules", EGRESS_RULES_MAX);
	char name[NET_NAME_MAX];
	if (dest_parse(at, (size_t)(end - at), r, name, err) < 0)
		return brig_ctx(err, "line %u of the network policy", line);
	r->line = s;
	r->name = NULL;
	if (name[0]) {
		/* Never longer than what it was read from, with its line feed. */
		strcpy(p->names + *names_at, name);
		r->name = p->names + *names_at;
		*names_at += strlen(name) + 1;
	}
	p->nrules++;
	return 0;
}

int net_policy_parse(const char *text, size_t n, struct net_policy **ret, struct brig_err *err)
{
	size_t names_at = 0, lines = 0;
	unsigned line = 0;
	if (n == 0 || n > EGRESS_TEXT_MAX || memchr(text, 0, n) || text[n - 1] != '\n')
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"a network policy is 1 to %u bytes of lines that end with a line feed",
			EGRESS_TEXT_MAX);
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	if (lines > EGRESS_RULES_MAX + EGRESS_HOSTS_MAX + 2)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %u rules", EGRESS_RULES_MAX);
	struct net_policy *p = calloc(1, sizeof(*p));
	if (!p || !(p->text = malloc(n)) || !(p->names = malloc(n)) ||
	    !(p->rules = calloc(lines + 1, sizeof(*p->rules))) ||
	    !(p->hosts = calloc(lines + 1, sizeof(*p->hosts)))) {
		net_policy_free(p);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "no memory for a network policy");
	}
	memcpy(p->text, text, n);
	for (char *s = p->text, *end; s < p->text + n; s = end + 1) {
		end = memchr(s, '\n', n - (size_t)(s - p->text));
		if (line_parse(p, s, end, ++line, &names_at, err) < 0) {
			net_policy_free(p);
			return -1;
		}
		*end = '\0';
	}
	*ret = p;
	return 0;
}

void net_policy_free(struct net_policy *p)
{
	if (!p)
		return;
	free(p->rules);
	free(p->hosts);
	free(p->names);
	free(p->text);
	free(p);
}
