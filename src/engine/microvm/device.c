/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Device i has the page AT_MMIO + i * MMIO_STRIDE and line MMIO_IRQ_FIRST + i of the IOAPIC. Writes
 * to its QueueNotify become an eventfd in the kernel (ioeventfd), so that a notification costs the
 * vCPU no way to user space; an interrupt is a write to another (irqfd). Everything that is nowhere
 * reads as ones and ignores writes, as on a bus without a device.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/vm.h"

static void pulse(int fd)
{
	const uint64_t one = 1;
	/* Full (2^64 - 2 unread) is as good as written; nothing else can fail. */
	ssize_t n = write(fd, &one, sizeof(one));
	(void)n;
}

static void device_irq(void *ctx)
{
	pulse(((struct device *)ctx)->irq);
}

static void device_kick(void *ctx)
{
	vm_wake(((struct device *)ctx)->vm);
}

void vm_wake(struct vm *vm)
{
	pulse(vm->wake);
}

int device_add(struct vm *vm, const struct vdev_ops *ops, void *dev, uint64_t features, struct brig_err *err)
{
	unsigned i = vm->ndevices;
	if (i == DEVICES_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %u devices", DEVICES_MAX);
	struct device *d = &vm->device[i];
	*d = (struct device){ .vm = vm, .notify = -1, .irq = -1 };
	vm->ndevices++;
	vmmio_init(&d->mmio, ops, dev, features, &vm->mem, device_irq, d);
	d->mmio.kick = device_kick;
	d->notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->notify < 0 || d->irq < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make an eventfd");
	struct kvm_ioeventfd io = { .addr = AT_MMIO + i * MMIO_STRIDE + VMMIO_NOTIFY, .len = 4, .fd = d->notify };
	struct kvm_irqfd irq = { .fd = (uint32_t)d->irq, .gsi = MMIO_IRQ_FIRST + i };
	if (ioctl(vm->fd, KVM_IOEVENTFD, &io) < 0 || ioctl(vm->fd, KVM_IRQFD, &irq) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "attach a device to KVM");
	return 0;
}

void device_done(struct device *d)
{
	fd_close(&d->notify);
	fd_close(&d->irq);
}

void devices_mmio(struct vm *vm, uint64_t at, uint8_t *data, unsigned len, bool is_write)
{
	uint64_t v = 0, off = at - AT_MMIO;
	if (len > sizeof(v))
		return;
	if (at < AT_MMIO || off / MMIO_STRIDE >= vm->ndevices) {
		if (!is_write)
			memset(data, 0xff, len);
		return;
	}
	struct vmmio *m = &vm->device[off / MMIO_STRIDE].mmio;
	if (is_write) {
		memcpy(&v, data, len);
		vmmio_write(m, (uint32_t)(off % MMIO_STRIDE), len, v);
	} else {
		v = vmmio_read(m, (uint32_t)(off % MMIO_STRIDE), len);
		memcpy(data, &v, len);
	}
}

void devices_pio(struct vm *vm, uint16_t port, uint8_t *data, unsigned len, bool is_write)
{
	bool is_serial = vm->console >= 0 && port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORTS && len == 1;
	if (!is_serial) {
		if (!is_write)
			memset(data, 0xff, len);
		return;
	}
	if (!is_write) {
		data[0] = serial_read(&vm->serial, port - SERIAL_PORT);
		return;
	}
	unsigned r = serial_write(&vm->serial, port - SERIAL_PORT, data[0]);
	if (r & SERIAL_IRQ_PULSE)
		pulse(vm->serial_irq);
	if (r & SERIAL_HAS_OUTPUT)
		vm_wake(vm);
}

void devices_remind(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++) {
		pulse(vm->device[i].notify);
		vmmio_remind(&vm->device[i].mmio);
	}
	if (vm->serial_irq >= 0 && vm->serial.thre)
		pulse(vm->serial_irq);
}
