/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that somebody else wrote, in two pieces and as two files; and a note of brigd.
 *
 * Oracle: how a log is cut into pieces does not change the verdict; what is good is one chain: the
 * numbers follow each other, and each line taken for good is one that the writer could go on behind.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/scan.h"
#include "brig/door_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void count(void *ctx, const char *line, size_t n)
{
	must(n >= 1 && n <= AUDIT_LINE_MAX && line[n - 1] == '\n');
	++*(uint64_t *)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct audit_scan whole, cut;
	static struct audit_key *key;
	static const char pem[] =
		"-----BEGIN PUBLIC KEY-----\n"
		"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
		"-----END PUBLIC KEY-----\n";
	struct brig_err err = BRIG_ERR_INIT;
	const char *p = data ? (const char *)data : "";
	uint64_t lines = 0;
	struct door_note m;
	if (door_note_read(data, size, &m))
		must(size == sizeof(m) && m.what[0] && strlen(m.what) < sizeof(m.what) &&
		     strlen(m.id) < sizeof(m.id) && strlen(m.outcome) < sizeof(m.outcome));
	if (!key)
		must(audit_key_public(pem, sizeof(pem) - 1, &key, &err) == 0);
	memset(&whole, 0, sizeof(whole));
	memset(&cut, 0, sizeof(cut));
	whole.line = count;
	whole.ctx = &lines;
	audit_scan_feed(&whole, p, size);
	audit_scan_end(&whole);
	for (size_t i = 0; i < size; i++)
		audit_scan_feed(&cut, p + i, 1);
	audit_scan_end(&cut);
	must(whole.why == cut.why && whole.bad_line == cut.bad_line && whole.torn == cut.torn &&
	     whole.check.records == cut.check.records);
	must(whole.check.records <= lines || whole.why != AUDIT_GOOD);
	if (whole.check.records) {
		must(whole.check.next.seq == whole.check.first + whole.check.records);
		must(whole.check.signed_to < whole.check.next.seq);
	}
	if (whole.why == AUDIT_GOOD) {
		struct audit_chain chain;
		bool head;
		const char *nl = size ? memrchr(p, '\n', size) : NULL;
		if (nl) {
			const char *at = nl > p ? memrchr(p, '\n', (size_t)(nl - p)) : NULL;
			at = at ? at + 1 : p;
			must(audit_chain_after(at, (size_t)(nl + 1 - at), &chain, &head) ==
				     AUDIT_GOOD &&
			     chain.seq == whole.check.next.seq);
		}
	}
	/* Signatures are looked at: never better than without. */
	memset(&cut, 0, sizeof(cut));
	cut.check.key = key;
	audit_scan_feed(&cut, p, size / 2);
	audit_scan_next(&cut);
	audit_scan_feed(&cut, p + size / 2, size - size / 2);
	audit_scan_end(&cut);
	must(cut.why != AUDIT_GOOD || whole.why == AUDIT_GOOD);
	return 0;
}
