/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The balloon itself stays empty: a limit is the memory that a VM was given, not what is taken from it
 * later. Of interest is the reporting queue: the guest hands over buffers that are its free pages, and
 * has them back, with whatever content, when the request is answered (5.5.6.7). Each is a piece of
 * guest memory that virtq_pop() checked, and is dropped by madvise(). A lie harms the liar only: the
 * pages are its own and read as zeros. Pieces that are not of whole pages are left alone.
 *
 * The queues of a balloon are numbered by what was negotiated: inflate, deflate, then reporting, since
 * neither statistics nor hinting are offered. The first two are answered without effect.
 */
#include "engine/microvm/dev/balloon.h"

#include <string.h>
#include <sys/mman.h>

enum { Q_REPORT = 2 };

static void drop(struct balloon *b, const struct iovec *iov)
{
	uintptr_t from = (uintptr_t)iov->iov_base;
	if (from % GUEST_PAGE || iov->iov_len % GUEST_PAGE)
		return;
	if (madvise(iov->iov_base, iov->iov_len, MADV_DONTNEED) == 0)
		b->returned += iov->iov_len;
}

static int balloon_run(void *dev, struct vmmio *m)
{
	struct balloon *b = dev;
	unsigned done = 0;
	int r = 0;
	for (unsigned i = 0; i <= Q_REPORT; i++) {
		unsigned before = done;
		while (done < VMMIO_ROUND && (r = virtq_pop(&m->q[i], m->mem, &m->chain)) > 0) {
			const struct virtq_chain *c = &m->chain;
			for (unsigned k = 0; i == Q_REPORT && k < c->nin; k++)
				drop(b, &chain_in(c)[k]);
			virtq_push(&m->q[i], c->head, 0);
			done++;
		}
		if (done > before)
			vmmio_used(m, i);
		if (r < 0)
			return r;
	}
	return done >= VMMIO_ROUND;
}

/* num_pages, actual, poison_val: all zero. */
static void balloon_config(void *dev, uint32_t off, void *to, size_t len)
{
	(void)dev;
	(void)off;
	memset(to, 0, len);
}

const struct vdev_ops balloon_ops = { .device_id = 5, .nqueues = 3, .config = balloon_config, .run = balloon_run };
