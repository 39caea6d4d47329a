/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/journal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "brig/net.h"

static unsigned all_entries;

static const char *const reasons[] = {
#define X(name, text) text,
	BRIG_EGRESS_REASONS(X)
#undef X
};
static const char *const protocols[EGRESS_P__N] = { "tcp", "tls", "http", "dns" };
static const char *const scopes[EGRESS_S__N] = { "", "sandbox", "destination", "tenant" };

void journal_free(struct journal *j)
{
	if (!j)
		return;
	for (unsigned i = 0; i < j->n; i++)
		json_decref(j->entry[(j->first + i) % JOURNAL_MAX]);
	all_entries -= j->n;
	free(j);
}

static json_t *stamp(uint64_t ms)
{
	char text[40];
	struct tm tm;
	time_t s = (time_t)(ms / 1000);
	if (!gmtime_r(&s, &tm))
		return json_null();
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000));
	return json_string(text);
}

static json_t *text_or_null(const char *s)
{
	json_t *v = s && s[0] ? json_string(s) : NULL;
	return v ? v : json_null();
}

static json_t *address(const uint8_t a[16])
{
	static const uint8_t none[16], mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[INET6_ADDRSTRLEN];
	if (memcmp(a, none, sizeof(none)) == 0)
		return json_null();
	if (memcmp(a, mapped, sizeof(mapped)) == 0)
		inet_ntop(AF_INET, a + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, a, text, sizeof(text));
	return json_string(text);
}

/* Takes the entry over. */
static void add(struct journal **at, json_t *entry, uint64_t repeats)
{
	struct journal *j = *at ? *at : calloc(1, sizeof(*j));
	if (!j || !entry) {
		json_decref(entry);
		if (j)
			*at = j;
		return;
	}
	*at = j;
	j->total += 1 + repeats;
	j->lost += repeats;
	if (j->n == JOURNAL_MAX || (all_entries >= JOURNAL_ALL_MAX && j->n)) {
		json_decref(j->entry[j->first]);
		j->first = (j->first + 1) % JOURNAL_MAX;
		j->n--;
		all_entries--;
		j->lost++;
	}
	if (all_entries >= JOURNAL_ALL_MAX) {
		json_decref(entry);
		j->lost++;
		return;
	}
	j->entry[(j->first + j->n++) % JOURNAL_MAX] = entry;
	all_entries++;
}

/* The same was refused before: its entry counts, and moves to the end. */
static int again(struct journal *j, const char *kind, const char *message, uint64_t ms)
{
	for (unsigned i = 0; j && i < j->n; i++) {
		unsigned at = (j->first + i) % JOURNAL_MAX;
		json_t *e = j->entry[at], *n = json_object_get(e, "repeats");
		const char *k = json_string_value(json_object_get(e, "kind"));
		const char *m = json_string_value(json_object_get(e, "message"));
		if (!k || !m || strcmp(k, kind) != 0 || strcmp(m, message) != 0)
			continue;
		json_integer_set(n, json_integer_value(n) + 1);
		json_object_set_new(e, "time", stamp(ms));
		for (; i + 1 < j->n; i++) {
			unsigned next = (at + 1) % JOURNAL_MAX;
			j->entry[at] = j->entry[next];
			at = next;
		}
		j->entry[at] = e;
		j->total++;
		return 1;
	}
	return 0;
}

static uint64_t now_ms(void)
{
	return clock_ns(CLOCK_REALTIME) / MS_NS;
}

static const char *why(const struct egress_denial *d, char *ret, size_t cap)
{
	const char *text = d->reason < EGRESS_R__N ? reasons[d->reason] : "refused";
	switch (d->reason) {
	case EGRESS_R_POLICY:
		return "no rule allows it";
	case EGRESS_R_RULE:
		snprintf(ret, cap, "the rule '%s' denies it", d->rule);
		return ret;
	case EGRESS_R_PROTECTED:
		snprintf(ret, cap, "the address is protected (%s)", d->protects);
		return ret;
	case EGRESS_R_NO_NAME:
		return "only names are allowed there, and the connection says none";
	case EGRESS_R_ECH:
		return "the name is encrypted (ECH)";
	case EGRESS_R_MISMATCH:
		return "the connection says two different names";
	case EGRESS_R_MALFORMED:
		return "what it says cannot be understood";
	case EGRESS_R_UNRESOLVED:
		return "the resolver knows no address of it";
	case EGRESS_R_TUNNEL:
		return "the question looks like data in disguise";
	case EGRESS_R_RATE:
		return "too many at a time";
	case EGRESS_R_BUDGET:
		snprintf(ret, cap, "%s of the %s reached %llu", d->amount,
			 d->scope < EGRESS_S__N ? scopes[d->scope] : "sandbox",
			 (unsigned long long)d->figure);
		return ret;
	default:
		return text;
	}
}

/* "allow host:443" as flags of the command line. */
static json_t *command_of(const char *id, const char *allow)
{
	const char *space = strchr(allow, ' ');
	if (!space || !space[1])
		return json_null();
	return json_sprintf("brig net %s --%.*s '%s'", id, (int)(space - allow), allow, space + 1);
}

void journal_egress(struct journal **j, const char *id, const char *mode, const struct egress_denial *d)
{
	char text[400], mode_line[24], where[INET6_ADDRSTRLEN + EGRESS_NAME_MAX] = "";
	json_t *addr = address(d->addr);
	const char *kind = d->proto == EGRESS_P_DNS ? "dns" : "egress";
	const char *proto = d->proto < EGRESS_P__N ? protocols[d->proto] : "tcp";
	const char *shown = json_string_value(addr);
	snprintf(mode_line, sizeof(mode_line), "net %s", mode);
	if (d->name[0] || shown)
		snprintf(where, sizeof(where), "%s", d->name[0] ? d->name : shown);
	const char *because = why(d, text, sizeof(text));
	json_t *message = d->port ? json_sprintf("%s %s port %u: %s", proto, where, d->port, because)
				  : json_sprintf("%s %s: %s", proto, where, because);
	json_t *e = json_pack("{s:o,s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:n,s:o,s:o,s:I,s:o}", "time",
			      stamp(d->time_ms), "kind", kind, "reason",
			      d->reason < EGRESS_R__N ? reasons[d->reason] : "refused", "protocol", proto,
			      "name", text_or_null(d->name), "address", addr, "port",
			      d->port ? json_integer(d->port) : json_null(), "rule",
			      text_or_null(d->rule[0] ? d->rule : mode_line), "process", "allow",
			      text_or_null(d->allow), "command", command_of(id, d->allow), "repeats",
			      (json_int_t)d->repeats, "message", message ? message : json_null());
	add(j, e, d->repeats);
}

static const char *protocol_name(uint8_t proto, char ret[16])
{
	static const struct {
		uint8_t number;
		const char *name;
	} known[] = { { 1, "icmp" }, { 6, "tcp" }, { 17, "udp" }, { 58, "icmpv6" }, { 132, "sctp" } };
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].number == proto)
			return known[i].name;
	snprintf(ret, 16, "ip-%u", proto);
	return ret;
}

void journal_packet(struct journal **j, const struct packet_seen *s)
{
	char number[16], text[160];
	const char *proto = s->known ? protocol_name(s->proto, number) : "unknown";
	json_t *addr = s->known ? address(s->dest) : json_null();
	const char *shown = json_string_value(addr);
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
	bool other = s->known && memcmp(s->dest, v4, sizeof(v4)) == 0 && brig_net_lease4(s->dest + 12);
	const char *reason = s->forged ? "forged_source" : other ? "other_sandbox" : s->proto == 6 ? "rate" : "not_tcp";
	snprintf(text, sizeof(text), "%s %s port %u: %s", proto, shown ? shown : "to nowhere", s->port,
		 s->forged	? "its source is not this sandbox's"
		 : other	? "another sandbox, with which it shares no network (--network)"
		 : s->proto == 6 ? "connections are opened too fast"
				 : "only TCP, and names by the resolver, leave a sandbox");
	if (again(*j, "packet", text, now_ms())) {
		json_decref(addr);
		return;
	}
	add(j,
	    json_pack("{s:o,s:s,s:s,s:s,s:n,s:o,s:o,s:n,s:n,s:n,s:n,s:i,s:s}", "time", stamp(now_ms()),
		      "kind", "packet", "reason", reason, "protocol", proto, "name", "address", addr, "port",
		      s->port ? json_integer(s->port) : json_null(), "rule", "process", "allow", "command",
		      "repeats", 0, "message", text),
	    0);
}

static void add_plain(struct journal **j, const char *kind, const char *reason, json_t *command,
		      const char *message)
{
	if (again(*j, kind, message, now_ms())) {
		json_decref(command);
		return;
	}
	add(j,
	    json_pack("{s:o,s:s,s:s,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:o,s:i,s:s}", "time", stamp(now_ms()),
		      "kind", kind, "reason", reason, "protocol", "name", "address", "port", "rule",
		      "process", "allow", "command", command, "repeats", 0, "message", message),
	    0);
}

void journal_limit(struct journal **j, const char *hit, const char *flag, uint64_t figure)
{
	char text[96];
	if (figure && figure != UINT64_MAX)
		snprintf(text, sizeof(text), "the limit of %s was met: %llu", hit,
			 (unsigned long long)figure);
	else
		snprintf(text, sizeof(text), "the limit of %s was met", hit);
	add_plain(j, "limit", hit, flag ? json_sprintf("brig run --%s MORE ..", flag) : json_null(), text);
}

void journal_syscall(struct journal **j, const char *what)
{
	add_plain(j, "syscall", "syscall_denied", json_null(), what);
}

json_t *journal_json(const struct journal *j, unsigned most)
{
	json_t *a = json_array();
	unsigned n = j ? j->n : 0;
	for (unsigned i = n > most ? n - most : 0; i < n; i++)
		json_array_append(a, j->entry[(j->first + i) % JOURNAL_MAX]);
	return a;
}
