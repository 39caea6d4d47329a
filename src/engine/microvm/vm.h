/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h: one virtual machine on KVM: memory, vCPUs, devices, and how it ends.
 *
 * Threads: the VMM thread (vm_loop) and one per vCPU. They share what stands in struct vm and is
 * written before the vCPUs start; after that only `ended` (atomic), each device's registers (its own
 * lock), the serial port (its own lock) and what `gate` guards change.
 */
#ifndef BRIG_MICROVM_VM_H
#define BRIG_MICROVM_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#include "base/err.h"
#include "engine/microvm/dev/balloon.h"
#include "engine/microvm/dev/blk.h"
#include "engine/microvm/dev/rng.h"
#include "engine/microvm/dev/serial.h"
#include "engine/microvm/dev/vsock.h"
#include "engine/microvm/guest_mem.h"
#include "engine/microvm/kernel.h"
#include "engine/microvm/layout.h"
#include "engine/microvm/snap/format.h"

#define DISKS_MAX SNAP_DISKS_MAX
#define ROUND_S 15u /* a round of the VMM thread that takes twice as long ends the process */

/* Why a VM is no more. X(name, exit code of brig-vmm, text). */
#define VM_ENDS(X)                                                                          \
	X(RUNNING, 0, "it runs")                                                            \
	X(CHANNEL, 0, "the agent channel was closed")                                       \
	X(RESET, 0, "the guest switched itself off or crashed")                             \
	X(BROKEN, 3, "the guest put its virtual CPU into a state that cannot be emulated")  \
	X(KVM, 4, "KVM refused to run the virtual CPU")
enum vm_end {
#define X(name, code, text) VM_END_##name,
	VM_ENDS(X)
#undef X
};

struct vm;
struct vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct kvm_run *run;
	size_t run_len;
	pthread_t thread;
	int tid; /* of it */
};

struct device {
	struct vmmio mmio;
	struct vm *vm;
	int notify, irq; /* eventfds: of the guest's notifications, and for its interrupt */
};

/* What brig-vmm is given; descriptors are owned by the caller. */
struct vm_config {
	int kvm, kernel, initrd, chan, console; /* initrd and console may be -1 */
	int control;	/* of control.h; may be -1 */
	int state, ram; /* of a snapshot, which then takes the kernel's place; else -1 */
	struct {
		int fd;
		bool writable;
		uint64_t bytes, requests; /* a second; 0 = no limit */
	} disk[DISKS_MAX];
	unsigned ndisks, vcpus;
	uint64_t memory; /* bytes */
	uint32_t port;	 /* of the host, where the agent calls */
	uint32_t uid, gid;
	const char *cmdline;
};

struct vm {
	int kvm, fd, epoll;
	int wake; /* eventfd: the VMM thread is to look at `ended`, resets and the serial port */
	int chan, console, control;
	struct guest_mem mem;
	struct snap *snap; /* room for a snapshot, and for its file; NULL without `control` */
	uint8_t *snap_bytes;
	uint32_t port;
	uint32_t cpuid; /* CRC-32C of the first vCPU's table */
	unsigned nmsrs;
	uint32_t msr[SNAP_MSRS_MAX]; /* that make up a vCPU's state, by KVM's word */
	unsigned nvcpus, ndevices, ndisks;
	struct vcpu vcpu[VCPUS_MAX];
	struct device device[DEVICES_MAX];
	struct blk blk[DISKS_MAX];
	struct balloon balloon;
	struct vsock vsock;
	struct device *vsock_device, *blk_device[DISKS_MAX];
	struct serial serial;
	int serial_irq;
	int ended;		  /* enum vm_end; the first one counts; __atomic */
	uint64_t end_detail[2];	  /* numbers for the log */
	/* Guards: */
	pthread_mutex_t gate;
	pthread_cond_t changed;
	bool closed;	/* the vCPUs are to stand still; so it begins */
	unsigned still; /* those that do, or have ended */
	uint32_t chan_events;	  /* as epoll has it */
};

/* Makes all of it, with the kernel loaded or a snapshot put in force and nothing running. 0, or -1 with err set; then, too,
 * vm_done(). Slots come before the interrupt controller: the other way round costs ten times as much. */
int vm_init(struct vm *vm, const struct vm_config *c, struct brig_err *err);
void vm_done(struct vm *vm);

/* The vCPU threads: each installs its filter and waits for vm_go(). */
int vm_threads_start(struct vm *vm, struct brig_err *err);
void vm_go(struct vm *vm);
/* The VMM thread: returns when no vCPU is in the guest, and none will be before vm_go(). */
void vm_halt(struct vm *vm);
/* The VMM thread; returns when the VM has ended. */
enum vm_end vm_loop(struct vm *vm);

/* From any thread. Only the first call counts. */
void vm_end_set(struct vm *vm, enum vm_end end, uint64_t detail0, uint64_t detail1);
void vm_wake(struct vm *vm);

/* snap/state.c. Both with no vCPU in the guest. Save: what the machine is and its memory, into two files that
 * are empty; the machine goes on being what it is. Read: what a file says, checked as far as can be without a
 * machine. Load: into a machine that has been made by the same configuration. 0, or -1 with err set. */
struct snap;
int state_save(struct vm *vm, int state, int ram, struct brig_err *err);
int state_read(int state, int ram, struct snap *ret, struct brig_err *err);
int state_load(struct vm *vm, const struct snap *s, struct brig_err *err);

/* control.c: serves one request. False: the other end is gone. */
bool control_serve(struct vm *vm);
/* Says how something went; err NULL: well. */
void vm_tell(const struct vm *vm, uint32_t verb, const struct brig_err *err);

/* vcpu.c */
#define VCPU_SIGNAL SIGUSR1 /* brings one out of the guest */
int vcpu_init(struct vm *vm, unsigned id, struct brig_err *err);
void vcpu_done(struct vcpu *v);
int vcpu_boot(struct vcpu *v, const struct kernel *k, struct brig_err *err);
void *vcpu_main(void *vcpu);

/* device.c: adds a device; its registers, its two eventfds. */
int device_add(struct vm *vm, const struct vdev_ops *ops, void *dev, uint64_t features, struct brig_err *err);
void device_done(struct device *d);
/* Before a restored machine goes on: every device looks at its queues, every interrupt that may have been lost
 * comes again. */
void devices_remind(struct vm *vm);
/* An access of a vCPU to a device's page or to nothing; len 1, 2, 4, 8. */
void devices_mmio(struct vm *vm, uint64_t at, uint8_t *data, unsigned len, bool is_write);
void devices_pio(struct vm *vm, uint16_t port, uint8_t *data, unsigned len, bool is_write);

#endif
