/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a virtual machine, made by somebody hostile.
 *
 * Input: the file. It is read as it is, and once more with a checksum that fits, without which nothing behind
 * it is ever reached. Oracle: what is accepted is written again byte for byte; a device that takes a state
 * back holds only what a driver could have made, and serves its queues inside guest memory, as long as
 * AddressSanitizer says.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/microvm/dev/balloon.h"
#include "engine/microvm/dev/rng.h"
#include "engine/microvm/snap/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAM = 64 << 10, HEAD = 24 };

static struct snap snap;
static struct balloon balloon;

static void must(int ok)
{
	if (!ok)
		abort();
}

static void no_irq(void *ctx)
{
	(void)ctx;
}

static void device(const struct vmmio_saved *s)
{
	static struct vmmio m;
	uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(ram != MAP_FAILED);
	const struct guest_mem mem = { .n = 1, .region[0] = { 0, RAM, ram } };
	if (s->kind == 5)
		vmmio_init(&m, &balloon_ops, &balloon, BALLOON_FEATURES, &mem, no_irq, NULL);
	else
		vmmio_init(&m, &rng_ops, NULL, 0, &mem, no_irq, NULL);
	if (vmmio_load(&m, s) == 0) {
		struct vmmio_saved again;
		vmmio_save(&m, &again);
		must(memcmp(&again.q[0].desc, &s->q[0].desc, sizeof(again.q[0].desc)) == 0 && again.status == s->status);
		must(!(m.status & ~0xcfu));
		vmmio_run(&m);
		vmmio_remind(&m);
	}
	munmap(ram, RAM);
}

static void read_one(const uint8_t *p, size_t n)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (snap_read(p, n, &snap, &err) < 0) {
		must(err.msg[0] && err.remedy[0]);
		return;
	}
	must(snap_size(&snap) == n);
	uint8_t *again = malloc(n);
	must(again != NULL);
	snap_write(&snap, again);
	must(memcmp(again, p, n) == 0);
	free(again);
	for (uint32_t i = 0; i < snap.machine.ndevices; i++)
		device(&snap.device[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_one(data, size);
	if (size < HEAD || size > SNAP_BYTES_MAX)
		return 0;
	uint8_t *p = malloc(size);
	must(p != NULL);
	memcpy(p, data, size);
	uint32_t len = (uint32_t)size, crc = crc32c(0, p + HEAD, size - HEAD);
	memcpy(p + 12, &len, sizeof(len));
	memcpy(p + 16, &crc, sizeof(crc));
	read_one(p, size);
	free(p);
	return 0;
}
