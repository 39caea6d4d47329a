/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receipt that somebody hands in, and the mount table of a sandbox with names that a client chose.
 *
 * First byte: even = a receipt. Oracle: nobody here has the key, so no input is good.
 * Odd = a mount table. Oracle: the normalized list has one line of printable characters per mount, within
 * its size, and what differs is named.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/receipt.h"
#include "engine/container/measure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

/* The key of audit_key_public() in fuzz_audit.c: nobody here has its other half. */
static struct audit_key *key_open(void)
{
	static const char pem[] =
		"-----BEGIN PUBLIC KEY-----\n"
		"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
		"-----END PUBLIC KEY-----\n";
	static struct audit_key *key;
	struct brig_err err = BRIG_ERR_INIT;
	if (!key)
		must(audit_key_public(pem, sizeof(pem) - 1, &key, &err) == 0);
	return key;
}

static void receipt(const char *p, size_t n)
{
	json_t *o = NULL;
	enum receipt_why why = receipt_check(p, n, key_open(), &o);
	must(why != RECEIPT_GOOD && !o);
	must(receipt_why_name(why)[0]);
}

static void mounts(const char *p, size_t n)
{
	static struct jail_receipt m;
	static struct jail_spec spec = { .disk_bytes = 1u << 20, .inodes = 100, .nvolumes = 1 };
	struct measure_diff d = { "", "" };
	const struct measure_want w = { .spec = &spec };
	char *text = malloc(n + 1);
	must(text != NULL);
	memcpy(text, p, n);
	text[n] = '\0';
	memset(&m, 0, sizeof(m));
	m.mounts_len = 1;
	strcpy(spec.volumes[0].path, "/v");
	if (measure_mounts_text(text, &w, &m, &d)) {
		must(d.item[0] && d.text[0]);
	} else {
		must(m.mounts_len < sizeof(m.mounts) && m.mounts[m.mounts_len] == '\0');
		must(m.mounts_len == 0 || m.mounts[m.mounts_len - 1] == '\n');
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] % 2 == 0)
		receipt((const char *)data + 1, size - 1);
	else
		mounts((const char *)data + 1, size - 1);
	return 0;
}
