/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What brig-pull reads of a registry beside manifests (fuzz_oci.c): the field WWW-Authenticate and the
 * answer of a server of tokens; and the name of an image, which its caller may have got from anywhere.
 *
 * Input: one byte that chooses the parser, then its text.
 *
 * Oracle: what was accepted fits into a URL or a header without ending a line, and what became of a name is
 * one again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pull/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void printable(const char *s, size_t cap)
{
	must(strnlen(s, cap) < cap);
	for (; *s; s++)
		must((unsigned char)*s >= ' ' && *s != 0x7f);
}

static void name(const char *text, size_t n)
{
	struct pull_ref r, again;
	char copy[1024], back[1024];
	if (n >= sizeof(copy) || memchr(text, 0, n))
		return;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (pull_ref_parse(copy, n & 1 ? "reg.example:5000/lib" : NULL, &r, NULL) < 0)
		return;
	printable(r.host, sizeof(r.host));
	must(!strstr(r.repo, "..") || !strstr(r.repo, "/../"));
	must(r.repo[0] != '/' && r.repo[0] && r.host[0] && r.what[0]);
	snprintf(back, sizeof(back), "%s/%s%s%s", r.host, r.repo, r.digest[0] ? "@" : ":", r.what);
	/* A host is one by its dot, colon or name; what was found at the operator's has it from there. */
	if (pull_ref_parse(back, NULL, &again, NULL) == 0)
		must(strcmp(again.repo, r.repo) == 0 && strcmp(again.what, r.what) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pull_challenge c;
	static char token[PULL_TOKEN_MAX];
	if (size == 0)
		return 0;
	const char *text = (const char *)data + 1;
	switch (data[0] % 3) {
	case 0:
		if (pull_challenge_parse(text, size - 1, &c) == 0) {
			printable(c.realm, sizeof(c.realm));
			printable(c.service, sizeof(c.service));
			must(c.kind == PULL_AUTH_BASIC || strncasecmp(c.realm, "http", 4) == 0);
		}
		break;
	case 1:
		if (pull_token_parse(text, size - 1, token) == 0) {
			printable(token, sizeof(token));
			must(token[0] && !strchr(token, ' '));
		}
		break;
	default:
		name(text, size - 1);
	}
	return 0;
}
