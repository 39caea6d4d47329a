/* SPDX-License-Identifier: Apache-2.0 */
/* modules.h: which files of a kernel's module folder must be loaded for a driver, and in which order. */
#ifndef BRIG_MICROVM_MODULES_H
#define BRIG_MICROVM_MODULES_H

#include <stdint.h>

#include "base/err.h"

#define MODULES_MAX 64u	       /* to be loaded */
#define MODULE_NAME_MAX 64u
#define MODULE_BYTES_MAX (32u << 20)

struct module {
	char name[MODULE_NAME_MAX]; /* with '_', as the kernel has it */
	uint8_t *data;		    /* the file */
	uint32_t len;
};
struct modules {
	struct module m[MODULES_MAX]; /* what a module depends on stands before it */
	unsigned n;
};

/*
 * Adds a module and what it depends on. dir: lib/modules/VERSION, as a package unpacks it: modules.dep need
 * not be there. What is built into the kernel is left out. 0, or -1 with err set: no such module, a
 * circle, more than there is room for.
 */
int modules_add(struct modules *ms, int dir, const char *name, struct brig_err *err);
void modules_done(struct modules *ms);

#endif
