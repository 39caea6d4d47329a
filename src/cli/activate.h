/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activate.h: what a service manager hands over: listening sockets (sd_listen_fds(3)) and a place
 * where to say how far we are (sd_notify(3)).
 *
 * Sockets come from descriptor 3 on. LISTEN_PID says for whom they are, LISTEN_FDS how many,
 * LISTEN_FDNAMES what they are: "http" is a TCP socket for clients of the HTTP side, "brigd" the
 * unix socket of brig's own clients. A socket of another name is taken by its family. Anything that
 * is no listening stream socket of a fitting family is refused: not to listen where the operator
 * believes we do would be worse than not to start.
 */
#ifndef BRIG_CLI_ACTIVATE_H
#define BRIG_CLI_ACTIVATE_H

#include <sys/un.h>

#include "base/err.h"
#include "cli/apiaddr.h"
#include "cli/apiproc.h"
#include "cli/server.h"

struct activation {
	int http[API_ADDRS_MAX];
	unsigned nhttp;
	int socket; /* -1 = none */
	char socket_path[SERVER_PATH_MAX];
	struct sockaddr_un notify; /* sun_family 0 = nobody listens */
	socklen_t notify_len;
};

/* Takes what is there, marks it close-on-exec, and removes the variables, so that no program started
 * later believes it is meant. Descriptors are then the caller's. */
int activation_take(struct activation *ret, struct brig_err *err);
/* "READY=1", "STOPPING=1". Never waits; nobody to tell is no error. */
void activation_notify(const struct activation *a, const char *state);

#endif
