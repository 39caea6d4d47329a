/* SPDX-License-Identifier: Apache-2.0 */
#include "bpf_sim.h"

#include <stdint.h>
#include <string.h>

#define MEM_WORDS 16

const char *bpf_check(const struct sock_filter *f, unsigned n)
{
	if (n == 0 || n > BPF_MAXINSNS)
		return "length";
	for (unsigned i = 0; i < n; i++) {
		uint32_t left = n - i - 1; /* instructions that follow */
		switch (f[i].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (f[i].k >= sizeof(struct seccomp_data) || f[i].k & 3)
				return "load outside of struct seccomp_data";
			break;
		case BPF_ALU | BPF_AND | BPF_K:
		case BPF_ALU | BPF_OR | BPF_K:
		case BPF_ALU | BPF_AND | BPF_X:
		case BPF_LD | BPF_IMM:
		case BPF_LDX | BPF_IMM:
		case BPF_MISC | BPF_TAX:
		case BPF_MISC | BPF_TXA:
			break;
		case BPF_ST:
		case BPF_LD | BPF_MEM:
		case BPF_LDX | BPF_MEM:
			if (f[i].k >= MEM_WORDS)
				return "scratch memory";
			break;
		case BPF_RET | BPF_K:
			continue;
		case BPF_JMP | BPF_JA:
			if (f[i].k >= left)
				return "jump behind the end";
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			if (f[i].jt >= left || f[i].jf >= left)
				return "conditional jump behind the end";
			break;
		default:
			return "an instruction that is not expected here";
		}
	}
	return f[n - 1].code == (BPF_RET | BPF_K) ? NULL : "the end is no return";
}

unsigned bpf_run(const struct sock_filter *f, const struct seccomp_data *d, unsigned *ret_steps)
{
	uint32_t a = 0, x = 0, mem[MEM_WORDS] = { 0 };
	unsigned pc = 0, steps = 0;
	for (;;) {
		const struct sock_filter *i = &f[pc++];
		int yes;
		steps++;
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)d + i->k, sizeof(a));
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_ALU | BPF_AND | BPF_X:
			a &= x;
			continue;
		case BPF_ALU | BPF_OR | BPF_K:
			a |= i->k;
			continue;
		case BPF_ST:
			mem[i->k] = a;
			continue;
		case BPF_LD | BPF_MEM:
			a = mem[i->k];
			continue;
		case BPF_LDX | BPF_MEM:
			x = mem[i->k];
			continue;
		case BPF_LD | BPF_IMM:
			a = i->k;
			continue;
		case BPF_LDX | BPF_IMM:
			x = i->k;
			continue;
		case BPF_MISC | BPF_TAX:
			x = a;
			continue;
		case BPF_MISC | BPF_TXA:
			a = x;
			continue;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = (a & i->k) != 0;
			break;
		default: /* BPF_RET | BPF_K: bpf_check() has seen to it */
			if (ret_steps)
				*ret_steps = steps;
			return i->k;
		}
		pc += yes ? i->jt : i->jf;
	}
}
