/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A request is a readable header of 16 bytes, data, and one writable byte of status, which is the
 * very last. The header is copied before it is looked at. Data goes between the file and guest memory
 * in one system call, straight to addresses that virtq_pop() checked; a sector number is held against
 * the size that the device had when it was made, so a file that shrinks gives errors and one that
 * grows gives nothing.
 *
 * A request without a header or without room for its status cannot be answered: that ring is broken.
 * Everything else that is wrong is answered with an error in the status byte.
 *
 * A limit is kept by not looking at the queue before `due`: the guest waits, nothing is stored.
 */
#include "engine/microvm/dev/blk.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)

struct blk_hdr {
	uint32_t type, reserved;
	uint64_t sector;
};

int blk_init(struct blk *b, int fd, bool readonly, const char *serial)
{
	struct stat st;
	uint64_t bytes = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
			return -errno;
	} else if (S_ISREG(st.st_mode)) {
		bytes = (uint64_t)st.st_size;
	}
	if (bytes < BLK_SECTOR)
		return -EINVAL;
	*b = (struct blk){ .fd = fd, .readonly = readonly, .sectors = bytes / BLK_SECTOR };
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	return 0;
}

void blk_limit(struct blk *b, uint64_t bytes, uint64_t requests)
{
	uint64_t now = clock_now();
	bucket_init(&b->bytes, bytes, now);
	bucket_init(&b->requests, requests, now);
}

uint64_t blk_features(const struct blk *b)
{
	return F_SEG_MAX | (b->readonly ? F_RO : F_FLUSH);
}

static void blk_config(void *dev, uint32_t off, void *to, size_t len)
{
	const struct blk *b = dev;
	struct {
		uint64_t capacity;
		uint32_t size_max, seg_max;
	} c = { .capacity = b->sectors, .seg_max = VIRTQ_MAX - 2 };
	memset(to, 0, len);
	if (off < sizeof(c))
		memcpy(to, (const uint8_t *)&c + off, len < sizeof(c) - off ? len : sizeof(c) - off);
}

/* Moves `n` bytes of the request's data; S_OK or S_IOERR. `iov` is used up. */
static uint8_t transfer(const struct blk *b, int write, struct iovec *iov, unsigned niov, size_t n, uint64_t at)
{
	size_t done = 0;
	while (done < n) {
		struct iovec rest[VIRTQ_MAX];
		unsigned k = iov_cut(iov, niov, done, n - done, rest);
		off_t pos = (off_t)(at + done);
		ssize_t r = write ? pwritev(b->fd, rest, (int)k, pos) : preadv(b->fd, rest, (int)k, pos);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return S_IOERR;
		done += (size_t)r;
	}
	return S_OK;
}

/* In or out: iov without header or status. */
static uint8_t move(const struct blk *b, const struct blk_hdr *h, const struct iovec *iov, unsigned niov,
		    size_t skip, size_t n)
{
	struct iovec data[VIRTQ_MAX];
	uint64_t count = n / BLK_SECTOR;
	int write = h->type == T_OUT;
	if (n == 0 || n % BLK_SECTOR || n > BLK_REQUEST_MAX || (write && b->readonly) ||
	    h->sector >= b->sectors || count > b->sectors - h->sector)
		return S_IOERR;
	unsigned k = iov_cut(iov, niov, skip, n, data);
	return transfer(b, write, data, k, n, h->sector * BLK_SECTOR);
}

/* Answers one request; *ret_written = bytes for used.len. -EPROTO: it has no place for an answer. */
static int request(const struct blk *b, const struct virtq_chain *c, uint32_t *ret_written)
{
	struct blk_hdr h;
	const struct iovec *in = chain_in(c);
	size_t nin = iov_bytes(in, c->nin), nout = iov_bytes(c->iov, c->nout);
	uint8_t status;
	if (nin < 1 || iov_gather(c->iov, c->nout, 0, &h, sizeof(h)) != sizeof(h))
		return -EPROTO;
	*ret_written = 1;
	switch (h.type) {
	case T_IN:
		status = move(b, &h, in, c->nin, 0, nin - 1);
		if (status == S_OK)
			*ret_written = (uint32_t)nin;
		break;
	case T_OUT: status = move(b, &h, c->iov, c->nout, sizeof(h), nout - sizeof(h)); break;
	case T_FLUSH: status = b->readonly || fdatasync(b->fd) == 0 ? S_OK : S_IOERR; break;
	case T_GET_ID:
		status = nin - 1 >= sizeof(b->serial) ? S_OK : S_IOERR;
		if (status == S_OK)
			*ret_written = (uint32_t)iov_scatter(in, c->nin, 0, b->serial, sizeof(b->serial));
		break;
	default: status = S_UNSUPP; break;
	}
	iov_scatter(in, c->nin, nin - 1, &status, 1);
	return 0;
}

/* What a request counts for: the data that it had room for, whether it went well or not. */
static uint64_t moved(const struct virtq_chain *c)
{
	uint64_t n = iov_bytes(c->iov, c->nout) + iov_bytes(chain_in(c), c->nin);
	return n < BLK_REQUEST_MAX ? n : BLK_REQUEST_MAX;
}

static void blk_reset(void *dev)
{
	((struct blk *)dev)->due = 0;
}

/* May a request be served? Otherwise `due` says when. */
static bool may_go(struct blk *b)
{
	b->due = 0;
	if (b->bytes.rate == 0 && b->requests.rate == 0)
		return true;
	uint64_t now = clock_now(), by_bytes = bucket_wait(&b->bytes, now), by_count = bucket_wait(&b->requests, now);
	b->due = by_bytes > by_count ? by_bytes : by_count;
	return b->due == 0;
}

static int blk_run(void *dev, struct vmmio *m)
{
	struct blk *b = dev;
	unsigned done = 0;
	int r = 0;
	while (done < VMMIO_ROUND && may_go(b) && (r = virtq_pop(&m->q[0], m->mem, &m->chain)) > 0) {
		uint32_t written = 0;
		if ((r = request(b, &m->chain, &written)) < 0)
			break;
		bucket_take(&b->requests, 1);
		bucket_take(&b->bytes, moved(&m->chain));
		virtq_push(&m->q[0], m->chain.head, written);
		done++;
	}
	if (done)
		vmmio_used(m, 0);
	/* While it waits there is nothing more to do, whatever the queue holds. */
	return b->due && r > 0 ? 0 : r;
}

const struct vdev_ops blk_ops = { .device_id = 2, .nqueues = 1, .config = blk_config, .run = blk_run,
				  .reset = blk_reset };
