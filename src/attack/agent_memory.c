/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks into the first process, the agent: its memory, environment, descriptors and program
 * (CVE-2019-5736: what /proc/1/exe leads to may be the host's), then by the calls of a debugger.
 * The process that the runner names is tried first: outside, so that the host's own is left in
 * peace.
 */
#include "attack/attack.h"

#include <sys/ptrace.h>
#include <sys/uio.h>

static void look_into(long pid)
{
	static const char *const read_only[] = {
		"maps", "environ", "auxv", "stack", "syscall", "io"
	};
	static const char *const opened[] = { "mem", "exe", "pagemap" };
	char path[64], buf[64];
	for (size_t i = 0; i < N(read_only); i++) {
		snprintf(path, sizeof(path), "/proc/%ld/%s", pid, read_only[i]);
		if (read_some(path, buf, sizeof(buf)) > 0)
			broken("%s can be read", path);
	}
	for (size_t i = 0; i < N(opened); i++) {
		snprintf(path, sizeof(path), "/proc/%ld/%s", pid, opened[i]);
		if (open(path, O_RDONLY | O_CLOEXEC) >= 0)
			broken("%s can be opened", path);
	}
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%ld/fd/%d", pid, fd);
		if (readlink(path, buf, sizeof(buf)) >= 0)
			broken("%s can be read", path);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
		broken("process %ld can be traced", pid);
	struct iovec here = { buf, 1 }, there = { (void *)(uintptr_t)0x400000, 1 };
	if (syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT)
		broken("process_vm_readv of process %ld", pid);
}

ATTACK(agent_memory)
{
	look_into(strtol(canary("BRIG_CANARY_PID"), NULL, 10));
	look_into(1);
	held("%s", strerror(errno));
}
