/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h: the system calls of a confined import. */
#ifndef BRIG_IMAGE_FILTER_H
#define BRIG_IMAGE_FILTER_H

/* Installs the filter on the calling thread, for good; needs no_new_privs. 0 or -errno. */
int filter_install(void);

#endif
