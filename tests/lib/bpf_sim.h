/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf_sim.h: what the kernel would do with a seccomp program. Knows the instructions that the
 * kernel accepts in one, and checks them as it does before the first run (seccomp_check_filter).
 */
#ifndef BRIG_TESTS_BPF_SIM_H
#define BRIG_TESTS_BPF_SIM_H

#include <linux/filter.h>
#include <linux/seccomp.h>

/* NULL = the kernel would take it; else the reason why not. */
const char *bpf_check(const struct sock_filter *f, unsigned n);
/* The verdict of a checked program; *ret_steps = instructions on the way, may be NULL. */
unsigned bpf_run(const struct sock_filter *f, const struct seccomp_data *d, unsigned *ret_steps);

#endif
