/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest without a kernel: it owns its virtual CPU from the first instruction and attacks the VMM.
 *
 * Theory of operation
 * -------------------
 * An ELF file that brig-vmm enters in long mode with the first 4 GiB mapped one to one. The command
 * line says what to do and with which seed ("mode seed"); the serial port takes what it found; a triple
 * fault is its end. The devices are where layout.h has them: vsock, entropy, balloon, disk.
 *
 * Mode 'g' is the control: an ordinary driver, which must succeed, so that the others are known to
 * reach what they attack.
 */
#include <stdint.h>

typedef volatile uint32_t reg;
#define DEVICE(i) ((uintptr_t)0xd0000000u + 0x1000u * (i))
#define R(i, off) (*(reg *)(DEVICE(i) + (off)))
enum { VSOCK, RNG, BALLOON, DISK, DEVICES, NUM = 64, CMDLINE = 0x20000 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct queue {
	struct desc desc[NUM];
	volatile uint16_t avail[3 + NUM] __attribute__((aligned(4)));
	volatile uint8_t used[6 + 8 * NUM] __attribute__((aligned(4)));
};
static struct queue queue[DEVICES][3] __attribute__((aligned(4096)));
static uint8_t data[65536] __attribute__((aligned(4096)));
static uint8_t stack[16384] __attribute__((aligned(16), used));
static uint64_t seed;

static uint32_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static void say(const char *s)
{
	while (*s)
		outb(0x3f8, (uint8_t)*s++);
}

static void die(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };
	__asm__ volatile("lidt %0; int3" : : "m"(none));
	for (;;)
		;
}

/* To DRIVER_OK, with queues where they belong or where `at` says. */
static uint32_t drive(unsigned d, uint64_t at)
{
	R(d, 0x70) = 0;
	R(d, 0x70) = 3;
	R(d, 0x24) = 1;
	R(d, 0x20) = 1;
	R(d, 0x70) = 11;
	for (unsigned q = 0; q < 3; q++) {
		struct queue *k = &queue[d][q];
		uint64_t desc = at ? at : (uintptr_t)k->desc, avail = at ? at : (uintptr_t)k->avail,
			 used = at ? at : (uintptr_t)k->used;
		for (unsigned i = 0; i < sizeof(*k) / 4; i++)
			((uint32_t volatile *)(void *)k)[i] = 0;
		R(d, 0x30) = q;
		R(d, 0x38) = NUM;
		R(d, 0x80) = (uint32_t)desc;
		R(d, 0x84) = (uint32_t)(desc >> 32);
		R(d, 0x90) = (uint32_t)avail;
		R(d, 0x94) = (uint32_t)(avail >> 32);
		R(d, 0xa0) = (uint32_t)used;
		R(d, 0xa4) = (uint32_t)(used >> 32);
		R(d, 0x44) = 1;
	}
	R(d, 0x70) = 15;
	return R(d, 0x70);
}

static void put(struct queue *k, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	k->desc[i] = (struct desc){ addr, len, flags, next };
}
static void offer(unsigned d, unsigned q, uint16_t head)
{
	struct queue *k = &queue[d][q];
	k->avail[2 + k->avail[1] % NUM] = head;
	__asm__ volatile("" ::: "memory");
	k->avail[1]++;
	R(d, 0x50) = q;
}
/* Waits a while for used.idx; what it is. */
static uint16_t used_wait(unsigned d, unsigned q, uint16_t want)
{
	volatile uint16_t *idx = (volatile uint16_t *)(void *)(queue[d][q].used + 2);
	for (unsigned i = 0; i < 200000 && *idx != want; i++)
		__asm__ volatile("pause");
	return *idx;
}

/* A whole disk request of `len` bytes in three descriptors from i on. */
static void disk_request(unsigned i, uint32_t type, uint64_t sector, uint32_t len)
{
	struct queue *k = &queue[DISK][0];
	uint32_t *h = (uint32_t *)(void *)(data + 64 * i);
	h[0] = type;
	h[1] = 0;
	*(uint64_t *)(void *)(h + 2) = sector;
	put(k, i, (uintptr_t)h, 16, 1, (uint16_t)(i + 1));
	put(k, i + 1, (uintptr_t)data + 8192, len, type == 0 ? 3 : 1, (uint16_t)(i + 2));
	put(k, i + 2, (uintptr_t)h + 32, 1, 2, 0);
	*(uint8_t *)(h + 8) = 0xee;
}

static void control(void)
{
	say(drive(DISK, 0) == 15 ? "driver ok\n" : "no driver\n");
	disk_request(0, 0, 2, 1024);
	offer(DISK, 0, 0);
	/* The superblock of an ext4 file system, with its magic number. */
	say(used_wait(DISK, 0, 1) == 1 && data[32] == 0 && data[8192 + 0x38] == 0x53 ? "disk ok\n" : "no disk\n");
	disk_request(3, 1, 2, 1024);
	offer(DISK, 0, 3);
	say(used_wait(DISK, 0, 2) == 2 && data[64 * 3 + 32] == 1 ? "write refused\n" : "write taken\n");
	drive(RNG, 0);
	put(&queue[RNG][0], 0, (uintptr_t)data, 64, 2, 0);
	offer(RNG, 0, 0);
	say(used_wait(RNG, 0, 1) == 1 ? "entropy ok\n" : "no entropy\n");
}

static int needs_reset(unsigned d)
{
	for (unsigned i = 0; i < 200000 && !(R(d, 0x70) & 64); i++)
		__asm__ volatile("pause");
	return (R(d, 0x70) & 64) != 0;
}

/* The queue of a device that it reads without being asked twice. */
static unsigned attacked(unsigned d)
{
	return d == VSOCK ? 1 : d == BALLOON ? 2 : 0;
}

/* Rings that are broken in every way we know: each must give NEEDS_RESET and nothing else. */
static void rings(void)
{
	static const struct desc bad[] = {
		{ 0xd0000000u, 64, 2, 0 }, { 1ull << 40, 64, 2, 0 }, { UINT64_MAX - 8, 64, 2, 0 },
		{ 0x100000, 0xffffffff, 2, 0 }, { 0x100000, 0, 2, 0 }, { 0x100000, 8, 1, 0 },
		{ 0x100000, 8, 1, NUM }, { 0x100000, 8, 1, 0xffff }, { 0x100000, 16, 4, 0 },
	};
	unsigned good = 0, n = 0;
	for (unsigned d = 0; d < DEVICES; d++)
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++, n++) {
			unsigned q = attacked(d);
			drive(d, 0);
			queue[d][q].desc[0] = bad[i];
			offer(d, q, 0);
			good += needs_reset(d);
		}
	for (unsigned d = 0; d < DEVICES; d++, n++) {
		drive(d, 0);
		queue[d][attacked(d)].avail[1] = 1000; /* more than there can be */
		R(d, 0x50) = attacked(d);
		good += needs_reset(d);
	}
	say(good == n ? "all refused\n" : "some taken\n");
	/* Queues outside memory are not ready, whatever the driver believes. */
	drive(DISK, 0xfffffffffffff000ull);
	R(DISK, 0x30) = 0;
	say(R(DISK, 0x44) ? "ready outside\n" : "not ready\n");
}

/* What was frozen stays: the queue is moved onto the device itself after DRIVER_OK. */
static void thaw(void)
{
	drive(DISK, 0);
	R(DISK, 0x30) = 0;
	R(DISK, 0x44) = 0;
	R(DISK, 0x38) = 32768;
	R(DISK, 0x80) = 0xd0000000u;
	R(DISK, 0x84) = 0xffffffffu;
	R(DISK, 0xa0) = 0xfffffffcu;
	R(DISK, 0x44) = 1;
	disk_request(0, 0, 2, 1024);
	offer(DISK, 0, 0);
	say(used_wait(DISK, 0, 1) == 1 ? "frozen\n" : "thawed\n");
}

static void storm(void)
{
	for (unsigned d = 0; d < DEVICES; d++)
		drive(d, 0);
	for (unsigned i = 0; i < 3000; i++)
		R(i % DEVICES, 0x50) = rnd();
	say("stormed\n");
}

/* Resets while the disk reads. */
static void resets(void)
{
	for (unsigned round = 0; round < 40; round++) {
		drive(DISK, 0);
		for (unsigned i = 0; i < 60; i += 3) {
			disk_request(i, 0, rnd() % 64, 512 * (1 + rnd() % 64));
			offer(DISK, 0, (uint16_t)i);
		}
		R(DISK, 0x70) = 0;
	}
	drive(DISK, 0);
	disk_request(0, 0, 2, 1024);
	offer(DISK, 0, 0);
	say(used_wait(DISK, 0, 1) == 1 ? "still works\n" : "stuck\n");
}

/* Registers, ports and ring memory at random. */
static void random_walk(void)
{
	for (unsigned i = 0; i < 3000; i++) {
		unsigned d = rnd() % DEVICES;
		uint32_t what = rnd() % 16;
		if (what < 6) {
			R(d, rnd() % 0x110 & ~3u) = rnd() % 3 ? rnd() % 300 : rnd();
		} else if (what < 8) {
			(void)R(d, rnd() % 0x1000 & ~3u);
		} else if (what == 8) {
			*(volatile uint8_t *)(DEVICE(d) + rnd() % 0x1000) = (uint8_t)rnd();
		} else if (what == 9) {
			uint16_t port = (uint16_t)rnd();
			/* The serial port's words are for the test. */
			if ((port & ~7u) != 0x3f8 && (port & 0xfffe) != 0xb2)
				rnd() % 2 ? outb(port, (uint8_t)rnd()) : (void)inb(port);
		} else if (what == 10) {
			drive(d, rnd() % 4 ? 0 : (uint64_t)rnd() << (rnd() % 33));
		} else if (what == 11) {
			*(volatile uint32_t *)((uintptr_t)0xd0000000u + 0x1000 * DEVICES + (rnd() & 0x2fffffcu)) = rnd();
		} else if (what < 14) {
			((volatile uint8_t *)queue)[rnd() % sizeof(queue)] = (uint8_t)rnd();
		} else {
			unsigned q = rnd() % 3;
			put(&queue[d][q], rnd() % NUM, rnd() % 8 ? (uintptr_t)data + rnd() % 60000 : rnd(),
			    rnd() % 8 ? rnd() % 5000 : rnd(), rnd() % 4, (uint16_t)(rnd() % NUM));
			offer(d, q, (uint16_t)(rnd() % NUM));
		}
	}
	say("walked\n");
}

/* Calls the channel and floods it: 64 packets of 4 KiB, for a host that does not read. */
static void flood(void)
{
	static struct {
		uint64_t src_cid, dst_cid;
		uint32_t src_port, dst_port, len;
		uint16_t type, op;
		uint32_t flags, buf_alloc, fwd_cnt;
	} __attribute__((packed)) h = { 3, 2, 99, 1, 0, 1, 1, 0, 65536, 0 };
	drive(VSOCK, 0);
	put(&queue[VSOCK][0], 0, (uintptr_t)data, 4096, 2, 0);
	offer(VSOCK, 0, 0);
	put(&queue[VSOCK][1], 0, (uintptr_t)&h, 44, 0, 0);
	offer(VSOCK, 1, 0);
	say(used_wait(VSOCK, 1, 1) == 1 && used_wait(VSOCK, 0, 1) == 1 ? "connected\n" : "no connection\n");
	h.op = 5;
	h.len = 4096;
	put(&queue[VSOCK][1], 1, (uintptr_t)&h, 44, 1, 2);
	put(&queue[VSOCK][1], 2, (uintptr_t)data, 4096, 0, 0);
	for (unsigned i = 0; i < 63; i++)
		offer(VSOCK, 1, 1);
	used_wait(VSOCK, 1, 64);
	say("flooded\n");
}

__attribute__((used)) static void run(void)
{
	const char *line = (const char *)(uintptr_t)CMDLINE;
	seed = 88172645463325252ull;
	for (const char *p = line + 1; *p; p++)
		seed = seed * 31 + (uint8_t)*p;
	switch (line[0]) {
	case 'g': control(); break;
	case 'r': rings(); break;
	case 't': thaw(); break;
	case 's': storm(); break;
	case 'x': resets(); break;
	case 'w': random_walk(); break;
	case 'f': flood(); break;
	case 'h': /* sleeps for ever, deaf */
		say("sleeping\n");
		__asm__ volatile("cli; hlt");
		break;
	default: say("no such mode\n"); break;
	}
	say("end\n");
	die();
}

__attribute__((naked)) void _start(void);
__attribute__((naked)) void _start(void)
{
	__asm__ volatile("lea stack+16384(%rip), %rsp; call run");
}
