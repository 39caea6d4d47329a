/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h: what brig-jaild (or a test) may ask of a brig-vmm that runs: one socket, SOCK_SEQPACKET, one
 * message for one message.
 */
#ifndef BRIG_MICROVM_CONTROL_H
#define BRIG_MICROVM_CONTROL_H

#include <stdint.h>

enum vmm_verb {
	VMM_STARTED = 1, /* unasked, once: behind every boundary, about to enter the guest; or why not */
	VMM_SNAPSHOT,	 /* + two empty files, for the state and for memory: answered when they are whole */
};

struct vmm_ask {
	uint32_t verb, reserved;
};

struct vmm_answer {
	uint32_t verb;
	uint32_t code; /* enum brig_code; 0: it went well */
	char msg[384];
	char remedy[256];
};

#endif
