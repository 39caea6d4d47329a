/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiproc.h: the HTTP half of `brig serve`: its addresses, the folder of its database, and
 * brig-api, which is started again when it dies.
 */
#ifndef BRIG_CLI_APIPROC_H
#define BRIG_CLI_APIPROC_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/apiaddr.h"
#include "cli/server.h"

#define API_ADDRS_MAX 4u
#define API_WARM_MAX 8u
#define API_ADDR_DEFAULT "127.0.0.1:7681"

struct apiproc_opts {
	struct api_addr addr[API_ADDRS_MAX];
	unsigned naddr;
	int fd[API_ADDRS_MAX]; /* listening sockets of these addresses, to be taken over */
	bool passed;	       /* whether there are such; else the addresses are to be bound */
	unsigned grace_ms;     /* for requests under way at the end */
	const char *log_level; /* NULL = the default */
	const char *domain;		/* NULL = none */
	const char *log_format;		/* text or json; NULL = text, and no line per request */
	const char *tls_cert, *tls_key; /* files; both or none */
	const char *const *warm;	/* TEMPLATE=N */
	unsigned nwarm;
	uint64_t audit_rotate, audit_keep; /* bytes, files; 0 = brig-api's default */
	const char *audit_on_full;	   /* NULL = its default */
	const char *secret_key;		   /* file; NULL = secret.key in the data folder */
};
/* Refuses what would let strangers in: an address beyond loopback without TLS. */
int apiproc_check(const struct apiproc_opts *o, struct brig_err *err);
/* Whether the files of the certificate can be used, as far as that is known without reading them. */
int apiproc_check_files(const struct apiproc_opts *o, struct brig_err *err);

#define API_READY_MAX 128
struct apiproc {
	const struct apiproc_opts *o;
	const char *data;
	char operator_path[SERVER_PATH_MAX + 16];
	int listener[API_ADDRS_MAX + 1]; /* the last one is the operator's */
	unsigned nlistener;
	int folder; /* <data>/api */
	int secret[2]; /* files with the key of secrets (secretkey.h), -1 = none */
	int door;   /* brig-api's end, for the next one, too */
	char url[API_ADDR_TEXT_MAX + 16], domain[280];
	pid_t pid; /* 0 = none */
	int pidfd, ready;
	char line[API_READY_MAX]; /* what came through `ready` so far */
	size_t nline;
	bool served;	 /* one was ready once: its death is no failure of the start */
	unsigned deaths; /* in a row, without a minute of life between */
	uint64_t started,
		again; /* again: when to start the next one, 0 = one runs or none is wanted */
};
#define APIPROC_NONE                                               \
	{                                                          \
		.folder = -1, .secret = { -1, -1 }, .door = -1,    \
		.pidfd = -1, .ready = -1                           \
	}

/* Opens sockets and folder; socket: the server's own, beside which the operator's one is put. */
int apiproc_open(struct apiproc *p, const struct apiproc_opts *o, const char *socket,
		 const char *data, struct brig_err *err);
/* A door for a new brigd: *ret_brigd is its end, to be closed once brigd has it. A former brig-api
 * must have been stopped. */
int apiproc_door(struct apiproc *p, int *ret_brigd, struct brig_err *err);
/* -1 only if none has served yet: later it is tried again. */
int apiproc_start(struct apiproc *p, struct brig_err *err);
/* What to wait for, and at most how long (-1: no bound). */
void apiproc_poll(const struct apiproc *p, struct pollfd ret[2], int *ret_ms);
/* After that wait. 1: it is another process now; 0; -1: it could not be started for the first time.
 */
int apiproc_work(struct apiproc *p, struct brig_err *err);
/* No more clients from here on: closes our copies of the sockets, so that who comes is refused and
 * does not wait for nobody. */
void apiproc_quiet(struct apiproc *p);
/* It has ended, and none will follow: brigd sees its door closed. */
void apiproc_leave(struct apiproc *p);
/* Asks it to end in order / waits for its end, kills it when the time is over. */
void apiproc_term(struct apiproc *p);
/* After apiproc_term(): waits for its end that long, and no longer. */
void apiproc_rest(struct apiproc *p, uint64_t wait_ns);
void apiproc_reap(struct apiproc *p, uint64_t wait_ns);
void apiproc_done(struct apiproc *p);

/* The operator's socket beside the server's own. 0, or -1 with err if its name is too long. */
int apiproc_operator_path(const char *socket, char ret[SERVER_PATH_MAX], struct brig_err *err);

#endif
