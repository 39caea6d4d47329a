/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A vCPU thread enters the guest, serves the register access for which it came out, and enters again.
 * The guest is assumed to own its vCPU thread's every input from the first instruction on; the thread
 * can do nothing but KVM_RUN, wake the VMM thread, raise an interrupt line and end (vcpu.seccomp).
 * What it cannot serve ends the VM, never the thread alone.
 *
 * The first vCPU starts at the kernel's entry; the others wait in KVM for the guest's INIT and SIPI.
 *
 * A halt (vm_halt) sets immediate_exit, and sends a signal. A thread looks at the gate only when KVM_RUN
 * was interrupted: KVM completes an access that was served on the next entry, and with immediate_exit set
 * it does that and comes back, so no state is left in between.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/boot.h"
#include "engine/microvm/cpuid.h"
#include "engine/microvm/filter.h"
#include "engine/microvm/vm.h"

#define MSR_IA32_MISC_ENABLE 0x1a0u
#define MSR_MTRR_DEF_TYPE 0x2ffu

static int cpuid_set(struct vm *vm, struct vcpu *v, struct brig_err *err)
{
	static struct cpuid c; /* one thread at this time */
	c.nent = CPUID_ENTRIES_MAX;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &c) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "ask KVM for its CPUID table");
	cpuid_shape(&c, v->id, vm->nvcpus, ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
	if (v->id == 0)
		vm->cpuid = crc32c(0, c.entry, c.nent * sizeof(c.entry[0]));
	if (ioctl(v->fd, KVM_SET_CPUID2, &c) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "set a virtual CPU's CPUID table");
	return 0;
}

/* Write-back memory by default, as firmware would have left it: without, Linux does without PAT. Both
 * are no more than hints; a KVM that has them not is no reason to fail. */
static void msrs_set(struct vcpu *v)
{
	struct {
		uint32_t n, pad;
		struct kvm_msr_entry e[2];
	} m = { .n = 2, .e = { { .index = MSR_MTRR_DEF_TYPE, .data = 0xc06 },
			       { .index = MSR_IA32_MISC_ENABLE, .data = 1 } } };
	_Static_assert(offsetof(__typeof__(m), e) == sizeof(struct kvm_msrs), "as the kernel has it");
	int r = ioctl(v->fd, KVM_SET_MSRS, &m);
	(void)r;
}

int vcpu_init(struct vm *vm, unsigned id, struct brig_err *err)
{
	struct vcpu *v = &vm->vcpu[id];
	*v = (struct vcpu){ .vm = vm, .id = id, .fd = -1 };
	int len = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (len < (int)sizeof(*v->run))
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "ask KVM for the size of a virtual CPU");
	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	if (v->fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make virtual CPU %u", id);
	void *p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (p == MAP_FAILED)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "map virtual CPU %u", id);
	v->run = p;
	v->run_len = (size_t)len;
	if (cpuid_set(vm, v, err) < 0)
		return -1;
	msrs_set(v);
	return 0;
}

void vcpu_done(struct vcpu *v)
{
	if (v->run)
		munmap(v->run, v->run_len);
	v->run = NULL;
	fd_close(&v->fd);
}

int vcpu_boot(struct vcpu *v, const struct kernel *k, struct brig_err *err)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "read the boot CPU's registers");
	boot_registers(k, &regs, &sregs);
	if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "set the boot CPU's registers");
	return 0;
}

static void exit_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		devices_pio(v->vm, run->io.port, data, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
}

/* Serves one exit; false: the VM is over. */
static bool exit_serve(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO: exit_io(v); return true;
	case KVM_EXIT_MMIO:
		devices_mmio(v->vm, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
		return true;
	case KVM_EXIT_INTR: return true;
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_SYSTEM_EVENT: vm_end_set(v->vm, VM_END_RESET, run->exit_reason, 0); return false;
	case KVM_EXIT_FAIL_ENTRY:
		vm_end_set(v->vm, VM_END_KVM, run->exit_reason, run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		vm_end_set(v->vm, VM_END_BROKEN, run->exit_reason, run->internal.suberror);
		return false;
	default: vm_end_set(v->vm, VM_END_BROKEN, run->exit_reason, 0); return false;
	}
}

/* Stands still while the gate is closed; for good: it will never run again. */
static void stand(struct vm *vm, bool for_good)
{
	pthread_mutex_lock(&vm->gate);
	if (vm->closed || for_good) {
		vm->still++;
		pthread_cond_broadcast(&vm->changed);
		while (vm->closed && !for_good)
			pthread_cond_wait(&vm->changed, &vm->gate);
		vm->still -= !for_good;
	}
	pthread_mutex_unlock(&vm->gate);
}

void *vcpu_main(void *vcpu)
{
	struct vcpu *v = vcpu;
	__atomic_store_n(&v->tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	int r = filter_vcpu();
	if (r < 0)
		vm_end_set(v->vm, VM_END_KVM, (uint64_t)-r, 0);
	stand(v->vm, false);
	while (r == 0) {
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			/* EAGAIN: a vCPU that the guest has not started yet was woken. EINTR: also once the access
			 * that was served last is complete. */
			if (errno == EINTR || errno == EAGAIN) {
				stand(v->vm, false);
				continue;
			}
			vm_end_set(v->vm, VM_END_KVM, (uint64_t)errno, 0);
			break;
		}
		if (!exit_serve(v))
			break;
	}
	stand(v->vm, true);
	/* Not pthread_exit(): nobody joins, and the process is about to end. */
	syscall(SYS_exit, 0);
	return NULL;
}
