/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A state machine over Status. Bits are only ever added by the driver, in the order of virtio 1.2,
 * 3.1.1; a write that takes one away is ignored, 0 resets. What may be written when:
 *
 *   features            before FEATURES_OK; FEATURES_OK itself stays off if more was taken than
 *                       was offered, or VERSION_1 was not
 *   queue registers     between FEATURES_OK and DRIVER_OK, of a queue that is not ready
 *   anything else       is ignored
 *
 * A queue with registers that make no sense is not ready afterwards, which its driver sees. A ring
 * that breaks while in use gives NEEDS_RESET and a configuration interrupt (2.1.2); from then on the
 * device does nothing until it is reset.
 */
#include "engine/microvm/dev/mmio.h"

#include <errno.h>
#include <string.h>

enum reg {
	R_MAGIC = 0x00,
	R_VERSION = 0x04,
	R_DEVICE = 0x08,
	R_VENDOR = 0x0c,
	R_FEATURES = 0x10,
	R_FEATURES_SEL = 0x14,
	R_DRIVER = 0x20,
	R_DRIVER_SEL = 0x24,
	R_QUEUE_SEL = 0x30,
	R_QUEUE_MAX = 0x34,
	R_QUEUE_NUM = 0x38,
	R_QUEUE_READY = 0x44,
	R_ISR = 0x60,
	R_ISR_ACK = 0x64,
	R_STATUS = 0x70,
	R_DESC_LOW = 0x80,
	R_DESC_HIGH = 0x84,
	R_AVAIL_LOW = 0x90,
	R_AVAIL_HIGH = 0x94,
	R_USED_LOW = 0xa0,
	R_USED_HIGH = 0xa4,
	R_SHM_FIRST = 0xb0, /* SHMLen and SHMBase: all ones = there is no such region */
	R_SHM_LAST = 0xbc,
	R_GENERATION = 0xfc,
	R_CONFIG = 0x100,
};
enum { ISR_USED = 1, ISR_CONFIG = 2 };
/* What a driver may set. */
#define STATUS_DRIVER \
	(VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK | VIRTIO_S_FAILED)

void vmmio_init(struct vmmio *m, const struct vdev_ops *ops, void *dev, uint64_t features,
		const struct guest_mem *mem, void (*irq)(void *), void *irq_ctx)
{
	*m = (struct vmmio){ .ops = ops, .dev = dev, .features = features | VIRTIO_F_VERSION_1,
			     .mem = mem, .irq = irq, .irq_ctx = irq_ctx };
	pthread_mutex_init(&m->lock, NULL);
}

static void raise_isr(struct vmmio *m, uint32_t bit)
{
	m->isr |= bit;
	m->irq(m->irq_ctx);
}

void vmmio_used(struct vmmio *m, unsigned i)
{
	if (virtq_wants_irq(&m->q[i]))
		raise_isr(m, ISR_USED);
}

static void reset(struct vmmio *m)
{
	m->status = m->isr = m->features_sel = m->driver_sel = m->queue_sel = 0;
	m->driver_features = 0;
	for (unsigned i = 0; i < VMMIO_QUEUES_MAX; i++)
		virtq_reset(&m->q[i]);
	if (m->ops->reset)
		m->ops->reset(m->dev);
	if (m->kick)
		m->kick(m->irq_ctx);
}

static int is_live(const struct vmmio *m)
{
	return (m->status & (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED)) ==
	       VIRTIO_S_DRIVER_OK;
}

static bool run(struct vmmio *m)
{
	int r = is_live(m) ? m->ops->run(m->dev, m) : 0;
	if (r < 0) {
		m->status |= VIRTIO_S_NEEDS_RESET;
		raise_isr(m, ISR_CONFIG);
	}
	return r > 0;
}

static void status_write(struct vmmio *m, uint32_t v)
{
	if (v == 0) {
		reset(m);
		return;
	}
	v &= STATUS_DRIVER;
	uint32_t held = m->status & STATUS_DRIVER;
	if ((v & held) != held)
		return;
	uint32_t fresh = v & ~held;
	if ((fresh & VIRTIO_S_FEATURES_OK) &&
	    ((m->driver_features & ~m->features) || !(m->driver_features & VIRTIO_F_VERSION_1) ||
	     !(v & VIRTIO_S_DRIVER)))
		fresh &= ~(VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	if ((fresh & VIRTIO_S_DRIVER_OK) && !((held | fresh) & VIRTIO_S_FEATURES_OK))
		fresh &= ~VIRTIO_S_DRIVER_OK;
	/* Queues are not served from here, a vCPU thread: drivers notify after DRIVER_OK (3.1.1). */
	m->status |= fresh;
}

/* The selected queue, NULL if there is none. */
static struct virtq *selected(struct vmmio *m)
{
	return m->queue_sel < m->ops->nqueues ? &m->q[m->queue_sel] : NULL;
}

static void half_write(uint64_t *v, int high, uint32_t part)
{
	*v = high ? (*v & 0xffffffffu) | (uint64_t)part << 32 : (*v & ~0xffffffffull) | part;
}

static void queue_write(struct vmmio *m, uint32_t off, uint32_t v)
{
	struct virtq *q = selected(m);
	if (!q || q->ready || !(m->status & VIRTIO_S_FEATURES_OK) || (m->status & VIRTIO_S_DRIVER_OK))
		return;
	switch (off) {
	case R_QUEUE_NUM: q->num = v; break;
	case R_QUEUE_READY:
		if (v == 1)
			(void)virtq_start(q, m->mem); /* the driver reads it back */
		break;
	case R_DESC_LOW:
	case R_DESC_HIGH: half_write(&q->desc_at, off == R_DESC_HIGH, v); break;
	case R_AVAIL_LOW:
	case R_AVAIL_HIGH: half_write(&q->avail_at, off == R_AVAIL_HIGH, v); break;
	case R_USED_LOW:
	case R_USED_HIGH: half_write(&q->used_at, off == R_USED_HIGH, v); break;
	default: break;
	}
}

static void reg_write(struct vmmio *m, uint32_t off, uint32_t v)
{
	switch (off) {
	case R_FEATURES_SEL: m->features_sel = v; break;
	case R_DRIVER_SEL: m->driver_sel = v; break;
	case R_DRIVER:
		if (m->driver_sel < 2 && !(m->status & VIRTIO_S_FEATURES_OK))
			half_write(&m->driver_features, m->driver_sel == 1, v);
		break;
	case R_QUEUE_SEL: m->queue_sel = v; break;
	case R_ISR_ACK: m->isr &= ~v; break;
	case R_STATUS: status_write(m, v); break;
	default: queue_write(m, off, v); break;
	}
}

static uint32_t reg_read(struct vmmio *m, uint32_t off)
{
	const struct virtq *q = selected(m);
	switch (off) {
	case R_MAGIC: return 0x74726976; /* "virt" */
	case R_VERSION: return 2;
	case R_DEVICE: return m->ops->device_id;
	case R_VENDOR: return 0x67697262; /* "brig" */
	case R_FEATURES: return m->features_sel < 2 ? (uint32_t)(m->features >> (32 * m->features_sel)) : 0;
	case R_QUEUE_MAX: return q ? VIRTQ_MAX : 0;
	case R_QUEUE_READY: return q && q->ready;
	case R_ISR: return m->isr;
	case R_STATUS: return m->status;
	case R_GENERATION: return 0; /* no configuration of ours changes */
	default: return off >= R_SHM_FIRST && off <= R_SHM_LAST ? UINT32_MAX : 0;
	}
}

uint64_t vmmio_read(struct vmmio *m, uint32_t off, unsigned len)
{
	uint64_t v = 0;
	if (off >= VMMIO_LEN || len > sizeof(v))
		return 0;
	pthread_mutex_lock(&m->lock);
	if (off >= R_CONFIG) {
		if (m->ops->config)
			m->ops->config(m->dev, off - R_CONFIG, &v, len);
	} else if (len == 4) {
		v = reg_read(m, off);
	}
	pthread_mutex_unlock(&m->lock);
	return v;
}

void vmmio_write(struct vmmio *m, uint32_t off, unsigned len, uint64_t value)
{
	if (len != 4)
		return; /* nor is any of our configurations writable */
	pthread_mutex_lock(&m->lock);
	reg_write(m, off, (uint32_t)value);
	pthread_mutex_unlock(&m->lock);
}

bool vmmio_run(struct vmmio *m)
{
	pthread_mutex_lock(&m->lock);
	bool more = run(m);
	pthread_mutex_unlock(&m->lock);
	return more;
}

void vmmio_save(const struct vmmio *m, struct vmmio_saved *to)
{
	*to = (struct vmmio_saved){ .kind = m->ops->device_id, .status = m->status, .isr = m->isr,
				    .features_sel = m->features_sel, .driver_sel = m->driver_sel,
				    .queue_sel = m->queue_sel, .driver_features = m->driver_features };
	for (unsigned i = 0; i < VMMIO_QUEUES_MAX; i++) {
		const struct virtq *q = &m->q[i];
		to->q[i] = (struct virtq_saved){ .desc = q->desc_at, .avail = q->avail_at, .used = q->used_at,
						 .num = q->num, .next_avail = q->next_avail, .next_used = q->next_used,
						 .ready = q->ready, .broken = q->broken };
	}
}

/* By the rules of status_write() and reg_write(): no state that a driver could not have made. */
int vmmio_load(struct vmmio *m, const struct vmmio_saved *s)
{
	const uint32_t known = STATUS_DRIVER | VIRTIO_S_NEEDS_RESET;
	bool is_agreed = s->status & VIRTIO_S_FEATURES_OK;
	if (s->kind != m->ops->device_id || (s->status & ~known) || (s->isr & ~(ISR_USED | ISR_CONFIG)) ||
	    (is_agreed && ((s->driver_features & ~m->features) || !(s->driver_features & VIRTIO_F_VERSION_1))) ||
	    ((s->status & VIRTIO_S_DRIVER_OK) && !is_agreed))
		return -EINVAL;
	m->status = s->status;
	m->isr = s->isr;
	m->features_sel = s->features_sel;
	m->driver_sel = s->driver_sel;
	m->queue_sel = s->queue_sel;
	m->driver_features = s->driver_features;
	for (unsigned i = 0; i < VMMIO_QUEUES_MAX; i++) {
		const struct virtq_saved *from = &s->q[i];
		struct virtq *q = &m->q[i];
		*q = (struct virtq){ .num = from->num, .desc_at = from->desc, .avail_at = from->avail,
				     .used_at = from->used };
		if (from->ready && (i >= m->ops->nqueues || !is_agreed || virtq_start(q, m->mem) < 0))
			return -EINVAL;
		q->broken = from->broken;
		q->next_avail = from->next_avail;
		q->next_used = from->next_used;
	}
	return 0;
}

void vmmio_remind(struct vmmio *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->isr)
		m->irq(m->irq_ctx);
	pthread_mutex_unlock(&m->lock);
}
