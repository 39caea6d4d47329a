/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/apiaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/size.h"

static bool is_loopback(const struct sockaddr_storage *sa)
{
	if (sa->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(a);
}

/* host: without brackets. */
static int fill(const char *host, bool six, unsigned port, struct api_addr *a)
{
	if (six) {
		struct sockaddr_in6 *in = (void *)&a->sa;
		in->sin6_family = AF_INET6;
		in->sin6_port = htons((uint16_t)port);
		a->len = sizeof(*in);
		/* ::ffff:1.2.3.4 would be an IPv4 address that looks like no loopback and may be
		 * one. */
		return inet_pton(AF_INET6, host, &in->sin6_addr) == 1 &&
				       !IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)
			       ? 0
			       : -1;
	}
	struct sockaddr_in *in = (void *)&a->sa;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	a->len = sizeof(*in);
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? 0 : -1;
}

int api_addr_parse(const char *text, struct api_addr *ret, struct brig_err *err)
{
	char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
	const char *colon = strrchr(text, ':');
	bool six = text[0] == '[';
	uint64_t port = 0;
	size_t n = colon ? (size_t)(colon - text) : 0;
	bool ok = n < sizeof(host) && (!colon || n > 0) &&
		  size_parse_count(colon ? colon + 1 : text, &port) == 0 && port <= 65535;
	if (ok && six)
		ok = n > 2 && text[n - 1] == ']';
	*ret = (struct api_addr){ .len = 0 };
	if (ok && colon) {
		memcpy(host, text + six, n - 2 * six);
		host[n - 2 * six] = '\0';
	}
	if (ok && fill(host, six, (unsigned)port, ret) == 0) {
		ret->loopback = is_loopback(&ret->sa);
		return 0;
	}
	brig_err_set(err, BRIG_E_INVALID, 0, "'%.80s' is no address and port", text);
	return brig_fix(err, "write it as 127.0.0.1:7681 or [::1]:7681; names are not resolved");
}

int api_addr_listen(const struct api_addr *a, struct brig_err *err)
{
	int on = 1;
	AUTO_FD fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open a socket for HTTP");
	/* Connections of a former server that linger do not hold the port. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* [::] means IPv6: what else is listened on is named. */
	if (a->sa.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0)
		return brig_fail(err, errno == EADDRINUSE ? BRIG_E_EXISTS : BRIG_E_UNAVAILABLE,
				 errno, "take the address for HTTP");
	if (listen(fd, SOMAXCONN) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "listen for HTTP");
	return fd_steal(&fd);
}

int api_addr_of(int fd, struct api_addr *ret)
{
	*ret = (struct api_addr){ .len = sizeof(ret->sa) };
	if (getsockname(fd, (struct sockaddr *)&ret->sa, &ret->len) < 0)
		return -errno;
	if (ret->sa.ss_family != AF_INET && ret->sa.ss_family != AF_INET6)
		return -EAFNOSUPPORT;
	ret->loopback = is_loopback(&ret->sa);
	return 0;
}

int api_addr_text(int fd, char ret[API_ADDR_TEXT_MAX], unsigned *ret_port)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN];
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	const struct sockaddr_in *four = (const void *)&sa;
	const struct sockaddr_in6 *six = (const void *)&sa;
	bool is_six = sa.ss_family == AF_INET6;
	*ret_port = ntohs(is_six ? six->sin6_port : four->sin_port);
	if (!inet_ntop(sa.ss_family,
		       is_six ? (const void *)&six->sin6_addr : (const void *)&four->sin_addr, host,
		       sizeof(host)))
		return -errno;
	snprintf(ret, API_ADDR_TEXT_MAX, is_six ? "[%s]:%u" : "%s:%u", host, *ret_port);
	return 0;
}
