/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * vm_init() makes everything while the process still has its rights; vm_loop() is one epoll over the
 * devices' notifications, the agent channel and a wake-up, with nothing but that. Block requests are
 * served in it, one after the other: a VM waits for its own disk only.
 *
 * Watchdog: a round that takes longer than twice ROUND_S is a hung VMM (a disk that never answers, a lock
 * that never opens); the second SIGALRM ends the process and with it the VM. While the loop waits no alarm
 * is set, so an idle VM never wakes up.
 */
#include "engine/microvm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/microvm/acpi.h"
#include "engine/microvm/boot.h"

/* What an event is of: a device by its index, or one of these. */
enum { EV_WAKE = 100, EV_CHAN, EV_CONTROL };

static int kvm_check(int kvm, struct brig_err *err)
{
	static const struct {
		int cap;
		const char *what;
	} need[] = { { KVM_CAP_USER_MEMORY, "memory slots" }, { KVM_CAP_IRQCHIP, "an interrupt controller" },
		     { KVM_CAP_IRQFD, "irqfd" }, { KVM_CAP_IOEVENTFD, "ioeventfd" },
		     { KVM_CAP_EXT_CPUID, "CPUID tables" }, { KVM_CAP_SET_TSS_ADDR, "a TSS address" } };
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "the descriptor is not /dev/kvm of API version %d",
				 KVM_API_VERSION);
	for (unsigned i = 0; i < sizeof(need) / sizeof(need[0]); i++)
		if (ioctl(kvm, KVM_CHECK_EXTENSION, need[i].cap) <= 0)
			return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this KVM lacks %s", need[i].what);
	return 0;
}

static int slots_set(struct vm *vm, struct brig_err *err)
{
	for (unsigned i = 0; i < vm->mem.n; i++) {
		const struct guest_region *r = &vm->mem.region[i];
		struct kvm_userspace_memory_region slot = { .slot = i, .guest_phys_addr = r->start,
							    .memory_size = r->len,
							    .userspace_addr = (uintptr_t)r->host };
		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, errno, "give the guest %llu MiB of memory",
					 (unsigned long long)(r->len >> 20));
	}
	return 0;
}

/* Which MSRs a snapshot has to hold. */
static int msrs_learn(struct vm *vm, struct brig_err *err)
{
	struct {
		uint32_t n, index[SNAP_MSRS_MAX];
	} list = { .n = SNAP_MSRS_MAX };
	_Static_assert(offsetof(__typeof__(list), index) == sizeof(struct kvm_msr_list), "as the kernel has it");
	if (ioctl(vm->kvm, KVM_GET_MSR_INDEX_LIST, &list) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "ask KVM which registers a virtual CPU has");
	vm->nmsrs = list.n;
	memcpy(vm->msr, list.index, list.n * sizeof(list.index[0]));
	return 0;
}

static int machine_make(struct vm *vm, uint64_t memory, int ram, struct brig_err *err)
{
	struct sysinfo host;
	if (sysinfo(&host) == 0 && memory / host.mem_unit > host.totalram) {
		brig_fail(err, BRIG_E_LIMIT, 0, "the guest is to have %llu MiB of memory, the host has %llu",
			  (unsigned long long)(memory >> 20),
			  (unsigned long long)host.totalram * host.mem_unit >> 20);
		return brig_fix(err, "give the sandbox less memory");
	}
	int r = guest_mem_map_file(&vm->mem, memory, ram);
	if (r < 0)
		return brig_fail(err, r == -EINVAL ? BRIG_E_LIMIT : BRIG_E_EXHAUSTED, -r, "map %llu MiB for the guest",
				 (unsigned long long)(memory >> 20));
	if (kvm_check(vm->kvm, err) < 0 || msrs_learn(vm, err) < 0)
		return -1;
	do
		vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	while (vm->fd < 0 && errno == EINTR);
	if (vm->fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a virtual machine");
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)AT_KVM_TSS) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "place KVM's task state");
	if (slots_set(vm, err) < 0)
		return -1;
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "make the interrupt controller");
	for (unsigned i = 0; i < vm->nvcpus; i++)
		if (vcpu_init(vm, i, err) < 0)
			return -1;
	return 0;
}

static int serial_make(struct vm *vm, struct brig_err *err)
{
	serial_init(&vm->serial);
	if (vm->console < 0)
		return 0;
	vm->serial_irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct kvm_irqfd irq = { .fd = (uint32_t)vm->serial_irq, .gsi = SERIAL_IRQ };
	if (vm->serial_irq < 0 || ioctl(vm->fd, KVM_IRQFD, &irq) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "make the serial port");
	int r = fd_set_nonblock(vm->console, 1);
	return r < 0 ? brig_fail(err, BRIG_E_INVALID, -r, "use the console's descriptor") : 0;
}

static int devices_make(struct vm *vm, const struct vm_config *c, struct brig_err *err)
{
	int r = fd_set_nonblock(c->chan, 1);
	if (r < 0)
		return brig_fail(err, BRIG_E_INVALID, -r, "use the agent channel's descriptor");
	vsock_init(&vm->vsock, c->chan, c->port);
	vm->vsock_device = &vm->device[vm->ndevices];
	if (device_add(vm, &vsock_ops, &vm->vsock, 0, err) < 0 || device_add(vm, &rng_ops, NULL, 0, err) < 0 ||
	    device_add(vm, &balloon_ops, &vm->balloon, BALLOON_FEATURES, err) < 0)
		return -1;
	for (unsigned i = 0; i < c->ndisks; i++) {
		char serial[20];
		snprintf(serial, sizeof(serial), "brig%u", i);
		r = blk_init(&vm->blk[i], c->disk[i].fd, !c->disk[i].writable, serial);
		if (r < 0)
			return brig_fail(err, BRIG_E_INVALID, -r, "use disk %u", i);
		blk_limit(&vm->blk[i], c->disk[i].bytes, c->disk[i].requests);
		vm->blk_device[vm->ndisks++] = &vm->device[vm->ndevices];
		if (device_add(vm, &blk_ops, &vm->blk[i], blk_features(&vm->blk[i]), err) < 0)
			return -1;
	}
	return serial_make(vm, err);
}

static int load(struct vm *vm, const struct vm_config *c, struct brig_err *err)
{
	struct acpi_device dev[DEVICES_MAX];
	struct kernel k;
	struct initrd initrd;
	for (unsigned i = 0; i < vm->ndevices; i++)
		dev[i] = (struct acpi_device){ (uint32_t)AT_MMIO + i * MMIO_STRIDE, MMIO_IRQ_FIRST + i };
	if (kernel_load(c->kernel, &vm->mem, &k, err) < 0 ||
	    initrd_load(c->initrd, &vm->mem, &k, &initrd, err) < 0 ||
	    boot_write(&vm->mem, &k, &initrd, c->cmdline, err) < 0)
		return -1;
	int r = acpi_write(&vm->mem, vm->nvcpus, dev, vm->ndevices, vm->console >= 0);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "write the ACPI tables");
	return vcpu_boot(&vm->vcpu[0], &k, err);
}

static int epoll_add(struct vm *vm, int fd, uint32_t events, uint64_t what, struct brig_err *err)
{
	struct epoll_event ev = { .events = events, .data.u64 = what };
	return epoll_ctl(vm->epoll, EPOLL_CTL_ADD, fd, &ev) < 0
		       ? brig_fail(err, BRIG_E_INTERNAL, errno, "wait for a descriptor")
		       : 0;
}

static int loop_make(struct vm *vm, struct brig_err *err)
{
	vm->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (vm->epoll < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make an epoll set");
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (epoll_add(vm, vm->device[i].notify, EPOLLIN, i, err) < 0)
			return -1;
	if (epoll_add(vm, vm->wake, EPOLLIN, EV_WAKE, err) < 0)
		return -1;
	if (vm->control >= 0 && epoll_add(vm, vm->control, EPOLLIN, EV_CONTROL, err) < 0)
		return -1;
	/* Without an event of interest: only its end is reported until the guest has called. */
	return epoll_add(vm, vm->chan, 0, EV_CHAN, err);
}

/* A snapshot fits one machine only. */
static int same_machine(const struct snap *s, const struct vm_config *c, struct brig_err *err)
{
	const struct snap_machine *m = &s->machine;
	const char *what = m->memory != c->memory	   ? "size of memory" :
			   m->nvcpus != c->vcpus	   ? "number of virtual CPUs" :
			   m->port != c->port		   ? "port of the host" :
			   m->has_serial != (c->console >= 0) ? "console" :
							     NULL;
	for (unsigned i = 0; !what && i < DISKS_MAX; i++)
		if ((m->disk_sectors[i] != 0) != (i < c->ndisks))
			what = "number of disks";
	if (!what)
		return 0;
	brig_fail(err, BRIG_E_INVALID, 0, "the snapshot cannot be used: it is of a machine with another %s", what);
	return brig_fix(err, "restore it with the limits and the image with which it was taken");
}

int vm_init(struct vm *vm, const struct vm_config *c, struct brig_err *err)
{
	*vm = (struct vm){ .kvm = c->kvm, .fd = -1, .epoll = -1, .wake = -1, .chan = c->chan,
			   .console = c->console, .control = c->control, .port = c->port, .nvcpus = c->vcpus,
			   .serial_irq = -1, .closed = true };
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		vm->vcpu[i].fd = -1;
	pthread_mutex_init(&vm->gate, NULL);
	pthread_cond_init(&vm->changed, NULL);
	if (vm->control >= 0) {
		vm->snap = malloc(sizeof(*vm->snap));
		vm->snap_bytes = malloc(SNAP_BYTES_MAX);
		if (!vm->snap || !vm->snap_bytes)
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "make room for snapshots");
	}
	vm->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make an eventfd");
	AUTO_FREE struct snap *s = c->state >= 0 ? malloc(sizeof(*s)) : NULL;
	if (c->state >= 0 && !s)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the snapshot");
	if ((s && (state_read(c->state, c->ram, s, err) < 0 || same_machine(s, c, err) < 0)) ||
	    machine_make(vm, c->memory, s ? c->ram : -1, err) < 0 || devices_make(vm, c, err) < 0 ||
	    (s ? state_load(vm, s, err) : load(vm, c, err)) < 0)
		return -1;
	return loop_make(vm, err);
}

void vm_done(struct vm *vm)
{
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		vcpu_done(&vm->vcpu[i]);
	while (vm->ndevices)
		device_done(&vm->device[--vm->ndevices]);
	fd_close(&vm->serial_irq);
	fd_close(&vm->epoll);
	fd_close(&vm->wake);
	fd_close(&vm->fd);
	guest_mem_unmap(&vm->mem);
	free(vm->snap);
	free(vm->snap_bytes);
}

static void signal_ignored(int sig)
{
	(void)sig; /* KVM_RUN returns with EINTR */
}

/* A round that is late. Once may be because the process was stopped in the middle of it (a pause). */
static volatile sig_atomic_t late_rounds;
static void round_late(int sig)
{
	(void)sig;
	if (++late_rounds > 1)
		abort();
	alarm(ROUND_S);
}

int vm_threads_start(struct vm *vm, struct brig_err *err)
{
	const struct sigaction nothing = { .sa_handler = signal_ignored }, late = { .sa_handler = round_late };
	sigset_t alarms;
	sigaction(VCPU_SIGNAL, &nothing, NULL);
	sigaction(SIGALRM, &late, NULL);
	/* Only the VMM thread is to meet that one. */
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		int r = pthread_create(&vm->vcpu[i].thread, NULL, vcpu_main, &vm->vcpu[i]);
		if (r)
			return brig_fail(err, BRIG_E_EXHAUSTED, r, "start the thread of virtual CPU %u", i);
	}
	pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
	/* Behind its filter each of them comes to the gate. */
	pthread_mutex_lock(&vm->gate);
	while (vm->still < vm->nvcpus)
		pthread_cond_wait(&vm->changed, &vm->gate);
	pthread_mutex_unlock(&vm->gate);
	return vm->ended == VM_END_RUNNING ? 0 : brig_fail(err, BRIG_E_UNSUPPORTED, 0, "install the system call filters");
}

void vm_go(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate);
	vm->closed = false;
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vm->vcpu[i].run->immediate_exit = 0;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->gate);
}

void vm_halt(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate);
	vm->closed = true;
	/* The flag for one that is about to enter, the signal for one that is inside. */
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		__atomic_store_n(&vm->vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		int tid = __atomic_load_n(&vm->vcpu[i].tid, __ATOMIC_SEQ_CST);
		if (tid) /* else it has not been at the gate yet */
			syscall(SYS_tkill, tid, VCPU_SIGNAL);
	}
	while (vm->still < vm->nvcpus)
		pthread_cond_wait(&vm->changed, &vm->gate);
	pthread_mutex_unlock(&vm->gate);
}

void vm_end_set(struct vm *vm, enum vm_end end, uint64_t detail0, uint64_t detail1)
{
	int running = VM_END_RUNNING;
	if (__atomic_compare_exchange_n(&vm->ended, &running, (int)end, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		vm->end_detail[0] = detail0;
		vm->end_detail[1] = detail1;
	}
	vm_wake(vm);
}

static void console_flush(struct vm *vm)
{
	uint8_t buf[1024];
	size_t n;
	/* What the console's reader does not take is lost. */
	while (vm->console >= 0 && (n = serial_take(&vm->serial, buf, sizeof(buf))) > 0)
		if (write(vm->console, buf, n) < 0 && errno != EAGAIN)
			vm->console = -1;
}

static void drain(int fd)
{
	uint64_t n;
	ssize_t r = read(fd, &n, sizeof(n));
	(void)r;
}

static void device_run(struct device *d)
{
	if (vmmio_run(&d->mmio)) {
		const uint64_t one = 1;
		ssize_t r = write(d->notify, &one, sizeof(one));
		(void)r;
	}
}

/* After each round: does the channel wait for what the guest waits for? */
static void chan_follow(struct vm *vm)
{
	struct vmmio *m = &vm->vsock_device->mmio;
	pthread_mutex_lock(&m->lock);
	uint32_t events = vsock_events(&vm->vsock);
	bool is_over = vm->vsock.state == VSOCK_ENDED;
	pthread_mutex_unlock(&m->lock);
	if (is_over)
		vm_end_set(vm, VM_END_CHANNEL, 0, 0);
	struct epoll_event ev = { .events = events, .data.u64 = EV_CHAN };
	if (events != vm->chan_events && epoll_ctl(vm->epoll, EPOLL_CTL_MOD, vm->chan, &ev) == 0)
		vm->chan_events = events;
}

/* Serves the disks whose limit lets them go on; returns how long to wait for the next at most, in ms, or
 * -1. */
static int disks_follow(struct vm *vm)
{
	uint64_t now = clock_now(), next = 0;
	for (unsigned i = 0; i < vm->ndisks; i++) {
		struct vmmio *m = &vm->blk_device[i]->mmio;
		for (int tries = 0; tries < 2; tries++) {
			pthread_mutex_lock(&m->lock);
			uint64_t due = vm->blk[i].due;
			pthread_mutex_unlock(&m->lock);
			if (due > now && (next == 0 || due < next))
				next = due;
			if (due == 0 || due > now || tries)
				break;
			device_run(vm->blk_device[i]);
		}
	}
	if (next == 0)
		return -1;
	return next - now < SEC_NS ? (int)((next - now) / MS_NS) + 1 : 1000;
}

static void event(struct vm *vm, const struct epoll_event *e)
{
	if (e->data.u64 == EV_WAKE) {
		drain(vm->wake);
		console_flush(vm);
	} else if (e->data.u64 == EV_CONTROL) {
		if (!control_serve(vm)) {
			epoll_ctl(vm->epoll, EPOLL_CTL_DEL, vm->control, NULL);
			vm->control = -1;
		}
	} else if (e->data.u64 == EV_CHAN) {
		if (e->events & (EPOLLHUP | EPOLLERR))
			vm_end_set(vm, VM_END_CHANNEL, 1, 0);
		else
			device_run(vm->vsock_device);
	} else {
		drain(vm->device[e->data.u64].notify);
		device_run(&vm->device[e->data.u64]);
	}
}

enum vm_end vm_loop(struct vm *vm)
{
	struct epoll_event ev[DEVICES_MAX + 3];
	int end, wait_ms = -1;
	while ((end = __atomic_load_n(&vm->ended, __ATOMIC_ACQUIRE)) == VM_END_RUNNING) {
		int n = epoll_wait(vm->epoll, ev, sizeof(ev) / sizeof(ev[0]), wait_ms);
		if (n < 0 && errno != EINTR) {
			vm_end_set(vm, VM_END_KVM, (uint64_t)errno, 0);
			continue;
		}
		alarm(ROUND_S);
		for (int i = 0; i < n; i++)
			event(vm, &ev[i]);
		chan_follow(vm);
		wait_ms = disks_follow(vm);
		alarm(0);
		late_rounds = 0;
	}
	console_flush(vm);
	return (enum vm_end)end;
}
