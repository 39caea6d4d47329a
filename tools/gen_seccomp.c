/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_seccomp [--arch ARCH] [--name NAME] [--list] PROFILE [HEADER]: compiles a system-call filter.
 *
 * Theory of operation
 * -------------------
 * Runs at build time, for payload.seccomp of the container engine and for the daemons' own
 * profiles. Writes a C header with the finished program, so that nothing compiles a filter, and
 * nothing links libseccomp, where sandboxes start. The header holds, for a NAME of "payload":
 *     static const struct sock_filter payload_filter[]
 *     PAYLOAD_FILTER_LEN      instructions
 *     PAYLOAD_FILTER_ALLOWED  system calls that some rule allows
 *     PAYLOAD_FILTER_DEPTH    instructions on the longest path
 *     PAYLOAD_FILTER_SHA256   digest of the program as the kernel gets it
 * --list prints what the profile says about every call, for people.
 */
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <openssl/evp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "seccomp_compile.h"

/* A profile is a page or two of text. */
#define TEXT_MAX (1u << 20)

struct options {
	const char *arch, *name, *profile, *header;
	bool list;
};

static int read_text(const char *path, char **ret, size_t *ret_len, struct brig_err *err)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return brig_fail(err, BRIG_E_NOT_FOUND, errno, "open %s", path);
	char *text = malloc(TEXT_MAX);
	size_t n = text ? fread(text, 1, TEXT_MAX, f) : 0;
	int failed = !text || ferror(f) || n == TEXT_MAX;
	fclose(f);
	if (failed) {
		free(text);
		return brig_fail(err, BRIG_E_INVALID, 0, "read %s (at most %u bytes)", path,
				 TEXT_MAX - 1);
	}
	*ret = text;
	*ret_len = n;
	return 0;
}

/* "dir/payload.seccomp" -> "payload"; only what can be part of a C name. */
static int symbol_name(const struct options *o, char name[64], struct brig_err *err)
{
	const char *from = o->name;
	size_t n;
	if (!from) {
		const char *slash = strrchr(o->profile, '/');
		from = slash ? slash + 1 : o->profile;
		n = strcspn(from, ".");
	} else
		n = strlen(from);
	if (n == 0 || n >= 64 || isdigit((unsigned char)from[0]))
		goto bad;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)from[i]) && from[i] != '_')
			goto bad;
	snprintf(name, 64, "%.*s", (int)n, from);
	return 0;
bad:
	return brig_fail(err, BRIG_E_INVALID, 0, "'%.*s' can be no part of a C name; use --name",
			 (int)n, from);
}

/* Of the instructions in the byte order of the machines that run them. */
static int digest(const struct filter *f, char hex[65])
{
	unsigned char md[EVP_MAX_MD_SIZE], bytes[8];
	unsigned n;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
	for (unsigned i = 0; ok && i < f->n; i++) {
		const struct sock_filter *s = &f->insns[i];
		uint16_t code = htole16(s->code);
		uint32_t k = htole32(s->k);
		memcpy(bytes, &code, 2);
		bytes[2] = s->jt;
		bytes[3] = s->jf;
		memcpy(bytes + 4, &k, 4);
		ok = EVP_DigestUpdate(ctx, bytes, sizeof(bytes));
	}
	ok = ok && EVP_DigestFinal_ex(ctx, md, &n) && n == 32;
	EVP_MD_CTX_free(ctx);
	for (unsigned i = 0; ok && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", md[i]);
	return ok ? 0 : -EIO;
}

static int write_header(const struct options *o, const char *name, const struct profile *p,
			const struct filter *f, struct brig_err *err)
{
	char hex[65], upper[64];
	if (digest(f, hex) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "compute a SHA-256");
	for (size_t i = 0; i <= strlen(name); i++)
		upper[i] = (char)toupper((unsigned char)name[i]);
	FILE *out = fopen(o->header, "we");
	if (!out)
		return brig_fail(err, BRIG_E_INVALID, errno, "write %s", o->header);
	const char *slash = strrchr(o->profile, '/');
	fprintf(out,
		"/* Made from %s by gen_seccomp. */\n"
		"#ifndef BRIG_%s_SECCOMP_H\n#define BRIG_%s_SECCOMP_H\n\n"
		"#include <linux/filter.h>\n\n"
		"#ifndef %s\n#error \"this filter is for %s\"\n#endif\n\n"
		"#define %s_FILTER_LEN %u\n#define %s_FILTER_ALLOWED %u\n"
		"#define %s_FILTER_DEPTH %u\n#define %s_FILTER_SHA256 \\\n\t\"%s\"\n\n"
		"static const struct sock_filter %s_filter[%s_FILTER_LEN] = {\n",
		slash ? slash + 1 : o->profile, upper, upper, p->arch->macro, p->arch->name, upper,
		f->n, upper, profile_allowed(p), upper, f->depth, upper, hex, name, upper);
	for (unsigned i = 0; i < f->n; i++)
		fprintf(out, "\t{ 0x%02x, %u, %u, 0x%08" PRIx32 " },\n", f->insns[i].code,
			f->insns[i].jt, f->insns[i].jf, f->insns[i].k);
	fputs("};\n\n#endif\n", out);
	int failed = ferror(out);
	failed |= fclose(out) != 0;
	if (!failed)
		return 0;
	/* Half a filter must not be compiled by a later run of the build. */
	remove(o->header);
	return brig_fail(err, BRIG_E_INVALID, errno, "write %s", o->header);
}

static void print_verdict(uint32_t ret)
{
	if (ret == SECCOMP_RET_ALLOW)
		fputs("allow", stdout);
	else if (ret == SECCOMP_RET_KILL_PROCESS)
		fputs("kill", stdout);
	else
		printf("errno %s", strerrorname_np((int)(ret & SECCOMP_RET_DATA)));
}

static void list_profile(const struct profile *p, const struct filter *f)
{
	for (uint32_t nr = 0; nr <= SYSCALL_LAST; nr++) {
		unsigned n;
		unsigned first = profile_rules_of(p, nr, &n);
		char *name = seccomp_syscall_resolve_num_arch(p->arch->scmp, (int)nr);
		if (!name && n == 0)
			continue; /* a gap, or a call that nobody here knows */
		printf("%3u %-24s", nr, name ? name : "?");
		free(name);
		for (unsigned i = first; i < first + n; i++) {
			print_verdict(p->rules[i].ret);
			if (p->rules[i].n_conds)
				printf(" if (line %u), else ", p->rules[i].line);
		}
		if (n == 0 || p->rules[first + n - 1].n_conds)
			print_verdict(p->default_ret);
		putchar('\n');
	}
	printf("%u calls allowed, %u instructions, %u on the longest path\n", profile_allowed(p),
	       f->n, f->depth);
}

static int generate(const struct options *o, struct brig_err *err)
{
	AUTO_FREE char *text = NULL;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	char name[64];
	size_t len = 0;
	const struct seccomp_arch *arch = seccomp_arch_find(o->arch);
	if (!f)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "compile a filter");
	if (!arch)
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "no profile was written for %s",
				 o->arch ? o->arch : "this machine");
	if (symbol_name(o, name, err) < 0 || read_text(o->profile, &text, &len, err) < 0)
		return -1;
	struct profile p;
	if (profile_parse(o->profile, text, len, arch, &p, err) < 0)
		return -1;
	int r = filter_compile(&p, f, err);
	if (r == 0 && o->header)
		r = write_header(o, name, &p, f, err);
	if (r == 0 && o->list)
		list_profile(&p, f);
	profile_done(&p);
	return r;
}

static int usage(FILE *out, int code)
{
	fputs("usage: gen_seccomp [--arch ARCH] [--name NAME] [--list] PROFILE [HEADER]\n", out);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "arch", required_argument, NULL, 'a' },
		{ "name", required_argument, NULL, 'n' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { 0 };
	struct brig_err err = BRIG_ERR_INIT;
	int c;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case 'a':
			o.arch = optarg;
			break;
		case 'n':
			o.name = optarg;
			break;
		case 'l':
			o.list = true;
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, 2);
		}
	}
	if (argc - optind < 1 || argc - optind > 2 || (argc - optind == 1 && !o.list))
		return usage(stderr, 2);
	o.profile = argv[optind];
	o.header = argv[optind + 1]; /* or the NULL at the end */
	if (generate(&o, &err) < 0) {
		fprintf(stderr, "gen_seccomp: %s\n", err.msg);
		return 1;
	}
	return 0;
}
