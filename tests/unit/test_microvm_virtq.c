/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of a hostile driver: what is broken is refused, nothing outside guest memory is touched. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/microvm/dev/virtq.h"

enum { NUM = 8, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, DATA = 0x10000 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct box {
	struct guest_mem mem;
	struct virtq q;
	struct virtq_chain c;
};

static int setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));
	if (!b || guest_mem_map(&b->mem, GUEST_MEM_MIN) < 0)
		return -1;
	b->q = (struct virtq){ .num = NUM, .desc_at = DESC, .avail_at = AVAIL, .used_at = USED };
	*state = b;
	return virtq_start(&b->q, &b->mem);
}

static int teardown(void **state)
{
	struct box *b = *state;
	guest_mem_unmap(&b->mem);
	free(b);
	return 0;
}

static void desc(struct box *b, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	const struct virtq_desc d = { addr, len, flags, next };
	assert_int_equal(guest_write(&b->mem, GPA(DESC + 16ull * i), &d, sizeof(d)), 0);
}

/* Makes `head` available and moves avail.idx on. */
static void offer(struct box *b, uint16_t head)
{
	uint16_t idx;
	guest_read(&b->mem, GPA(AVAIL + 2), &idx, 2);
	guest_write(&b->mem, GPA(AVAIL + 4 + 2ull * (idx % NUM)), &head, 2);
	idx++;
	guest_write(&b->mem, GPA(AVAIL + 2), &idx, 2);
}

static int pop(struct box *b)
{
	return virtq_pop(&b->q, &b->mem, &b->c);
}

static void test_chain(void **state)
{
	struct box *b = *state;
	assert_int_equal(pop(b), 0);
	desc(b, 3, DATA, 16, NEXT, 5);
	desc(b, 5, DATA + 16, 100, NEXT | WRITE, 1);
	desc(b, 1, DATA + 0x1000, 1, WRITE, 0);
	offer(b, 3);
	assert_int_equal(pop(b), 1);
	assert_int_equal(b->c.head, 3);
	assert_int_equal(b->c.nout, 1);
	assert_int_equal(b->c.nin, 2);
	assert_int_equal(iov_bytes(chain_in(&b->c), b->c.nin), 101);
	assert_ptr_equal(b->c.iov[0].iov_base, guest_ptr(&b->mem, GPA(DATA), 16));
	assert_int_equal(pop(b), 0);
	virtq_push(&b->q, b->c.head, 101);
	uint32_t used[3];
	guest_read(&b->mem, GPA(USED), used, sizeof(used));
	assert_int_equal(used[0] >> 16, 1);
	assert_int_equal(used[1], 3);
	assert_int_equal(used[2], 101);
}

/* Indices wrap at 2^16, not at the size of the ring. */
static void test_wraps(void **state)
{
	struct box *b = *state;
	desc(b, 0, DATA, 8, WRITE, 0);
	for (unsigned i = 0; i < 70000; i++) {
		offer(b, 0);
		assert_int_equal(pop(b), 1);
		virtq_push(&b->q, b->c.head, 0);
	}
	assert_int_equal(b->q.next_used, 70000 & 0xffff);
}

static void test_put_back(void **state)
{
	struct box *b = *state;
	desc(b, 2, DATA, 8, WRITE, 0);
	offer(b, 2);
	assert_int_equal(pop(b), 1);
	virtq_unpop(&b->q);
	assert_int_equal(pop(b), 1);
	assert_int_equal(b->c.head, 2);
	assert_int_equal(pop(b), 0);
}

struct broken {
	const char *what;
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next, head;
};

static void test_broken(void **state)
{
	static const struct broken rows[] = {
		{ "a chain that loops", DATA, 8, NEXT, 0, 0 },
		{ "a head outside the table", DATA, 8, 0, 0, NUM },
		{ "a head far outside the table", DATA, 8, 0, 0, 0xffff },
		{ "a next outside the table", DATA, 8, NEXT, NUM, 0 },
		{ "an address above memory", GUEST_MEM_MIN, 1, 0, 0, 0 },
		{ "an end above memory", GUEST_MEM_MIN - 4, 5, 0, 0, 0 },
		{ "a length that wraps", UINT64_MAX - 3, 8, 0, 0, 0 },
		{ "a length beyond everything", DATA, UINT32_MAX, WRITE, 0, 0 },
		{ "no length", DATA, 0, 0, 0, 0 },
		{ "an indirect table, not offered", DATA, 16, INDIRECT, 0, 0 },
		{ "the device window", 0xd0000000u, 4, WRITE, 0, 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct box *b = NULL;
		const struct broken *r = &rows[i];
		assert_int_equal(setup((void **)&b), 0);
		desc(b, 0, r->addr, r->len, r->flags, r->next);
		offer(b, r->head);
		if (pop(b) != -EPROTO || pop(b) != -EPROTO || !b->q.broken)
			fail_msg("%s was taken", r->what);
		teardown((void **)&b);
	}
	(void)state;
}

static void test_order_and_jump(void **state)
{
	struct box *b = *state;
	desc(b, 0, DATA, 8, NEXT | WRITE, 1);
	desc(b, 1, DATA, 8, 0, 0); /* readable after writable */
	offer(b, 0);
	assert_int_equal(pop(b), -EPROTO);
	virtq_reset(&b->q);
	assert_int_equal(pop(b), 0); /* not ready: nothing to find */
	b->q = (struct virtq){ .num = NUM, .desc_at = DESC, .avail_at = AVAIL, .used_at = USED };
	assert_int_equal(virtq_start(&b->q, &b->mem), 0);
	uint16_t idx = NUM + 1;
	guest_write(&b->mem, GPA(AVAIL + 2), &idx, 2);
	assert_int_equal(pop(b), -EPROTO);
}

/* A chain of as many descriptors as there are is whole. */
static void test_longest(void **state)
{
	struct box *b = *state;
	for (unsigned i = 0; i < NUM; i++)
		desc(b, i, DATA + i, 1, i + 1 < NUM ? NEXT : 0, (uint16_t)(i + 1));
	offer(b, 0);
	assert_int_equal(pop(b), 1);
	assert_int_equal(b->c.nout, NUM);
}

static void test_places(void **state)
{
	struct box *b = *state;
	static const struct {
		uint32_t num;
		uint64_t desc, avail, used;
	} rows[] = {
		{ 0, DESC, AVAIL, USED },
		{ 3, DESC, AVAIL, USED },
		{ VIRTQ_MAX * 2, DESC, AVAIL, USED },
		{ 1u << 31, DESC, AVAIL, USED },
		{ NUM, DESC + 8, AVAIL, USED },
		{ NUM, DESC, AVAIL + 1, USED },
		{ NUM, DESC, AVAIL, USED + 2 },
		{ NUM, GUEST_MEM_MIN - 16, AVAIL, USED },
		{ NUM, DESC, GUEST_MEM_MIN - 16, USED },
		{ NUM, DESC, AVAIL, GUEST_MEM_MIN - 64 },
		{ NUM, UINT64_MAX - 15, AVAIL, USED },
		{ NUM, 0xd0000000u, AVAIL, USED },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct virtq q = { .num = rows[i].num, .desc_at = rows[i].desc, .avail_at = rows[i].avail,
				   .used_at = rows[i].used };
		if (virtq_start(&q, &b->mem) != -EINVAL || q.ready)
			fail_msg("row %u was taken", i);
	}
}

static void test_memory(void **state)
{
	struct box *b = *state;
	struct guest_mem big;
	uint8_t byte = 7;
	assert_null(guest_ptr(&b->mem, GPA(0), 0));
	assert_null(guest_ptr(&b->mem, GPA(0), UINT64_MAX));
	assert_null(guest_ptr(&b->mem, GPA(1), GUEST_MEM_MIN));
	assert_non_null(guest_ptr(&b->mem, GPA(0), GUEST_MEM_MIN));
	assert_int_equal(guest_write(&b->mem, GPA(GUEST_MEM_MIN), &byte, 1), -EFAULT);
	assert_int_equal(guest_mem_map(&big, GUEST_MEM_MIN - GUEST_PAGE), -EINVAL);
	assert_int_equal(guest_mem_map(&big, GUEST_MEM_MIN + 1), -EINVAL);
	/* Above the hole: two regions, nothing across it. */
	assert_int_equal(guest_mem_map(&big, GUEST_HOLE + (64ull << 20)), 0);
	assert_int_equal(big.n, 2);
	assert_null(guest_ptr(&big, GPA(GUEST_HOLE), 1));
	assert_null(guest_ptr(&big, GPA(GUEST_HOLE - 1), 2));
	assert_non_null(guest_ptr(&big, GPA(GUEST_HIGH + (64ull << 20) - 1), 1));
	assert_null(guest_ptr(&big, GPA(GUEST_HIGH + (64ull << 20) - 1), 2));
	guest_mem_unmap(&big);
}

static void test_pieces(void **state)
{
	char a[4] = "abcd", c[4] = "wxyz", out[16];
	const struct iovec iov[] = { { a, 3 }, { c, 2 } };
	struct iovec cut[2];
	(void)state;
	assert_int_equal(iov_gather(iov, 2, 0, out, sizeof(out)), 5);
	assert_memory_equal(out, "abcwx", 5);
	assert_int_equal(iov_gather(iov, 2, 4, out, 1), 1);
	assert_int_equal(out[0], 'x');
	assert_int_equal(iov_gather(iov, 2, 5, out, 1), 0);
	assert_int_equal(iov_scatter(iov, 2, 2, "12345", 5), 3);
	assert_memory_equal(a, "ab1d", 4);
	assert_memory_equal(c, "23yz", 4);
	assert_int_equal(iov_cut(iov, 2, 1, 3, cut), 2);
	assert_int_equal(cut[0].iov_len, 2);
	assert_int_equal(cut[1].iov_len, 1);
	assert_int_equal(iov_cut(iov, 2, 3, 9, cut), 1);
	assert_int_equal(cut[0].iov_len, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wraps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_back, setup, teardown),
		cmocka_unit_test(test_broken),
		cmocka_unit_test_setup_teardown(test_order_and_jump, setup, teardown),
		cmocka_unit_test_setup_teardown(test_longest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test(test_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
