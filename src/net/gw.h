/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gw.h: the running gateway: what its parts share. See main.c for the process, egress_proto.h for
 * what it promises.
 *
 * A lease is a sandbox: its policy, its figures, its connections (flow.h), the names it had
 * resolved (names.c). Everything of a lease ends with it.
 */
#ifndef BRIG_NET_GW_H
#define BRIG_NET_GW_H

#include "base/ev.h"
#include "brig/egress_proto.h"
#include "daemon/log.h"
#include "net/dns.h"
#include "net/policy.h"

#define GW_HASH 8192u
#define GW_RESOLVERS_MAX 4u
#define GW_SANDBOX_NETS_MAX 16u
#define GW_HOST_ADDRS_MAX 4096u
#define GW_PIPES_MAX 256u /* kept for the next that needs one */

/* So many units per second, and at most `burst` at once. rate EGRESS_NO_LIMIT: all. */
struct bucket {
	uint64_t rate, burst, level, at;
};
void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now);
/* What may be taken now, at most want. */
uint64_t bucket_level(struct bucket *b, uint64_t now, uint64_t want);
void bucket_take(struct bucket *b, uint64_t n);

enum amount {
#define X(field, text, what) AMOUNT_##field,
	BRIG_EGRESS_AMOUNTS(X)
#undef X
		AMOUNT__N
};
uint64_t *amount_of(struct egress_amounts *a, enum amount which);
const char *amount_text(enum amount which);

struct gw;
struct flow;
struct name_entry;
struct dns_ask;
struct dns_conn;

/* What was spent at one destination; only where a budget of that kind is set. */
#define GW_DESTS_MAX 512u
struct net_dest {
	struct net_dest *next;
	struct egress_amounts spent;
	char key[NET_NAME_MAX];
};

struct net_tenant {
	struct net_tenant *next;
	char name[EGRESS_TENANT_MAX];
	struct egress_amounts spent, budget;
	unsigned leases;
};

/* The last records of a lease, so that the same is not told again and again. */
#define GW_RECENT 16u
struct net_recent {
	uint64_t at, repeats;
	uint64_t key;
};

struct net_lease {
	struct gw *gw;
	struct net_lease *by_id, *by_v4, *by_v6; /* next of the same hash */
	char id[EGRESS_ID_MAX];
	struct net_tenant *tenant;
	uint64_t generation;
	struct net_policy *policy;
	struct net_addr v4, v6; /* all 0 = none */
	uint64_t connections_max, connections, denied;
	struct egress_amounts spent, budget, dest_budget;
	struct bucket connects, questions, new_names, told, out, in;
	struct net_dest *dests;
	unsigned ndests, nnames, nasks, nconns;
	struct name_entry *names;
	struct flow *flows;
	struct dns_ask *asks;
	struct dns_conn *conns;
	struct ev_timer resume; /* bandwidth comes back */
	struct net_recent recent[GW_RECENT];
	unsigned recent_at;
};

struct gw {
	struct ev ev;
	struct log log;
	bool quit;
	int exit_code;
	/* control.c */
	int control_fd;
	struct ev_io control_io;
	struct out_msg *queue, **queue_end;
	unsigned nqueued;
	uint64_t lost;
	struct bucket strangers; /* records about sources without a lease */
	/* lease.c */
	struct net_lease *id_hash[GW_HASH], *v4_hash[GW_HASH], *v6_hash[GW_HASH];
	struct net_tenant *tenants;
	unsigned nleases;
	uint64_t seed;
	/* flow.c */
	int tcp_fd[2];
	struct ev_io tcp_io[2];
	struct ev_timer accept_again;
	unsigned nflows;
	struct ev_task bury;
	struct flow *dead;
	int pipes[GW_PIPES_MAX][2];
	unsigned npipes;
	/* main.c */
	int resolv_fd;
	struct ev_io resolv_io;
	/* dnsd.c, names.c */
	int udp_fd[2];
	struct ev_io udp_io[2];
	struct sockaddr_storage resolver[GW_RESOLVERS_MAX];
	socklen_t resolver_len[GW_RESOLVERS_MAX];
	unsigned nresolvers, nqueries, naming;
	/* host.c */
	int route_fd;
	struct ev_io route_io;
	struct net_addr host[GW_HOST_ADDRS_MAX];
	unsigned nhost;
	uint64_t six_at; /* when `six` was looked at */
	bool six;
	struct net_addr sandbox_net[GW_SANDBOX_NETS_MAX];
	unsigned sandbox_bits[GW_SANDBOX_NETS_MAX], nsandbox_nets;
};

/* ---- lease.c ---- */
/* The text of a LEASE; 0, or -1 with err. *ret_cut: connections that were reset. */
int lease_set(struct gw *g, const struct egress_lease *m, const char *text, uint64_t *ret_cut,
	      struct brig_err *err);
struct net_lease *lease_find(struct gw *g, const char *id);
struct net_lease *lease_of(struct gw *g, const struct net_addr *source);
void lease_free(struct net_lease *l);
void lease_figures(const struct net_lease *l, struct egress_figures *ret);
void leases_done(struct gw *g);
/* NULL where no budget of destinations is set; key: name, or address as text. */
struct net_dest *lease_dest(struct net_lease *l, const char *key);
/* What is left of the least budget; where it is 0, *ret_scope and *ret_limit say which. */
uint64_t lease_room(struct net_lease *l, struct net_dest *d, enum amount which, unsigned *ret_scope,
		    uint64_t *ret_limit);
void lease_spend(struct net_lease *l, struct net_dest *d, enum amount which, uint64_t n);

/* ---- deny.c ---- */
struct denial {
	enum egress_reason reason;
	enum egress_proto proto;
	const char *name; /* or NULL */
	const struct net_addr *addr;
	uint16_t port, source_port, qtype;
	const struct net_rule *rule;
	enum net_protect protects;
	unsigned scope;
	uint64_t figure;
	const char *amount;
};
/* Counts and tells it; l NULL: a source without a lease. ret_allow: the line that would allow it,
 * or "". */
void deny(struct gw *g, struct net_lease *l, const struct denial *d,
	  char ret_allow[EGRESS_RULE_MAX]);
const char *reason_text(enum egress_reason r);

/* ---- host.c ---- */
int host_open(struct gw *g, struct brig_err *err);
void host_done(struct gw *g);
/* What addr is protected as, here and now. */
enum net_protect gw_protect(struct gw *g, const struct net_addr *addr);
/* Whether this host has a way to anywhere over IPv6. */
bool gw_has_six(struct gw *g);

/* ---- control.c ---- */
int control_open(struct gw *g, int fd, struct brig_err *err);
void control_done(struct gw *g);
/* keep: it waits for room where there is none; others are counted as lost. */
void control_send(struct gw *g, const void *msg, size_t n, bool keep);

/* ---- names.c ---- */
struct name_wait {
	void (*fn)(void *ctx);
	void *ctx;
	struct name_wait *next, **pprev;
};
enum name_state { NAME_PENDING, NAME_FOUND, NAME_NONE, NAME_FAILED };
struct name_entry {
	struct name_entry *next;
	struct net_lease *l;
	char name[NET_NAME_MAX];
	uint16_t type;
	enum name_state state;
	bool known;	 /* has been resolved once: addrs may be used while it is asked again */
	bool nx;	 /* there is no such name, not only no address of this type */
	bool via_denied; /* a name that it leads to is denied by a rule */
	unsigned naddrs, nold;
	struct net_addr addrs[DNS_ADDRS_MAX], old[DNS_ADDRS_MAX];
	uint64_t expires, used; /* ns */
	struct name_wait *waits;
	struct name_query *query;
};
/*
 * The entry, if it is fresh. NULL: *ret_reason is EGRESS_R__N and w is called later, once (unless
 * name_unwait came first), or it is why the name is not asked for. budget figures in *d.
 */
struct name_entry *name_get(struct net_lease *l, const char *name, uint16_t type,
			    struct name_wait *w, struct denial *d);
void name_unwait(struct name_wait *w);
/* Whether our resolver told this sandbox that addr is an address of name. */
bool name_pinned(struct net_lease *l, const char *name, const struct net_addr *addr);
/* Calls fn for each name that addr was told for, until it returns false. */
void name_each(struct net_lease *l, const struct net_addr *addr,
	       bool (*fn)(void *ctx, const char *name), void *ctx);
void names_free(struct net_lease *l);
/* The policy is about to change: what was found is asked for again, what was told stays pinned. */
void names_rejudge(struct net_lease *l);
/* The name servers of a resolv.conf text. */
void resolvers_read(struct gw *g, const char *text);
/* Those of another text in their place; false: it has none, and they stay. */
bool resolvers_renew(struct gw *g, const char *text);
int resolver_add(struct gw *g, const char *text);

/* ---- accept.c ---- */
int accept_open(struct gw *g, struct brig_err *err);
void accept_done(struct gw *g);

/* ---- dnsd.c ---- */
int dnsd_open(struct gw *g, struct brig_err *err);
void dnsd_done(struct gw *g);
/* A TCP connection of a lease to port 53; takes over fd. */
void dnsd_tcp(struct gw *g, struct net_lease *l, int fd, uint16_t source_port);
/* Ends what waits for names of l. */
void dnsd_forget(struct net_lease *l);

#endif
