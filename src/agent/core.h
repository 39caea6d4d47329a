/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.h: what the parts of the agent share: the agent itself and its open streams.
 *
 * One struct agent per process, one thread, one loop. A stream is an entry of the table plus an
 * object of the part that serves it (a command, a file operation), which embeds struct stream and
 * answers through struct stream_ops. An object that handlers or the channel may still point at is
 * not freed but buried: its memory is released between two rounds of the loop.
 */
#ifndef BRIG_AGENT_CORE_H
#define BRIG_AGENT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/chan.h"
#include "agent/child.h"
#include "agent/creds.h"
#include "agent/tcp.h"
#include "base/ev.h"
#include "base/frame.h"

struct agent;
struct exec;
struct stream;
struct sudo_service;

struct stream_ops {
	/* A frame for this stream other than those below. 0, or -EPROTO: the channel must end. */
	int (*frame)(struct stream *s, const struct frame *f);
	/* A piece of STDIN, FS_DATA or TCP_DATA; eof with the last piece of a frame that has FF_EOF. */
	int (*data)(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof);
	/* CLOSE: the object leaves the table and gives everything back. */
	void (*close)(struct stream *s);
	/* A new host attached: it has granted nothing yet. */
	void (*orphan)(struct stream *s);
	/* .. and took over: says where it stands, if it goes on. May be NULL. */
	void (*resume)(struct stream *s);
};

struct stream {
	uint32_t id;
	struct agent *agent;
	const struct stream_ops *ops;
	struct stream *next;
};

/* Embedded in what agent_bury() releases. */
struct grave {
	struct grave *next;
	void *mem;
};

/*
 * How EXEC, FS_* and TCP_CONNECT open a stream: checks the request, answers, and adds a stream if the
 * conversation goes on. 0, or -EPROTO. A table, so that a test can drive the whole protocol with
 * openers that start no process, name no file and connect to nobody.
 */
struct agent_openers {
	int (*exec)(struct agent *a, const struct frame *f);
	int (*fs)(struct agent *a, const struct frame *f);
	int (*tcp)(struct agent *a, const struct frame *f);
};
extern const struct agent_openers agent_openers;

#define STREAM_BUCKETS 64

struct agent {
	struct ev ev;
	struct chan chan;
	struct ev_io chan_io;
	const struct agent_openers *open;
	struct stream *bucket[STREAM_BUCKETS];
	uint32_t nstreams;
	bool attached;
	bool taken_over; /* the next ATTACH is that of a host that knows only our streams' numbers */
	bool is_init;	  /* pid 1: orphans are ours, and -1 is the whole sandbox */
	bool has_spawned; /* code of the tenant may be running */
	int sigfd;
	struct ev_io sig_io;
	struct child *children;
	struct exec *execs; /* commands whose main process or stream still exists */
	struct ev_timer sample;
	struct creds_self self;
	struct tcp_service tcp;
	int layer; /* the root of the writable layer, behind no path; -1 = unknown */
	int base;  /* the image below it, in the same way; -1 = unknown */
	int gate;  /* of agent_main(); -1 = open, or none */
	int (*redial)(void); /* .. */
	struct sudo_service *sudo;
	struct grave *graves;
	int end; /* -1: running; else the exit code */
};

int agent_init(struct agent *a, int chan, const struct agent_openers *open);
/* One round of the loop; waits at most max_wait_ms (-1 = no bound). */
void agent_round(struct agent *a, int max_wait_ms);
/* Kills what runs, closes every stream, releases everything but the channel's descriptor. */
void agent_done(struct agent *a);
/* Ends the loop after this round; the first code given stands. */
void agent_end(struct agent *a, int code);
/* The other end of the channel is gone: another takes its place, or this is the end. */
void agent_lost(struct agent *a);
void agent_bury(struct agent *a, struct grave *g, void *mem);

/* -EEXIST: the id is open; -EMFILE: BRIG_STREAMS_MAX are. */
int stream_check(const struct agent *a, uint32_t id);
/* After stream_check() answered 0. */
void stream_add(struct agent *a, struct stream *s, uint32_t id, const struct stream_ops *ops);
void stream_remove(struct stream *s);
struct stream *stream_find(const struct agent *a, uint32_t id);

/* The dispatcher, called by the channel for what came from the host: first the header alone, then
 * either the whole frame or, for data, its payload in pieces. 0, or -EPROTO. */
bool dispatch_is_data(uint16_t type);
/* The host is another one from here on. */
void dispatch_cut(struct agent *a);
int dispatch_header(struct agent *a, const struct brig_frame_hdr *h);
int dispatch_frame(struct agent *a, const struct frame *f);
int dispatch_data(struct agent *a, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		  bool last);

/* Adds a grant to the credit in force; -EPROTO beyond BRIG_CREDIT_MAX. */
int credit_add(uint32_t *credit, uint32_t bytes);

#endif
