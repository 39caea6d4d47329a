/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and devices of a microVM, seen by a driver that keeps to the rules and by one that does not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "engine/microvm/dev/balloon.h"
#include "engine/microvm/dev/blk.h"
#include "engine/microvm/dev/rng.h"
#include "engine/microvm/dev/serial.h"
#include "engine/microvm/dev/vsock.h"
#include "fake_guest.h"

enum { HDR = FG_DATA, DATA = FG_DATA + 0x1000, STATUS = FG_DATA + 0x800 };
enum { LIVE = 15, NEEDS_RESET = 64 };

static struct fake_guest g;

/* ---- registers ---- */

static void test_identity(void **state)
{
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	assert_int_equal(fg_get(&g, 0), 0x74726976);
	assert_int_equal(fg_get(&g, 4), 2);
	assert_int_equal(fg_get(&g, 8), 4);
	fg_set(&g, 0x14, 1);
	assert_int_equal(fg_get(&g, 0x10), 1);
	fg_set(&g, 0x14, 2);
	assert_int_equal(fg_get(&g, 0x10), 0);
	fg_set(&g, 0x30, 1);
	assert_int_equal(fg_get(&g, 0x34), 0);
	assert_int_equal(vmmio_read(&g.m, 0, 8), 0);
	assert_int_equal(vmmio_read(&g.m, VMMIO_LEN, 4), 0);
	vmmio_write(&g.m, 0x70, 2, 1);
	assert_int_equal(fg_get(&g, 0x70), 0);
	fg_done(&g);
}

static void test_status_order(void **state)
{
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	assert_int_equal(fg_drive(&g, VIRTIO_F_VERSION_1), LIVE);
	fg_set(&g, 0x70, 3); /* takes bits away */
	assert_int_equal(fg_get(&g, 0x70), LIVE);
	fg_set(&g, 0x70, LIVE | NEEDS_RESET); /* the device's own */
	assert_int_equal(fg_get(&g, 0x70), LIVE);
	/* Not the features that were offered. */
	assert_int_equal(fg_drive(&g, 0), 3);
	assert_int_equal(fg_drive(&g, VIRTIO_F_VERSION_1 | 1), 3);
	fg_set(&g, 0x70, 0);
	fg_set(&g, 0x70, 7); /* DRIVER_OK before FEATURES_OK */
	assert_int_equal(fg_get(&g, 0x70), 3);
	fg_done(&g);
}

static void test_queues_freeze(void **state)
{
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	assert_int_equal(fg_drive(&g, VIRTIO_F_VERSION_1), LIVE);
	fg_set(&g, 0x30, 0);
	fg_set(&g, 0x38, 4);
	fg_set(&g, 0x80, 0x5000);
	fg_set(&g, 0x84, 0xffffffff);
	fg_set(&g, 0x44, 0);
	assert_int_equal(fg_get(&g, 0x44), 1);
	assert_int_equal(g.m.q[0].num, FG_NUM);
	assert_int_equal(g.m.q[0].desc_at, fg_desc_at(0));
	/* Features, too. */
	fg_set(&g, 0x24, 0);
	fg_set(&g, 0x20, 0xff);
	assert_int_equal(g.m.driver_features, VIRTIO_F_VERSION_1);
	/* A queue that makes no sense is not ready. */
	fg_set(&g, 0x70, 0);
	fg_set(&g, 0x70, 3);
	fg_set(&g, 0x24, 1);
	fg_set(&g, 0x20, 1);
	fg_set(&g, 0x70, 11);
	fg_set(&g, 0x38, 5);
	fg_set(&g, 0x44, 1);
	assert_int_equal(fg_get(&g, 0x44), 0);
	fg_done(&g);
}

static void test_broken_ring(void **state)
{
	const struct fg_piece bad = { 0xd0000000u, 64, true };
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	fg_offer(&g, 0, &bad, 1);
	vmmio_run(&g.m);
	assert_int_equal(fg_get(&g, 0x70), LIVE | NEEDS_RESET);
	assert_int_equal(fg_get(&g, 0x60), 2);
	fg_set(&g, 0x64, 2);
	assert_int_equal(fg_get(&g, 0x60), 0);
	unsigned irqs = g.irqs;
	vmmio_run(&g.m);
	assert_int_equal(g.irqs, irqs);
	assert_int_equal(fg_drive(&g, VIRTIO_F_VERSION_1), LIVE);
	fg_done(&g);
}

/* ---- rng ---- */

static void test_rng(void **state)
{
	const struct fg_piece small = { DATA, 64, true }, large = { DATA, 1 << 20, true }, wrong = { DATA, 64, false };
	uint8_t got[64], zero[64] = { 0 };
	(void)state;
	fg_init(&g, &rng_ops, NULL, 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	fg_offer(&g, 0, &small, 1);
	assert_false(vmmio_run(&g.m));
	assert_int_equal(fg_used(&g, 0), 1);
	assert_int_equal(fg_used_len(&g, 0), 64);
	guest_read(&g.mem, GPA(DATA), got, sizeof(got));
	assert_memory_not_equal(got, zero, sizeof(got));
	assert_int_equal(g.irqs, 1);
	fg_offer(&g, 0, &large, 1);
	vmmio_run(&g.m);
	assert_int_equal(fg_used_len(&g, 0), RNG_REQUEST_MAX);
	/* A driver that polls gets no interrupt. */
	uint16_t no = 1;
	guest_write(&g.mem, GPA(fg_avail_at(0)), &no, 2);
	fg_offer(&g, 0, &small, 1);
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 3);
	assert_int_equal(g.irqs, 2);
	fg_offer(&g, 0, &wrong, 1);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & NEEDS_RESET);
	fg_done(&g);
}

/* ---- blk ---- */

static int disk_fd(size_t bytes)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/* One request; its status byte, or -1 if it was not answered. */
static int blk_ask(uint32_t type, uint64_t sector, uint32_t bytes)
{
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} h = { type, 0, sector };
	uint8_t status = 0xee;
	const struct fg_piece p[] = { { HDR, sizeof(h), false }, { DATA, bytes, type != 1 }, { STATUS, 1, true } };
	const struct fg_piece none[] = { p[0], p[2] };
	uint16_t before = fg_used(&g, 0);
	guest_write(&g.mem, GPA(HDR), &h, sizeof(h));
	guest_write(&g.mem, GPA(STATUS), &status, 1);
	fg_offer(&g, 0, bytes ? p : none, bytes ? 3 : 2);
	vmmio_run(&g.m);
	guest_read(&g.mem, GPA(STATUS), &status, 1);
	return fg_used(&g, 0) == before ? -1 : status;
}

static void test_blk(void **state)
{
	struct blk b;
	AUTO_FD fd = disk_fd(64 * 512);
	char text[512] = "sector five", back[512] = "";
	(void)state;
	assert_int_equal(pwrite(fd, text, sizeof(text), 5 * 512), sizeof(text));
	assert_int_equal(blk_init(&b, fd, false, "abc"), 0);
	fg_init(&g, &blk_ops, &b, blk_features(&b));
	assert_int_equal(fg_get(&g, 0x100), 64);
	assert_int_equal(vmmio_read(&g.m, 0x100, 8), 64);
	assert_int_equal(vmmio_read(&g.m, 0x1f0, 8), 0);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	assert_int_equal(blk_ask(0, 5, 1024), 0);
	assert_int_equal(fg_used_len(&g, 0), 1025);
	guest_read(&g.mem, GPA(DATA), back, sizeof(back));
	assert_string_equal(back, text);
	guest_write(&g.mem, GPA(DATA), "written", 8);
	assert_int_equal(blk_ask(1, 63, 512), 0);
	assert_int_equal(pread(fd, back, 8, 63 * 512), 8);
	assert_string_equal(back, "written");
	assert_int_equal(blk_ask(4, 0, 0), 0);
	assert_int_equal(blk_ask(8, 0, 20), 0);
	guest_read(&g.mem, GPA(DATA), back, 20);
	assert_string_equal(back, "abc");
	/* Wrong, and answered with an error. */
	assert_int_equal(blk_ask(0, 63, 1024), 1);
	assert_int_equal(blk_ask(0, 64, 512), 1);
	assert_int_equal(blk_ask(0, UINT64_MAX, 512), 1);
	assert_int_equal(blk_ask(0, UINT64_MAX / 512, 512), 1);
	assert_int_equal(blk_ask(0, 0, 513), 1);
	assert_int_equal(blk_ask(0, 0, 0), 1);
	assert_int_equal(blk_ask(0, 0, BLK_REQUEST_MAX + 512), 1);
	assert_int_equal(blk_ask(8, 0, 19), 1);
	assert_int_equal(blk_ask(77, 0, 512), 2);
	/* A disk that shrank. */
	assert_int_equal(ftruncate(fd, 512), 0);
	assert_int_equal(blk_ask(0, 5, 512), 1);
	/* No place for an answer. */
	const struct fg_piece mute = { HDR, 16, false };
	fg_offer(&g, 0, &mute, 1);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & NEEDS_RESET);
	fg_done(&g);
}

static void test_blk_readonly(void **state)
{
	struct blk b;
	AUTO_FD fd = disk_fd(64 * 512);
	AUTO_FD empty = disk_fd(511);
	char back[8] = "";
	(void)state;
	assert_int_equal(blk_init(&b, empty, true, ""), -EINVAL);
	assert_int_equal(blk_init(&b, fd, true, ""), 0);
	fg_init(&g, &blk_ops, &b, blk_features(&b));
	assert_true(fg_get(&g, 0x10) & 1u << 5);
	fg_drive(&g, VIRTIO_F_VERSION_1);
	guest_write(&g.mem, GPA(DATA), "written", 8);
	assert_int_equal(blk_ask(1, 0, 512), 1);
	assert_int_equal(pread(fd, back, 8, 0), 8);
	assert_string_equal(back, "");
	fg_done(&g);
}

static void test_bucket(void **state)
{
	struct bucket b;
	const uint64_t s = 1000000000ull;
	(void)state;
	bucket_init(&b, 0, 0);
	bucket_take(&b, 1 << 30);
	assert_int_equal(bucket_wait(&b, 0), 0);
	bucket_init(&b, 100, s);
	assert_int_equal(bucket_wait(&b, s), 0);
	bucket_take(&b, 150);
	assert_int_equal(bucket_wait(&b, s), s + s / 2 + s / 100);
	assert_int_equal(bucket_wait(&b, s + s / 2), s + s / 2 + s / 100);
	assert_int_equal(bucket_wait(&b, s + s / 2 + s / 100), 0);
	/* It never holds more than a second's worth, and time does not run backwards. */
	assert_int_equal(bucket_wait(&b, 1000 * s), 0);
	assert_int_equal(b.tokens, 100);
	assert_int_equal(bucket_wait(&b, 0), 0);
	assert_int_equal(b.tokens, 100);
	/* The parts of a token are not lost: a call each 0.3 tokens, for 3 seconds. */
	bucket_init(&b, 100, 0);
	bucket_take(&b, 100);
	for (uint64_t now = 0; now <= s * 9 / 10; now += 3000000)
		bucket_wait(&b, now);
	assert_in_range(b.tokens, 89, 90);
	bucket_init(&b, BUCKET_RATE_MAX, 0);
	bucket_take(&b, UINT32_MAX);
	assert_int_equal(bucket_wait(&b, UINT64_MAX), 0);
}

/* A disk that may serve two requests a second serves the rest later, and each of them. */
static void test_blk_limit(void **state)
{
	struct blk b;
	AUTO_FD fd = disk_fd(64 * 512);
	(void)state;
	assert_int_equal(blk_init(&b, fd, true, ""), 0);
	blk_limit(&b, 0, 2);
	fg_init(&g, &blk_ops, &b, blk_features(&b));
	fg_drive(&g, VIRTIO_F_VERSION_1);
	assert_int_equal(blk_ask(0, 0, 512), 0);
	assert_int_equal(blk_ask(0, 1, 512), 0);
	assert_int_equal(blk_ask(0, 2, 512), -1);
	assert_true(b.due != 0);
	assert_false(vmmio_run(&g.m)); /* no busy loop */
	assert_int_equal(fg_used(&g, 0), 2);
	b.requests.at -= 600000000; /* as if 600 ms had passed */
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 3);
	/* By bytes: a large one is paid for afterwards. */
	blk_limit(&b, 4096, 0);
	assert_int_equal(blk_ask(0, 0, 32 * 512), 0);
	assert_int_equal(blk_ask(0, 0, 512), -1);
	b.bytes.at -= 3000000000u;
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 4);
	b.bytes.at -= 2000000000u;
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 5);
	fg_done(&g);
}

/* ---- vsock ---- */

static struct vsock v;
static int peer; /* the other end of the channel */
enum { RX, TX, PORT = 77, GUEST_PORT = 4000 };

static void vsock_up(void)
{
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s), 0);
	peer = s[1];
	vsock_init(&v, s[0], PORT);
	fg_init(&g, &vsock_ops, &v, 0);
	assert_int_equal(vmmio_read(&g.m, 0x100, 8), VSOCK_CID_GUEST);
	assert_int_equal(fg_drive(&g, VIRTIO_F_VERSION_1), LIVE);
}

static void vsock_down(void)
{
	close(peer);
	close(v.chan);
	fg_done(&g);
}

/* A buffer for the device, 4 KiB as Linux gives them. */
static void give(void)
{
	const struct fg_piece p = { DATA + 0x10000 + 0x1000ull * (g.next_desc[RX] % FG_NUM), 0x1000, true };
	fg_offer(&g, RX, &p, 1);
}

static void packet_send(uint16_t op, uint32_t port, const void *data, uint32_t len, uint32_t claimed)
{
	struct vsock_hdr h = { .src_cid = 3, .dst_cid = 2, .src_port = GUEST_PORT, .dst_port = port, .len = claimed,
			       .type = 1, .op = op, .buf_alloc = 8192 };
	const struct fg_piece p[] = { { HDR, sizeof(h), false }, { DATA, len, false } };
	guest_write(&g.mem, GPA(HDR), &h, sizeof(h));
	if (len)
		guest_write(&g.mem, GPA(DATA), data, len);
	fg_offer(&g, TX, p, len ? 2 : 1);
	vmmio_run(&g.m);
}

/* The packet in the last buffer that came back. */
static struct vsock_hdr packet_got(char *data, size_t n)
{
	struct vsock_hdr h;
	uint32_t id;
	uint16_t last = (uint16_t)(fg_used(&g, RX) - 1);
	struct virtq_desc d;
	guest_read(&g.mem, GPA(fg_used_at(RX) + 4 + 8ull * (last % FG_NUM)), &id, 4);
	guest_read(&g.mem, GPA(fg_desc_at(RX) + 16ull * id), &d, sizeof(d));
	guest_read(&g.mem, GPA(d.addr), &h, sizeof(h));
	if (n)
		guest_read(&g.mem, GPA(d.addr + sizeof(h)), data, n);
	return h;
}

static void test_vsock(void **state)
{
	char buf[64] = "";
	(void)state;
	vsock_up();
	assert_int_equal(vsock_events(&v), 0);
	for (int i = 0; i < 8; i++)
		give();
	packet_send(1, PORT, NULL, 0, 0);
	struct vsock_hdr h = packet_got(NULL, 0);
	assert_int_equal(h.op, 2);
	assert_int_equal(h.dst_port, GUEST_PORT);
	assert_int_equal(h.buf_alloc, VSOCK_BUF);
	assert_int_equal(v.state, VSOCK_CONNECTED);
	assert_int_equal(vsock_events(&v), EPOLLIN);
	packet_send(5, PORT, "hello", 5, 5);
	assert_int_equal(read(peer, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(write(peer, "world!", 6), 6);
	vmmio_run(&g.m);
	h = packet_got(buf, 6);
	assert_int_equal(h.op, 5);
	assert_int_equal(h.len, 6);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(buf, "world!", 6);
	/* A second call, and one elsewhere, are reset. */
	packet_send(1, PORT + 1, NULL, 0, 0);
	assert_int_equal(packet_got(NULL, 0).op, 3);
	assert_int_equal(v.state, VSOCK_CONNECTED);
	packet_send(7, PORT, NULL, 0, 0);
	assert_int_equal(packet_got(NULL, 0).op, 6);
	packet_send(4, PORT, NULL, 0, 0);
	assert_int_equal(packet_got(NULL, 0).op, 3);
	assert_int_equal(v.state, VSOCK_ENDED);
	vsock_down();
}

/* The guest's credit (8192 bytes) and its buffers stop the host; nothing is lost. */
static void test_vsock_credit(void **state)
{
	char big[16384] = "";
	(void)state;
	vsock_up();
	give();
	packet_send(1, PORT, NULL, 0, 0);
	assert_int_equal(write(peer, big, sizeof(big)), sizeof(big));
	vmmio_run(&g.m);
	assert_true(v.starved);
	assert_int_equal(vsock_events(&v), 0);
	for (int i = 0; i < 6; i++)
		give();
	vmmio_run(&g.m);
	assert_int_equal(v.tx_cnt, 8192);
	assert_int_equal(vsock_events(&v), 0);
	/* More credit lets more through: an update with fwd_cnt 0 and a larger buffer. */
	struct vsock_hdr h = { .src_cid = 3, .dst_cid = 2, .src_port = GUEST_PORT, .dst_port = PORT, .type = 1,
			       .op = 6, .buf_alloc = 1 << 20, .fwd_cnt = 8192 };
	const struct fg_piece p = { HDR, sizeof(h), false };
	guest_write(&g.mem, GPA(HDR), &h, sizeof(h));
	fg_offer(&g, TX, &p, 1);
	vmmio_run(&g.m);
	assert_true(v.tx_cnt > 8192);
	vsock_down();
}

/* A channel that takes nothing holds the guest's packet back; it is whole in the end. */
static void test_vsock_held(void **state)
{
	static char block[60000];
	size_t sent = 0, got = 0;
	(void)state;
	vsock_up();
	give();
	int size = 4096;
	setsockopt(v.chan, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	packet_send(1, PORT, NULL, 0, 0);
	for (int i = 0; i < 4; i++, sent += sizeof(block))
		packet_send(5, PORT, block, sizeof(block), sizeof(block));
	assert_true(v.held);
	assert_true(vsock_events(&v) & EPOLLOUT);
	uint16_t used = fg_used(&g, TX);
	assert_true(used < 5);
	for (int i = 0; i < 1000 && got < sent; i++) {
		ssize_t n = read(peer, block, sizeof(block));
		got += n > 0 ? (size_t)n : 0;
		vmmio_run(&g.m);
	}
	assert_int_equal(got, sent);
	assert_int_equal(fg_used(&g, TX), 5);
	assert_false(v.held);
	vsock_down();
}

static void test_vsock_hostile(void **state)
{
	static char block[60000];
	(void)state;
	/* More data than the header's packet has, */
	vsock_up();
	packet_send(1, PORT, NULL, 0, 0);
	packet_send(5, PORT, "x", 1, 2);
	assert_int_equal(v.state, VSOCK_ENDED);
	vsock_down();
	/* more than its credit, */
	vsock_up();
	int size = 4096;
	setsockopt(v.chan, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	packet_send(1, PORT, NULL, 0, 0);
	v.rx_cnt = VSOCK_BUF - 100;
	packet_send(5, PORT, block, 101, 101);
	assert_int_equal(v.state, VSOCK_ENDED);
	vsock_down();
	/* calls without end and never a buffer: it stops being listened to, */
	vsock_up();
	for (unsigned i = 0; i < 3 * VSOCK_REPLIES; i++)
		packet_send(1, PORT + 1, NULL, 0, 0);
	assert_int_equal(v.nreply, VSOCK_REPLIES);
	assert_true(fg_used(&g, TX) < FG_NUM + VSOCK_REPLIES + 1);
	vsock_down();
	/* a buffer that is no buffer, a packet that is none. */
	const struct fg_piece out = { DATA, 64, false }, in = { DATA, 64, true }, tiny = { DATA, 43, false };
	vsock_up();
	packet_send(1, PORT, NULL, 0, 0);
	fg_offer(&g, RX, &out, 1);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & NEEDS_RESET);
	vsock_down();
	vsock_up();
	fg_offer(&g, TX, &in, 1);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & NEEDS_RESET);
	vsock_down();
	vsock_up();
	fg_offer(&g, TX, &tiny, 1);
	vmmio_run(&g.m);
	assert_true(fg_get(&g, 0x70) & NEEDS_RESET);
	vsock_down();
}

/* The end of the channel, and a driver that resets under way. */
static void test_vsock_ends(void **state)
{
	(void)state;
	vsock_up();
	give();
	give();
	packet_send(1, PORT, NULL, 0, 0);
	shutdown(peer, SHUT_WR);
	vmmio_run(&g.m);
	assert_int_equal(v.state, VSOCK_ENDED);
	vsock_down();
	vsock_up();
	packet_send(1, PORT, NULL, 0, 0);
	fg_set(&g, 0x70, 0);
	assert_int_equal(v.state, VSOCK_ENDED);
	assert_int_equal(vsock_events(&v), 0);
	vsock_down();
}

/* ---- balloon ---- */

static void test_balloon(void **state)
{
	struct balloon b = { 0 };
	const struct fg_piece free[] = { { DATA, 8192, true }, { DATA + 0x4000, 4096, true } },
			      crooked[] = { { DATA + 0x4001, 4096, true }, { DATA + 0x4000, 4095, true },
					    { DATA + 0x4000, 4096, false } },
			      inflate = { DATA + 0x5000, 4, false };
	char back[8] = "";
	(void)state;
	fg_init(&g, &balloon_ops, &b, BALLOON_FEATURES);
	assert_int_equal(vmmio_read(&g.m, 0x100, 8), 0);
	fg_drive(&g, VIRTIO_F_VERSION_1 | BALLOON_FEATURES);
	for (uint64_t at = DATA; at < DATA + 0x6000; at += 0x1000)
		guest_write(&g.mem, GPA(at), "content", 8);
	fg_offer(&g, 2, free, 2);
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 2), 1);
	assert_int_equal(b.returned, 12288);
	guest_read(&g.mem, GPA(DATA + 0x1000), back, 8);
	assert_string_equal(back, "");
	guest_read(&g.mem, GPA(DATA + 0x2000), back, 8);
	assert_string_equal(back, "content");
	/* Not of whole pages, or not the device's to write: left alone. */
	guest_write(&g.mem, GPA(DATA + 0x4000), "content", 8);
	for (int i = 0; i < 3; i++)
		fg_offer(&g, 2, &crooked[i], 1);
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 2), 4);
	assert_int_equal(b.returned, 12288);
	guest_read(&g.mem, GPA(DATA + 0x4000), back, 8);
	assert_string_equal(back, "content");
	/* The balloon itself takes nothing. */
	fg_offer(&g, 0, &inflate, 1);
	vmmio_run(&g.m);
	assert_int_equal(fg_used(&g, 0), 1);
	assert_int_equal(b.returned, 12288);
	fg_done(&g);
}

/* ---- serial ---- */

static void test_serial(void **state)
{
	static struct serial s;
	static uint8_t out[2 * SERIAL_RING];
	(void)state;
	serial_init(&s);
	assert_int_equal(serial_write(&s, 0, 'a'), SERIAL_HAS_OUTPUT);
	assert_int_equal(serial_read(&s, 5), 0x60);
	assert_int_equal(serial_write(&s, 1, 2), SERIAL_IRQ_PULSE);
	assert_int_equal(serial_read(&s, 2), 2);
	assert_int_equal(serial_read(&s, 2), 1);
	assert_int_equal(serial_write(&s, 0, 'b'), SERIAL_HAS_OUTPUT | SERIAL_IRQ_PULSE);
	serial_write(&s, 3, 0x80);
	serial_write(&s, 0, 1);
	assert_int_equal(serial_read(&s, 0), 1);
	serial_write(&s, 3, 3);
	serial_write(&s, 4, 0x1a); /* loopback with RTS and OUT2 */
	assert_int_equal(serial_read(&s, 6) & 0xf0, 0x90);
	assert_int_equal(serial_write(&s, 0, 'x') & SERIAL_HAS_OUTPUT, 0);
	serial_write(&s, 4, 0);
	assert_int_equal(serial_take(&s, out, sizeof(out)), 2);
	assert_memory_equal(out, "ab", 2);
	/* A flood is dropped, first by the ring, in the end for good. */
	for (unsigned i = 0; i < 3 * SERIAL_RING; i++)
		serial_write(&s, 0, 'z');
	assert_int_equal(serial_take(&s, out, sizeof(out)), SERIAL_RING);
	uint64_t total = 0;
	for (unsigned i = 0; i < 2 * SERIAL_TOTAL_MAX; i++) {
		serial_write(&s, 0, 'z');
		total += serial_take(&s, out, 1);
	}
	assert_int_equal(total + SERIAL_RING + 2, SERIAL_TOTAL_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),     cmocka_unit_test(test_status_order),
		cmocka_unit_test(test_queues_freeze), cmocka_unit_test(test_broken_ring),
		cmocka_unit_test(test_rng),	     cmocka_unit_test(test_blk),
		cmocka_unit_test(test_bucket), cmocka_unit_test(test_blk_limit),
		cmocka_unit_test(test_blk_readonly), cmocka_unit_test(test_vsock),
		cmocka_unit_test(test_vsock_credit), cmocka_unit_test(test_vsock_held),
		cmocka_unit_test(test_vsock_hostile), cmocka_unit_test(test_vsock_ends),
		cmocka_unit_test(test_balloon),
		cmocka_unit_test(test_serial),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
