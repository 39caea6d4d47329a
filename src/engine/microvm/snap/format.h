/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h: the file in which a virtual machine's state lies, all but its memory.
 *
 *     header, sections, each a head of 8 bytes and a body whose length its kind decides
 *
 * The header has a version, the length and a CRC-32C of everything behind it. Whoever reads one takes it
 * for hostile: every length is held against the file, every count against its maximum, and nothing is used
 * before all of it was read. What registers and rings say is judged where it is put in force, by the rules
 * that hold for a guest which sets them itself (KVM's for the processor, ours for devices).
 *
 * Memory lies in a file of its own, byte n of RAM at offset n, with holes for pages of zeros, and a last
 * page that says which state it belongs to (SNAP_RAM_TAIL): so it can be mapped, and many machines share it.
 */
#ifndef BRIG_MICROVM_FORMAT_H
#define BRIG_MICROVM_FORMAT_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/microvm/dev/mmio.h"
#include "engine/microvm/dev/serial.h"
#include "engine/microvm/dev/vsock.h"
#include "engine/microvm/layout.h"

#define SNAP_VERSION 1u
#define SNAP_BYTES_MAX (1u << 20)
#define SNAP_MSRS_MAX 256u
#define SNAP_RAM_TAIL 4096u
#define SNAP_DISKS_MAX 4u

/* X(kind, name, struct, at most, what). One of each `machine` section, one `vcpu` section and what follows
 * it for each virtual CPU, one `device` section for each device, in order. */
#define SNAP_SECTIONS(X)                                              \
	X(1, machine, struct snap_machine)                            \
	X(2, vcpu, struct snap_vcpu)                                  \
	X(3, device, struct vmmio_saved)

struct snap_machine {
	uint8_t id[16]; /* random; the same in the last page of the memory file */
	uint64_t memory;
	uint64_t disk_sectors[SNAP_DISKS_MAX]; /* 0: there is none */
	uint32_t nvcpus, ndevices;
	uint32_t cpuid; /* CRC-32C of the first virtual CPU's table */
	uint32_t port;
	struct kvm_irqchip chip[3]; /* two PICs and the IOAPIC */
	struct kvm_clock_data clock;
	uint64_t has_serial;
	struct serial_saved serial; /* all 0 without one */
	struct vsock_saved vsock;
};

struct snap_vcpu {
	struct kvm_mp_state mp_state;
	uint32_t nmsrs;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_xsave xsave;
	struct kvm_msr_entry msr[SNAP_MSRS_MAX];
};

struct snap {
	struct snap_machine machine;
	struct snap_vcpu vcpu[VCPUS_MAX];
	struct vmmio_saved device[DEVICES_MAX];
};

/* Bytes that snap_write() makes of a state with these counts. */
size_t snap_size(const struct snap *s);
/* to: snap_size() bytes. */
void snap_write(const struct snap *s, uint8_t *to);
/* 0, or -1 with err set: what is wrong with the file, and what to do. */
int snap_read(const uint8_t *p, size_t n, struct snap *ret, struct brig_err *err);

/* The last page of the memory file. */
void snap_tail_write(const struct snap_machine *m, uint8_t to[SNAP_RAM_TAIL]);
int snap_tail_check(const struct snap_machine *m, const uint8_t page[SNAP_RAM_TAIL], struct brig_err *err);

uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
