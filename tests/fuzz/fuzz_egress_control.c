/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes over the gateway's control channel, one datagram; see include/brig/egress_proto.h.
 *
 * Oracle: what is accepted has the size that its verb says, texts that end, and its numbers in
 * range; what is refused has a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "brig/egress_proto.h"
#include "net/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	void *p = malloc(size ? size : 1); /* aligned, and no byte more */
	if (!p)
		return 0;
	memcpy(p, data, size);
	if (control_check(p, size, &err) < 0) {
		must(err.msg[0] != '\0');
	} else {
		const struct egress_lease *m = p;
		must(m->h.seq != 0);
		must(m->h.verb == EGRESS_LEASE || m->h.verb == EGRESS_REMOVE ||
		     m->h.verb == EGRESS_ASK);
		if (m->h.verb == EGRESS_LEASE) {
			must(size == sizeof(*m) + m->text_len && m->generation > 0);
			must(strnlen(m->id, EGRESS_ID_MAX) < EGRESS_ID_MAX);
			must(strnlen(m->tenant, EGRESS_TENANT_MAX) < EGRESS_TENANT_MAX);
			must(m->connections_max >= 1 && m->connections_max <= 65536);
		} else {
			must(size == sizeof(struct egress_ref));
		}
	}
	free(p);
	return 0;
}
