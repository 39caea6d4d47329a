/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h: a virtio block device (virtio 1.2, section 5.2) over a descriptor. */
#ifndef BRIG_MICROVM_BLK_H
#define BRIG_MICROVM_BLK_H

#include "engine/microvm/dev/bucket.h"
#include "engine/microvm/dev/mmio.h"

#define BLK_SECTOR 512u
/* Data of one request. Linux asks for 1280 KiB at most by default (BLK_DEF_MAX_SECTORS). */
#define BLK_REQUEST_MAX (4u << 20)

struct blk {
	int fd; /* not owned */
	bool readonly;
	uint64_t sectors;
	char serial[20];
	struct bucket bytes, requests; /* without a limit unless blk_limit() was called */
	uint64_t due;		       /* when requests that wait may go on, ns; 0 = none waits */
};
extern const struct vdev_ops blk_ops;

/* fd: a regular file or block device. serial: up to 20 characters that the guest may ask for. 0,
 * -EINVAL: it has no whole sector, or -errno. */
int blk_init(struct blk *b, int fd, bool readonly, const char *serial);
/* What the guest may move and ask for in a second; 0 = no limit. Before the guest runs. */
void blk_limit(struct blk *b, uint64_t bytes, uint64_t requests);
uint64_t blk_features(const struct blk *b);

#endif
