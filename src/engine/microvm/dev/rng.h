/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h: a virtio entropy device (virtio 1.2, section 5.4), fed by getrandom(). It has no state: dev is
 * not looked at. */
#ifndef BRIG_MICROVM_RNG_H
#define BRIG_MICROVM_RNG_H

#include "engine/microvm/dev/mmio.h"

/* Bytes given for one request, however much room it has. Linux asks for less than a page. */
#define RNG_REQUEST_MAX 4096u
extern const struct vdev_ops rng_ops;

#endif
