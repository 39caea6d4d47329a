/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/container/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "payload_seccomp.h"
#include "suid_seccomp.h"

static int install(const struct sock_filter *filter, unsigned len)
{
	const struct sock_fprog prog = {
		.len = (unsigned short)len,
		/* The kernel only reads it; the uapi type lacks the const. */
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &prog) < 0 ? -errno : 0;
}

int seccomp_install_payload(bool deny_suid)
{
	/* The narrow one first: the payload filter is what decides about the call that installs the
	 * second. */
	int r = deny_suid ? install(suid_filter, SUID_FILTER_LEN) : 0;
	return r < 0 ? r : install(payload_filter, PAYLOAD_FILTER_LEN);
}

const char *seccomp_payload_digest(void)
{
	return PAYLOAD_FILTER_SHA256;
}
