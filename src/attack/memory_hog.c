/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes memory: twice the BRIG_CANARY_MEMORY bytes that the runner allows, in a child, because the
 * kernel's answer is to kill whoever has most.
 */
#include "attack/attack.h"

#include <sys/mman.h>

#define PIECE (1024u * 1024u)

static size_t wanted;

static int take(void)
{
	for (size_t got = 0; got < wanted; got += PIECE) {
		unsigned char *p = mmap(NULL, PIECE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p == MAP_FAILED)
			return 1;
		/* Different pages, which no kernel merges. */
		for (size_t i = 0; i < PIECE; i += 4096)
			*(size_t *)(void *)(p + i) = got + i;
	}
	return 0;
}

ATTACK(memory_hog)
{
	wanted = 2 * (size_t)strtoull(canary("BRIG_CANARY_MEMORY"), NULL, 10);
	int st = in_child(take);
	if (st == 0)
		broken("%zu MiB were taken", wanted >> 20);
	held(WIFSIGNALED(st) ? "it was ended by signal %d" : "it was refused memory (%d)",
	     WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
}
