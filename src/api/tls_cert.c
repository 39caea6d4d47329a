/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_cert.c: what is spoken: TLS 1.2 with ephemeral keys and authenticated ciphers, TLS 1.3, and
 * http/1.1 as the one application protocol. No renegotiation, no compression, no early data. The
 * host's openssl.cnf is not read: what is accepted here is the same everywhere.
 *
 * A client resumes by a ticket, which costs no memory here. The keys of tickets are random, known
 * to nobody else, and replaced every few hours by tls.c: who gets hold of one reads no more than
 * that.
 *
 * TLS reads and writes through a BIO of our own. It raises no SIGPIPE, and it hands out c->budget
 * bytes and no more, so that a client that floods us with tiny or empty records, which are dealt
 * with deep inside of the library, waits for its turn like any other.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <string.h>

#include "api/tls_conn.h"

#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"
/* No ticket is good for longer; RFC 8446, 4.6.1 allows seven days. */
#define TICKET_S 7200

/* ---- descriptors ---- */

static int bio_read(BIO *b, char *p, int n)
{
	struct tls_conn *c = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	if (c->budget == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	ssize_t r = recv(c->fd, p, (size_t)n < c->budget ? (size_t)n : c->budget, MSG_DONTWAIT);
	if (r > 0)
		c->budget -= (size_t)r;
	else if (r < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(b);
	else if (r == 0)
		BIO_set_flags(b, BIO_FLAGS_IN_EOF);
	return (int)r;
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct tls_conn *c = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	ssize_t r = send(c->fd, p, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(b);
	return (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
	(void)n;
	(void)p;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
	default:
		return 0;
	}
}

static const BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *m; /* for the life of the process */
	if (!m && (m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "client"))) {
		BIO_meth_set_read(m, bio_read);
		BIO_meth_set_write(m, bio_write);
		BIO_meth_set_ctrl(m, bio_ctrl);
	}
	return m;
}

int tls_ssl_new(struct tls_conn *c)
{
	const BIO_METHOD *m = bio_method();
	BIO *b = m ? BIO_new(m) : NULL;
	c->ssl = b ? SSL_new(c->t->ctx) : NULL;
	if (!c->ssl) {
		BIO_free(b);
		return -ENOMEM;
	}
	BIO_set_data(b, c);
	BIO_set_init(b, 1);
	SSL_set_bio(c->ssl, b, b);
	SSL_set_accept_state(c->ssl);
	return 0;
}

/* ---- the context ---- */

/* A client that names protocols and not ours gets no connection (RFC 7301, 3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
			   const unsigned char *offered, unsigned n, void *ctx)
{
	static const char ours[] = "http/1.1";
	(void)ssl;
	(void)ctx;
	for (unsigned i = 0; i < n && offered[i] < n - i; i += 1u + offered[i]) {
		if (offered[i] == strlen(ours) &&
		    memcmp(offered + i + 1, ours, strlen(ours)) == 0) {
			*ret = offered + i + 1;
			*ret_n = offered[i];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A key that wants a password is no key for a server. */
static int no_password(char *buf, int size, int rwflag, void *ctx)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)ctx;
	return -1;
}

static int fail(struct brig_err *err, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = ERR_reason_error_string(e);
	brig_err_set(err, BRIG_E_INVALID, 0, "the TLS %s cannot be used%s%s", what, why ? ": " : "",
		     why ? why : "");
	brig_err_remedy(err, "give a PEM file with the certificate and its chain, the server's own "
			     "first, and one with its private key, without a password");
	ERR_clear_error();
	return -1;
}

static int use_chain(SSL_CTX *ctx, const char *pem, struct brig_err *err)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	X509 *own = b ? PEM_read_bio_X509_AUX(b, NULL, no_password, NULL) : NULL, *ca = NULL;
	int ok = own && SSL_CTX_use_certificate(ctx, own) == 1;
	X509_free(own);
	while (ok && (ca = PEM_read_bio_X509(b, NULL, no_password, NULL))) {
		ok = SSL_CTX_add0_chain_cert(ctx, ca) == 1; /* takes ca */
		if (!ok)
			X509_free(ca);
	}
	/* The end of the text shows as a missing start of a certificate. */
	if (ok && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		ok = 0;
	BIO_free(b);
	if (!ok)
		return fail(err, "certificate");
	ERR_clear_error();
	return 0;
}

static int use_key(SSL_CTX *ctx, const char *pem, struct brig_err *err)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, no_password, NULL) : NULL;
	int ok =
		key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
	EVP_PKEY_free(key);
	BIO_free(b);
	return ok ? 0 : fail(err, "key");
}

void tls_ctx_rekey(SSL_CTX *ctx)
{
	unsigned char keys[256];
	long n = SSL_CTX_get_tlsext_ticket_keys(ctx, NULL, 0);
	if (n > 0 && n <= (long)sizeof(keys) && RAND_priv_bytes(keys, (int)n) == 1)
		SSL_CTX_set_tlsext_ticket_keys(ctx, keys, n);
	OPENSSL_cleanse(keys, sizeof(keys));
}

SSL_CTX *tls_ctx_new(const char *cert_pem, const char *key_pem, struct brig_err *err)
{
	OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) != 1 ||
	    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"brig", 4) != 1) {
		SSL_CTX_free(ctx);
		ERR_clear_error();
		brig_fail(err, BRIG_E_INTERNAL, 0, "set up TLS");
		return NULL;
	}
	/* An end of the client without close_notify is an end: many send none, and HTTP has its own
	 * lengths. */
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* Buffers of an idle connection are given back; a record that left in part may be offered
	 * again from another address. */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_timeout(ctx, TICKET_S);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	if (use_chain(ctx, cert_pem, err) < 0 || use_key(ctx, key_pem, err) < 0) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}
