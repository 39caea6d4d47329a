/* SPDX-License-Identifier: Apache-2.0 */
/* portask.c: see portask.h. Pure: no descriptor, no sandbox. */
#include "daemon/portask.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int malformed(const char *text, struct brig_err *err)
{
	brig_err_set(err, BRIG_E_INVALID, 0, "port '%.64s' is not [ADDRESS:][HOSTPORT:]PORT[/tcp]", text);
	return brig_fix(err, "for instance 8080:80, 0:80 for any port of this host, 0.0.0.0:8080:80 for every "
			     "address of it; only TCP is published");
}

/* n characters; min 0 or 1. */
static bool number_read(const char *s, size_t n, unsigned min, uint16_t *ret)
{
	unsigned v = 0;
	if (n < 1 || n > 5)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	*ret = (uint16_t)v;
	return v >= min && v <= UINT16_MAX;
}

static bool address_read(const char *s, size_t n, uint16_t port, struct portask *ret)
{
	char text[INET6_ADDRSTRLEN];
	bool six = n >= 2 && s[0] == '[' && s[n - 1] == ']';
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	s += six;
	n -= six ? 2 : 0;
	if (n >= sizeof(text))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	if (inet_pton(six ? AF_INET6 : AF_INET, text, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
		return false;
	ret->at_len = six ? sizeof(v6) : sizeof(v4);
	memcpy(&ret->at, six ? (void *)&v6 : (void *)&v4, ret->at_len);
	return true;
}

int portask_parse(const char *text, struct portask *ret, struct brig_err *err)
{
	static const char loopback[] = "127.0.0.1";
	struct portask p = { .port = 0 };
	uint16_t host = 0;
	size_t n = strlen(text);
	if (n >= PORTASK_TEXT_MAX)
		return malformed(text, err);
	if (n > 4 && strcmp(text + n - 4, "/tcp") == 0)
		n -= 4;
	const char *colon = memrchr(text, ':', n), *before = colon ? memrchr(text, ':', (size_t)(colon - text)) : NULL;
	const char *port = colon ? colon + 1 : text, *at = before ? before + 1 : text;
	if (!number_read(port, n - (size_t)(port - text), 1, &p.port) ||
	    (colon && !number_read(at, (size_t)(colon - at), 0, &host)) ||
	    !(before ? address_read(text, (size_t)(before - text), host, &p)
		     : address_read(loopback, strlen(loopback), host, &p)))
		return malformed(text, err);
	*ret = p;
	return 0;
}

uint16_t portask_host(const struct portask *p)
{
	/* The port of both families is in one place. */
	return ntohs(((const struct sockaddr_in *)&p->at)->sin_port);
}

void portask_address(const struct portask *p, char ret[INET6_ADDRSTRLEN])
{
	bool six = p->at.ss_family == AF_INET6;
	inet_ntop(p->at.ss_family,
		  six ? (const void *)&((const struct sockaddr_in6 *)&p->at)->sin6_addr
		      : (const void *)&((const struct sockaddr_in *)&p->at)->sin_addr,
		  ret, INET6_ADDRSTRLEN);
}

void portask_text(const struct portask *p, char ret[PORTASK_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN];
	bool six = p->at.ss_family == AF_INET6;
	portask_address(p, addr);
	snprintf(ret, PORTASK_TEXT_MAX, "%s%s%s:%u:%u", six ? "[" : "", addr, six ? "]" : "", portask_host(p), p->port);
}
