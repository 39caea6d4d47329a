/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * That /dev/kvm is there says little: inside a virtual machine it may be backed by something that
 * emulates most guests, in which a kernel would take minutes to boot. No interface tells. So a guest
 * of a few bytes runs an empty loop in the mode that kernels live in, long mode with paging, and is
 * timed. It has no interrupt controller, which makes it and its end cheap.
 */
#include "engine/microvm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/microvm/boot.h"
#include "engine/microvm/layout.h"

#define TIMEOUT_S 5
#define TRIES 5
#define DONE_PORT 0x80

int kvm_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
		return fd;
	close(fd);
	return -ENOSYS;
}

/* mov ecx, turns; 1: dec ecx; jnz 1b; out DONE_PORT, al; hlt */
static void code_write(const struct guest_mem *m)
{
	const uint32_t turns = KVM_PROBE_TURNS;
	uint8_t code[] = { 0xb9, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xe6, DONE_PORT, 0xf4 };
	memcpy(code + 1, &turns, sizeof(turns));
	guest_write(m, GPA(AT_KERNEL_MIN), code, sizeof(code));
}

static void on_alarm(int sig)
{
	(void)sig; /* KVM_RUN returns with EINTR */
}

/* Runs until the guest tells that it is done. */
static int run(int vcpu, const struct kvm_run *run, uint64_t *ret_us)
{
	const struct sigaction act = { .sa_handler = on_alarm };
	struct sigaction old;
	sigaction(SIGALRM, &act, &old);
	alarm(TIMEOUT_S);
	uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	int r = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
	*ret_us = (clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1000;
	alarm(0);
	sigaction(SIGALRM, &old, NULL);
	if (r == -EINTR)
		return -ETIMEDOUT;
	if (r == 0 && (run->exit_reason != KVM_EXIT_IO || run->io.port != DONE_PORT))
		r = -EIO;
	return r;
}

static int vcpu_run(int kvm, int vm, const struct kernel *k, uint64_t *ret_us)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int len = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	AUTO_FD vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (len < (int)sizeof(struct kvm_run) || vcpu < 0)
		return -errno;
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	boot_registers(k, &regs, &sregs);
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return -errno;
	void *p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (p == MAP_FAILED)
		return -errno;
	int r = run(vcpu, p, ret_us);
	munmap(p, (size_t)len);
	return r;
}

static int loop_once(int kvm, uint64_t *ret_us)
{
	const struct kernel k = { .mode = KERNEL_64, .entry = AT_KERNEL_MIN, .cmdline_max = CMDLINE_MAX };
	const struct initrd none = { 0 };
	struct brig_err err = BRIG_ERR_INIT;
	struct guest_mem m;
	AUTO_FD vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int r = vm < 0 ? -errno : guest_mem_map(&m, GUEST_MEM_MIN);
	if (r < 0)
		return r;
	struct kvm_userspace_memory_region slot = { .memory_size = m.region[0].len,
						    .userspace_addr = (uintptr_t)m.region[0].host };
	if (ioctl(vm, KVM_SET_TSS_ADDR, (unsigned long)AT_KVM_TSS) < 0 ||
	    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		r = -errno;
	else if (boot_write(&m, &k, &none, "", &err) < 0)
		r = -EIO;
	if (r == 0) {
		code_write(&m);
		r = vcpu_run(kvm, vm, &k, ret_us);
	}
	/* The machine goes first: its memory is then nobody's. */
	fd_close(&vm);
	guest_mem_unmap(&m);
	return r;
}

int kvm_probe_loop(int kvm, uint64_t *ret_us)
{
	int r = 0;
	*ret_us = UINT64_MAX;
	/* Others may have disturbed it once. */
	for (int tries = 0; r == 0 && tries < TRIES && *ret_us > KVM_PROBE_SLOW_US; tries++) {
		uint64_t us = 0;
		r = loop_once(kvm, &us);
		*ret_us = us < *ret_us ? us : *ret_us;
	}
	return r;
}
