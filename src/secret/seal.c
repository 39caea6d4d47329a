/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/seal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A page of its own, so that what is said about it is about nothing else. */
struct seal_key {
	uint8_t bytes[SEAL_KEY_LEN];
	char id[SEAL_KEY_ID_MAX];
};
#define PAGE 4096u
#define LABEL "brig secret 1"

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int seal_key_parse(const char *text, size_t n, struct seal_key **ret)
{
	static const char label[] = "brig secret key id 1";
	uint8_t hash[32], data[sizeof(label) + SEAL_KEY_LEN];
	if (n == SEAL_KEY_TEXT + 1 && text[n - 1] == '\n')
		n--;
	if (n != SEAL_KEY_TEXT)
		return -EINVAL;
	struct seal_key *k =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (k == MAP_FAILED)
		return -ENOMEM;
	/* Either may be refused to a process without rights; the key is as good without. */
	(void)madvise(k, PAGE, MADV_DONTDUMP);
	(void)mlock(k, PAGE);
	for (unsigned i = 0; i < SEAL_KEY_LEN; i++) {
		int hi = digit(text[2 * i]), lo = digit(text[2 * i + 1]);
		if (hi < 0 || lo < 0) {
			seal_key_free(k);
			return -EINVAL;
		}
		k->bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	memcpy(data, label, sizeof(label));
	memcpy(data + sizeof(label), k->bytes, SEAL_KEY_LEN);
	SHA256(data, sizeof(data), hash);
	OPENSSL_cleanse(data, sizeof(data));
	for (unsigned i = 0; i < 8; i++)
		snprintf(k->id + 2 * i, 3, "%02x", hash[i]);
	*ret = k;
	return 0;
}

void seal_key_free(struct seal_key *k)
{
	if (!k)
		return;
	OPENSSL_cleanse(k, sizeof(*k));
	munmap(k, PAGE);
}

const char *seal_key_id(const struct seal_key *k)
{
	return k->id;
}

/* What the ciphertext is bound to; the lengths make it one meaning only. */
static int bind_to(EVP_CIPHER_CTX *c, const char *tenant, const char *name)
{
	char text[512];
	int n = snprintf(text, sizeof(text), LABEL " %zu:%s %zu:%s", strlen(tenant), tenant,
			 strlen(name), name);
	int none;
	return n > 0 && (size_t)n < sizeof(text) &&
	       EVP_CipherUpdate(c, NULL, &none, (const uint8_t *)text, n) == 1;
}

int seal(const struct seal_key *k, const char *tenant, const char *name, const void *p, size_t n,
	 uint8_t ret_nonce[SEAL_NONCE_LEN], uint8_t *ret)
{
	int put = 0, more = 0;
	if (n > INT_MAX / 2 || RAND_bytes(ret_nonce, SEAL_NONCE_LEN) != 1)
		return -1;
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int ok = c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, k->bytes, ret_nonce) == 1 &&
		 bind_to(c, tenant, name) && EVP_EncryptUpdate(c, ret, &put, p, (int)n) == 1 &&
		 EVP_EncryptFinal_ex(c, ret + put, &more) == 1 && (size_t)(put + more) == n &&
		 EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_LEN, ret + n) == 1;
	EVP_CIPHER_CTX_free(c);
	return ok ? 0 : -1;
}

int unseal(const struct seal_key *k, const char *tenant, const char *name,
	   const uint8_t nonce[SEAL_NONCE_LEN], const uint8_t *p, size_t n, char *ret)
{
	int put = 0, more = 0;
	uint8_t tag[SEAL_TAG_LEN];
	if (n < SEAL_TAG_LEN || n > INT_MAX / 2)
		return -1;
	size_t len = n - SEAL_TAG_LEN;
	memcpy(tag, p + len, sizeof(tag));
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int ok = c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, k->bytes, nonce) == 1 &&
		 bind_to(c, tenant, name) &&
		 EVP_DecryptUpdate(c, (uint8_t *)ret, &put, p, (int)len) == 1 &&
		 EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_LEN, tag) == 1 &&
		 EVP_DecryptFinal_ex(c, (uint8_t *)ret + put, &more) == 1;
	EVP_CIPHER_CTX_free(c);
	if (!ok)
		OPENSSL_cleanse(ret, len);
	return ok ? 0 : -1;
}
