/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.h: the OCI configuration that runsc is given for a sandbox. */
#ifndef BRIG_GVISOR_BUNDLE_H
#define BRIG_GVISOR_BUNDLE_H

#include <stddef.h>

#include "brig/jail_proto.h"

/* Room for every specification that jail_check_spec() accepts. */
#define BUNDLE_MAX 131072u

/* Writes the configuration, with a terminator; its length, or -EOVERFLOW. own_tmp: the image has a directory
 * /tmp, which is to be the root's and not one of gVisor's own making. */
int bundle_write(const struct jail_spec *p, int own_tmp, char *ret, size_t cap);

#endif
