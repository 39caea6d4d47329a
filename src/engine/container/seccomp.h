/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp.h: the system call filters of everything that runs inside a container. Their text, and
 * the reason for each line, is in payload.seccomp and suid.seccomp; tools/gen_seccomp compiles them
 * at build time.
 */
#ifndef BRIG_CONTAINER_SECCOMP_H
#define BRIG_CONTAINER_SECCOMP_H

#include <stdbool.h>

/*
 * Installs the payload filter on the calling thread, and with deny_suid also the one that refuses
 * to make set-user-ID and set-group-ID files. Both are inherited by every child and can never be
 * taken off. Needs no_new_privs. 0 or -errno: -EACCES without no_new_privs, -EINVAL on a kernel
 * without filters, -ENOMEM. After an error with deny_suid one of the two may be in place: end the
 * process.
 */
int seccomp_install_payload(bool deny_suid);

/* What runsc and its processes may do (engine/gvisor/gvisor.seccomp). */
int seccomp_install_gvisor(bool deny_suid);

/* The second of them alone, for a process that has the payload filter already (which allows to add more). */
int seccomp_install_suid(void);

/* SHA-256, in hexadecimal, of the payload filter as the kernel got it: which policy a run had. */
const char *seccomp_payload_digest(void);
/* How many system calls some rule of it allows. */
unsigned seccomp_payload_allowed(void);

/* Which filter of this build a program of n instructions is, byte by byte; -1 none. */
enum { SECCOMP_PAYLOAD, SECCOMP_SUID, SECCOMP_GVISOR, SECCOMP__N };
struct sock_filter;
int seccomp_which(const struct sock_filter *insns, unsigned n);
/* SHA-256 of one's program, in hexadecimal, and its name. */
const char *seccomp_digest(int which);
const char *seccomp_name(int which);

#endif
