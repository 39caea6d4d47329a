/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h: struct brigd, the one owner of everything in this process, and what its parts tell it.
 *
 * One thread, one loop. Sandboxes own their channel and their commands; connections own nothing but
 * themselves and point at what they watch; either side clears the other's pointer when it ends.
 */
#ifndef BRIG_DAEMON_DAEMON_H
#define BRIG_DAEMON_DAEMON_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/ev.h"
#include "brig/jail_proto.h"
#include "daemon/conn.h"
#include "daemon/egress.h"
#include "daemon/images.h"
#include "daemon/jail.h"
#include "daemon/ledger.h"
#include "daemon/log.h"
#include "daemon/relay.h"
#include "daemon/note.h"

struct sandbox;
struct pool;
LIST_HEAD(conn_list, conn);
LIST_HEAD(sandbox_list, sandbox);

/* One read() of a channel or a client. */
#define SCRATCH_SIZE (1024u * 1024u)
#define SANDBOX_BUCKETS 1024u

#ifndef BRIG_VERSION
#define BRIG_VERSION "0.1.0"
#endif

struct brigd {
	struct ev ev;
	struct log log;
	struct jail_link jail;
	struct egress_link egress;
	struct jail_hello host;
	bool host_known;
	int rejoin_fd;		  /* from where the link to another jaild comes; -1 */
	struct ev_io rejoin_io;
	bool rejoining;		  /* there is no jaild at present, or it has not told what it has */
	struct images images;
	struct ledger ledger;	  /* for the next brigd; none in private mode */
	bool adopt_listing;	  /* jaild is being asked what a former one left */
	struct sandbox **adopted; /* meanwhile: by place in the ledger */
	unsigned nadopting;	  /* whose agents have not answered yet */
	uint64_t handover_since;  /* 0 = none is under way */
	struct ev_timer handover_timer;
	struct sandbox_list all, by_id[SANDBOX_BUCKETS], by_name[SANDBOX_BUCKETS];
	unsigned nlive;	 /* sandboxes that jaild knows or will know */
	unsigned nboxes; /* records, stopped ones too */
	struct conn_list conns;
	unsigned nconns;
	unsigned nvisitors; /* of published ports, of all sandboxes */
	struct gather gather;
	struct relay relay;
	uint8_t *scratch; /* SCRATCH_SIZE */
	struct pool *pools;
	unsigned npools;
	const char *refused[BRIG_TIER__N]; /* why the operator does not offer a tier; NULL = he does */
	int usual_tier;			   /* of requests that name none (tier.h) */
	uint32_t accept;       /* JAIL_ENF_* that the operator does without, in every sandbox */
	unsigned nstarting;    /* commands that were asked for and have not started */
	uint64_t refill_since; /* since when a refill waits for them, 0 = none does */
	struct ev_timer pool_timer;
	int listen_fd, door_fd; /* -1 */
	int spare_fd;		/* given up to refuse who comes when there is no other; -1 */
	struct ev_timer accept_timer;
	struct ev_io listen_io, door_io;
	struct notes notes; /* to brig-api */
	uid_t start_uid;
	bool private_mode, quiet, draining, quit;
	int exit_code;
	uint64_t idle_exit_ns; /* 0 = never */
	struct ev_timer idle_timer, drain_timer;
	char instance[BRIG_ID_LEN + 8];
};

/* Allocates what a fresh brigd needs and sends HELLO over jail_fd, which it takes over. */
int brigd_init(struct brigd *d, int jail_fd, const char *data_dir, struct brig_err *err);
void brigd_done(struct brigd *d);
/* Serves fd as the only client (private mode), or a listening socket. */
int brigd_serve_client(struct brigd *d, int fd);
/* Looks at what has arrived there without taking it (early.c). */
void brigd_look_ahead(struct brigd *d, int fd);
int brigd_listen(struct brigd *d, int fd);
/* Takes connected clients from brig-api, each a descriptor in a message of this seqpacket socket. */
int brigd_door(struct brigd *d, int fd);
/* What is to outlive this brigd is noted in the ledger fd, and what it holds is taken over. After
 * brigd_init(). */
int brigd_keep(struct brigd *d, int fd, struct brig_err *err);
/* Runs until there is nothing left to do; returns the exit code. */
int brigd_run(struct brigd *d);
/* Takes no new clients, serves those that are there, and then drains. brig-api counts as one for as
 * long as its door is open. */
void brigd_quiesce(struct brigd *d);
/* Refuses new work, destroys every sandbox, and ends: within 5 s. */
void brigd_drain(struct brigd *d, const char *why);

/* Told by the parts. */
void brigd_ready(struct brigd *d); /* all is known: clients are served */
void brigd_conn_left(struct brigd *d);
void brigd_conn_told(struct brigd *d); /* its last frame has left */
void brigd_door_closed(struct brigd *d);
/* Whether anybody is there may have changed. */
void brigd_idle_check(struct brigd *d);
void brigd_sandbox_left(struct brigd *d);
/* A state in which brigd cannot go on (jaild takes no requests): all clients are told, then exit 1.
 */
void brigd_fail(struct brigd *d, const char *why);

/* What a request may be served by. */
struct tier_offer brigd_tiers(const struct brigd *d);

/* BRIG_ID_LEN random characters of [a-z0-9] and a terminator. */
void id_make(char ret[BRIG_ID_LEN + 8]);

#endif
