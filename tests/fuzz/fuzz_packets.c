/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel logs of packets that sandboxes sent. Oracle: a lease that can be, ports only where there are
 * any, and nothing beyond the bytes given is read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "brig/ids.h"
#include "daemon/packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seen(void *ctx, const struct packet_seen *s)
{
	(void)ctx;
	if (s->lease == 0 || s->lease >= BRIG_ID_SLOTS || (s->port && !s->known))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	packets_parse(copy, size, seen, NULL);
	free(copy);
	return 0;
}
