/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs once, before the first descriptor is opened: the numbers from 3 on are then still what the
 * service manager says they are. Every socket is asked what it is, because a wrong unit file hands
 * over sockets of any kind, and one unix socket of the HTTP side would be an open door: brig-api
 * takes requests on a unix socket for the operator's, who needs no key.
 */
#include "cli/activate.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"

#define FIRST_FD 3
#define FDS_MAX (API_ADDRS_MAX + 1u)

/* A positive whole number, 0 if the variable is none. */
static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);
	uint64_t v = 0;
	return text && size_parse_count(text, &v) == 0 ? v : 0;
}

/* The family of a listening stream socket. */
static int family_of(int fd, const char *name, int *ret, struct brig_err *err)
{
	int type = 0, listening = 0;
	socklen_t n = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_STREAM ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, ret, &n) < 0) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "descriptor %d ('%.64s') of the service manager is no listening stream "
			     "socket",
			     fd, name);
		return brig_fix(err, "use ListenStream= and Accept=no in the socket unit");
	}
	return 0;
}

static int take_http(struct activation *a, int fd, struct brig_err *err)
{
	if (a->nhttp == API_ADDRS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u sockets for HTTP",
				 API_ADDRS_MAX);
	a->http[a->nhttp++] = fd;
	return 0;
}

static int take_unix(struct activation *a, int fd, const char *name, struct brig_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNSPEC };
	socklen_t n = sizeof(addr);
	if (a->socket >= 0)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "more than one unix socket for brig's own clients");
	if (getsockname(fd, (struct sockaddr *)&addr, &n) < 0 || addr.sun_path[0] != '/' ||
	    strnlen(addr.sun_path, sizeof(addr.sun_path)) == sizeof(addr.sun_path)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "the unix socket '%.64s' has no path", name);
		return brig_fix(err, "name it by an absolute path in ListenStream=");
	}
	a->socket = fd;
	strcpy(a->socket_path, addr.sun_path);
	return 0;
}

static int take(struct activation *a, int fd, const char *name, struct brig_err *err)
{
	int family = AF_UNSPEC;
	if (family_of(fd, name, &family, err) < 0)
		return -1;
	bool inet = family == AF_INET || family == AF_INET6;
	if (strcmp(name, "http") == 0 && !inet) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "the socket 'http' of the service manager is no TCP socket");
		return brig_fix(err, "give ListenStream= an address and a port; the unix socket of "
				     "brig's own clients is named 'brigd'");
	}
	if (strcmp(name, "brigd") == 0 && family != AF_UNIX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the socket 'brigd' of the service manager is no unix socket");
	if (inet)
		return take_http(a, fd, err);
	if (family == AF_UNIX)
		return take_unix(a, fd, name, err);
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "the socket '%.64s' of the service manager is of a family that brig does "
			 "not speak",
			 name);
}

static int sockets_take(struct activation *a, struct brig_err *err)
{
	const char *names = getenv("LISTEN_FDNAMES");
	uint64_t n = number_of("LISTEN_FDS");
	if (number_of("LISTEN_PID") != (uint64_t)getpid() || n == 0)
		return 0;
	if (n > FDS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the service manager hands over %llu sockets, and brig takes %u",
				 (unsigned long long)n, FDS_MAX);
	for (unsigned i = 0; i < n; i++) {
		char name[65] = "";
		int fd = FIRST_FD + (int)i, r = fd_set_cloexec(fd, 1);
		size_t len = names ? strcspn(names, ":") : 0;
		if (names) {
			snprintf(name, sizeof(name), "%.*s", (int)(len < 64 ? len : 64), names);
			names = names[len] ? names + len + 1 : NULL;
		}
		if (r < 0)
			return brig_fail(err, BRIG_E_INVALID, -r,
					 "take descriptor %d of the service manager", fd);
		if (take(a, fd, name, err) < 0)
			return -1;
	}
	return 0;
}

/* A path, or '@' and an abstract name. */
static void notify_find(struct activation *a)
{
	const char *where = getenv("NOTIFY_SOCKET");
	size_t n = where ? strlen(where) : 0;
	if (n < 2 || n >= sizeof(a->notify.sun_path) || (where[0] != '/' && where[0] != '@'))
		return;
	a->notify.sun_family = AF_UNIX;
	memcpy(a->notify.sun_path, where, n);
	if (where[0] == '@')
		a->notify.sun_path[0] = '\0';
	a->notify_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

int activation_take(struct activation *ret, struct brig_err *err)
{
	static const char *const variables[] = { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
						 "NOTIFY_SOCKET" };
	*ret = (struct activation){ .socket = -1 };
	notify_find(ret);
	int r = sockets_take(ret, err);
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
	return r;
}

void activation_notify(const struct activation *a, const char *state)
{
	if (a->notify.sun_family != AF_UNIX)
		return;
	AUTO_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	ssize_t ignored = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
				 (const struct sockaddr *)&a->notify, a->notify_len);
	(void)ignored;
}
