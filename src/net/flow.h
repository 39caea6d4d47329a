/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h: one connection of a sandbox through the gateway.
 *
 * `out` is what the sandbox sends, and the state of that direction says how much of it may pass.
 * The other direction is never looked into, except for the answer to an Upgrade.
 *
 *   OUT_LOOK    nothing passes: the beginning is collected until it says what it is
 *   OUT_HEAD    nothing passes: the head of the next HTTP request is collected
 *   OUT_LENGTH  `left` bytes of a body pass
 *   OUT_CHUNKS  a chunked body passes as far as it has been read
 *   OUT_ANSWER  nothing passes: an Upgrade waits for its answer
 *   OUT_FREE    everything passes
 *
 * `up` is the connection to the destination; it may be open while OUT_LOOK still holds everything
 * back, so that a server that speaks first is heard. FLOW_REFUSED: the last words are being sent.
 */
#ifndef BRIG_NET_FLOW_H
#define BRIG_NET_FLOW_H

#include "net/gw.h"
#include "net/head.h"
#include "net/hello.h"

struct pump {
	int pipe[2];
	size_t held; /* in the pipe */
	bool eof;    /* nothing more comes */
	bool shut;   /* and the other side knows */
	bool moved;
};

enum flow_up { UP_NONE, UP_RESOLVING, UP_CONNECTING, UP_OPEN };
enum flow_out { OUT_LOOK, OUT_HEAD, OUT_LENGTH, OUT_CHUNKS, OUT_ANSWER, OUT_FREE };
/* Why it may pass: what a change of the policy judges again. */
enum flow_by { BY_NOTHING, BY_ADDRESS, BY_NAME, BY_PIN };

struct flow {
	struct gw *gw;
	struct net_lease *l;
	struct flow *next, **pprev;
	int cfd, ufd;
	struct ev_io cio, uio;
	uint32_t cev, uev; /* as registered */
	struct ev_timer timer;
	enum flow_up up;
	enum flow_out out;
	enum flow_by by;
	bool refused, over, paused, drained;
	bool http, tls, connect,
		said; /* said: a name or an address was said, and is in `name` or `dst` */
	bool by_rule; /* BY_ADDRESS: a rule says so, not the mode */
	bool charged; /* as one request, where requests are not seen */
	uint16_t port, source_port;
	struct net_addr dst;	 /* where the sandbox wanted to go */
	struct net_addr to;	 /* where `up` goes */
	char name[NET_NAME_MAX]; /* "" = none */
	char via[NET_NAME_MAX];	 /* the target of CONNECT or absolute-form, "" = none */
	struct net_dest *dest;
	/* What came and has not passed; `ok` bytes of it may. */
	uint8_t *buf;
	size_t cap, len, ok;
	uint64_t left;
	struct head_chunks chunks;
	/* What the gateway says itself. */
	char *reply;
	size_t reply_len, reply_sent;
	struct pump to_up, to_client;
	struct name_wait wait;
	struct net_addr tries[2 * DNS_ADDRS_MAX];
	unsigned ntries, try;
	bool other_family;	    /* has been asked for, too */
	uint64_t born, last, tried; /* ns; last: when something passed */
};

/* Judges every connection again; returns how many were cut. */
uint64_t flows_judge(struct net_lease *l);
void flows_cut(struct net_lease *l);
/* What waited for bandwidth goes on. */
void flows_resume(struct net_lease *l);

/* Of one connection that came by some listener of a sandbox; takes over fd. */
void flow_new(struct net_lease *l, int fd, const struct net_addr *dst, uint16_t port,
	      uint16_t source_port);

/* ---- between flow*.c ---- */
/* One request, where a budget allows it. False: f was refused. */
bool flow_charge(struct flow *f);
/* f may send everything from now on. */
void flow_free(struct flow *f);
/* Arms the timer for what f waits for now. */
void flow_arm(struct flow *f);
void flow_up_close(struct flow *f);
bool flow_granted(struct flow *f, const char *name, const struct net_addr *a,
		  enum net_protect *ret);
void flow_close(struct flow *f, bool reset);
/* Everything that can be done now; f may be over afterwards. */
void flow_step(struct flow *f);
/* At the accept: what the address alone decides. */
void flow_first(struct flow *f);
/* Decides what can be decided; called whenever more of the beginning, or of the next head, has
 * come. True: something changed; false: more bytes are needed. */
bool flow_look(struct flow *f, bool eof);
bool flow_head(struct flow *f, bool eof);
/* Opens the way to f->name, or (BY_ADDRESS, BY_PIN) to f->dst. */
void flow_go_name(struct flow *f);
void flow_go_addr(struct flow *f);
void flow_connected(struct flow *f);
void flow_connect_next(struct flow *f, const char *why);
/* The first line of an answer is waited for as a whole. */
void flow_answer_wait(struct flow *f);
/* The way of a CONNECT is open. */
void flow_opened(struct flow *f);
/* Whether what f was allowed by still allows it. */
bool flow_still(struct flow *f);
/* Tells, and refuses in the words of the protocol. */
void flow_refuse(struct flow *f, struct denial *d);
void flow_refuse_as(struct flow *f, enum egress_reason r);
/* .. for a verdict about f->name, or, without one, about the address. */
void flow_refuse_verdict(struct flow *f, const struct net_verdict *v);
/* The destination does not answer. */
void flow_fail(struct flow *f, const char *why);

/* ---- flow_move.c ---- */
/* What each direction waits for: the client and `up`, to be read or written. */
struct flow_wants {
	bool cr, cw, ur, uw;
};
void flow_out_run(struct flow *f, struct flow_wants *w);
void flow_in_run(struct flow *f, struct flow_wants *w);
void flow_last_words(struct flow *f, struct flow_wants *w);
/* The sandbox's end is gone; where it tried what it may not, that is told. */
void flow_client_lost(struct flow *f);

/* ---- pump.c ---- */
enum pump_result { PUMP_WAIT_READ, PUMP_WAIT_WRITE, PUMP_END, PUMP_BROKEN, PUMP_LIMIT };
/* Moves at most *limit bytes, and lowers it by what was taken in. */
enum pump_result pump_run(struct gw *g, struct pump *p, int from, int to, uint64_t *limit);
void pump_done(struct gw *g, struct pump *p);
void pumps_done(struct gw *g);

#endif
