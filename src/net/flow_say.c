/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A refusal says so in the words of the protocol, where it has some: HTTP gets 403 with the reason
 * and the line that would allow it, TLS an alert, everything else a reset. A destination that does
 * not answer is no refusal: HTTP gets 502, the others a reset.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/flow.h"

static void last(struct flow *f, const char *text, size_t n)
{
	f->reply = malloc(n);
	if (!f->reply) {
		flow_close(f, true);
		return;
	}
	memcpy(f->reply, text, n);
	f->reply_len = n;
	f->refused = true;
	f->last = clock_now();
	flow_up_close(f);
	flow_arm(f);
}

/* A request of which no answer has begun: the first, or, once something came back, one whose head
 * has just come. */
static bool may_answer(const struct flow *f)
{
	return f->http && f->to_client.held == 0 &&
	       (!f->to_client.moved || f->out == OUT_LOOK || f->out == OUT_HEAD);
}

static void http_answer(struct flow *f, const char *status, const char *reason, const char *body,
			const char *allow)
{
	char text[2048];
	int n = snprintf(
		text, sizeof(text),
		"HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
		"Connection: close\r\nX-Brig-Reason: %s\r\n%s%s%s\r\n%s",
		status, strlen(body), reason, allow[0] ? "X-Brig-Allow: " : "", allow,
		allow[0] ? "\r\n" : "", body);
	if (n > 0 && n < (int)sizeof(text))
		last(f, text, (size_t)n);
	else
		flow_close(f, true);
}

static void say_http(struct flow *f, const struct denial *d, const char *allow)
{
	char body[1024], where[NET_NAME_MAX], remedy[EGRESS_RULE_MAX + 64] = "";
	if (f->name[0])
		snprintf(where, sizeof(where), "%s", f->name);
	else
		net_addr_text(&f->dst, where);
	if (d->reason == EGRESS_R_BUDGET)
		snprintf(remedy, sizeof(remedy), "The budget of %llu %s is used up.\n",
			 (unsigned long long)d->figure, d->amount ? d->amount : "");
	else if (allow[0] && strncmp(allow, "allow ", 6) == 0)
		snprintf(remedy, sizeof(remedy), "To allow it: --allow %s\n", allow + 6);
	else if (allow[0])
		snprintf(remedy, sizeof(remedy), "Only the operator can allow it: %s\n", allow);
	else if (d->rule)
		snprintf(remedy, sizeof(remedy), "The rule: %s\n", d->rule->line);
	snprintf(body, sizeof(body), "brig refused this connection to %s port %u: %s\n%s", where,
		 f->port, reason_text(d->reason), remedy);
	http_answer(f, "403 Forbidden", reason_text(d->reason), body, allow);
}

/* RFC 8446, 6: alert, of any version, fatal. */
static void say_tls(struct flow *f, enum egress_reason r)
{
	const char access_denied = 49, unrecognized_name = 112, decode_error = 50;
	char alert[] = { 21,
			 3,
			 3,
			 0,
			 2,
			 2,
			 r == EGRESS_R_MALFORMED			     ? decode_error
			 : r == EGRESS_R_NO_NAME || r == EGRESS_R_UNRESOLVED ? unrecognized_name
									     : access_denied };
	last(f, alert, sizeof(alert));
}

void flow_refuse(struct flow *f, struct denial *d)
{
	char allow[EGRESS_RULE_MAX];
	bool open = f->up == UP_OPEN;
	if (f->refused || f->over)
		return;
	d->proto = f->http ? EGRESS_P_HTTP : f->tls ? EGRESS_P_TLS : EGRESS_P_TCP;
	if (!d->name)
		d->name = f->name;
	if (!d->addr)
		d->addr = f->up >= UP_CONNECTING ? &f->to : &f->dst;
	d->port = f->port;
	d->source_port = f->source_port;
	deny(f->gw, f->l, d, allow);
	if (may_answer(f))
		say_http(f, d, allow);
	else if (f->tls && !f->to_client.moved && (f->out == OUT_LOOK || !open))
		say_tls(f, d->reason);
	else
		flow_close(f, true);
}

/* Where nothing was said that decides, the address does; what that lacks is the better reason. */
void flow_refuse_as(struct flow *f, enum egress_reason r)
{
	struct denial d = { .reason = r };
	bool plain = r == EGRESS_R_NO_NAME || r == EGRESS_R_POLICY;
	struct net_verdict v = net_policy_judge(f->l->policy, NULL, &f->dst, f->port);
	if (plain && !flow_granted(f, NULL, &f->dst, &d.protects)) {
		d.reason = EGRESS_R_PROTECTED;
	} else if (plain && v.reason == EGRESS_R_RULE) {
		d.reason = v.reason;
		d.rule = v.rule;
	} else if (plain && !net_policy_names_matter(f->l->policy, f->port, false)) {
		d.reason = EGRESS_R_POLICY;
	}
	if (d.reason != EGRESS_R_PROTECTED)
		d.protects = NET_PROTECT_NONE;
	flow_refuse(f, &d);
}

void flow_refuse_verdict(struct flow *f, const struct net_verdict *v)
{
	struct denial d = { .reason = v->reason, .rule = v->rule, .protects = v->protects };
	flow_refuse(f, &d);
}

void flow_fail(struct flow *f, const char *why)
{
	char body[512], addr[NET_ADDR_TEXT_MAX];
	if (f->refused || f->over)
		return;
	log_line(&f->gw->log, LOG_DEBUG, f->l->id, "no connection to %s port %u: %s",
		 net_addr_text(&f->to, addr), f->port, why);
	/* A refusal of the other side is told as the one that it would have been: by a reset. */
	if (!f->http) {
		flow_close(f, true);
		return;
	}
	snprintf(body, sizeof(body), "brig could not connect to %s (%s port %u): %s\n",
		 f->name[0] ? f->name : addr, addr, f->port, why);
	http_answer(f, "502 Bad Gateway", "unreachable", body, "");
}
