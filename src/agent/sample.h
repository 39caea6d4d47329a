/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample.h: limits that a command met: a full disk, no inodes, no descriptors left. Looked at every
 * 250 ms while a command runs and once more at its end; what lasts shorter is not seen. No timer
 * runs while nothing does.
 */
#ifndef BRIG_AGENT_SAMPLE_H
#define BRIG_AGENT_SAMPLE_H

#include <stdint.h>

struct agent;

void sample_init(struct agent *a);
/* A command was started. */
void sample_start(struct agent *a);
/* BRIG_EXIT_DISK_FULL and BRIG_EXIT_INODES_FULL as they hold now for the root file system. */
uint32_t sample_disk(void);

#endif
