/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_server.h: the server whose sandboxes are attacked: the one of this user, or one of our
 * own. */
#ifndef BRIG_CLI_SELFTEST_SERVER_H
#define BRIG_CLI_SELFTEST_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct selftest_server {
	pid_t pid;    /* of our own server; 0 = somebody else's */
	char dir[40]; /* of its socket; "" = none */
	char *former; /* BRIG_SOCKET as it was; NULL = it was not set */
	bool changed; /* BRIG_SOCKET is ours */
};

/* With a running server and not `private`: that one. Else one of our own; BRIG_SOCKET then names it
 * until selftest_server_done(), which ends it and waits for that. */
int selftest_server_open(struct selftest_server *s, bool private, struct brig_err *err);
void selftest_server_done(struct selftest_server *s);

#endif
