/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets at rest: only the right key, tenant and name open one; a value is never twice the same
 * bytes, and never itself; the records survive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "secret/seal.h"
#include "store/store.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static struct seal_key *key_of(const char *hex)
{
	struct seal_key *k = NULL;
	assert_int_equal(seal_key_parse(hex, strlen(hex), &k), 0);
	return k;
}

static void a_key_is_64_digits(void **state)
{
	static const char *const bad[] = { "", "00", HEX "0", HEX "\n\n", HEX " ",
					   "G00102030405060708090a0b0c0d0e0f101112131415161718191a1"
					   "b1c1d1e1f",
					   "FF0102030405060708090A0B0C0D0E0F101112131415161718191A1"
					   "B1C1D1E1F" };
	struct seal_key *k, *l;
	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(seal_key_parse(bad[i], strlen(bad[i]), &k), -EINVAL);
	k = key_of(HEX);
	l = key_of(HEX "\n");
	assert_string_equal(seal_key_id(k), seal_key_id(l));
	assert_int_equal(strlen(seal_key_id(k)), 16);
	seal_key_free(l);
	l = key_of(OTHER);
	assert_string_not_equal(seal_key_id(k), seal_key_id(l));
	seal_key_free(k);
	seal_key_free(l);
	seal_key_free(NULL);
}

static void only_its_own_place_opens_it(void **state)
{
	static const char value[] = "canary-value";
	const size_t n = sizeof(value) - 1;
	struct seal_key *k = key_of(HEX), *other = key_of(OTHER);
	uint8_t nonce[2][SEAL_NONCE_LEN], box[2][64];
	char text[64];
	(void)state;
	assert_int_equal(seal(k, "t", "name", value, n, nonce[0], box[0]), 0);
	assert_int_equal(seal(k, "t", "name", value, n, nonce[1], box[1]), 0);
	assert_memory_not_equal(nonce[0], nonce[1], SEAL_NONCE_LEN);
	assert_memory_not_equal(box[0], box[1], n);
	assert_null(memmem(box[0], n + SEAL_TAG_LEN, value, n));
	assert_int_equal(unseal(k, "t", "name", nonce[0], box[0], n + SEAL_TAG_LEN, text), 0);
	assert_memory_equal(text, value, n);
	/* Another key, tenant, name, nonce; and what is not one thing cut elsewhere. */
	assert_int_equal(unseal(other, "t", "name", nonce[0], box[0], n + SEAL_TAG_LEN, text), -1);
	assert_int_equal(text[0], 0); /* and nothing of it is left */
	assert_int_equal(unseal(k, "u", "name", nonce[0], box[0], n + SEAL_TAG_LEN, text), -1);
	assert_int_equal(unseal(k, "t", "names", nonce[0], box[0], n + SEAL_TAG_LEN, text), -1);
	assert_int_equal(unseal(k, "t n", "ame", nonce[0], box[0], n + SEAL_TAG_LEN, text), -1);
	assert_int_equal(unseal(k, "t", "name", nonce[1], box[0], n + SEAL_TAG_LEN, text), -1);
	for (size_t i = 0; i < n + SEAL_TAG_LEN; i++) {
		box[0][i] ^= 1;
		assert_int_equal(unseal(k, "t", "name", nonce[0], box[0], n + SEAL_TAG_LEN, text),
				 -1);
		box[0][i] ^= 1;
	}
	for (size_t i = 0; i < n + SEAL_TAG_LEN; i++)
		assert_int_equal(unseal(k, "t", "name", nonce[0], box[0], i, text), -1);
	assert_int_equal(seal(k, "t", "name", "", 0, nonce[0], box[0]), 0);
	assert_int_equal(unseal(k, "t", "name", nonce[0], box[0], SEAL_TAG_LEN, text), 0);
	seal_key_free(k);
	seal_key_free(other);
}

static void count_one(void *ctx, const struct store_secret *r)
{
	assert_null(r->value); /* a list never has it */
	++*(unsigned *)ctx;
}

static void records_are_kept_and_changes_go_together(void **state)
{
	char path[] = "/tmp/brig-secret-XXXXXX";
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = NULL;
	struct store_secret r = { .n = 5, .value = (uint8_t *)(uintptr_t) "abcde", .created_ms = 1,
				  .updated_ms = 2, .key = "0123456789abcdef" },
			    got;
	unsigned n = 0;
	(void)state;
	assert_non_null(mkdtemp(path));
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	strcpy(r.tenant, "t");
	strcpy(r.name, "a");
	assert_int_equal(store_open(dir, &s, &err), 0);
	assert_int_equal(store_secret_put(s, &r, &err), 0);
	strcpy(r.tenant, "u");
	assert_int_equal(store_secret_put(s, &r, &err), 0);
	store_begin(s);
	r.value = (uint8_t *)(uintptr_t) "vwxyz";
	assert_int_equal(store_secret_put(s, &r, &err), 0);
	store_rollback(s);
	store_close(s);
	assert_int_equal(store_open(dir, &s, &err), 0);
	assert_true(store_secret_get(s, "u", "a", &got));
	assert_int_equal(got.n, 5);
	assert_memory_equal(got.value, "abcde", 5);
	assert_string_equal(got.key, "0123456789abcdef");
	free(got.value);
	assert_false(store_secret_get(s, "u", "b", &got));
	store_secrets(s, count_one, &n);
	assert_int_equal(n, 2);
	assert_true(store_secret_remove(s, "t", "a"));
	assert_false(store_secret_remove(s, "t", "a"));
	assert_true(store_secret_get(s, "u", "a", &got));
	free(got.value);
	store_close(s);
	unlinkat(dir, "api.db", 0);
	unlinkat(dir, "api.db-wal", 0);
	close(dir);
	assert_int_equal(rmdir(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_64_digits),
		cmocka_unit_test(only_its_own_place_opens_it),
		cmocka_unit_test(records_are_kept_and_changes_go_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
