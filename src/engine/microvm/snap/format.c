/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The file is what this host's kernel and this version of brig have in memory, struct by struct: it is for
 * the same kind of machine, and a version number guards it. KVM's structs are part of the kernel's stable
 * interface.
 */
#include "engine/microvm/snap/format.h"

#include <stdbool.h>
#include <string.h>

#include "engine/microvm/guest_mem.h"

struct head {
	uint8_t magic[8];
	uint32_t version, length, crc, reserved;
};
struct section {
	uint32_t kind, length;
};
enum {
#define X(number, name, type) K_##name = number,
	SNAP_SECTIONS(X)
#undef X
};
_Static_assert(sizeof(struct head) == 24 && sizeof(struct section) == 8, "wire");
_Static_assert(sizeof(struct head) + sizeof(struct snap) + (1 + VCPUS_MAX + DEVICES_MAX) * sizeof(struct section) <=
		       SNAP_BYTES_MAX, "the largest machine fits");

static const uint8_t magic[8] = "BRIGSNAP", tail_magic[8] = "BRIGSRAM";

/* Castagnoli's polynomial, reflected; a state is some 20 KiB. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	const uint8_t *b = p;
	crc = ~crc;
	while (n--) {
		crc ^= *b++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

size_t snap_size(const struct snap *s)
{
	return sizeof(struct head) + sizeof(struct section) + sizeof(s->machine) +
	       s->machine.nvcpus * (sizeof(struct section) + sizeof(s->vcpu[0])) +
	       s->machine.ndevices * (sizeof(struct section) + sizeof(s->device[0]));
}

static uint8_t *put(uint8_t *to, const void *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}

static uint8_t *section_put(uint8_t *to, uint32_t kind, const void *p, size_t n)
{
	const struct section h = { kind, (uint32_t)n };
	return put(put(to, &h, sizeof(h)), p, n);
}

void snap_write(const struct snap *s, uint8_t *to)
{
	struct head h = { .version = SNAP_VERSION };
	uint8_t *at = section_put(to + sizeof(h), K_machine, &s->machine, sizeof(s->machine));
	for (uint32_t i = 0; i < s->machine.nvcpus; i++)
		at = section_put(at, K_vcpu, &s->vcpu[i], sizeof(s->vcpu[i]));
	for (uint32_t i = 0; i < s->machine.ndevices; i++)
		at = section_put(at, K_device, &s->device[i], sizeof(s->device[i]));
	memcpy(h.magic, magic, sizeof(magic));
	h.length = (uint32_t)(at - to);
	h.crc = crc32c(0, to + sizeof(h), h.length - sizeof(h));
	memcpy(to, &h, sizeof(h));
}

static int refuse(struct brig_err *err, const char *why)
{
	brig_fail(err, BRIG_E_CORRUPT, 0, "the snapshot cannot be used: %s", why);
	return brig_fix(err, "take it again, and keep it on storage that does not lose data");
}

/* Takes the next section, which must be of this kind and length. */
static int section_take(const uint8_t **p, size_t *n, uint32_t kind, void *to, size_t len)
{
	struct section h;
	if (*n < sizeof(h))
		return -1;
	memcpy(&h, *p, sizeof(h));
	if (h.kind != kind || h.length != len || len > *n - sizeof(h))
		return -1;
	memcpy(to, *p + sizeof(h), len);
	*p += sizeof(h) + len;
	*n -= sizeof(h) + len;
	return 0;
}

static int machine_check(const struct snap_machine *m)
{
	bool sane = m->nvcpus >= 1 && m->nvcpus <= VCPUS_MAX && m->ndevices >= 1 && m->ndevices <= DEVICES_MAX &&
		    m->memory >= GUEST_MEM_MIN && m->memory <= GUEST_MEM_MAX && m->memory % GUEST_PAGE == 0 &&
		    m->has_serial <= 1;
	for (uint32_t i = 0; i < 3; i++)
		sane = sane && m->chip[i].chip_id == i;
	return sane ? 0 : -1;
}

int snap_read(const uint8_t *p, size_t n, struct snap *ret, struct brig_err *err)
{
	struct head h;
	static const char senseless[] = "its content makes no sense";
	if (n < sizeof(h) || memcmp(p, magic, sizeof(magic)))
		return refuse(err, "it is not the state of a virtual machine of brig");
	memcpy(&h, p, sizeof(h));
	if (h.version != SNAP_VERSION) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "the snapshot cannot be used: it has format %u, this brig reads %u",
			  h.version, SNAP_VERSION);
		return brig_fix(err, "restore it with the version of brig that took it, or take it again");
	}
	if (h.length != n || n > SNAP_BYTES_MAX)
		return refuse(err, "it is cut, or has something behind its end");
	if (crc32c(0, p + sizeof(h), n - sizeof(h)) != h.crc)
		return refuse(err, "its checksum does not fit its content");
	p += sizeof(h);
	n -= sizeof(h);
	memset(ret, 0, sizeof(*ret));
	if (h.reserved || section_take(&p, &n, K_machine, &ret->machine, sizeof(ret->machine)) < 0 ||
	    machine_check(&ret->machine) < 0)
		return refuse(err, senseless);
	for (uint32_t i = 0; i < ret->machine.nvcpus; i++)
		if (section_take(&p, &n, K_vcpu, &ret->vcpu[i], sizeof(ret->vcpu[i])) < 0 ||
		    ret->vcpu[i].nmsrs > SNAP_MSRS_MAX)
			return refuse(err, senseless);
	for (uint32_t i = 0; i < ret->machine.ndevices; i++)
		if (section_take(&p, &n, K_device, &ret->device[i], sizeof(ret->device[i])) < 0)
			return refuse(err, senseless);
	return n ? refuse(err, senseless) : 0;
}

struct tail {
	uint8_t magic[8], id[16];
	uint64_t memory;
};

void snap_tail_write(const struct snap_machine *m, uint8_t to[SNAP_RAM_TAIL])
{
	struct tail t = { .memory = m->memory };
	memcpy(t.magic, tail_magic, sizeof(t.magic));
	memcpy(t.id, m->id, sizeof(t.id));
	memset(to, 0, SNAP_RAM_TAIL);
	memcpy(to, &t, sizeof(t));
}

int snap_tail_check(const struct snap_machine *m, const uint8_t page[SNAP_RAM_TAIL], struct brig_err *err)
{
	uint8_t want[SNAP_RAM_TAIL];
	snap_tail_write(m, want);
	if (memcmp(page, want, sizeof(want)) == 0)
		return 0;
	return refuse(err, "its memory is not that of its state, or is cut");
}
