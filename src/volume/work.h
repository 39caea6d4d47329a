/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h: volumes of the store: how they lie on the disk, and what is done with one.
 *
 * Theory of operation
 * -------------------
 * A volume is an ext4 file system of its own, in a sparse file <data>/volumes/<id> that mkfs.ext4 made. So
 * what it may hold, in bytes and in files, is what it is made for, and no kernel option, quota or daemon has
 * to be there for a limit to hold. It is copied as one file (FICLONE where the data folder's file system can:
 * in an instant, and also while it is written to) and removed as one file. Nothing privileged ever walks
 * through what a tenant put into it. Its content is written by the kernel for sandboxes, and no byte of an image
 * ever comes from elsewhere; a backup is an archive that a sandbox packs, and unpacks.
 *
 * It is mounted by file system calls that give a descriptor (fsopen, fsmount): the mount is attached nowhere
 * until it is in the sandbox, so the host's mount table never shows it. Its loop device clears itself when
 * the last mount is gone (autoclear). So nothing outlives the sandboxes that have it, however they end, and
 * nobody has to take anything down; what a crash or a power cut leaves is the journal of ext4 to repair, at the
 * next mount.
 *
 * Each piece of work is a process that jaild forks (jail/volumes.c), which does it, says how it ended, and
 * exits. What is made gets its name when it is whole and on the disk.
 */
#ifndef BRIG_VOLUME_WORK_H
#define BRIG_VOLUME_WORK_H

#include <stdint.h>

#include "base/err.h"
#include "brig/ids.h"

/* The folder of volumes below the data folder, root's alone, and in it the lock of the server that has it. */
#define VOLUME_FOLDER "volumes"
#define VOLUME_LOCK "lock"
/* The label of a loop device, with instance and volume behind it: `brig gc --prove` knows it by that. */
#define VOLUME_LOOP_LABEL "brig-volume "
/* Whose the root of a new volume is: an id beyond those of a sandbox (65536). With VOLUME_ROOT_MODE it holds
 * the writable layer of sandboxes (`u`, and the work directory `o` of overlay), and is attached as nothing
 * else: nobody inside ever sees these two directories, so none of them can become a link. */
#define VOLUME_ROOT_MODE 0700
#define VOLUME_NEW_MODE 0755
#define VOLUME_UNGIVEN 100000u
#define VOLUME_ID (BRIG_ID_LEN + 8)

enum volume_verb { VOLUME_OPEN = 1, VOLUME_MAKE, VOLUME_CLONE, VOLUME_REMOVE, VOLUME_STAT };

struct volume_ask {
	enum volume_verb verb;
	char id[VOLUME_ID];
	char from[VOLUME_ID];	/* CLONE */
	uint64_t bytes, inodes; /* MAKE */
	uint32_t uid, gid;	/* OPEN: whose it becomes if nobody could write to it yet */
	int root;		/* OPEN: for the writable layer */
	int writable;		/* OPEN: it is to be; STAT, CLONE: somebody writes to it now */
	int seal;		/* CLONE: nobody will ever write to the copy */
};

struct volume_told {
	uint32_t code; /* enum brig_code; BRIG_E_OK = done */
	int32_t sys;
	char msg[384];
	char remedy[256];
	uint64_t bytes, inodes, used_bytes, used_inodes; /* STAT */
};

/* Removes what an interrupted MAKE or CLONE left. */
void volume_sweep(int folder);
/* ret_mount: with OPEN a detached mount of the volume; else -1. */
int volume_work(int folder, const char *instance, const struct volume_ask *a, struct volume_told *t,
		int *ret_mount, struct brig_err *err);

/* ---- loop.c ---- */

/* The loop device over an image: the one that is there already, or a new one. Its path is in ret_path. */
int loop_open(int image, int readonly, const char *instance, const char *id, char ret_path[32],
	      struct brig_err *err);

#endif
