/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon.h: a virtio balloon (virtio 1.2, section 5.5) of size 0 that takes free page reports: what the
 * guest says is free goes back to the host, and comes back as zeros when it is touched.
 */
#ifndef BRIG_MICROVM_BALLOON_H
#define BRIG_MICROVM_BALLOON_H

#include "engine/microvm/dev/mmio.h"

#define BALLOON_FEATURES (1ull << 5) /* VIRTIO_BALLOON_F_REPORTING */

struct balloon {
	uint64_t returned; /* bytes, over the life of the VM */
};
extern const struct vdev_ops balloon_ops;

#endif
