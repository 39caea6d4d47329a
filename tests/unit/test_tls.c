/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over TLS: what is spoken, bytes both ways, ends, and clients that mean no good. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_conn.h"
#include "api/tls_conn.h"
#include "base/clock.h"
#include "http_driver.h"
#include "tls_pem.h"

struct client {
	int fd;
	SSL *ssl;
};

static SSL_CTX *ctx;
static struct buf raw = BUF_INIT(REPLY_MAX);

static const struct tls *server(void)
{
	return drv->h->tls;
}

static bool nobody_left(void)
{
	return server()->nopen == 0 && server()->nunserved == 0 && http_requests(drv->h) == 0;
}

/* What a call of the library that did not work means: true, it wants to wait. */
static bool wants(struct client *c, int r)
{
	int e = SSL_get_error(c->ssl, r);
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static void tls_start(struct client *c)
{
	c->fd = client_open();
	c->ssl = SSL_new(ctx);
	assert_non_null(c->ssl);
	assert_int_equal(SSL_set_fd(c->ssl, c->fd), 1);
	SSL_set_connect_state(c->ssl);
}

/* 1, or what SSL_connect() returned last. */
static int tls_shake(struct client *c)
{
	uint64_t deadline = driver_deadline();
	int r;
	ERR_clear_error();
	while ((r = SSL_connect(c->ssl)) != 1 && wants(c, r))
		driver_wait(deadline, "handshake", __FILE__, __LINE__);
	return r;
}

static void tls_client(struct client *c)
{
	tls_start(c);
	assert_int_equal(tls_shake(c), 1);
}

static void tls_send(struct client *c, const void *p, size_t n)
{
	uint64_t deadline = driver_deadline();
	while (n) {
		ERR_clear_error();
		int k = SSL_write(c->ssl, p, n > 1 << 20 ? 1 << 20 : (int)n);
		if (k > 0) {
			p = (const char *)p + k;
			n -= (size_t)k;
			continue;
		}
		assert_true(wants(c, k));
		driver_wait(deadline, "room for more", __FILE__, __LINE__);
	}
}

static void tls_text(struct client *c, const char *text)
{
	tls_send(c, text, strlen(text));
}

/* Into raw: bytes, 0 at an orderly end, -EAGAIN, -ECONNRESET for any other end. */
static ssize_t tls_pull(struct client *c)
{
	uint8_t *at;
	assert_int_equal(buf_reserve(&raw, 65536, &at), 0);
	ERR_clear_error();
	int n = SSL_read(c->ssl, at, 65536);
	buf_commit(&raw, n > 0 ? (size_t)n : 0);
	if (n > 0)
		return n;
	if (wants(c, n))
		return -EAGAIN;
	return SSL_get_error(c->ssl, n) == SSL_ERROR_ZERO_RETURN ? 0 : -ECONNRESET;
}

/* Until raw has n bytes. */
static void tls_need(struct client *c, size_t n)
{
	uint64_t deadline = driver_deadline();
	while (buf_len(&raw) < n) {
		ssize_t k = tls_pull(c);
		assert_true(k > 0 || k == -EAGAIN);
		if (k < 0)
			driver_wait(deadline, "more", __FILE__, __LINE__);
	}
}

/* Until raw has mark, which with all before it is taken out. */
static void tls_take(struct client *c, const char *mark)
{
	void *at;
	while (!(at = buf_len(&raw) ? memmem(buf_head(&raw), buf_len(&raw), mark, strlen(mark))
				    : NULL))
		tls_need(c, buf_len(&raw) + 1);
	buf_consume(&raw, (size_t)((uint8_t *)at - buf_head(&raw)) + strlen(mark));
}

/* Reads on to the end: 0 if it was orderly, else -ECONNRESET. */
static ssize_t tls_end(struct client *c)
{
	uint64_t deadline = driver_deadline();
	ssize_t n;
	while ((n = tls_pull(c)) > 0 || n == -EAGAIN)
		driver_wait(deadline, "the end", __FILE__, __LINE__);
	return n;
}

static void tls_gone(struct client *c)
{
	SSL_free(c->ssl);
	client_close(c->fd);
	buf_consume(&raw, buf_len(&raw));
}

static void ask(struct client *c, const char *method, const char *target, size_t body)
{
	char text[256];
	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
		 method, target, body);
	tls_text(c, text);
}

static void fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 12));
}

/* ---- what is spoken ---- */

static void requests_and_streams_share_a_connection(void **state)
{
	(void)state;
	struct client c;
	tls_client(&c);
	for (int i = 0; i < 3; i++) {
		ask(&c, "POST", "/echo", 6);
		tls_text(&c, "secret");
		tls_take(&c, "\r\n\r\nsecret");
	}
	ask(&c, "GET", "/stream", 0);
	tls_take(&c, "\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		http_stream_write(drv->last, "event", 5);
		tls_take(&c, "5\r\nevent\r\n");
		assert_int_equal(buf_len(&raw), 0);
	}
	http_stream_end(drv->last);
	tls_take(&c, "0\r\n\r\n");
	ask(&c, "GET", "/show%20it", 0);
	tls_take(&c, "\"peer\":\"127.0.0.1\"");
	tls_gone(&c);
	until(nobody_left());
}

static void http_1_1_is_the_one_protocol(void **state)
{
	(void)state;
	static const unsigned char both[] = "\x02h2\x08http/1.1", h2[] = "\x02h2";
	const unsigned char *chosen;
	unsigned n;
	struct client c;
	tls_start(&c);
	SSL_set_alpn_protos(c.ssl, both, sizeof(both) - 1);
	assert_int_equal(tls_shake(&c), 1);
	SSL_get0_alpn_selected(c.ssl, &chosen, &n);
	assert_int_equal(n, 8);
	assert_memory_equal(chosen, "http/1.1", 8);
	tls_gone(&c);
	tls_start(&c);
	SSL_set_alpn_protos(c.ssl, h2, sizeof(h2) - 1);
	assert_int_equal(tls_shake(&c), -1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()),
			 SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
	tls_gone(&c);
	until(nobody_left());
}

static void a_ticket_resumes(void **state)
{
	(void)state;
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	for (int i = 0; i < 2; i++) {
		struct client c;
		tls_start(&c);
		SSL_set_min_proto_version(c.ssl, versions[i]);
		SSL_set_max_proto_version(c.ssl, versions[i]);
		assert_int_equal(tls_shake(&c), 1);
		ask(&c, "GET", "/hello", 0);
		tls_take(&c, "hello"); /* with 1.3 the ticket came with it */
		SSL_SESSION *session = SSL_get1_session(c.ssl);
		assert_true(SSL_SESSION_is_resumable(session));
		SSL_shutdown(c.ssl);
		tls_gone(&c);
		tls_start(&c);
		SSL_set_max_proto_version(c.ssl, versions[i]);
		SSL_set_session(c.ssl, session);
		assert_int_equal(tls_shake(&c), 1);
		assert_true(SSL_session_reused(c.ssl));
		/* Not after the keys were replaced. */
		tls_ctx_rekey(server()->ctx);
		tls_gone(&c);
		tls_start(&c);
		SSL_set_max_proto_version(c.ssl, versions[i]);
		SSL_set_session(c.ssl, session);
		assert_int_equal(tls_shake(&c), 1);
		assert_false(SSL_session_reused(c.ssl));
		tls_gone(&c);
		SSL_SESSION_free(session);
	}
	until(nobody_left());
}

static void old_versions_and_weak_ciphers_are_refused(void **state)
{
	(void)state;
	struct client c;
	tls_start(&c);
	SSL_set_security_level(c.ssl, 0);
	SSL_set_min_proto_version(c.ssl, TLS1_VERSION);
	SSL_set_max_proto_version(c.ssl, TLS1_1_VERSION);
	assert_int_equal(tls_shake(&c), -1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	tls_gone(&c);
	tls_start(&c);
	SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION);
	assert_int_equal(SSL_set_cipher_list(c.ssl, "AES128-SHA256:ECDHE-ECDSA-AES128-SHA256"), 1);
	assert_int_equal(tls_shake(&c), -1);
	tls_gone(&c);
	until(nobody_left());
}

static void a_renegotiation_is_refused(void **state)
{
	(void)state;
	struct client c;
	uint64_t deadline = driver_deadline();
	tls_start(&c);
	SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION);
	assert_int_equal(tls_shake(&c), 1);
	assert_int_equal(SSL_renegotiate(c.ssl), 1);
	int r;
	ERR_clear_error();
	while ((r = SSL_do_handshake(c.ssl)) != 1 && wants(&c, r))
		driver_wait(deadline, "renegotiation", __FILE__, __LINE__);
	assert_int_not_equal(r, 1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
	assert_int_equal(drv->begun, 0);
	tls_gone(&c);
	until(nobody_left());
}

static void new_keys_in_the_middle_change_nothing(void **state)
{
	(void)state;
	struct client c;
	tls_client(&c);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		ask(&c, "POST", "/echo", 6);
		tls_text(&c, "secret");
		tls_take(&c, "\r\n\r\nsecret");
	}
	tls_gone(&c);
	until(nobody_left());
}

/* ---- bytes ---- */

#define MUCH (24u << 20)

static void much_goes_up_and_down_whole(void **state)
{
	(void)state;
	struct client c;
	uint8_t *block = malloc(MUCH);
	assert_non_null(block);
	fill(block, MUCH);
	tls_client(&c);
	ask(&c, "PUT", "/body", MUCH);
	tls_send(&c, block, MUCH);
	tls_take(&c, "204 ");
	tls_take(&c, "\r\n\r\n");
	assert_int_equal(buf_len(&drv->got), MUCH);
	assert_memory_equal(buf_head(&drv->got), block, MUCH);
	ask(&c, "GET", "/sized?n=25165824", 0);
	until(drv->last);
	http_stream_write(drv->last, block, MUCH);
	tls_take(&c, "\r\n\r\n");
	tls_need(&c, MUCH);
	assert_memory_equal(buf_head(&raw), block, MUCH);
	tls_gone(&c);
	free(block);
	until(nobody_left());
}

static void tiny_records_are_only_slow(void **state)
{
	(void)state;
	struct client c;
	tls_client(&c);
	ask(&c, "PUT", "/body", 20000);
	for (int i = 0; i < 20000; i++)
		tls_send(&c, "x", 1);
	tls_take(&c, "204 ");
	assert_int_equal(buf_len(&drv->got), 20000);
	tls_gone(&c);
	until(nobody_left());
}

static void a_client_that_does_not_read_pushes_back(void **state)
{
	(void)state;
	static uint8_t block[65536];
	struct client c;
	size_t written = 0;
	fill(block, sizeof(block));
	tls_client(&c);
	ask(&c, "GET", "/stream", 0);
	tls_take(&c, "\r\n\r\n");
	while (http_stream_queued(drv->last) <= HTTP_QUEUE_HIGH) {
		http_stream_write(drv->last, block, sizeof(block));
		written += sizeof(block);
		driver_round();
	}
	struct http_req *r = drv->last;
	const struct tls_conn *tc = LIST_FIRST(&server()->open);
	assert_true(buf_len(&tc->out) > 0 && tc->out.cap <= 2 * TLS_PIECE);
	assert_int_equal(drv->drained, 0);
	/* Others do not wait for it. */
	struct client other;
	struct buf kept = raw;
	raw = (struct buf)BUF_INIT(REPLY_MAX);
	tls_client(&other);
	ask(&other, "GET", "/hello", 0);
	tls_take(&other, "hello");
	tls_gone(&other);
	buf_done(&raw);
	raw = kept;
	uint64_t deadline = driver_deadline();
	http_stream_end(r);
	size_t got = 0;
	while (http_requests(drv->h) || got < written) {
		ssize_t n = tls_pull(&c);
		assert_true(n > 0 || n == -EAGAIN);
		got += n > 0 ? (size_t)n : 0;
		buf_consume(&raw, buf_len(&raw));
		driver_wait(deadline, "all of it", __FILE__, __LINE__);
	}
	tls_gone(&c);
	until(nobody_left());
}

static void a_held_body_pushes_back_and_its_client_is_missed(void **state)
{
	(void)state;
	static uint8_t block[65536];
	struct client c;
	size_t sent = 0;
	drv->hold_after = 100000;
	tls_client(&c);
	ask(&c, "PUT", "/body", 100u << 20);
	for (int idle = 0; idle < 50;) {
		ERR_clear_error();
		int n = SSL_write(c.ssl, block, sizeof(block));
		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		driver_round();
	}
	assert_true(sent < 32u << 20);
	assert_true(buf_len(&drv->got) < 400000);
	assert_int_equal(drv->gone, 0);
	tls_gone(&c);
	until(drv->gone == 1);
	until(nobody_left());
}

/* ---- ends ---- */

static void a_client_that_leaves_a_stream_is_noticed(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct client c;
		struct linger l = { .l_onoff = 1, .l_linger = 0 };
		tls_client(&c);
		ask(&c, "GET", "/stream", 0);
		tls_take(&c, "\r\n\r\n");
		unsigned gone = drv->gone;
		if (how == 0)
			SSL_shutdown(c.ssl);
		else if (how == 1)
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		if (how)
			tls_gone(&c);
		until(drv->gone == gone + 1);
		if (!how)
			tls_gone(&c);
		until(nobody_left());
	}
}

static void an_orderly_end_is_told_and_an_abort_is_a_reset(void **state)
{
	(void)state;
	struct client c;
	tls_client(&c);
	tls_text(&c, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	tls_take(&c, "hello");
	assert_int_equal(tls_end(&c), 0);
	tls_gone(&c);
	tls_client(&c);
	ask(&c, "GET", "/abort", 0);
	assert_int_equal(tls_end(&c), -ECONNRESET);
	assert_int_equal(buf_len(&raw), 0);
	tls_gone(&c);
	until(nobody_left());
}

static void an_early_answer_reaches_who_still_sends(void **state)
{
	(void)state;
	static uint8_t block[1 << 20];
	struct client c;
	uint64_t deadline = driver_deadline();
	tls_client(&c);
	ask(&c, "PUT", "/early", 1u << 30);
	bool open = true;
	while (open) {
		ERR_clear_error();
		int n = SSL_write(c.ssl, block, 16384);
		open = n > 0 || wants(&c, n);
		ssize_t k = tls_pull(&c);
		assert_int_not_equal(k, -ECONNRESET);
		open = open && k;
		driver_wait(deadline, "the answer", __FILE__, __LINE__);
	}
	tls_take(&c, "HTTP/1.1 401 ");
	tls_gone(&c);
	until(nobody_left());
}

static void what_was_answered_leaves_before_the_end(void **state)
{
	(void)state;
	static uint8_t block[1 << 20];
	struct client c;
	fill(block, sizeof(block));
	tls_client(&c);
	ask(&c, "GET", "/sized?n=1048576", 0);
	until(drv->last);
	http_stream_write(drv->last, block, sizeof(block));
	http_quiesce(drv->h);
	/* As brig-api waits at its end; the client is slow. */
	uint64_t deadline = driver_deadline();
	while (http_requests(drv->h)) {
		for (int i = 0; i < 20; i++)
			driver_round();
		ssize_t n = tls_pull(&c);
		assert_true(n > 0 || n == -EAGAIN);
		driver_wait(deadline, "the rest", __FILE__, __LINE__);
	}
	driver_stop();
	drv = NULL;
	while (tls_pull(&c) > 0)
		;
	tls_take(&c, "\r\n\r\n");
	assert_int_equal(buf_len(&raw), sizeof(block));
	assert_memory_equal(buf_head(&raw), block, sizeof(block));
	tls_gone(&c);
	driver_start(TLS_CERT, TLS_KEY); /* for the teardown */
}

static void an_upgraded_connection_is_a_tunnel(void **state)
{
	(void)state;
	size_t n = 8u << 20, got = 0, put = 0;
	uint8_t *block = malloc(n), *back = malloc(n);
	struct client c;
	uint64_t deadline = driver_deadline();
	fill(block, n);
	tls_client(&c);
	tls_text(&c, "GET /up HTTP/1.1\r\nHost: x\r\nUpgrade: test\r\n\r\nearly");
	until(drv->up != NULL);
	tls_take(&c, "\r\n\r\n");
	size_t early = drv->nearly;
	assert_memory_equal(drv->early, "early", early);
	/* All that the sockets take, then the client's end; only then the other side reads. */
	while (put < n) {
		ERR_clear_error();
		int k = SSL_write(c.ssl, block + put, (int)(n - put));
		if (k <= 0 && got == 0 && early == 5 && put > 0) {
			for (int i = 0; i < 20; i++)
				driver_round();
		}
		put += k > 0 ? (size_t)k : 0;
		ssize_t r = recv(drv->up_fd, back + got, n - got, MSG_DONTWAIT);
		if (r > 0 && early < 5) {
			memmove(back + got, back + got + (5 - early), (size_t)r - (5 - early));
			r -= (ssize_t)(5 - early);
			early = 5;
		}
		got += r > 0 ? (size_t)r : 0;
		driver_wait(deadline, "all up", __FILE__, __LINE__);
	}
	SSL_shutdown(c.ssl);
	shutdown(c.fd, SHUT_WR);
	for (int i = 0; i < 20; i++)
		driver_round();
	for (ssize_t r = -1; r; driver_wait(deadline, "all up", __FILE__, __LINE__)) {
		r = recv(drv->up_fd, back + got, n - got, MSG_DONTWAIT);
		got += r > 0 ? (size_t)r : 0;
		if (got == n)
			r = recv(drv->up_fd, back, 1, MSG_DONTWAIT | MSG_PEEK);
	}
	assert_int_equal(got, n);
	assert_memory_equal(back, block, n);
	/* The other direction goes on. */
	for (put = 0; put < n; driver_wait(deadline, "all down", __FILE__, __LINE__)) {
		ssize_t r = send(drv->up_fd, block + put, n - put, MSG_DONTWAIT | MSG_NOSIGNAL);
		put += r > 0 ? (size_t)r : 0;
		r = tls_pull(&c);
		assert_true(r > 0 || r == -EAGAIN);
	}
	http_upgrade_close(drv->up);
	assert_int_equal(tls_end(&c), 0);
	assert_int_equal(buf_len(&raw), n);
	assert_memory_equal(buf_head(&raw), block, n);
	tls_gone(&c);
	free(block);
	free(back);
	until(nobody_left());
}

/* ---- no good ---- */

static void plain_http_is_told_what_the_port_speaks(void **state)
{
	(void)state;
	static const char *const asked[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
					     "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n" };
	for (int i = 0; i < 2; i++) {
		struct buf head = BUF_INIT(REPLY_MAX), body = BUF_INIT(REPLY_MAX);
		int fd = client_open();
		client_text(fd, asked[i]);
		assert_int_equal(client_answer(fd, &head, &body), 400);
		assert_int_equal(buf_add(&body, "", 1), 0);
		assert_non_null(strstr((char *)buf_head(&body), "speaks TLS"));
		assert_int_equal(client_end(fd), 0);
		buf_done(&head);
		buf_done(&body);
	}
	assert_int_equal(drv->begun, 0);
	until(nobody_left());
}

static void garbage_and_half_handshakes_get_nothing(void **state)
{
	(void)state;
	/* A record of 16 KiB of a ClientHello of 16 MiB. */
	static char big[1 << 20] = "\x16\x03\x01\x40\x00\x01\xff\xff\xff";
	int fd = client_open();
	client_send(fd, "\x80\x2e\x01\x03\x01", 5); /* SSLv2's hello */
	(void)client_end(fd);
	fd = client_open();
	client_send(fd, "\x16garbage that is no record at all", 33);
	(void)client_end(fd);
	fd = client_open();
	client_close(fd);
	fd = client_open();
	client_send(fd, "\x16\x03\x01", 3);
	driver_round();
	client_close(fd);
	fd = client_open();
	(void)send(fd, big, sizeof(big), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)client_end(fd);
	assert_int_equal(drv->begun, 0);
	until(nobody_left());
}

static int setup_hasty(void **state)
{
	(void)state;
	driver_head_ms = 150;
	driver_start(TLS_CERT, TLS_KEY);
	driver_head_ms = 0;
	return 0;
}

static void a_handshake_has_its_time(void **state)
{
	(void)state;
	int silent = client_open(), half = client_open();
	client_send(half, "\x16\x03\x01\x02\x00", 5);
	until(server()->nunserved == 2);
	until(server()->nunserved == 0);
	assert_int_equal(client_end(silent), 0);
	client_close(half);
}

static void half_handshakes_do_not_keep_others_out(void **state)
{
	(void)state;
	enum { MANY = TLS_UNSERVED_MAX + 200 };
	static int fds[MANY];
	struct rlimit files;
	struct client c, first;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2 * MANY + 100)
		skip(); /* the host allows too few descriptors */
	tls_client(&first);
	for (int i = 0; i < MANY; i++) {
		fds[i] = client_open();
		if (i % 2)
			client_send(fds[i], "\x16\x03\x01\x02\x00\x01", 6);
		driver_round();
	}
	until(server()->nunserved == TLS_UNSERVED_MAX);
	tls_client(&c);
	ask(&c, "GET", "/hello", 0);
	tls_take(&c, "hello");
	ask(&first, "GET", "/hello", 0);
	tls_take(&first, "hello");
	tls_gone(&first);
	/* The oldest had to go. */
	assert_int_equal(client_end(fds[0]), 0);
	for (int i = 1; i < MANY; i++)
		client_close(fds[i]);
	tls_gone(&c);
	until(nobody_left());
}

/* Clients that do something at random, and leave in the middle of it. */
static void any_mix_of_clients_leaves_nothing(void **state)
{
	(void)state;
	static uint8_t block[300000];
	srand(7);
	for (int round = 0; round < 150; round++) {
		struct client c[4];
		for (int i = 0; i < 4; i++) {
			tls_start(&c[i]);
			for (int k = rand() % 6; k > 0; k--) {
				(void)SSL_connect(c[i].ssl);
				driver_round();
			}
			if (rand() % 3 == 0)
				continue;
			if (tls_shake(&c[i]) != 1)
				continue;
			static const char *const what[] = { "/stream",	      "/later", "/body",
							    "/early",	      "/abort", "/hello",
							    "/sized?n=900000" };
			ask(&c[i], "POST", what[rand() % 7], (size_t)rand() % sizeof(block));
			if (drv->last && rand() % 2)
				http_stream_write(drv->last, block, sizeof(block));
		}
		for (int i = 0; i < 4; i++) {
			ERR_clear_error();
			switch (rand() % 5) {
			case 0: /* garbage behind whatever there was */
				(void)send(c[i].fd, block, (size_t)rand() % 9000, MSG_NOSIGNAL);
				break;
			case 1:
				(void)SSL_write(c[i].ssl, block, 1 + rand() % (int)sizeof(block));
				break;
			case 2:
				(void)SSL_shutdown(c[i].ssl);
				break;
			case 3:
				shutdown(c[i].fd, SHUT_WR);
				break;
			default:
				break;
			}
			for (int k = rand() % 4; k > 0; k--)
				driver_round();
		}
		for (int i = 0; i < 4; i++)
			tls_gone(&c[i]);
		buf_consume(&drv->got, buf_len(&drv->got));
	}
	until(nobody_left());
	assert_int_equal(drv->nlive, 0);
	assert_int_equal(drv->begun, drv->gone);
}

/* ---- certificates ---- */

static void a_bad_certificate_or_key_is_refused(void **state)
{
	(void)state;
	static const char *const bad[][2] = {
		{ "no", TLS_KEY },
		{ "", TLS_KEY },
		{ TLS_CERT, "no" },
		{ TLS_CERT, TLS_CERT },
		{ TLS_KEY, TLS_KEY },
		{ TLS_CERT "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		  TLS_KEY },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ev ev;
		struct http *h = NULL;
		struct brig_err err = BRIG_ERR_INIT;
		assert_int_equal(ev_init(&ev), 0);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(listen(fd, 1), 0);
		struct http_options o = { .listen_fd = fd,
					  .cert_pem = bad[i][0],
					  .key_pem = bad[i][1] };
		assert_int_equal(http_open(&ev, &o, &h, &err), -1);
		assert_int_equal(err.code, BRIG_E_INVALID);
		assert_true(strstr(err.msg, "certificate") || strstr(err.msg, "key"));
		assert_true(err.remedy[0]);
		ev_done(&ev);
	}
}

static int setup(void **state)
{
	(void)state;
	driver_start(TLS_CERT, TLS_KEY);
	return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, driver_teardown)
	const struct CMUnitTest tests[] = {
		T(requests_and_streams_share_a_connection),
		T(http_1_1_is_the_one_protocol),
		T(a_ticket_resumes),
		T(old_versions_and_weak_ciphers_are_refused),
		T(a_renegotiation_is_refused),
		T(new_keys_in_the_middle_change_nothing),
		T(much_goes_up_and_down_whole),
		T(tiny_records_are_only_slow),
		T(a_client_that_does_not_read_pushes_back),
		T(a_held_body_pushes_back_and_its_client_is_missed),
		T(a_client_that_leaves_a_stream_is_noticed),
		T(an_orderly_end_is_told_and_an_abort_is_a_reset),
		T(an_early_answer_reaches_who_still_sends),
		T(what_was_answered_leaves_before_the_end),
		T(an_upgraded_connection_is_a_tunnel),
		T(plain_http_is_told_what_the_port_speaks),
		T(garbage_and_half_handshakes_get_nothing),
		cmocka_unit_test_setup_teardown(a_handshake_has_its_time, setup_hasty,
						driver_teardown),
		T(half_handshakes_do_not_keep_others_out),
		T(any_mix_of_clients_leaves_nothing),
		cmocka_unit_test(a_bad_certificate_or_key_is_refused),
	};
	signal(SIGPIPE, SIG_IGN); /* the client's own */
	ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	SSL_CTX_free(ctx);
	buf_done(&raw);
	return r;
}
