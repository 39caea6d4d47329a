/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

struct audit_key {
	EVP_PKEY *pkey;
	char name[AUDIT_KEY_NAME_MAX];
};

static int key_of(EVP_PKEY *pkey, struct audit_key **ret, struct brig_err *err)
{
	uint8_t raw[32], hash[32];
	size_t n = sizeof(raw);
	struct audit_key *k = calloc(1, sizeof(*k));
	if (!k || !pkey || EVP_PKEY_get_id(pkey) != EVP_PKEY_ED25519 ||
	    EVP_PKEY_get_raw_public_key(pkey, raw, &n) != 1 || n != sizeof(raw)) {
		free(k);
		EVP_PKEY_free(pkey);
		return brig_fail(err, BRIG_E_CORRUPT, 0, "it is no Ed25519 key in PEM");
	}
	SHA256(raw, sizeof(raw), hash);
	for (unsigned i = 0; i < 8; i++)
		snprintf(k->name + 2 * i, 3, "%02x", hash[i]);
	k->pkey = pkey;
	*ret = k;
	return 0;
}

void audit_key_free(struct audit_key *k)
{
	if (k)
		EVP_PKEY_free(k->pkey);
	free(k);
}

const char *audit_key_name(const struct audit_key *k)
{
	return k->name;
}

/* A callback of the PEM reader: there is no passphrase, and nobody to ask for one. */
static int no_passphrase(char *buf, int size, int rw, void *u)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)u;
	return -1;
}

int audit_key_public(const char *pem, size_t n, struct audit_key **ret, struct brig_err *err)
{
	BIO *b = n <= AUDIT_PEM_MAX ? BIO_new_mem_buf(pem, (int)n) : NULL;
	EVP_PKEY *pkey = b ? PEM_read_bio_PUBKEY(b, NULL, no_passphrase, NULL) : NULL;
	BIO_free(b);
	return key_of(pkey, ret, err);
}

/* ---- the files ---- */

/* Whole or not at all: a name leads to a file only when its bytes are on the disk. */
static int file_put(int dir, const char *name, const char *text, size_t n, struct brig_err *err)
{
	char tmp[64];
	snprintf(tmp, sizeof(tmp), "%s.new", name);
	(void)unlinkat(dir, tmp, 0);
	AUTO_FD fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_full(fd, text, n) < 0 || fsync(fd) < 0 ||
	    renameat(dir, tmp, dir, name) < 0 || fsync(dir) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "write %s", name);
	return 0;
}

static int pem_put(int dir, const char *name, EVP_PKEY *pkey, bool secret, struct brig_err *err)
{
	char *text = NULL;
	int r = -1;
	BIO *b = BIO_new(secret ? BIO_s_secmem() : BIO_s_mem());
	int made = !b	    ? 0
		   : secret ? PEM_write_bio_PrivateKey(b, pkey, NULL, NULL, 0, NULL, NULL)
			    : PEM_write_bio_PUBKEY(b, pkey);
	long n = made == 1 ? BIO_get_mem_data(b, &text) : 0;
	if (n > 0)
		r = file_put(dir, name, text, (size_t)n, err);
	else
		brig_err_set(err, BRIG_E_INTERNAL, 0, "write %s as PEM", name);
	BIO_free(b);
	return r;
}

static int make(int dir, struct audit_key **ret, struct brig_err *err)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!pkey)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "make an Ed25519 key");
	/* The secret half last: without it the next start makes both anew. */
	if (pem_put(dir, AUDIT_PUB_FILE, pkey, false, err) < 0 ||
	    pem_put(dir, AUDIT_KEY_FILE, pkey, true, err) < 0) {
		EVP_PKEY_free(pkey);
		return -1;
	}
	return key_of(pkey, ret, err);
}

int audit_key_open(int dir_fd, struct audit_key **ret, struct brig_err *err)
{
	char pem[AUDIT_PEM_MAX];
	struct stat st;
	AUTO_FD fd = openat(dir_fd, AUDIT_KEY_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return make(dir_fd, ret, err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open " AUDIT_KEY_FILE);
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
		brig_err_set(err, BRIG_E_DENIED, 0, AUDIT_KEY_FILE " is open to other users");
		return brig_fix(err, "move it away, and keep it to tell old heads by; a new one is "
				     "made");
	}
	ssize_t n = fd_read_full(fd, pem, sizeof(pem));
	BIO *b = n > 0 ? BIO_new_mem_buf(pem, (int)n) : NULL;
	EVP_PKEY *pkey = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
	BIO_free(b);
	OPENSSL_cleanse(pem, sizeof(pem));
	if (key_of(pkey, ret, err) < 0) {
		(void)brig_ctx(err, "read " AUDIT_KEY_FILE);
		return brig_fix(err, "restore it from a backup, or move it away: then a new one is "
				     "made, and older heads need the older public key");
	}
	return 0;
}

/* ---- signatures ---- */

int audit_key_sign(struct audit_key *k, const void *p, size_t n, uint8_t ret[AUDIT_SIG_LEN])
{
	size_t len = AUDIT_SIG_LEN;
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int ok = c && EVP_DigestSignInit(c, NULL, NULL, NULL, k->pkey) == 1 &&
		 EVP_DigestSign(c, ret, &len, p, n) == 1 && len == AUDIT_SIG_LEN;
	EVP_MD_CTX_free(c);
	return ok ? 0 : -1;
}

int audit_key_check(struct audit_key *k, const void *p, size_t n,
		    const uint8_t sig[AUDIT_SIG_LEN])
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int ok = c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, k->pkey) == 1 &&
		 EVP_DigestVerify(c, sig, AUDIT_SIG_LEN, p, n) == 1;
	EVP_MD_CTX_free(c);
	return ok ? 0 : -1;
}
