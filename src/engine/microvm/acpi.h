/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h: the tables by which a guest finds its CPUs, its IOAPIC and its devices. Stock kernels come
 * without virtio_mmio.device= (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES) and without the older MP tables.
 */
#ifndef BRIG_MICROVM_ACPI_H
#define BRIG_MICROVM_ACPI_H

#include <stdbool.h>

#include "engine/microvm/guest_mem.h"

struct acpi_device {
	uint32_t at, irq; /* one page of registers; a line of the IOAPIC, rising edge */
};

/* Writes all tables at AT_ACPI, the RSDP first; has_serial: the port of dev/serial.h is there. 0 or
 * -ENOSPC: more than ACPI_MAX. */
int acpi_write(const struct guest_mem *m, unsigned vcpus, const struct acpi_device *dev, unsigned ndev,
	       bool has_serial);

#endif
