/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a new brigd reads of a former one: the text of a sandbox's record, and the places of the ledger.
 *
 * First byte: even = a record. Oracle: one that is taken has an id, a name and a specification that the
 * parser of requests takes, too. Odd = words of places, spread over a ledger. Oracle: after
 * ledger_learn() no two pieces that are named or handed out overlap, and all lie in the heap.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/ledger.h"
#include "daemon/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void record(const uint8_t *p, size_t n)
{
	struct record r;
	struct brig_err err = BRIG_ERR_INIT;
	if (record_parse(p, n, &r, &err) < 0) {
		must(err.code != BRIG_E_OK && err.msg[0]);
		return;
	}
	must(strlen(r.id) == BRIG_ID_LEN && name_valid(r.name));
	must(r.spec.root && json_is_object(r.spec.root) && json_is_array(r.warnings));
	must(!r.cmd || json_array_size(r.cmd) > 0);
	record_done(&r);
}

#define PIECES_MAX 512u
struct piece {
	uint64_t at, end;
};

static void named(struct piece *v, size_t *n, ledger_ref ref)
{
	size_t size = LEDGER_PIECE_MIN;
	if (!ref)
		return;
	while (size < (uint32_t)ref)
		size *= 2;
	uint64_t at = (ref >> 32) * LEDGER_PIECE_MIN;
	must(at >= LEDGER_PIECE_MIN && at + size <= LEDGER_HEAP && size <= LEDGER_PIECE_MAX);
	for (size_t i = 0; i < *n; i++)
		must(at + size <= v[i].at || v[i].end <= at);
	must(*n < PIECES_MAX);
	v[(*n)++] = (struct piece){ at, at + size };
}

static void places(const uint8_t *p, size_t n)
{
	static struct ledger l;
	static int fd = -1;
	struct piece v[PIECES_MAX];
	size_t nv = 0, i = 0;
	bool lost;
	if (fd < 0) {
		fd = memfd_create("ledger", MFD_CLOEXEC);
		must(fd >= 0 && ftruncate(fd, (off_t)LEDGER_SIZE) == 0);
	}
	must(ledger_open(&l, fd, &lost) == 0);
	/* 9 bytes make a reference and say where it stands. */
	for (; n >= 9 && i < 64; p += 9, n -= 9, i++) {
		ledger_ref ref;
		memcpy(&ref, p + 1, sizeof(ref));
		if (p[0] & 0x80)
			ref &= 0x3f000fffffull; /* near to each other */
		struct ledger_box *b = &l.box[p[0] % 16];
		struct ledger_exec *x = &l.exec[p[0] % 16];
		b->used = LEDGER_USED;
		switch (p[0] >> 4 & 3) {
		case 0:
			b->text = ref;
			break;
		case 1:
			b->ring[0].mem = ref;
			break;
		case 2:
			b->ring[1].mem = ref;
			break;
		default:
			x->used = LEDGER_USED;
			x->box = p[0] % 16;
			x->cmd = ref;
		}
	}
	ledger_learn(&l);
	for (uint32_t k = 0; k < 16; k++) {
		if (l.box[k].used != LEDGER_USED)
			continue;
		named(v, &nv, l.box[k].text);
		named(v, &nv, l.box[k].ring[0].mem);
		named(v, &nv, l.box[k].ring[1].mem);
	}
	for (uint32_t k = 0; k < 16; k++)
		if (l.exec[k].used == LEDGER_USED)
			named(v, &nv, l.exec[k].cmd);
	for (size_t k = 0; k < 40; k++) {
		ledger_ref ref = 0;
		if (ledger_piece(&l, (size_t)LEDGER_PIECE_MIN << k % LEDGER_CLASSES, &ref))
			named(v, &nv, ref);
	}
	memset(l.box, 0, 16 * sizeof(*l.box));
	memset(l.exec, 0, 16 * sizeof(*l.exec));
	ledger_close(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] % 2 == 0)
		record(data + 1, size - 1);
	else
		places(data + 1, size - 1);
	return 0;
}
