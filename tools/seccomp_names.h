/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_names.h: what the words of a filter profile stand for: system calls, errors and the
 * constants of their arguments, per architecture. Build time only.
 */
#ifndef BRIG_TOOLS_SECCOMP_NAMES_H
#define BRIG_TOOLS_SECCOMP_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seccomp_arch {
	const char *name;  /* as `uname -m` says it */
	const char *macro; /* what the compiler defines for it */
	uint32_t audit;	   /* AUDIT_ARCH_*: seccomp_data.arch */
	uint32_t scmp;	   /* SCMP_ARCH_*: the same for libseccomp */
	uint32_t foreign;  /* numbers from here on, but the last, are another ABI's; 0 = none */
};

/*
 * The last system call that existed when this list was written (file_setattr, Linux 6.17). Since
 * Linux 5.1 all architectures number new calls alike, so one constant serves them. It is a constant
 * and no question to libseccomp, so that one source gives one filter whatever the build host knows.
 */
#define SYSCALL_LAST 469u

/* By `uname -m`; NULL = the host's. Answers NULL for one that no profile was written for. */
const struct seccomp_arch *seccomp_arch_find(const char *name);

/* 0 and the number, or -ENOENT: this architecture has no such call. */
int seccomp_syscall_number(const struct seccomp_arch *arch, const char *name, uint32_t *ret);
/* An error by its name. 0 or -ENOENT. */
int seccomp_errno_number(const char *name, uint32_t *ret);
/* A constant of an argument by the name that the kernel's headers give it. 0 or -ENOENT. */
int seccomp_constant(const char *name, uint32_t *ret);

#endif
