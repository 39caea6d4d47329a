/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key.h: the Ed25519 key that signs the heads of the audit log.
 *
 * Made at the first start: audit.key (PEM, PKCS #8, mode 0600) and audit.pub (PEM) in brig-api's
 * folder. Whoever can read audit.key can make a log that verifies; so the public key, and from time
 * to time a head, belong somewhere else.
 */
#ifndef BRIG_AUDIT_KEY_H
#define BRIG_AUDIT_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define AUDIT_SIG_LEN 64
/* 16 hexadecimal digits of the SHA-256 of the public key's 32 bytes. */
#define AUDIT_KEY_NAME_MAX 17
#define AUDIT_PEM_MAX 1024u
#define AUDIT_KEY_FILE "audit.key"
#define AUDIT_PUB_FILE "audit.pub"

struct audit_key;

/* The pair in a folder; made if neither file is there. */
int audit_key_open(int dir_fd, struct audit_key **ret, struct brig_err *err);
/* A public key as PEM text. */
int audit_key_public(const char *pem, size_t n, struct audit_key **ret, struct brig_err *err);
void audit_key_free(struct audit_key *k);
const char *audit_key_name(const struct audit_key *k);
/* 0 or -1. */
int audit_key_sign(struct audit_key *k, const void *p, size_t n, uint8_t ret[AUDIT_SIG_LEN]);
/* 0: it is the key's signature of these bytes. */
int audit_key_check(struct audit_key *k, const void *p, size_t n,
		    const uint8_t sig[AUDIT_SIG_LEN]);

#endif
