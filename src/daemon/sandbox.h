/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h: one sandbox: its record, its agent channel, its commands. The states are in state.h.
 *
 * Creation is one message to jaild with the agent's end of a socket pair. Frames for the agent are
 * written to the other end at once, before the agent exists, so no round trip stands between a
 * request and its command.
 */
#ifndef BRIG_DAEMON_SANDBOX_H
#define BRIG_DAEMON_SANDBOX_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/err.h"
#include "base/ev.h"
#include "brig/ids.h"
#include "brig/jail_proto.h"
#include "daemon/chan.h"
#include "daemon/conn.h"
#include "daemon/daemon.h"
#include "daemon/images.h"
#include "daemon/spec.h"
#include "daemon/state.h"
#include "daemon/stop.h"

struct exec;
struct layerload;
struct logring;
struct rewind;
struct pool;
struct publish;
struct sandbox;
LIST_HEAD(exec_list, exec);

/* An agent that is not there by then is given up. */
#define SANDBOX_START_MS 30000u
#define GUEST_START_MS 120000u /* of one with a kernel: its image's disk may have to be made first */
/* Records at one time, stopped ones included. */
#define SANDBOXES_MAX 8192u

/* What a sandbox is made of; spec and warnings are moved in on success. */
struct sandbox_plan {
	struct spec *spec;
	struct image *image; /* a reference is taken */
	struct admission *adm;
};
/* Who a sandbox's commands are by default, from its spec and image. */
struct sandbox_owner {
	char user[80], home[512];
	uint32_t uid, gid;
};
void sandbox_owner_of(const struct spec *spec, const struct image *image,
		      struct sandbox_owner *ret);
/* Gives a pooled sandbox to a client: its spec and warnings are moved in. */
void sandbox_adopt(struct sandbox *sb, struct sandbox_plan *plan);
struct sandbox {
	struct brigd *d;
	LIST_ENTRY(sandbox) all, id_link, name_link, pool_link;
	char id[BRIG_ID_LEN + 8];
	char name[SPEC_NAME_MAX + 1];
	enum sb_state state;
	bool chan_open;	      /* the agent can be talked to */
	bool relays;	      /* the last that came of it was relayed (relay.h) */
	bool paused;	      /* the channel is not read until its reader has caught up */
	bool born;	      /* jaild answered OK */
	bool keep;	      /* the record stays when it is destroyed */
	bool auto_rm;	      /* detached with rm */
	bool destroying;      /* DESTROY was sent, or is to be as soon as there is a jaild */
	bool removal_asked;   /* .. and not answered */
	bool counted;	      /* in d->nlive */
	bool taking;	      /* a former brigd's, and its agent has not told all that goes on */
	bool seen;	      /* the next brig-jaild has it, too */
	bool awaited;	      /* .. and clients wait for that */
	struct ledger_box *kept; /* its record for the next brigd; NULL = none */
	struct image *image;  /* NULL once nothing runs from it */
	char image_name[129]; /* as the client called it */
	struct spec spec;
	uint32_t missing; /* JAIL_ENF_* not enforced */
	json_t *warnings;
	struct sandbox_owner owner; /* default of its commands */
	uint64_t created_ns, created_real_ns;
	uint32_t create_seq;
	struct chan chan;
	struct ev_io chan_io;
	struct netbox *net;	 /* NULL: loopback only */
	struct publish *publish; /* ports that this host listens at for it; NULL = none */
	struct journal *journal; /* what was refused to it; NULL = nothing */
	struct exec_list execs;
	struct exec *main;	    /* the main command while it is known; NULL for create */
	json_t *main_argv, *status; /* of the main command; status once it ended */
	struct logring *ring[2];    /* what a detached main command printed */
	struct conn *creator;	    /* create: waits for READY; run: for its files */
	struct cmd later;	    /* run: what is started then; root NULL = nothing */
	uint64_t later_ns;	    /* .. when it was asked for */
	struct layerload *load;	    /* files of a snapshot are on their way to it */
	struct rewind *rewind;	    /* it will be made again when it is gone; NULL = not */
	bool reborn;		    /* .. and was: its record outlives a failure */
	struct conn_list removers, fs_conns, tcp_conns, followers;
	struct pool *pool;  /* while it waits in one */
	bool pooled;	    /* .. and is READY */
	unsigned jail_refs; /* answers of jaild still to come */
	/* The agent's end of the channel until CREATE is answered: a refusal is told by jaild's
	 * words, not by a broken pipe that happened to be seen first. -1 = none. */
	int peer;
	/* pause and resume (freeze.c). */
	bool freezing;		  /* one was asked of jaild */
	bool cpu_counted;	  /* cpu_timer ran when the clocks were stopped */
	enum sb_state unpaused;	  /* what PAUSED goes back to */
	uint64_t frozen_ns;	  /* since when its clocks stand still */
	uint64_t stood_ns;	  /* taken over: what they stood that is not noted with its commands */
	struct conn *freeze_conn; /* waits for the answer */
	bool measuring;		   /* a RECEIPT was asked of jaild (receipt.c) */
	struct conn *receipt_conn; /* waits for it */
	bool have_figures;
	struct jail_stats figures; /* sent by jaild unasked when the first process ended */
	struct ev_timer cpu_timer;
	struct ev_timer start_timer; /* the agent must be there */
	struct ev_task grave;
	char fault[256];
};

/* Makes the record, the channel, and sends CREATE. volume_fds by spec index; they stay the
 * caller's. */
int sandbox_create(struct brigd *d, struct sandbox_plan *plan, const int *volume_fds,
		   struct sandbox **ret, struct brig_err *err);
/* One that exists already: found by its id from now on, and of state READY; takes over fd, the channel.
 * image: a reference is taken; NULL for one of which nothing is left. The caller fills in the rest. NULL
 * without memory; fd is closed. */
struct sandbox *sandbox_restore(struct brigd *d, const char *id, struct image *image, int fd);
/* CPU time is looked at from now on. */
void sandbox_watch_cpu(struct sandbox *sb);
/* Its agent has so long to answer, or the sandbox ends. */
void sandbox_await_agent(struct sandbox *sb, unsigned ms);
int sandbox_name_free(struct brigd *d, const char *name, struct brig_err *err);
/* The name of a sandbox that is handed to a client, which must be free; NULL makes one up. */
void sandbox_name(struct sandbox *sb, const char *name);
/* By id, unambiguous prefix of >= 4 characters, or name. Pooled ones are not found. */
struct sandbox *sandbox_by_id(struct brigd *d, const char *id);
int sandbox_find(struct brigd *d, const char *ref, struct sandbox **ret, struct brig_err *err);

/* The only place that writes sb->state. -1 and an error line when the table says no. */
int sandbox_go(struct sandbox *sb, enum sb_state to);

/* Ends everything in it: its commands with `cause`, then DESTROY. The record follows keep. */
void sandbox_destroy(struct sandbox *sb, enum stop_cause cause);
/* Asks another brig-jaild for what the former was asked for. */
void sandbox_destroy_again(struct sandbox *sb);
/* Drops the record of a sandbox whose kernel side is gone already. */
void sandbox_forget(struct sandbox *sb);
/* The agent, or the link to it, failed: as destroy, with the reason. */
void sandbox_fault(struct sandbox *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Its first process, hence everything in it, ended by itself: the figures tell why. */
void sandbox_lost(struct sandbox *sb, const char *what);

/* An answer of jaild that sb->jail_refs counted has come. */
void sandbox_jail_answered(struct sandbox *sb);

/* Called by a command when its client's queue grew or ran empty. */
void sandbox_pause(struct sandbox *sb);
void sandbox_resume(struct sandbox *sb);
/* Reads what the channel still holds, without waiting. */
void sandbox_drain_chan(struct sandbox *sb);
/* Sends ATTACH now: a sandbox that is made without a command must come to READY on its own. */
void sandbox_greet(struct sandbox *sb);
/* What a send on the channel returned: a failure is the agent's. */
void sandbox_sent(struct sandbox *sb, int r);
/* May a client's data be taken for this sandbox now? */
bool sandbox_has_room(const struct sandbox *sb);
/* brig-egress has applied its policy. */
void sandbox_net_applied(struct sandbox *sb);
/* It cannot become what was asked for: whoever waits for it is told, and it ends. */
void sandbox_refuse(struct sandbox *sb, const struct brig_err *err);
/* The first command started, or the last one of a detached sandbox ended. */
void sandbox_main_started(struct sandbox *sb);
void sandbox_main_ended(struct sandbox *sb, json_t *status);

/* What create answers. New reference. */
json_t *sandbox_created(const struct sandbox *sb);
/* INFO of client_proto.h; full: with what inspect adds. New reference. */
json_t *sandbox_info(const struct sandbox *sb, bool full);

static inline unsigned sandbox_start_ms(const struct sandbox *sb)
{
	return sb->spec.tier == BRIG_TIER_microvm ? GUEST_START_MS : SANDBOX_START_MS;
}

/* The name of the tier that serves it. */
static inline const char *sandbox_tier(const struct sandbox *sb)
{
	return brig_tier_name((uint32_t)sb->spec.tier);
}

#endif
