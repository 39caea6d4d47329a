/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portask.h: one port that a request asks to be published: "[[ADDRESS:]HOSTPORT:]PORT[/tcp]". ADDRESS is
 * 127.0.0.1 unless it is said, with [..] around one of IPv6; HOSTPORT 0, or none, is any that is free.
 */
#ifndef BRIG_DAEMON_PORTASK_H
#define BRIG_DAEMON_PORTASK_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

#define PORTASK_TEXT_MAX 80u

struct portask {
	struct sockaddr_storage at; /* port 0 = any */
	socklen_t at_len;
	uint16_t port; /* inside */
};
int portask_parse(const char *text, struct portask *ret, struct brig_err *err);
/* The text of one, as portask_parse() takes it. */
void portask_text(const struct portask *p, char ret[PORTASK_TEXT_MAX]);
void portask_address(const struct portask *p, char ret[INET6_ADDRSTRLEN]);
uint16_t portask_host(const struct portask *p);

#endif
