/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h: the virtio-mmio 1.2 transport (section 4.2) of one device.
 *
 * vCPU threads come by vmmio_read() and vmmio_write(), the VMM thread by vmmio_run(); one lock per
 * device holds them apart, so a reset never meets a request half done.
 */
#ifndef BRIG_MICROVM_MMIO_H
#define BRIG_MICROVM_MMIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/microvm/dev/virtq.h"

#define VMMIO_LEN 0x1000u
#define VMMIO_QUEUES_MAX 3u
#define VMMIO_ROUND 64u	 /* requests: so long may one guest's device hold the VMM thread */
#define VMMIO_NOTIFY 0x50u /* QueueNotify: an ioeventfd takes its writes */

#define VIRTIO_S_ACKNOWLEDGE 1u
#define VIRTIO_S_DRIVER 2u
#define VIRTIO_S_DRIVER_OK 4u
#define VIRTIO_S_FEATURES_OK 8u
#define VIRTIO_S_NEEDS_RESET 64u
#define VIRTIO_S_FAILED 128u
#define VIRTIO_F_VERSION_1 (1ull << 32)

/* What of a device outlives it (snap/format.h). */
struct virtq_saved {
	uint64_t desc, avail, used;
	uint32_t num;
	uint16_t next_avail, next_used;
	uint8_t ready, broken, reserved[6];
};
struct vmmio_saved {
	uint32_t kind; /* virtio's number of it */
	uint32_t status, isr, features_sel, driver_sel, queue_sel;
	uint64_t driver_features;
	struct virtq_saved q[VMMIO_QUEUES_MAX];
};

struct vmmio;
/* What a kind of device adds. All are called with the device's lock held. */
struct vdev_ops {
	uint32_t device_id;
	unsigned nqueues;
	/* Copies `len` bytes of the configuration from `off`; beyond its end are zeros. NULL = none. */
	void (*config)(void *dev, uint32_t off, void *to, size_t len);
	/* Serves the queues, VMMIO_ROUND requests at most: 0 = done, 1 = there is more, -EPROTO = a ring
	 * is broken. Only called while the driver is there. */
	int (*run)(void *dev, struct vmmio *m);
	/* Forgets everything about the driver. NULL = nothing to forget. */
	void (*reset)(void *dev);
};

struct vmmio {
	const struct vdev_ops *ops;
	void *dev;
	uint64_t features; /* offered, VERSION_1 always among them */
	const struct guest_mem *mem;
	/* Raises the interrupt line for a moment. */
	void (*irq)(void *ctx);
	void *irq_ctx;
	/* Called by a vCPU thread after a reset: the VMM thread is to look (NULL = nobody waits). */
	void (*kick)(void *ctx);
	pthread_mutex_t lock;
	/* Registers. */
	uint32_t status, isr, features_sel, driver_sel, queue_sel;
	uint64_t driver_features;
	struct virtq q[VMMIO_QUEUES_MAX];
	struct virtq_chain chain; /* room for the request in work */
};

void vmmio_init(struct vmmio *m, const struct vdev_ops *ops, void *dev, uint64_t features,
		const struct guest_mem *mem, void (*irq)(void *), void *irq_ctx);
/* off < VMMIO_LEN; len 1, 2, 4 or 8. Registers know 4 bytes only: other widths read 0 and write
 * nothing, but for the device's configuration. */
uint64_t vmmio_read(struct vmmio *m, uint32_t off, unsigned len);
void vmmio_write(struct vmmio *m, uint32_t off, unsigned len, uint64_t value);
/* Serves the queues, if there is a driver: after a notification, or when the host has something. True:
 * call again, after the other devices had their turn. */
bool vmmio_run(struct vmmio *m);

/* Takes the registers, and puts them back into a device of the same kind that no guest has touched. -EINVAL: it
 * is of another kind, or no guest could have set them so; the device is then to be thrown away. Both while no
 * vCPU runs. */
void vmmio_save(const struct vmmio *m, struct vmmio_saved *to);
int vmmio_load(struct vmmio *m, const struct vmmio_saved *s);
/* Tells the driver once more of what it may not have heard. */
void vmmio_remind(struct vmmio *m);

/* For vdev_ops.run: requests of queue i were given back. */
void vmmio_used(struct vmmio *m, unsigned i);

#endif
