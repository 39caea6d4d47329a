/* SPDX-License-Identifier: Apache-2.0 */
/*
 * egress_proto.h: the wire between brigd and brig-egress, the gateway through which sandboxes reach
 * anything, and the text of a policy.
 *
 * Theory of operation
 * -------------------
 * One brig-egress per server. It lives in the host's network namespace, as its own user, and is
 * given descriptors by number on its command line (src/net/main.c):
 *
 *   --control-fd N           this channel: a SOCK_SEQPACKET socket; its end ends the process
 *   --tcp4-fd N --tcp6-fd N  listening TCP sockets that were opened in the gateway namespace
 *   --udp4-fd N --udp6-fd N  UDP sockets there, bound to port 53 of every address
 *
 * Packet rules in the gateway namespace bring every TCP connection of every sandbox to the TCP
 * sockets, whatever its destination and port, and every UDP packet to port 53 to the UDP sockets;
 * all else never arrives. The original destination of a connection is what SO_ORIGINAL_DST
 * (REDIRECT) or, without connection tracking, getsockname() (TPROXY, local routes) says; a TCP
 * connection to port 53 is DNS. A UDP answer leaves from the address that its question came to
 * (IP_PKTINFO), so that the answer fits REDIRECT and local routes alike.
 *
 * Who is asking is told by the source address alone: the packet rules must drop what comes with an
 * address that is not its link's. An address without a lease is refused.
 *
 * Messages are structs, one a datagram, in host byte order, texts NUL-padded. LEASE is followed by
 * the text of its policy. Both ends check size, verb and every field. brigd may have many requests
 * under way; answers carry the sequence number of their request. The gateway never waits for brigd:
 * records that find no room are counted and told with the next one (egress_denial.lost), answers
 * wait.
 *
 * LEASE makes a lease, or replaces the policy of one. It is answered by APPLIED when the new policy
 * is the one that decides, for new connections and questions, and every connection that it does not
 * allow has been reset. A generation below the one that holds is refused (BRIG_E_STATE): two
 * changes that overtook each other end as the later one. REMOVE cuts everything and is answered by
 * FIGURES (the last), then GONE; of a lease that is not there by GONE only.
 *
 * The text of a policy
 * --------------------
 * Lines that end with '\n'; first the mode, then what differs from it:
 *
 *   net none|deny|public     nothing / only what a rule allows / everything that no rule denies
 *   prefer deny|allow        who wins where both match; without this line: deny
 *   allow DEST               of the sandbox's own request
 *   deny DEST
 *   grant DEST               of the operator: DEST is no protected destination for this sandbox
 *   host NAME IPV4           a sandbox that it shares a network with: NAME, and NAME.internal, is told as this
 *                            address, whatever the rules say. What goes there never comes to the gateway
 *                            process: packet rules let it through, or refuse it. Lines of one NAME add up.
 *
 * DEST is WHERE or WHERE:PORT; PORT is a number or FROM-TO. Without a port: every port. WHERE is
 *   host.example             that name and no other
 *   *.host.example           every name below it, not itself
 *   *                        every name and every address
 *   192.0.2.7, 192.0.2.0/24  an address, a prefix (host bits must be 0)
 *   2001:db8::/32, and with a port [2001:db8::/32]:443
 * Names are ASCII (xn-- for others), any case, with or without the last dot. Addresses are written
 * in the usual form only: 0x7f.1 and 2130706433 are refused where a policy is written, and are
 * never names where a connection says them.
 *
 * What a policy means for a connection to ADDRESS:PORT:
 * 1. Protected destinations are refused in every mode unless a grant covers them: loopback,
 * private, shared (100.64/10), link-local, the metadata addresses, multicast, reserved ranges,
 * addresses that embed such an IPv4 address, every address of this host, every sandbox's. A grant
 * of a name lifts this for private and shared addresses that the name resolves to; the others need
 * a grant of the address. A grant allows nothing by itself: the sandbox's own rules still decide.
 * 2. A connection that says a name (TLS SNI; HTTP Host, absolute-form and CONNECT) matches the
 * rules of names; it goes to an address that the gateway's resolver returned for that name, never
 * to the one that the sandbox chose, and that address is checked as in 1. and against the rules of
 *    addresses that deny.
 * 3. ADDRESS:PORT matches the rules of addresses. A connection that an address rule allows (or mode
 *    public, with no rule about names) is not looked into, except where names are denied.
 * 4. A connection that says no name is decided by 3. One more is allowed: to an address that the
 *    resolver gave this sandbox for a name whose rule names that port (allow git.example:22), ports
 * 80 and 443 excepted, where nothing but HTTP and TLS is passed by name.
 * 5. Where allow and deny rules match, `prefer` decides. Where none matches, the mode.
 * TLS with an encrypted ClientHello or without a name, and HTTP/2 without TLS, say no name.
 *
 * A name is resolved only if some allow rule covers it (deny), or no deny rule does (public).
 *
 * The command line: --net MODE is `net`; each --allow and --deny is a line; `prefer deny`. A
 * request with
 * --allow and no --net is `net deny`. No request, or --net none: no link at all, and no lease.
 * E2B: `net public` (allow_internet_access false, or 0.0.0.0/0 in denyOut: `net deny`), `prefer
 * allow`, allowOut and denyOut as lines.
 */
#ifndef BRIG_EGRESS_PROTO_H
#define BRIG_EGRESS_PROTO_H

#include <stdint.h>

#include "brig/ids.h"

#define BRIG_EGRESS_PROTO_VERSION 1u

#define BRIG_EGRESS_VERBS(X)                                                         \
	/* to brig-egress */                                                         \
	X(LEASE, 1)  /* egress_lease + text; answer APPLIED or ERROR */              \
	X(REMOVE, 2) /* egress_ref; answers FIGURES, GONE */                         \
	X(ASK, 3)    /* egress_ref; answer FIGURES or ERROR */                       \
	/* from brig-egress */                                                       \
	X(READY, 64)   /* egress_ready, unasked, first: it is confined and serves */ \
	X(APPLIED, 65) /* egress_applied */                                          \
	X(ERROR, 66)   /* egress_error */                                            \
	X(FIGURES, 67) /* egress_figures */                                          \
	X(GONE, 68)    /* egress_ref */                                              \
	X(DENIAL, 69)  /* egress_denial, unasked */

enum egress_verb {
#define X(name, number) EGRESS_##name = number,
	BRIG_EGRESS_VERBS(X)
#undef X
};

#define EGRESS_ID_MAX (BRIG_ID_LEN + 8u) /* with its NUL, as in jail_proto.h */
#define EGRESS_TENANT_MAX 64u
#define EGRESS_NAME_MAX 256u /* of a host, with its NUL */
#define EGRESS_RULE_MAX 288u /* a line of a policy, with its NUL */
#define EGRESS_RULES_MAX 512u
#define EGRESS_HOSTS_MAX 1024u
#define EGRESS_HOST_SUFFIX ".internal"
#define EGRESS_TEXT_MAX 65536u /* of a policy */
#define EGRESS_LEASES_MAX 4096u
#define EGRESS_NO_LIMIT UINT64_MAX

struct egress_hdr {
	uint32_t verb;
	uint32_t seq; /* 0 = unasked */
};

/* What is counted, and what a budget may bound: X(field, text, what) */
#define BRIG_EGRESS_AMOUNTS(X)                                                                     \
	X(bytes_out, "bytes_out", "bytes towards destinations")                                    \
	X(bytes_in, "bytes_in", "bytes from destinations")                                         \
	X(requests, "requests", "HTTP requests where they are looked into, connections elsewhere") \
	X(names, "names", "different names that were resolved")

struct egress_amounts {
#define X(field, text, what) uint64_t field;
	BRIG_EGRESS_AMOUNTS(X)
#undef X
};

struct egress_lease {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
	char tenant[EGRESS_TENANT_MAX];
	/* .. which stays as it is from the first byte on that was counted */
	uint64_t generation; /* >= 1, of the policy; grows with each change */
	uint8_t v4[4];	     /* the sandbox's own addresses; all 0 = none. They stay as they are. */
	uint8_t v6[16];
	uint32_t reserved;
	uint64_t connections_max;	    /* at a time, 1 .. 65536 */
	uint64_t connects_per_second;	    /* new ones, 1 .. 1000000, EGRESS_NO_LIMIT */
	uint64_t rate_out_bps, rate_in_bps; /* bytes per second, >= 1024, EGRESS_NO_LIMIT */
	/* Each EGRESS_NO_LIMIT where nothing is bounded. */
	struct egress_amounts budget; /* of this sandbox in all */
	struct egress_amounts
		dest_budget; /* of this sandbox for each destination (name, or address) */
	struct egress_amounts tenant_budget; /* of all sandboxes of the tenant; the latest holds */
	/* What a former gateway process counted; used where this process knows no lease, or tenant,
	 * of that name. */
	struct egress_amounts spent, tenant_spent;
	uint32_t text_len; /* bytes that follow, <= EGRESS_TEXT_MAX */
	uint32_t zero;
};

struct egress_ref {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
};

struct egress_ready {
	struct egress_hdr h;
	uint32_t version;
	uint32_t zero;
};

struct egress_applied {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
	uint64_t generation;
	uint64_t cut; /* connections that the new policy does not allow */
};

struct egress_error {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
	uint32_t code; /* enum brig_code */
	uint32_t zero;
	char msg[384];
	char remedy[256];
};

struct egress_figures {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
	uint64_t generation;
	struct egress_amounts spent, tenant_spent;
	uint64_t connections; /* now */
	uint64_t denied;      /* refusals in all, told or not */
};

/* Why something was refused: X(name, text) */
#define BRIG_EGRESS_REASONS(X)                                                                     \
	X(POLICY, "not_allowed")	  /* no rule allows it */                                  \
	X(RULE, "denied_by_rule")	  /* `rule` is the line */                                 \
	X(PROTECTED, "protected_address") /* 1. above; `protects` says which */                    \
	X(NO_NAME, "no_name")	    /* only names are allowed here and the connection says none */ \
	X(ECH, "encrypted_name")    /* .. an encrypted ClientHello */                              \
	X(MISMATCH, "names_differ") /* Host, target or SNI of one connection differ */             \
	X(MALFORMED, "malformed")   /* TLS, HTTP or DNS that cannot be judged */                   \
	X(UNRESOLVED, "name_not_found")	 /* allowed, but the resolver knows no address */          \
	X(TUNNEL, "looks_like_a_tunnel") /* a name with too much in it, or too many */             \
	X(RATE, "rate")	       /* connects or questions per second, connections at a time */       \
	X(BUDGET, "budget")    /* `amount` of `scope` reached `figure` */                          \
	X(UNKNOWN, "no_lease") /* a source address without a lease; id is "" */                    \
	X(UPGRADE, "upgrade")  /* HTTP Upgrade to something that hides requests */

enum egress_reason {
#define X(name, text) EGRESS_R_##name,
	BRIG_EGRESS_REASONS(X)
#undef X
		EGRESS_R__N
};

enum egress_proto { EGRESS_P_TCP, EGRESS_P_TLS, EGRESS_P_HTTP, EGRESS_P_DNS, EGRESS_P__N };
enum egress_scope { EGRESS_S_NONE, EGRESS_S_SANDBOX, EGRESS_S_DEST, EGRESS_S_TENANT, EGRESS_S__N };

struct egress_denial {
	struct egress_hdr h;
	char id[EGRESS_ID_MAX];
	char tenant[EGRESS_TENANT_MAX];
	uint64_t time_ms;    /* since 1970 */
	uint64_t generation; /* of the policy that refused */
	uint32_t reason;     /* enum egress_reason */
	uint32_t proto;	     /* enum egress_proto */
	uint32_t scope;	     /* enum egress_scope, of BUDGET */
	uint32_t qtype;	     /* of DNS */
	uint8_t addr[16];    /* the destination, IPv4 as ::ffff:a.b.c.d; all 0 = none */
	uint32_t port;
	uint32_t source_port;	    /* the sandbox's: finds the process while the socket is there */
	uint64_t figure;	    /* of BUDGET: the limit that was reached */
	uint64_t repeats;	    /* the same, since the last record of it, that were not told */
	uint64_t lost;		    /* other records since the last that found no room */
	char amount[16];	    /* of BUDGET: text of the amount */
	char protects[24];	    /* of PROTECTED: "private", "metadata", "host", .. */
	char name[EGRESS_NAME_MAX]; /* what the connection or question said, canonical; "" = none */
	char rule[EGRESS_RULE_MAX]; /* the line that decided; "" = the mode */
	char allow[EGRESS_RULE_MAX]; /* the line that would allow it: "allow host.example:443",
				      * "grant ..";
				      * "" = no rule can */
};

/* The largest message, for receive buffers. */
#define EGRESS_MSG_MAX (sizeof(struct egress_lease) + EGRESS_TEXT_MAX)

#endif
