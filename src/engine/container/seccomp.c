/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The last step of confinement, in the child that becomes the agent. The programs are constants of
 * this binary: nothing is allocated or compiled here but what the kernel does for itself. It
 * emulates a new filter for every system call number, to remember those that are always allowed, so
 * the cost of installing one is the sum of its paths; tools/seccomp_compile.c keeps that small.
 */
#include "engine/container/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gvisor_seccomp.h"
#include "payload_seccomp.h"
#include "suid_seccomp.h"

static int install(const struct sock_filter *filter, unsigned short len)
{
	const struct sock_fprog prog = {
		.len = len,
		/* The kernel only reads it; the uapi type lacks the const. */
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};
	/* No flags: one thread, and the kernel's mitigations for filtered processes stay on. */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &prog) < 0 ? -errno : 0;
}

int seccomp_install_payload(bool deny_suid)
{
	/* The small one first: it lets the call through that installs the other. */
	int r = deny_suid ? install(suid_filter, SUID_FILTER_LEN) : 0;
	return r < 0 ? r : install(payload_filter, PAYLOAD_FILTER_LEN);
}

int seccomp_install_gvisor(bool deny_suid)
{
	int r = deny_suid ? install(suid_filter, SUID_FILTER_LEN) : 0;
	return r < 0 ? r : install(gvisor_filter, GVISOR_FILTER_LEN);
}

int seccomp_install_suid(void)
{
	return install(suid_filter, SUID_FILTER_LEN);
}

const char *seccomp_payload_digest(void)
{
	return PAYLOAD_FILTER_SHA256;
}

int seccomp_which(const struct sock_filter *insns, unsigned n)
{
	if (n == PAYLOAD_FILTER_LEN && memcmp(insns, payload_filter, sizeof(payload_filter)) == 0)
		return SECCOMP_PAYLOAD;
	if (n == SUID_FILTER_LEN && memcmp(insns, suid_filter, sizeof(suid_filter)) == 0)
		return SECCOMP_SUID;
	if (n == GVISOR_FILTER_LEN && memcmp(insns, gvisor_filter, sizeof(gvisor_filter)) == 0)
		return SECCOMP_GVISOR;
	return -1;
}

const char *seccomp_digest(int which)
{
	return which == SECCOMP_PAYLOAD ? PAYLOAD_FILTER_SHA256 :
	       which == SECCOMP_SUID	? SUID_FILTER_SHA256 :
					  GVISOR_FILTER_SHA256;
}

const char *seccomp_name(int which)
{
	return which == SECCOMP_PAYLOAD ? "payload" : which == SECCOMP_SUID ? "suid" : "gvisor";
}

unsigned seccomp_payload_allowed(void)
{
	return PAYLOAD_FILTER_ALLOWED;
}
