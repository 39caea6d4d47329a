/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * ACPI 6.5 in its hardware-reduced form (no timers, ports or events of a PC): RSDP, XSDT, FADT, MADT
 * with the local APICs and one IOAPIC, and a DSDT whose only objects are the serial port, if there is one, and the virtio-mmio devices,
 * by the id that Linux's virtio_mmio driver goes by (LNRO0005). Its AML is written by hand: a handful
 * of opcodes, all lengths known before they are written.
 */
#include "engine/microvm/acpi.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "engine/microvm/dev/serial.h"
#include "engine/microvm/layout.h"

struct table {
	uint8_t b[2048];
	size_t n;
};
_Static_assert(36 + 32 + 96 + DEVICES_MAX * 96 < sizeof(((struct table *)0)->b), "a DSDT fits");
_Static_assert(44 + 12 + VCPUS_MAX * 8 < sizeof(((struct table *)0)->b), "a MADT fits");

static void put(struct table *t, const void *p, size_t n)
{
	memcpy(t->b + t->n, p, n);
	t->n += n;
}
static void put8(struct table *t, unsigned v)
{
	t->b[t->n++] = (uint8_t)v;
}
static void put32(struct table *t, uint32_t v)
{
	put(t, &v, sizeof(v));
}
static void put64(struct table *t, uint64_t v)
{
	put(t, &v, sizeof(v));
}

static void begin(struct table *t, const char sig[4], uint8_t revision)
{
	memset(t, 0, sizeof(*t));
	put(t, sig, 4);
	put32(t, 0); /* length, in end() */
	put8(t, revision);
	put8(t, 0); /* checksum, in end() */
	put(t, "BRIG  BRIGVM  ", 14);
	put32(t, 1);
	put(t, "BRIG", 4);
	put32(t, 1);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;
	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

struct place {
	const struct guest_mem *m;
	uint64_t next;
	bool failed;
};

/* Puts a whole table into guest memory; returns its address. */
static uint64_t end(struct table *t, struct place *p)
{
	uint32_t n = (uint32_t)t->n;
	uint64_t at = p->next;
	memcpy(t->b + 4, &n, sizeof(n));
	t->b[9] = 0;
	t->b[9] = checksum(t->b, n);
	p->next = (at + n + 15) & ~15ull;
	if (p->next > AT_ACPI + ACPI_MAX || guest_write(p->m, GPA(at), t->b, n) < 0)
		p->failed = true;
	return at;
}

/* Name(NAME, "text") and Name(NAME, byte). */
static void aml_name(struct table *t, const char name[4])
{
	put8(t, 0x08);
	put(t, name, 4);
}
static void aml_device(struct table *t, unsigned i, const struct acpi_device *d)
{
	static const char hid[] = "LNRO0005";
	enum { CRS = 12 + 9 + 2, BODY = 4 + (5 + 1 + 9) + (5 + 2) + (5 + 1) + (5 + 1 + 1 + 2 + CRS) };
	char name[5] = "V000";
	name[3] = (char)('0' + i);
	_Static_assert(BODY + 2 < 0x1000 && DEVICES_MAX <= 10, "two bytes of length, one digit");
	put8(t, 0x5b); /* DeviceOp */
	put8(t, 0x82);
	put8(t, 0x40 | ((BODY + 2) & 0xf)); /* PkgLength of two bytes counts itself */
	put8(t, (BODY + 2) >> 4);
	put(t, name, 4);
	aml_name(t, "_HID");
	put8(t, 0x0d);
	put(t, hid, sizeof(hid));
	aml_name(t, "_UID");
	put8(t, 0x0a);
	put8(t, i);
	aml_name(t, "_CCA"); /* its memory accesses are coherent */
	put8(t, 0x01);
	aml_name(t, "_CRS");
	put8(t, 0x11);		  /* BufferOp */
	put8(t, 1 + 2 + CRS);	  /* PkgLength of one byte */
	put8(t, 0x0a);
	put8(t, CRS);
	put(t, "\x86\x09\x00\x01", 4); /* Memory32Fixed, read and write */
	put32(t, d->at);
	put32(t, MMIO_STRIDE);
	put(t, "\x89\x06\x00\x03\x01", 5); /* one interrupt: consumer, edge, active high, exclusive */
	put32(t, d->irq);
	put(t, "\x79\x00", 2); /* end; no checksum */
}

/* The serial port. Without it here, a kernel writes to its console all the same, but its driver has no
 * interrupt, since there are none of a PC's, and no process can open it. */
static void aml_serial(struct table *t)
{
	enum { CRS = 8 + 9 + 2, BODY = 4 + (5 + 5) + (5 + 2) + (5 + 1 + 1 + 2 + CRS) };
	_Static_assert(BODY + 1 < 0x40, "one byte of length");
	put8(t, 0x5b);
	put8(t, 0x82);
	put8(t, BODY + 1);
	put(t, "COM1", 4);
	aml_name(t, "_HID");
	put(t, "\x0c\x41\xd0\x05\x01", 5); /* EISAID("PNP0501") */
	aml_name(t, "_UID");
	put8(t, 0x0a);
	put8(t, 1);
	aml_name(t, "_CRS");
	put8(t, 0x11);
	put8(t, 1 + 2 + CRS);
	put8(t, 0x0a);
	put8(t, CRS);
	put(t, "\x47\x01\xf8\x03\xf8\x03\x01\x08", 8); /* IO, 16 bits: SERIAL_PORT, SERIAL_PORTS of them */
	put(t, "\x89\x06\x00\x03\x01", 5);
	put32(t, SERIAL_IRQ);
	put(t, "\x79\x00", 2);
}

static uint64_t dsdt(struct place *p, const struct acpi_device *dev, unsigned ndev, bool has_serial)
{
	struct table t;
	begin(&t, "DSDT", 2);
	put8(&t, 0x10); /* ScopeOp: \_SB_, its length of two bytes put in at the end */
	size_t at = t.n;
	t.n += 2;
	put(&t, "\\_SB_", 5);
	for (unsigned i = 0; i < ndev; i++)
		aml_device(&t, i, &dev[i]);
	if (has_serial)
		aml_serial(&t);
	size_t len = t.n - at;
	t.b[at] = (uint8_t)(0x40 | (len & 0xf));
	t.b[at + 1] = (uint8_t)(len >> 4);
	return end(&t, p);
}

static uint64_t fadt(struct place *p, uint64_t dsdt_at)
{
	enum { LEN = 276, BOOT_ARCH = 109, FLAGS = 112, MINOR = 131, X_DSDT = 140, HYPERVISOR = 268 };
	/* No VGA, no MSI, no ASPM, no CMOS clock; no 8042, by the lack of its bit. */
	const uint16_t arch = 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5;
	const uint32_t flags = 1u << 20 | 1u << 5 | 1u << 4; /* hardware-reduced; no buttons */
	struct table t;
	begin(&t, "FACP", 6);
	t.n = LEN;
	memcpy(t.b + BOOT_ARCH, &arch, sizeof(arch));
	memcpy(t.b + FLAGS, &flags, sizeof(flags));
	t.b[MINOR] = 5;
	memcpy(t.b + X_DSDT, &dsdt_at, sizeof(dsdt_at));
	memcpy(t.b + HYPERVISOR, "brig-vmm", 8);
	return end(&t, p);
}

static uint64_t madt(struct place *p, unsigned vcpus)
{
	struct table t;
	begin(&t, "APIC", 6);
	put32(&t, AT_LAPIC);
	put32(&t, 0); /* no 8259 */
	for (unsigned i = 0; i < vcpus; i++) {
		put(&t, "\x00\x08", 2);
		put8(&t, i); /* processor, APIC */
		put8(&t, i);
		put32(&t, 1);
	}
	put(&t, "\x01\x0c\x00\x00", 4);
	put32(&t, AT_IOAPIC);
	put32(&t, 0);
	return end(&t, p);
}

int acpi_write(const struct guest_mem *m, unsigned vcpus, const struct acpi_device *dev, unsigned ndev,
	       bool has_serial)
{
	struct place p = { .m = m, .next = AT_ACPI + 64 };
	struct table t;
	if (vcpus > VCPUS_MAX || ndev > DEVICES_MAX)
		return -ENOSPC;
	uint64_t fadt_at = fadt(&p, dsdt(&p, dev, ndev, has_serial)), madt_at = madt(&p, vcpus);
	begin(&t, "XSDT", 1);
	put64(&t, fadt_at);
	put64(&t, madt_at);
	uint64_t xsdt_at = end(&t, &p);
	uint8_t rsdp[36] = "RSD PTR \0BRIG  \x02";
	const uint32_t len = sizeof(rsdp);
	memcpy(rsdp + 20, &len, sizeof(len));
	memcpy(rsdp + 24, &xsdt_at, sizeof(xsdt_at));
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	if (guest_write(m, GPA(AT_ACPI), rsdp, sizeof(rsdp)) < 0)
		p.failed = true;
	return p.failed ? -ENOSPC : 0;
}
