/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl in its "connect only" mode: what it does for `curl URL` up to the point where a request
 * would be sent. A proxy is always asked for a tunnel (CONNECT): the connection will not be HTTP for
 * long. HTTP/1.1 is the only protocol offered, because an upgrade exists in no later one.
 */
#include "remote/wire.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_S 30L
#define KEEP_IDLE_S 60L
#define KEEP_EVERY_S 15L

struct wire {
	CURL *curl;
	int fd;
	int local;
	char why[CURL_ERROR_SIZE];
};

/* Called by libcurl about once a second; other than 0 ends the attempt. */
static int still_wanted(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct wire *w = ctx;
	struct pollfd p = { .fd = w->local, .events = 0 };
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static const struct {
	CURLcode code;
	enum brig_code ours;
	const char *remedy;
} reasons[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, BRIG_E_UNAVAILABLE, "check the host in BRIG_URL" },
	{ CURLE_COULDNT_RESOLVE_PROXY, BRIG_E_UNAVAILABLE,
	  "check the proxy in http_proxy, https_proxy or all_proxy" },
	{ CURLE_COULDNT_CONNECT, BRIG_E_UNAVAILABLE,
	  "check host and port in BRIG_URL, and that `brig serve` runs there" },
	{ CURLE_OPERATION_TIMEDOUT, BRIG_E_UNAVAILABLE,
	  "check host and port in BRIG_URL, and what filters lie between" },
	{ CURLE_SSL_CONNECT_ERROR, BRIG_E_UNAVAILABLE,
	  "if the server speaks HTTP without TLS, set BRIG_URL to http://" },
	{ CURLE_PEER_FAILED_VERIFICATION, BRIG_E_DENIED,
	  "name the certificate of who signed it in BRIG_CA_FILE (--cacert), and use the host that "
	  "the certificate is for" },
	{ CURLE_SSL_CACERT_BADFILE, BRIG_E_INVALID,
	  "set BRIG_CA_FILE (--cacert) to a file of PEM certificates" },
};

static int failed(const struct wire *w, CURLcode code, struct brig_err *err)
{
	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].code != code)
			continue;
		brig_err_set(err, reasons[i].ours, 0, "%s",
			     w->why[0] ? w->why : curl_easy_strerror(code));
		return brig_fix(err, "%s", reasons[i].remedy);
	}
	brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "%s",
		     w->why[0] ? w->why : curl_easy_strerror(code));
	return brig_fix(err, "check BRIG_URL, and that `brig serve` runs there");
}

#define SET(option, value) \
	(r = r == CURLE_OK ? curl_easy_setopt(w->curl, CURLOPT_##option, value) : r)

static CURLcode options(struct wire *w, const struct url *u, const char *ca_file)
{
	CURLcode r = CURLE_OK;
	SET(ERRORBUFFER, w->why);
	SET(URL, u->base);
	SET(PROTOCOLS_STR, "http,https");
	SET(CONNECT_ONLY, 1L);
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(HTTPPROXYTUNNEL, 1L);
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CONNECTTIMEOUT, CONNECT_S);
	SET(NOSIGNAL, 1L);
	SET(TCP_KEEPALIVE, 1L);
	SET(TCP_KEEPIDLE, KEEP_IDLE_S);
	SET(TCP_KEEPINTVL, KEEP_EVERY_S);
	SET(NOPROGRESS, 0L);
	SET(XFERINFOFUNCTION, still_wanted);
	SET(XFERINFODATA, w);
	if (ca_file) {
		SET(CAINFO, ca_file);
		/* Or the system's folder of certificates would be trusted besides. */
		SET(CAPATH, (char *)NULL);
	}
	return r;
}

int wire_open(const struct url *u, const char *ca_file, int local, struct wire **ret,
	      struct brig_err *err)
{
	struct wire *w = calloc(1, sizeof(*w));
	curl_socket_t fd = CURL_SOCKET_BAD;
	if (!w || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    !(w->curl = curl_easy_init())) {
		free(w);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare a connection");
	}
	w->local = local;
	CURLcode r = options(w, u, ca_file);
	if (r == CURLE_OK)
		r = curl_easy_perform(w->curl);
	if (r == CURLE_OK)
		r = curl_easy_getinfo(w->curl, CURLINFO_ACTIVESOCKET, &fd);
	if (r != CURLE_OK || fd == CURL_SOCKET_BAD) {
		(void)failed(w, r, err);
		wire_close(w);
		return -1;
	}
	w->fd = fd;
	*ret = w;
	return 0;
}

void wire_close(struct wire *w)
{
	if (!w)
		return;
	curl_easy_cleanup(w->curl);
	free(w);
}

int wire_fd(const struct wire *w)
{
	return w->fd;
}

static ssize_t moved(CURLcode r, size_t n)
{
	return r == CURLE_OK ? (ssize_t)n : r == CURLE_AGAIN ? -EAGAIN : -EIO;
}

ssize_t wire_read(struct wire *w, void *p, size_t n)
{
	size_t got = 0;
	CURLcode r = curl_easy_recv(w->curl, p, n, &got);
	return moved(r, got);
}

ssize_t wire_write(struct wire *w, const void *p, size_t n)
{
	size_t put = 0;
	CURLcode r = curl_easy_send(w->curl, p, n, &put);
	return r == CURLE_OK && put == 0 ? -EAGAIN : moved(r, put);
}
