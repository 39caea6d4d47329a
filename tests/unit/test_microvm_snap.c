/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a virtual machine's state, and what devices take back from it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "engine/microvm/dev/rng.h"
#include "engine/microvm/dev/vsock.h"
#include "engine/microvm/snap/format.h"
#include "fake_guest.h"

/* ---- the file ---- */

static struct snap *sample(void)
{
	struct snap *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	s->machine.memory = 128u << 20;
	s->machine.nvcpus = 2;
	s->machine.ndevices = 3;
	for (uint32_t i = 0; i < 3; i++)
		s->machine.chip[i].chip_id = i;
	memset(s->machine.id, 0x5a, sizeof(s->machine.id));
	s->vcpu[0].nmsrs = 3;
	s->vcpu[1].nmsrs = SNAP_MSRS_MAX;
	s->vcpu[1].regs.rip = 0x1234;
	s->device[2].kind = 5;
	return s;
}

static uint8_t *file_of(const struct snap *s, size_t *n)
{
	*n = snap_size(s);
	uint8_t *p = malloc(*n);
	assert_non_null(p);
	snap_write(s, p);
	return p;
}

/* Lets the checksum fit whatever the content is. */
static void sign(uint8_t *p, size_t n)
{
	uint32_t crc = crc32c(0, p + 24, n - 24), len = (uint32_t)n;
	memcpy(p + 12, &len, sizeof(len));
	memcpy(p + 16, &crc, sizeof(crc));
}

static void test_crc(void **state)
{
	(void)state;
	/* The check value of CRC-32C (RFC 3720, appendix B.4 has others). */
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

static void test_there_and_back(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct snap *s = sample(), *r = calloc(1, sizeof(*r));
	size_t n;
	uint8_t *p = file_of(s, &n);
	(void)state;
	assert_true(n < SNAP_BYTES_MAX);
	assert_int_equal(snap_read(p, n, r, &err), 0);
	assert_memory_equal(s, r, sizeof(*s));
	free(p);
	free(r);
	free(s);
}

static void refused(const uint8_t *p, size_t n, struct snap *r, const char *why)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (snap_read(p, n, r, &err) == 0)
		fail_msg("read, and should be refused: %s", why);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
	assert_true(err.remedy[0]);
}

/* Every bit that falls, and every cut. */
static void test_damage(void **state)
{
	struct snap *s = sample(), *r = calloc(1, sizeof(*r));
	size_t n;
	uint8_t *p = file_of(s, &n);
	(void)state;
	for (size_t i = 0; i < n; i += i < 64 ? 1 : 977) {
		uint8_t *copy = malloc(n); /* exactly as long, for AddressSanitizer */
		memcpy(copy, p, n);
		copy[i] ^= (uint8_t)(1u << (i % 8));
		refused(copy, n, r, "cannot be used");
		free(copy);
	}
	for (size_t cut = 0; cut < n; cut += cut < 64 ? 1 : 977) {
		uint8_t *copy = malloc(cut ? cut : 1);
		memcpy(copy, p, cut);
		refused(copy, cut, r, "cannot be used");
		free(copy);
	}
	free(p);
	free(r);
	free(s);
}

/* With a checksum that fits: hostile, not damaged. */
static void test_senseless(void **state)
{
	static const struct {
		size_t at; /* in the first section, behind its head */
		uint64_t v;
		unsigned len;
	} rows[] = {
		{ offsetof(struct snap_machine, memory), 0, 8 },
		{ offsetof(struct snap_machine, memory), UINT64_MAX - 4095, 8 },
		{ offsetof(struct snap_machine, memory), (128u << 20) + 1, 8 },
		{ offsetof(struct snap_machine, nvcpus), 0, 4 },
		{ offsetof(struct snap_machine, nvcpus), 3, 4 },
		{ offsetof(struct snap_machine, nvcpus), VCPUS_MAX + 1, 4 },
		{ offsetof(struct snap_machine, ndevices), UINT32_MAX, 4 },
		{ offsetof(struct snap_machine, ndevices), 2, 4 },
		{ offsetof(struct snap_machine, chip[1]), 7, 4 },
		{ offsetof(struct snap_machine, has_serial), 2, 8 },
		{ sizeof(struct snap_machine), 9, 4 },						  /* kind of the next */
		{ sizeof(struct snap_machine) + 4, 17, 4 },					  /* its length */
		{ sizeof(struct snap_machine) + 8 + offsetof(struct snap_vcpu, nmsrs), SNAP_MSRS_MAX + 1, 4 },
	};
	struct snap *s = sample(), *r = calloc(1, sizeof(*r));
	size_t n;
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *p = file_of(s, &n);
		memcpy(p + 24 + 8 + rows[i].at, &rows[i].v, rows[i].len);
		sign(p, n);
		refused(p, n, r, "makes no sense");
		free(p);
	}
	uint8_t *p = file_of(s, &n);
	uint8_t *longer = calloc(1, n + 8);
	memcpy(longer, p, n);
	sign(longer, n + 8);
	refused(longer, n + 8, r, "makes no sense");
	free(longer);
	free(p);
	free(r);
	free(s);
}

static void test_tail(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct snap *s = sample();
	uint8_t page[SNAP_RAM_TAIL];
	(void)state;
	snap_tail_write(&s->machine, page);
	assert_int_equal(snap_tail_check(&s->machine, page, &err), 0);
	s->machine.id[3]++;
	assert_int_equal(snap_tail_check(&s->machine, page, &err), -1);
	s->machine.id[3]--;
	s->machine.memory += 4096;
	assert_int_equal(snap_tail_check(&s->machine, page, &err), -1);
	free(s);
}

/* ---- devices ---- */

static struct fake_guest g;

static void test_device_goes_on(void **state)
{
	const struct fg_piece piece = { FG_DATA, 64, true };
	struct vmmio_saved saved;
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	fg_offer(&g, 0, &piece, 1);
	vmmio_run(&g.m);
	fg_offer(&g, 0, &piece, 1); /* not served yet */
	vmmio_save(&g.m, &saved);
	/* Another one with the same memory. */
	struct vmmio old = g.m;
	vmmio_init(&g.m, old.ops, old.dev, 0, old.mem, old.irq, old.irq_ctx);
	assert_int_equal(vmmio_load(&g.m, &saved), 0);
	unsigned irqs = g.irqs;
	vmmio_remind(&g.m);
	assert_int_equal(g.irqs, irqs + 1); /* the guest has not acknowledged the first */
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 2);
	assert_int_equal(fg_used_len(&g, 0), 64);
	fg_done(&g);
}

static void test_device_refuses(void **state)
{
	struct vmmio_saved good, bad;
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	vmmio_save(&g.m, &good);
#define REFUSED(change) \
	do { \
		bad = good; \
		bad.change; \
		assert_int_equal(vmmio_load(&g.m, &bad), -EINVAL); \
	} while (0)
	REFUSED(kind = 2);
	REFUSED(status = 0x100);
	REFUSED(status = 7); /* live without having agreed on features, with a queue */
	REFUSED(isr = 4);
	REFUSED(driver_features = 0);
	REFUSED(driver_features |= 1);
	REFUSED(q[0].num = 3);
	REFUSED(q[0].num = 0);
	REFUSED(q[0].desc = UINT64_MAX - 15);
	REFUSED(q[0].used = 0xd0000000u);
	REFUSED(q[1].ready = 1); /* rng has one */
	assert_int_equal(vmmio_load(&g.m, &good), 0);
	/* Indices of a ring are the guest's business, and break the ring at most. */
	bad = good;
	bad.q[0].next_avail = 0x8000;
	assert_int_equal(vmmio_load(&g.m, &bad), 0);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & VIRTIO_S_NEEDS_RESET);
	fg_done(&g);
}

/* ---- the channel ---- */

enum { RX = FG_DATA, TX = FG_DATA + 0x10000, GUEST_PORT = 1234, PORT = 1 };
enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW };

static void packet_send(uint16_t op, uint32_t port, uint32_t len)
{
	const struct vsock_hdr h = { .src_cid = VSOCK_CID_GUEST, .dst_cid = VSOCK_CID_HOST, .src_port = port,
				     .dst_port = PORT, .len = len, .type = 1, .op = op, .buf_alloc = 65536 };
	const struct fg_piece p = { TX, (uint32_t)sizeof(h) + len, false };
	guest_write(&g.mem, GPA(TX), &h, sizeof(h));
	fg_offer(&g, 1, &p, 1);
	vmmio_run(&g.m);
}

static void buffers_give(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct fg_piece p = { RX + 4096 * i, 4096, true };
		fg_offer(&g, 0, &p, 1);
	}
}

static struct vsock_hdr received(unsigned i)
{
	struct vsock_hdr h;
	guest_read(&g.mem, GPA(RX + 4096 * i), &h, sizeof(h));
	return h;
}

static void mark_send(int sock)
{
	assert_int_equal(fd_send(sock, "x", 1, &sock, 1), 0);
}

static void test_channel_is_cut(void **state)
{
	static struct vsock v;
	int pair[2];
	char got[8];
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	vsock_init(&v, pair[1], PORT);
	fg_init(&g, &vsock_ops, &v, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	buffers_give(6);
	packet_send(OP_REQUEST, GUEST_PORT, 0);
	assert_int_equal(received(0).op, OP_RESPONSE);
	assert_int_equal(write(pair[0], "old", 3), 3);
	mark_send(pair[0]);
	assert_int_equal(write(pair[0], "new", 3), 3);
	vmmio_run(&g.m);
	/* What came with the mark is the former host's and goes nowhere; the guest is told. */
	assert_int_equal(v.state, VSOCK_IDLE);
	assert_int_equal(received(1).op, OP_RST);
	assert_int_equal(received(1).dst_port, GUEST_PORT);
	assert_int_equal(vsock_events(&v), 0);
	/* The former call speaks to nobody. */
	packet_send(OP_RW, GUEST_PORT, 3);
	assert_int_equal(v.state, VSOCK_IDLE);
	assert_int_equal(received(2).op, OP_RST);
	packet_send(OP_REQUEST, GUEST_PORT + 1, 0);
	assert_int_equal(received(3).op, OP_RESPONSE);
	vmmio_run(&g.m);
	assert_int_equal(received(4).op, OP_RW);
	guest_read(&g.mem, GPA(RX + 4096 * 4 + sizeof(struct vsock_hdr)), got, 3);
	assert_memory_equal(got, "new", 3);
	fg_done(&g);
	close(pair[0]);
	close(pair[1]);
}

static void test_restored_guest_calls_again(void **state)
{
	static struct vsock v;
	struct vsock_saved saved;
	struct vmmio_saved regs;
	int pair[2];
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	vsock_init(&v, pair[1], PORT);
	fg_init(&g, &vsock_ops, &v, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	buffers_give(4);
	packet_send(OP_REQUEST, GUEST_PORT, 0);
	/* A packet that the channel does not take. */
	static const uint8_t zeros[4096];
	while (write(pair[1], zeros, sizeof(zeros)) > 0)
		;
	packet_send(OP_RW, GUEST_PORT, 100);
	assert_true(v.held);
	assert_int_equal(fg_used(&g, 1), 1);
	vsock_save(&v, &saved);
	vmmio_save(&g.m, &regs);
	assert_int_equal(saved.has_call, 1);
	assert_int_equal(saved.has_held, 1);
	struct vmmio old = g.m;
	vsock_init(&v, pair[1], PORT);
	vmmio_init(&g.m, old.ops, old.dev, 0, old.mem, old.irq, old.irq_ctx);
	assert_int_equal(vmmio_load(&g.m, &regs), 0);
	vsock_load(&v, &saved);
	vmmio_run(&g.m);
	/* Its buffer comes back, and the call is over. */
	assert_int_equal(fg_used(&g, 1), 2);
	assert_int_equal(received(1).op, OP_RST);
	assert_int_equal(v.state, VSOCK_IDLE);
	packet_send(OP_REQUEST, GUEST_PORT + 1, 0);
	assert_int_equal(received(2).op, OP_RESPONSE);
	assert_int_equal(v.state, VSOCK_CONNECTED);
	fg_done(&g);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_senseless),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_device_goes_on),
		cmocka_unit_test(test_device_refuses),
		cmocka_unit_test(test_channel_is_cut),
		cmocka_unit_test(test_restored_guest_calls_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
