/* SPDX-License-Identifier: Apache-2.0 */
/* cpio.h: writes an archive of the "newc" form, which Linux unpacks as its initial RAM disk. */
#ifndef BRIG_MICROVM_CPIO_H
#define BRIG_MICROVM_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct cpio {
	FILE *f; /* not owned */
	uint32_t ino;
};

/* Each 0 or -errno. Names are relative, without "./", shorter than 4096; owner is root, time 0, so that
 * the same files make the same bytes. Directories come before what is in them. */
int cpio_dir(struct cpio *c, const char *name);
int cpio_file(struct cpio *c, const char *name, mode_t mode, const void *data, uint32_t len);
/* The last entry; the file is the caller's to flush. */
int cpio_end(struct cpio *c);

#endif
