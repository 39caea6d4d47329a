/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h: a server on another machine. With BRIG_URL, or --url before the verb, every connection
 * that a verb opens is a socket pair whose other end is held by brig-remote, which does what needs
 * a network: names, TCP, TLS, the API key, the upgrade (src/remote/main.c).
 */
#ifndef BRIG_CLI_REMOTE_H
#define BRIG_CLI_REMOTE_H

#include <stdbool.h>

#include "cli/cli.h"
#include "cli/server.h"

/* Takes --url and --cacert, which stand before the verb, out of argv; they are the same as BRIG_URL
 * and BRIG_CA_FILE. 0, or an exit code after the message. */
int remote_flags(struct cli *cli, int *argc, char ***argv);
/* Whether a server elsewhere is meant. */
bool remote_wanted(void);
/* The URL, "" if none. */
const char *remote_url(void);
/* A connection to it: brig-remote has been started, no more; what it meets is told by the end of
 * the connection. */
int remote_connect(struct server *ret, struct brig_err *err);
/* The same for one HTTP request (apicall.h): its body of n bytes is to be written there, and the whole
 * HTTP answer read to the end. */
int remote_call(const char *method, const char *path, size_t n, struct server *ret,
		struct brig_err *err);
/* Why the connection ended without an answer. Always -1. */
int remote_lost(struct server *s, struct brig_err *err);
/* If a server elsewhere is meant: says that `what` works on its machine only, and returns
 * BRIG_EXIT_FAILED. Else 0. */
int remote_refuse(struct cli *cli, const char *what, const char *remedy);

/* image_remote.c: `brig image ls` and `inspect` of a server elsewhere. */
int image_remote(struct cli *cli, int argc, char **argv);

#endif
