/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does to its devices what it likes: registers, rings and memory in any order.
 *
 * Input: the first byte picks the device, the rest is a script of the steps below. Oracle: guest
 * memory is as long as AddressSanitizer says; what was frozen by DRIVER_OK stays; Status has no bit
 * that is none; a ring that broke leaves NEEDS_RESET; the wait for the channel is never a busy one.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/microvm/dev/balloon.h"
#include "engine/microvm/dev/blk.h"
#include "engine/microvm/dev/rng.h"
#include "engine/microvm/dev/serial.h"
#include "engine/microvm/dev/vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAM = 64 << 10, DISK = 16 << 10 };
enum step { REG_WRITE, REG_READ, RUN, MEMORY, PEER_WRITE, PEER_READ, SERIAL_WRITE, SERIAL_READ, DRIVE, OFFER, STEPS };

struct script {
	const uint8_t *p;
	size_t n;
};
static struct vmmio m;
static struct guest_mem mem;
static struct balloon balloon;
static struct blk blk;
static struct vsock vsock;
static struct serial serial;
static int disk = -1, pair[2];

static void must(int ok)
{
	if (!ok)
		abort();
}

static uint32_t take(struct script *s, unsigned bytes)
{
	uint32_t v = 0;
	for (; bytes && s->n; bytes--, s->n--)
		v = v << 8 | *s->p++;
	return v;
}

static void no_irq(void *ctx)
{
	(void)ctx;
}

static void memory_write(struct script *s)
{
	uint32_t at = take(s, 2), n = take(s, 1);
	if (n > s->n)
		n = (uint32_t)s->n;
	if (n && guest_write(&mem, GPA(at), s->p, n) == 0) {
		s->p += n;
		s->n -= n;
	}
}

/* To a live device in one step, so that scripts get there; queue i at 0x1000 * i. */
static void drive(void)
{
	static const uint32_t regs[][2] = { { 0x70, 0 }, { 0x70, 3 }, { 0x24, 1 }, { 0x20, 1 }, { 0x70, 11 } };
	for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		vmmio_write(&m, regs[i][0], 4, regs[i][1]);
	for (uint32_t q = 0; q < 3; q++) {
		vmmio_write(&m, 0x30, 4, q);
		vmmio_write(&m, 0x38, 4, 8);
		vmmio_write(&m, 0x80, 4, 0x1000 * q);
		vmmio_write(&m, 0x90, 4, 0x1000 * q + 0x100);
		vmmio_write(&m, 0xa0, 4, 0x1000 * q + 0x200);
		vmmio_write(&m, 0x44, 4, 1);
	}
	vmmio_write(&m, 0x70, 4, 15);
}

/* Moves avail.idx of a queue that drive() made. */
static void offer(struct script *s)
{
	uint32_t q = take(s, 1) % 3, head = take(s, 1);
	uint16_t idx, h = (uint16_t)(head & 0x80 ? head << 8 : head);
	guest_read(&mem, GPA(0x1000 * q + 0x102), &idx, 2);
	guest_write(&mem, GPA(0x1000 * q + 0x104 + 2 * (idx % 8u)), &h, 2);
	idx++;
	guest_write(&mem, GPA(0x1000 * q + 0x102), &idx, 2);
}

static void step(struct script *s)
{
	uint8_t buf[256];
	ssize_t n = 0;
	uint32_t off, len;
	switch (take(s, 1) % STEPS) {
	case REG_WRITE:
		off = take(s, 2) % VMMIO_LEN;
		vmmio_write(&m, off, off & 1 ? 8 : 4, take(s, 4));
		break;
	case REG_READ:
		off = take(s, 2);
		vmmio_read(&m, off, 1u << (off >> 14));
		break;
	case RUN: vmmio_run(&m); break;
	case MEMORY: memory_write(s); break;
	case PEER_WRITE:
		len = take(s, 1);
		memset(buf, 0x5a, sizeof(buf));
		n = send(pair[1], buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case PEER_READ: n = recv(pair[1], buf, sizeof(buf), MSG_DONTWAIT); break;
	case SERIAL_WRITE:
		off = take(s, 1) % SERIAL_PORTS;
		serial_write(&serial, off, (uint8_t)take(s, 1));
		break;
	case SERIAL_READ:
		serial_read(&serial, take(s, 1) % SERIAL_PORTS);
		must(serial_take(&serial, buf, 16) <= 16);
		break;
	case DRIVE: drive(); break;
	case OFFER: offer(s); break;
	default: break;
	}
	(void)n;
}

static void play(struct script *s)
{
	struct virtq before[VMMIO_QUEUES_MAX];
	while (s->n) {
		uint32_t status = m.status;
		memcpy(before, m.q, sizeof(before));
		step(s);
		must((m.status & ~0xcfu) == 0);
		for (unsigned i = 0; i < VMMIO_QUEUES_MAX; i++) {
			bool is_same = before[i].num == m.q[i].num && before[i].desc_at == m.q[i].desc_at &&
				       before[i].used_at == m.q[i].used_at;
			/* Only a reset, whose Status is 0 at one time, changes what is frozen. */
			must(is_same || !(status & m.status & VIRTIO_S_DRIVER_OK) || m.q[i].num <= 8);
			must(!m.q[i].broken || !(m.status & VIRTIO_S_DRIVER_OK) ||
			     (m.status & VIRTIO_S_NEEDS_RESET));
			must(!m.q[i].ready || m.q[i].num <= VIRTQ_MAX);
		}
	}
	/* With nothing new, a second round leaves nothing to wait for that is already there. */
	for (int i = 0; i < 100 && vmmio_run(&m); i++)
		;
	if (m.dev == &vsock && m.status == 15 && (vsock_events(&vsock) & EPOLLIN)) {
		uint8_t byte;
		must(recv(pair[0], &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, size };
	if (disk < 0)
		disk = memfd_create("disk", MFD_CLOEXEC);
	must(ftruncate(disk, DISK) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	mem = (struct guest_mem){ .n = 1, .region = { { 0, RAM, aligned_alloc(4096, RAM) } } };
	must(mem.region[0].host != NULL);
	memset(mem.region[0].host, 0, RAM);
	serial_init(&serial);
	vsock_init(&vsock, pair[0], 1);
	switch (take(&s, 1) % 4) {
	case 0: vmmio_init(&m, &vsock_ops, &vsock, 0, &mem, no_irq, NULL); break;
	case 1: vmmio_init(&m, &rng_ops, NULL, 0, &mem, no_irq, NULL); break;
	case 3: vmmio_init(&m, &balloon_ops, &balloon, BALLOON_FEATURES, &mem, no_irq, NULL); break;
	default:
		must(blk_init(&blk, disk, data[0] & 4, "fuzz") == 0);
		blk_limit(&blk, data[0] & 8 ? 1000 : 0, data[0] & 16 ? 3 : 0);
		vmmio_init(&m, &blk_ops, &blk, blk_features(&blk), &mem, no_irq, NULL);
		break;
	}
	play(&s);
	pthread_mutex_destroy(&m.lock);
	pthread_mutex_destroy(&serial.lock);
	close(pair[0]);
	close(pair[1]);
	free(mem.region[0].host);
	return 0;
}
