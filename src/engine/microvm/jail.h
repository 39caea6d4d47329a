/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail.h: how brig-vmm gives its rights away, in this order. All are called with one thread; each
 * returns 0, or -1 with err set, after which the process must end.
 */
#ifndef BRIG_MICROVM_JAIL_H
#define BRIG_MICROVM_JAIL_H

#include <stdint.h>

#include "base/err.h"

/* Must: hold nothing but 0-2 and the n descriptors. Moves them to 3, 4, .. and changes fd[i] to where
 * each went. Entries of -1 stay. */
int jail_files(int *fd[], unsigned n, struct brig_err *err);
/* Must: see no file and no network of the host. Own mount, network, IPC and UTS namespaces, an empty
 * read-only root. Without root, by way of a user namespace. */
int jail_namespaces(struct brig_err *err);
/* Must: be uid:gid for good (if it was root), with no capability and no way to gain one; make no core,
 * open no descriptor beyond 64; end with its parent. */
int jail_user(uint32_t uid, uint32_t gid, struct brig_err *err);

#endif
