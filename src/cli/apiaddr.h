/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiaddr.h: the addresses on which a server speaks HTTP, as they are written on the command line:
 * "127.0.0.1:7681", "[::1]:7681", "localhost:7681", or a port alone for 127.0.0.1. Port 0 is any
 * free one. No name is resolved: what a server listens on must not depend on a resolver.
 */
#ifndef BRIG_CLI_APIADDR_H
#define BRIG_CLI_APIADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"

struct api_addr {
	struct sockaddr_storage sa;
	socklen_t len;
	bool loopback; /* reachable from this machine only */
};

int api_addr_parse(const char *text, struct api_addr *ret, struct brig_err *err);
/* A listening socket, or -1 with err. */
int api_addr_listen(const struct api_addr *a, struct brig_err *err);
/* Where a TCP socket that somebody else opened listens. 0, or -errno. */
int api_addr_of(int fd, struct api_addr *ret);
/* "127.0.0.1:7681", "[::1]:7681" of a listening socket, and the port alone. */
#define API_ADDR_TEXT_MAX 64
int api_addr_text(int fd, char ret[API_ADDR_TEXT_MAX], unsigned *ret_port);

#endif
