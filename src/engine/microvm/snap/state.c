/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Saving reads a halted machine by KVM's own calls and from our devices, between two rounds of the VMM
 * thread, so no request is half done. It happens behind the filters: each KVM call is a rule of vmm.seccomp.
 *
 * The order in which a vCPU's parts are put in force is not free: CPUID before all (it was set when the vCPU
 * was made), registers that switch modes before the local APIC, the APIC before the MSRs (its timer's deadline
 * is one of them), events last. KVM refuses what a processor could not be in.
 *
 * Interrupts that were on their way are raised again, and every device looks at its queues: a driver is used
 * to interrupts without a reason, and not to their lack.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/vm.h"

#define CHUNK (1u << 20)

/* ---- a vCPU ---- */

struct msrs {
	uint32_t n, pad;
	struct kvm_msr_entry e[SNAP_MSRS_MAX];
};
_Static_assert(offsetof(struct msrs, e) == sizeof(struct kvm_msrs), "as the kernel has it");

/* Those of the list that this vCPU has; KVM stops at the first that it has not. */
static int msrs_save(const struct vm *vm, const struct vcpu *v, struct snap_vcpu *to)
{
	static struct msrs m;
	unsigned next = 0;
	to->nmsrs = 0;
	while (next < vm->nmsrs) {
		m.n = vm->nmsrs - next;
		m.pad = 0;
		for (unsigned i = 0; i < m.n; i++)
			m.e[i] = (struct kvm_msr_entry){ .index = vm->msr[next + i] };
		int got = ioctl(v->fd, KVM_GET_MSRS, &m);
		if (got < 0)
			return -errno;
		memcpy(to->msr + to->nmsrs, m.e, (unsigned)got * sizeof(m.e[0]));
		to->nmsrs += (unsigned)got;
		next += (unsigned)got + 1;
	}
	return 0;
}

/* One by one: some can be read and not written. What could be read and has its value already is no loss;
 * anything else that cannot be written is. */
static int msrs_load(const struct vcpu *v, const struct snap_vcpu *from)
{
	for (unsigned i = 0; i < from->nmsrs; i++) {
		static struct msrs m;
		m.n = 1;
		m.e[0] = from->msr[i];
		if (ioctl(v->fd, KVM_SET_MSRS, &m) == 1)
			continue;
		m.e[0].data = 0;
		if (ioctl(v->fd, KVM_GET_MSRS, &m) != 1 || m.e[0].data != from->msr[i].data)
			return -EINVAL;
	}
	return 0;
}

static int vcpu_save(const struct vm *vm, const struct vcpu *v, struct snap_vcpu *to)
{
	if (ioctl(v->fd, KVM_GET_MP_STATE, &to->mp_state) < 0 || ioctl(v->fd, KVM_GET_REGS, &to->regs) < 0 ||
	    ioctl(v->fd, KVM_GET_SREGS, &to->sregs) < 0 || ioctl(v->fd, KVM_GET_XSAVE, &to->xsave) < 0 ||
	    ioctl(v->fd, KVM_GET_XCRS, &to->xcrs) < 0 || ioctl(v->fd, KVM_GET_DEBUGREGS, &to->debugregs) < 0 ||
	    ioctl(v->fd, KVM_GET_LAPIC, &to->lapic) < 0 || ioctl(v->fd, KVM_GET_VCPU_EVENTS, &to->events) < 0)
		return -errno;
	return msrs_save(vm, v, to);
}

static int vcpu_load(const struct vcpu *v, const struct snap_vcpu *from)
{
	if (ioctl(v->fd, KVM_SET_MP_STATE, &from->mp_state) < 0 || ioctl(v->fd, KVM_SET_REGS, &from->regs) < 0 ||
	    ioctl(v->fd, KVM_SET_SREGS, &from->sregs) < 0 || ioctl(v->fd, KVM_SET_XSAVE, &from->xsave) < 0 ||
	    ioctl(v->fd, KVM_SET_XCRS, &from->xcrs) < 0 || ioctl(v->fd, KVM_SET_DEBUGREGS, &from->debugregs) < 0 ||
	    ioctl(v->fd, KVM_SET_LAPIC, &from->lapic) < 0)
		return -errno;
	int r = msrs_load(v, from);
	if (r == 0 && ioctl(v->fd, KVM_SET_VCPU_EVENTS, &from->events) < 0)
		r = -errno;
	/* The guest's watchdog is not to take the time in between for a hang; one without a clock has none. */
	if (r == 0 && ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		r = -errno;
	return r;
}

/* ---- saving ---- */

static int machine_save(struct vm *vm, struct snap *s)
{
	struct snap_machine *m = &s->machine;
	if (getrandom(m->id, sizeof(m->id), 0) != sizeof(m->id))
		return -EIO;
	for (unsigned i = 0; i < vm->mem.n; i++)
		m->memory += vm->mem.region[i].len;
	for (unsigned i = 0; i < vm->ndisks; i++)
		m->disk_sectors[i] = vm->blk[i].sectors;
	m->nvcpus = vm->nvcpus;
	m->ndevices = vm->ndevices;
	m->cpuid = vm->cpuid;
	m->port = vm->port;
	m->has_serial = vm->serial_irq >= 0;
	if (m->has_serial)
		serial_save(&vm->serial, &m->serial);
	vsock_save(&vm->vsock, &m->vsock);
	for (uint32_t i = 0; i < 3; i++) {
		m->chip[i].chip_id = i;
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &m->chip[i]) < 0)
			return -errno;
	}
	if (ioctl(vm->fd, KVM_GET_CLOCK, &m->clock) < 0)
		return -errno;
	for (unsigned i = 0; i < vm->ndevices; i++)
		vmmio_save(&vm->device[i].mmio, &s->device[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		int r = vcpu_save(vm, &vm->vcpu[i], &s->vcpu[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_at(int fd, const void *p, size_t n, uint64_t at)
{
	size_t done = 0;
	while (done < n) {
		struct iovec v = { (uint8_t *)(uintptr_t)p + done, n - done };
		ssize_t r = pwritev(fd, &v, 1, (off_t)(at + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		done += (size_t)r;
	}
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, GUEST_PAGE - 1) == 0;
}

/* What is not zero; the rest of the file is a hole. */
static int region_save(const struct guest_region *r, int fd, uint64_t at)
{
	uint64_t from = 0; /* of the run */
	for (uint64_t p = 0; p <= r->len; p += GUEST_PAGE) {
		bool ends = p == r->len || is_zero(r->host + p) || p - from >= CHUNK;
		if (!ends)
			continue;
		if (p > from) {
			/* A disk may be slow, but each piece of it has the round's whole time. */
			alarm(ROUND_S);
			int e = write_at(fd, r->host + from, p - from, at + from);
			if (e < 0)
				return e;
		}
		bool keeps = p < r->len && !is_zero(r->host + p);
		from = keeps ? p : p + GUEST_PAGE;
	}
	return 0;
}

static int ram_save(const struct vm *vm, const struct snap_machine *m, int fd)
{
	uint8_t tail[SNAP_RAM_TAIL];
	uint64_t at = 0;
	for (unsigned i = 0; i < vm->mem.n; i++) {
		int r = region_save(&vm->mem.region[i], fd, at);
		if (r < 0)
			return r;
		at += vm->mem.region[i].len;
	}
	/* Last, so that a file that was cut, or is still being written, has none. */
	snap_tail_write(m, tail);
	return write_at(fd, tail, sizeof(tail), at);
}

int state_save(struct vm *vm, int state, int ram, struct brig_err *err)
{
	for (unsigned i = 0; i < vm->ndisks; i++)
		if (!vm->blk[i].readonly)
			return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a machine with a writable disk has no snapshots");
	struct snap *s = vm->snap;
	memset(s, 0, sizeof(*s));
	int r = machine_save(vm, s);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, -r, "read the state of the virtual machine");
	r = ram_save(vm, &s->machine, ram);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the memory of the virtual machine");
	snap_write(s, vm->snap_bytes);
	r = write_at(state, vm->snap_bytes, snap_size(s), 0);
	return r < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the state of the virtual machine") : 0;
}

/* ---- restoring ---- */

int state_read(int state, int ram, struct snap *ret, struct brig_err *err)
{
	uint8_t page[SNAP_RAM_TAIL];
	struct stat st;
	if (fstat(state, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > (off_t)SNAP_BYTES_MAX)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "the snapshot cannot be used: it is not the state of a virtual "
							 "machine of brig");
	size_t n = (size_t)st.st_size;
	AUTO_FREE uint8_t *p = malloc(n);
	if (!p)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the snapshot");
	if (pread(state, p, n, 0) != (ssize_t)n)
		return brig_fail(err, BRIG_E_CORRUPT, errno, "read the snapshot");
	if (snap_read(p, n, ret, err) < 0)
		return -1;
	memset(page, 0, sizeof(page));
	if (pread(ram, page, sizeof(page), (off_t)ret->machine.memory) != sizeof(page))
		memset(page, 0, sizeof(page));
	return snap_tail_check(&ret->machine, page, err);
}

static int unfit(struct brig_err *err, int e, const char *why)
{
	brig_fail(err, BRIG_E_UNSUPPORTED, e, "the snapshot cannot be used here: %s", why);
	return brig_fix(err, "restore it on a host with the same processor and kernel as where it was taken");
}

int state_load(struct vm *vm, const struct snap *s, struct brig_err *err)
{
	const struct snap_machine *m = &s->machine;
	if (m->cpuid != vm->cpuid)
		return unfit(err, 0, "this processor, or this KVM, is another one");
	if (m->ndevices != vm->ndevices)
		return unfit(err, 0, "it has other devices");
	for (unsigned i = 0; i < vm->ndisks; i++)
		if (m->disk_sectors[i] != vm->blk[i].sectors)
			return unfit(err, 0, "a disk has another size");
	for (unsigned i = 0; i < 3; i++)
		if (ioctl(vm->fd, KVM_SET_IRQCHIP, &m->chip[i]) < 0)
			return unfit(err, errno, "KVM refuses the interrupt controller's state");
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		int r = vcpu_load(&vm->vcpu[i], &s->vcpu[i]);
		if (r < 0)
			return unfit(err, -r, "KVM refuses a virtual CPU's state");
	}
	const struct kvm_clock_data clock = { .clock = m->clock.clock };
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
		return unfit(err, errno, "KVM refuses the clock");
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vmmio_load(&vm->device[i].mmio, &s->device[i]) < 0)
			return unfit(err, 0, "a device's state makes no sense");
	vsock_load(&vm->vsock, &m->vsock);
	if (m->has_serial)
		serial_load(&vm->serial, &m->serial);
	devices_remind(vm);
	return 0;
}
