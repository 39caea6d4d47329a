/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hello.h: what a TLS ClientHello says about whom it wants to reach. Pure.
 */
#ifndef BRIG_NET_HELLO_H
#define BRIG_NET_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a connection's beginning that are looked at: a ClientHello with post-quantum key shares
 * has about 1.8 KiB, one with a pre-shared key some more. */
#define HELLO_BYTES_MAX 16384u

enum hello_result {
	HELLO_MORE, /* whole so far */
	HELLO_BAD,  /* no ClientHello, or one that cannot be judged */
	HELLO_OK,
};

struct hello {
	const char *sni; /* not terminated, in `scratch`; NULL = none */
	size_t sni_len;
	bool ech; /* has an encrypted_client_hello extension of its own (not an inner one's echo) */
};

/*
 * n bytes of the beginning of a connection. scratch: HELLO_BYTES_MAX bytes, where the message is
 * put together from its records. The same bytes give the same result however they were cut.
 */
enum hello_result hello_read(const uint8_t *p, size_t n, uint8_t *scratch, struct hello *ret);

#endif
