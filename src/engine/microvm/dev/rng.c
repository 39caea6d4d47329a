/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each request gets at most RNG_REQUEST_MAX bytes, and VMMIO_ROUND requests are served in a row, so a
 * guest that asks without end costs its own time on its own CPU share only. Random bytes are made in
 * our memory first: a system call that writes guest memory in pieces gains nothing here.
 */
#include "engine/microvm/dev/rng.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static int rng_run(void *dev, struct vmmio *m)
{
	uint8_t buf[RNG_REQUEST_MAX];
	struct virtq_chain *c = &m->chain;
	unsigned done = 0;
	int r = 0;
	(void)dev;
	while (done < VMMIO_ROUND && (r = virtq_pop(&m->q[0], m->mem, c)) > 0) {
		size_t n = iov_bytes(chain_in(c), c->nin);
		if (c->nout || n == 0) {
			r = -EPROTO;
			break;
		}
		ssize_t got = getrandom(buf, n < sizeof(buf) ? n : sizeof(buf), 0);
		if (got < 0)
			got = 0; /* interrupted: the driver asks again */
		virtq_push(&m->q[0], c->head,
			   (uint32_t)iov_scatter(chain_in(c), c->nin, 0, buf, (size_t)got));
		done++;
	}
	if (done)
		vmmio_used(m, 0);
	explicit_bzero(buf, sizeof(buf));
	return r;
}

const struct vdev_ops rng_ops = { .device_id = 4, .nqueues = 1, .run = rng_run };
