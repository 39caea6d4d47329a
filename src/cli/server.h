/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h: where the server of this user listens, and the three ways to a connection: an existing
 * server, a private one that lives as long as this process, a background one for what outlives it.
 */
#ifndef BRIG_CLI_SERVER_H
#define BRIG_CLI_SERVER_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/err.h"
#include "cli/egressproc.h"

#define SERVER_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path))

/* The path of the socket (rule in client_proto.h). given: from --socket, or NULL. The error is for
 * a path that does not fit a socket address. */
int server_socket_path(const char *given, char ret[SERVER_PATH_MAX], struct brig_err *err);
/* Opens the folder of the socket; made (0700, or 0711 as root) if `make`. It must belong to this
 * user or root and be writable by nobody else, because whoever owns it sees every request. */
int server_open_dir(const char *socket_path, bool make, struct brig_err *err);
/* Where sandboxes, images and records are kept: $BRIG_DATA, /var/lib/brig as root, else
 * ${XDG_DATA_HOME:-$HOME/.local/share}/brig. */
int server_data_dir(const char *given, char *ret, size_t cap, struct brig_err *err);

/* A connected stream socket; -1 with err, and err->code BRIG_E_NOT_FOUND if nobody listens. The
 * peer is this user or root. */
int server_connect(struct brig_err *err);

/* A private server. */
struct server {
	pid_t brigd, jaild; /* 0 = none */
	int log;	    /* what they wrote to standard error, in memory; -1 */
	struct egressproc egress; /* of a private server whose sandbox has a network */
	bool remote;	    /* none of ours: brig-remote, whose last words are in log (remote.h) */
};
#define SERVER_NONE       \
	{                 \
		.log = -1, .egress = EGRESSPROC_NONE \
	}
/* The daemons' own entry points, if they are linked into this program: a private server is then forked
 * instead of executed. Copied; without a call, or with NULL, programs are executed. */
typedef int daemon_main(int argc, char **argv);
struct server_mains {
	daemon_main *brigd, *jaild;
};
void server_link(const struct server_mains *mains);
/* Starts brig-jaild and brigd, which serve the returned descriptor and end when it is closed.
 * Returns as soon as both are on their way; requests may be written at once. net: its sandbox has a
 * network; then brig-egress is started, too, which waits until brig-jaild has made a gateway. tier: of that
 * sandbox, as its request has it; brig-jaild looks for no other. NULL: container. */
int server_start_private(struct server *ret, bool net, const char *tier, struct brig_err *err);
/* The two programs that make a server, each with its end of the link between them, which stays the caller's. client and
 * listen: the one to be served, the other -1. log becomes their standard error. */
struct server_daemons {
	const char *data;
	const char *const *extra; /* further arguments of brigd; NULL-terminated; NULL = none */
	const char *tier; /* of a private server */
	const char *guest_kernel; /* of microVMs; NULL: BRIG_GUEST_KERNEL, or the newest of /boot */
	int client, listen, log;
	int door; /* brigd's end of the door to brig-api; -1 */
	/* Of a resident server, whose sandboxes outlive its daemons; else -1: jaild's end of the socket of
	 * keep_proto.h, brigd's end of the one over which it gets the link to the next jaild, and the file in
	 * memory that goes from one brigd to the next. */
	int control, rejoin, ledger;
	bool resume; /* jaild takes over what a former one left */
	int egress, net; /* brigd's and brig-jaild's ends of brig-egress's sockets; -1: no networks */
};
int server_start_jaild(const struct server_daemons *d, int link, struct server *ret, struct brig_err *err);
int server_start_brigd(const struct server_daemons *d, int link, struct server *ret, struct brig_err *err);
/* After the connection of a private server was lost, or one of its halves failed, and the
 * connection is closed: waits a moment for its processes and removes what they left. Nothing
 * without one. */
void server_post_mortem(struct server *s);
/* The line of its log that is the reason, as far as there is one: the first of brig-jaild's side, which
 * fails before brigd notices, else the last of brigd. 0 if it said nothing. */
struct server_words {
	char line[300], remedy[256]; /* remedy "" = none was given */
};
int server_last_words(const struct server *s, struct server_words *ret);
void server_done(struct server *s);

/* Makes sure that a background server listens (starting `brig serve` if none does) and connects. */
int server_connect_background(struct brig_err *err);

#endif
