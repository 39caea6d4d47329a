/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a system call filter. Input: one byte (architecture), then the profile. Oracle: a
 * refusal has a message that names the line; what is accepted compiles to a program that the kernel
 * would take, or is too long, and that program decides as the profile does, for each of its calls
 * and others.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "bpf_sim.h"
#include "filter_samples.h"
#include "seccomp_compile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void decides_as(const struct profile *p, const struct filter *f, struct samples *s,
		       uint32_t nr)
{
	struct seccomp_data d = { .nr = (int)nr, .arch = p->arch->audit };
	uint64_t args[6];
	samples_args(s, nr, args);
	memcpy(d.args, args, sizeof(args));
	must(bpf_run(f->insns, &d, NULL) == profile_decide(p, d.arch, nr, args));
	d.arch ^= 1;
	must(bpf_run(f->insns, &d, NULL) == SECCOMP_RET_KILL_PROCESS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct profile p;
	if (size < 1)
		return 0;
	const struct seccomp_arch *arch = seccomp_arch_find(data[0] & 1 ? "aarch64" : "x86_64");
	if (profile_parse("p", (const char *)data + 1, size - 1, arch, &p, &err) < 0) {
		must(strncmp(err.msg, "p:", 2) == 0 && p.rules == NULL);
		return 0;
	}
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	must(f != NULL);
	if (filter_compile(&p, f, &err) < 0) {
		must(err.code == BRIG_E_LIMIT);
		profile_done(&p);
		return 0;
	}
	must(bpf_check(f->insns, f->n) == NULL);
	struct samples s = { .p = &p, .seed = size };
	for (unsigned i = 0; i < p.n_rules; i++)
		for (int k = 0; k < 8; k++)
			decides_as(&p, f, &s, p.rules[i].nr);
	for (uint32_t nr = 0; nr < 1024; nr += 1 + (uint32_t)(samples_random(&s) % 8)) {
		decides_as(&p, f, &s, nr);
		decides_as(&p, f, &s, nr | 0x40000000);
		decides_as(&p, f, &s, 0u - nr);
	}
	profile_done(&p);
	return 0;
}
