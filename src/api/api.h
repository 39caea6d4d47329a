/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h: what the parts of brig-api share: the process's one object, the record of a sandbox as API
 * clients see it, and how errors are told.
 *
 * Theory of operation
 * -------------------
 * brig-api is the process that speaks HTTP. It has a user id of its own, no capability, a system call
 * filter, and no descriptor but its listening sockets, its data folder and the door to brigd (link.h).
 * It is a client of brigd like any other: brigd owns the sandboxes and their limits, brig-api owns keys,
 * tokens, end times and metadata (store.h, SQLite). HTTP parsing is kept out of brigd so that brigd
 * stays a small static program, and so that an error in it ends no sandbox.
 *
 * Routing of a request (main router, route.c):
 *   1. E2b-Sandbox-Id + E2b-Sandbox-Port headers (Host localhost, IP literal or sandbox.<domain>), or a
 *      Host whose first label is <port>-<id>: the data plane of that sandbox.
 *        49983: envd (envd.c: process, filesystem, files)   49999: code interpreter (interp.c)
 *        else: port proxy (proxy.c)
 *   2. /files with signature=: the sandbox whose token matches.
 *   3. otherwise the control plane: /v1/... is brig's own API, the rest is E2B's.
 */
#ifndef BRIG_API_API_H
#define BRIG_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "api/http.h"
#include "api/link.h"
#include "audit/log.h"
#include "base/err.h"
#include "base/ev.h"
#include "brig/ids.h"
#include "daemon/log.h"

struct store;
struct interp; /* code interpreter state of one box (interp.c) */
struct proc;   /* a command known to envd (envd_process.c) */
struct box_watcher;
struct boxfs; /* a connection to the files of a box (boxfs.c) */
struct box_waker;
struct metrics; /* samples of all boxes (metrics.c) */
struct warm;
struct events; /* what happened to sandboxes (events.h) */
struct auditor; /* audit.h */
struct tenant;
struct remote;
struct secrets; /* secrets.h */
struct runs;	/* requests with an Idempotency-Key under way (idem.c) */

/* Four addresses and the operator's socket. */
#define API_HTTP_MAX 5u
#define API_KEY_MAX 96u

#define API_ENVD_PORT 49983u
#define API_INTERP_PORT 49999u
#define API_ENVD_VERSION "0.6.13"
#define API_BOXES_MAX 4096u
#define API_ID_BUCKETS 512u

enum box_state { BOX_RUNNING, BOX_PAUSING, BOX_PAUSED, BOX_RESUMING, BOX_DEAD };

/* Something that must be told when a box dies: an open stream breaks its connection there. */
struct box_user {
	LIST_ENTRY(box_user) link;
	/* The box is BOX_DEAD already. Must remove itself. */
	void (*killed)(struct box_user *u);
};

/* A sandbox that was created through the API. Referenced by pointer while it is in the table; a request
 * that outlives a callback keeps a reference. */
struct box {
	struct api *api;
	LIST_ENTRY(box) all, id_link;
	unsigned refs;
	char id[BRIG_ID_LEN + 8]; /* brigd's id of the sandbox, [a-z0-9]{16} */
	char tenant[40];
	enum box_state state;
	char template_id[192], alias[192];
	char image[160]; /* digest of what it was made from, or "host" */
	char image_name[160];	/* of the image, when it was made */
	char tier[16];
	char token[48];		/* envdAccessToken; "" = none */
	char traffic_token[48]; /* "" = ports are public */
	char user[64], home[256]; /* default user of commands and its home */
	json_t *metadata;	/* object of strings */
	json_t *envs;		/* object of strings: sandbox-wide, for every command */
	json_t *limits;		/* as it asked for them, SPEC of client_proto.h */
	json_t *network;	/* NetworkConfig as given, or NULL */
	int allow_internet;	/* -1 not said, 0, 1 */
	int64_t started_ms, end_ms; /* wall clock, ms since 1970; end_ms 0 = never */
	int64_t timeout_ms;	    /* as it was asked for last: what a resume by traffic gets */
	bool pause_on_timeout, auto_resume;
	uint32_t cpu_milli;
	uint64_t memory_bytes, disk_bytes;
	/* Made by a command line over the network (remote.h): its name there; "" = another. Such a one
	 * stays when its command has ended (stopped), for its output, until it is removed. */
	char name[72];
	bool stopped;	/* not kept in the store: it is learnt again */
	bool transient; /* ends with the connection of its client: never in the store */
	struct charge *charge; /* quota.h; NULL: none */
	struct ev_timer end_timer;
	LIST_HEAD(box_waker_list, box_waker) wakers; /* who waits for a change of state (box_state.c) */
	struct link_op *op;	       /* the pause or resume under way */
	struct metric_ring *ring;      /* metrics.c; NULL until the first sample */
	LIST_HEAD(box_user_list, box_user) users;
	LIST_HEAD(proc_list, proc) procs; /* envd_process.c */
	uint32_t nprocs;
	LIST_HEAD(box_watcher_list, box_watcher) watchers; /* envd_watch.c: CreateWatcher */
	LIST_HEAD(boxfs_list, boxfs) boxfs;	   /* boxfs.c */
	struct interp *interp;	 /* made at first use */
	int64_t last_used_ms;
	bool announced;		  /* its creation was told as an event: its end will be, too */
	char asked[HTTP_ID_MAX]; /* request that asked for the change under way; "" = none did */
};

struct api {
	struct ev ev;
	struct link *link;
	struct log log;
	struct http *http[API_HTTP_MAX];
	unsigned nhttp;
	struct store *store;
	LIST_HEAD(tenant_list, tenant) tenants; /* tenant.h */
	unsigned ntenants;
	LIST_HEAD(box_list, box) all, by_id[API_ID_BUCKETS];
	unsigned nboxes;
	struct metrics *metrics;
	struct runs *runs;
	unsigned nwarming; /* kernels that import ahead (interp.c) */
	struct secrets *secrets;
	struct volumes *volumes;
	struct auditor *audit; /* NULL: nothing is recorded (tests) */
	LIST_HEAD(remote_list, remote) remotes; /* command lines over the network (remote.c) */
	unsigned nremotes;
	struct warm *warm; /* pools of prepared interpreters (warm.h); NULL = none */
	unsigned norphans; /* sandboxes of pools that ended while brigd made them (warm.c) */
	char domain[256]; /* of <port>-<id>.<domain>, with :port if not 443; "" = single URL */
	char base_url[300];
	int secret_fd[2]; /* secrets.h */
	struct audit_log_opts audit_opts;
	bool audit_goes_on; /* when its log cannot be written */
	int data_fd; /* folder of brig-api's own files */
	/* The key that api_init() made because there was none; told once through --ready-fd, then wiped. */
	char first_key[API_KEY_MAX];
	struct events *events;
	bool log_requests;	/* each of them, not only those that failed by our fault */
	uint64_t log_dropped; /* lines, since the last that was written */
	struct brig_err probed; /* the last test of the database, and when it was (ready.c) */
	uint64_t probed_ns;
	bool ending;		/* asked to end: nothing new is begun */
	bool quit;
	int exit_code;
};

/* ---- life (start.c, called by main.c) ---- */
/*
 * Opens what is kept in data_fd, reads the boxes back and asks brigd (a->link, greeted already) which of
 * them live; ready is called once, from the loop. Nobody is listened to before. a has ev, link, log,
 * domain, base_url and data_fd. The process has its final user id, and after this call no system call
 * beyond api.seccomp.
 */
typedef void (*api_ready)(struct api *a, const struct brig_err *err);
int api_init(struct api *a, api_ready ready, struct brig_err *err);
/* All listeners are closed. Frees; nothing outside changes. */
void api_done(struct api *a);
/* The router of all listeners (route.c): an http_router whose ctx is struct api. */
const struct http_handler *api_route(void *ctx, struct http_req *r, void **ret_ctx);

/* ---- boxes (box.c) ---- */
struct box *box_find(struct api *a, const char *id); /* dead ones are not found */
struct box *box_ref(struct box *b);
void box_unref(struct box *b);
void box_use(struct box *b, struct box_user *u); /* adds to users; caller owns u */
void box_unuse(struct box_user *u);
/* Marks it dead, breaks what uses it, removes it from brigd and store. why: for the event, one word
 * such as "timeout"; evidence (stolen, may be NULL): what shows it. */
void box_kill(struct box *b, const char *why, json_t *evidence);
/* Calls done(ctx, NULL) when the box runs: at once if it does, after a resume if it is paused and resumes on
 * traffic (forced: in any case); else done(ctx, err). NULL: done was called. Never calls back after
 * box_wake_cancel. */
typedef void (*box_woken)(void *ctx, const struct brig_err *err);
struct box_waker *box_wake(struct box *b, bool forced, box_woken done, void *ctx);
void box_wake_cancel(struct box_waker *w);

/* ---- errors (fault.c) ---- */
/* HTTP status of a code. */
unsigned api_status(enum brig_code code);
/* The code whose status it is, for errors that are known by their status alone. */
enum brig_code api_code(unsigned status);
/* What to do about err: its own remedy, or its code's. Never empty. */
const char *api_remedy(const struct brig_err *err);
/* brig's own routes: {"code","message","cause","remediation","details","retryable","request_id"}. */
void api_fail(struct http_req *r, const struct brig_err *err);
/* The same with a status that no code has (401, 405, 413). */
void api_fail_as(struct http_req *r, unsigned status, const struct brig_err *err);
/* .. and with `details` (stolen). */
void api_fail_details(struct http_req *r, unsigned status, const struct brig_err *err,
		      json_t *details);
/* As E2B's proxy in front of a sandbox answers; port 0: it is not about one. */
void api_fail_box(struct http_req *r, unsigned status, const char *id, unsigned port,
		  const char *message);
/* E2B routes: the same with integer `code` = status. status 0: from the code. */
void api_fail_e2b(struct http_req *r, unsigned status, const struct brig_err *err);
void api_fail_e2b_text(struct http_req *r, unsigned status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same on an E2B route. "retry_after" of the details, seconds, is also the header. */
void api_fail_e2b_details(struct http_req *r, unsigned status, const struct brig_err *err,
			  json_t *details);
/* The object that api_fail() answers with; NULL: out of memory. */
json_t *api_err_json(const struct brig_err *err, const char *request_id);
/* brigd's error object (client_proto.h) as a brig_err. */
void api_err_from(json_t *error, struct brig_err *ret);

/* ---- data plane entry points: each returns a handler, as http_router. b is live, referenced by the
 * caller until gone of the handler (the handler unrefs in gone). ---- */
const struct http_handler *envd_route(struct box *b, struct http_req *r, void **ret_ctx);
const struct http_handler *interp_route(struct box *b, struct http_req *r, void **ret_ctx);
const struct http_handler *proxy_route(struct box *b, unsigned port, struct http_req *r, void **ret_ctx);
/* Whether there is such a route, which the description of all routes must match. */
bool envd_serves(const char *method, const char *path);
bool interp_serves(const char *method, const char *path);
/* The box ends: free what the part keeps for it. */
void envd_box_done(struct box *b);
void interp_box_done(struct box *b);

#endif
