/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One connection, one request, closed by the server. What answers is brig-api, which has fewer
 * rights than the caller (who may be root): the answer is bounded, and nothing of it is believed
 * but its JSON, of which texts are made safe before they are printed. Answers to the operator's own
 * requests always have a Content-Length; anything else is an error and not a reason for a cleverer
 * parser.
 */
#include "cli/apicall.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "cli/apiproc.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/server.h"

/* A thousand keys are some hundred kilobytes. */
#define ANSWER_MAX (4u * 1024u * 1024u)
#define WAIT_S 30
#define PART 65536u

static int dial(unsigned wait_s, struct brig_err *err)
{
	char socket_path[SERVER_PATH_MAX];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = wait_s };
	struct ucred peer;
	socklen_t n = sizeof(peer);
	if (server_socket_path(NULL, socket_path, err) < 0 ||
	    apiproc_operator_path(socket_path, addr.sun_path, err) < 0)
		return -1;
	AUTO_FD dir = server_open_dir(socket_path, false, err);
	if (dir < 0 && err->code != BRIG_E_NOT_FOUND)
		return -1;
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open a socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int sys = errno;
		if (sys == ENOENT || sys == ENOTDIR || sys == ECONNREFUSED) {
			brig_err_set(err, BRIG_E_NOT_FOUND, 0, "no server speaks HTTP");
			return brig_fix(err, "start one with `brig serve`");
		}
		return brig_fail(err, BRIG_E_UNAVAILABLE, sys, "connect to '%s'", addr.sun_path);
	}
	/* The supervisor opened it, not brig-api. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ||
	    (peer.uid != 0 && peer.uid != geteuid()))
		return brig_fail(err, BRIG_E_DENIED, 0, "'%s' belongs to another user",
				 addr.sun_path);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	return fd_steal(&fd);
}

static int put(int fd, const char *text, size_t n, struct brig_err *err)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = send(fd, text + at, n - at, MSG_NOSIGNAL);
		if (k < 0 && errno != EINTR)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "ask the server");
		at += k > 0 ? (size_t)k : 0;
	}
	return 0;
}

static int get(int fd, struct buf *answer, struct brig_err *err)
{
	for (;;) {
		uint8_t *part;
		int r = buf_reserve(answer, PART, &part);
		ssize_t k = r < 0 ? 0 : recv(fd, part, PART, 0);
		if (r < 0)
			return brig_fail(err, BRIG_E_PROTOCOL, -r,
					 "the server's answer is too long");
		if (k == 0)
			return 0;
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "wait for the server");
		buf_commit(answer, (size_t)k);
	}
}

/* The value of a header, or NULL. head ends with an empty line. */
static const char *header(const char *head, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = strstr(head, "\r\n"); p && p[2] != '\r'; p = strstr(p + 2, "\r\n"))
		if (strncasecmp(p + 2, name, n) == 0 && p[2 + n] == ':')
			return p + 2 + n + 1 + strspn(p + 2 + n + 1, " ");
	return NULL;
}

bool apicall_segment(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n <= 64 && !text[n] && text[0] != '.';
}

int api_answer_parse(char *text, size_t n, unsigned *ret_status, char **ret_body, size_t *ret_n)
{
	char *end = strstr(text, "\r\n\r\n");
	unsigned long long size = 0;
	if (strncmp(text, "HTTP/1.1 ", 9) != 0 || !end || strspn(text + 9, "0123456789") != 3)
		return -1;
	*ret_status = (unsigned)strtoul(text + 9, NULL, 10);
	*ret_body = end + 4;
	*ret_n = n - (size_t)(*ret_body - text);
	const char *length = header(text, "Content-Length");
	if (*ret_status == 204 && !length)
		return *ret_n == 0 ? 0 : -1;
	size_t digits = length ? strspn(length, "0123456789") : 0;
	if (digits < 1 || digits > 9 || length[digits] != '\r')
		return -1;
	size = strtoull(length, NULL, 10);
	return size == *ret_n ? 0 : -1;
}

/* head: with the HTTP head, for the operator's socket; brig-remote makes its own. */
static int ask_here(const char *head, const char *body, size_t n, unsigned wait_s, struct buf *answer,
		    struct brig_err *err)
{
	AUTO_FD fd = dial(wait_s, err);
	if (fd < 0 || put(fd, head, strlen(head), err) < 0 || put(fd, body, n, err) < 0)
		return -1;
	return get(fd, answer, err);
}

static int ask_elsewhere(const char *method, const char *path, const char *body, size_t n,
			 struct buf *answer, struct brig_err *err)
{
	struct server s = SERVER_NONE;
	AUTO_FD fd = remote_call(method, path, n, &s, err);
	int r = fd < 0 ? -1 : put(fd, body, n, err);
	if (r == 0)
		r = get(fd, answer, err);
	/* It ends with a word in any case; where nothing came that is the reason. */
	if (fd >= 0 && buf_len(answer) == 0)
		r = remote_lost(&s, err);
	server_done(&s);
	return r;
}

static int understand(struct buf *answer, json_t **ret, struct brig_err *err)
{
	char *body = NULL;
	size_t n = 0;
	unsigned status = 0;
	if (buf_add(answer, "", 1) < 0 ||
	    api_answer_parse((char *)buf_head(answer), buf_len(answer) - 1, &status, &body, &n) < 0)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the server gave no whole answer");
	json_t *value = n ? json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL) : json_null();
	if (status >= 200 && status < 300 && value) {
		*ret = value;
		return 0;
	}
	if (json_is_object(value))
		err_from_json(value, err);
	else
		brig_err_set(err, BRIG_E_PROTOCOL, 0, "the server answered with status %u", status);
	json_decref(value);
	return -1;
}

int api_call(const char *method, const char *path, json_t *body, json_t **ret, struct brig_err *err)
{
	return api_call_within(WAIT_S, method, path, body, ret, err);
}

int api_call_within(unsigned wait_s, const char *method, const char *path, json_t *body, json_t **ret,
		    struct brig_err *err)
{
	struct buf answer = BUF_INIT(ANSWER_MAX);
	AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	AUTO_FREE char *head = NULL;
	bool made = !body || text;
	size_t n = text ? strlen(text) : 0;
	json_decref(body);
	if (!made || asprintf(&head,
			      "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
			      method, path, n) < 0) {
		head = NULL;
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	}
	int r = remote_wanted() ? ask_elsewhere(method, path, text, n, &answer, err)
				: ask_here(head, text, n, wait_s, &answer, err);
	if (r == 0)
		r = understand(&answer, ret, err);
	/* Both may have a secret. */
	if (answer.mem)
		explicit_bzero(answer.mem, answer.cap);
	buf_done(&answer);
	if (text)
		explicit_bzero(text, n);
	return r;
}
