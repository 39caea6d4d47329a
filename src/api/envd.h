/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envd.h: one request to port 49983 of a box, which the clients of E2B take for a daemon inside.
 *
 * A call is made by the router, may wait until its box runs, and is handed to the function of its
 * method. From then on the method owns `priv` and the hooks. `killed` comes when the box dies: the
 * method lets go of whatever belongs to the box; the connection is cut behind it. `gone` is the
 * last.
 */
#ifndef BRIG_API_ENVD_H
#define BRIG_API_ENVD_H

#include "api/api.h"
#include "api/boxfs.h"
#include "api/connect.h"

struct envd_call;

/* One RPC. run gets the message, borrowed (c->msg). With body, the client's side is a stream, too:
 * run gets no message, the body comes in pieces from then on, and ready behind the last. */
struct envd_method {
	const char *path;
	bool stream;
	void (*run)(struct envd_call *c);
	void (*body)(struct envd_call *c, const void *p, size_t n);
	void (*ready)(struct envd_call *c);
};
/* Tables end with a row without path. */
extern const struct envd_method envd_process_methods[], envd_input_methods[], envd_fs_methods[],
	envd_watch_methods[];

struct envd_call {
	struct box *b;
	struct http_req *r;
	const struct envd_method *m; /* NULL: a plain route */
	struct box_user box_user;
	bool used;
	struct box_waker *waker;
	char user[ENVD_USER_MAX];
	json_t *msg;
	uint64_t timeout_ms; /* of the whole call, 0 = none */
	unsigned keepalive_s;
	struct ev_timer deadline, keepalive;

	void *priv;
	void (*gone)(struct envd_call *c);
	void (*killed)(struct envd_call *c);
	void (*drained)(struct envd_call *c);
	/* Its time is up; NULL: the call fails with deadline_exceeded. */
	void (*expired)(struct envd_call *c);
	/* A sign of life of a stream; NULL: none is sent. */
	void (*ping)(struct envd_call *c);

	/* Most methods need files: one use, one request at a time. */
	struct boxfs_use fs;
	struct boxfs_req q;
	void (*with_fs)(struct envd_call *c);
};

/* The plain routes. Each is called when its box runs; body pieces come to files_post_body(). */
void envd_files_get(struct envd_call *c);
void envd_files_post(struct envd_call *c);
void envd_files_post_body(struct envd_call *c, const void *p, size_t n);
void envd_files_post_ready(struct envd_call *c);
/* X-Access-Token, or a signature, in the order of E2B's checks. NULL, or why it is refused. */
const char *envd_files_auth(const struct box *b, const struct http_req *r);

/* Opens c->fs as c->user, then calls fn; fails the call where that is not possible. */
void envd_with_fs(struct envd_call *c, void (*fn)(struct envd_call *c));
/* A request on c->fs; fails the call if it cannot be opened. -1: it failed. */
int envd_request(struct envd_call *c, uint16_t type, const struct brig_fs_req *h, const char *path,
		 const char *second, const struct boxfs_ops *ops);
/* The path that the client means by `asked`; -1: the call has failed. */
int envd_call_path(struct envd_call *c, const char *asked, char ret[PATH_MAX]);

/* In the shape of the call: unary, stream or plain. */
void envd_fail(struct envd_call *c, enum connect_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A stream's end without an error. */
void envd_end(struct envd_call *c);
/* A stream has said something: the next sign of life is due later. */
void envd_alive(struct envd_call *c);

/* Sandboxes that do not run, to any client of the data plane. */
void plane_dead(struct http_req *r, const char *id);

/* envd_process.c, envd_watch.c: the box ends. */
void envd_process_box_done(struct box *b);
void envd_watch_box_done(struct box *b);

#endif
