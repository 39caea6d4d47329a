/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <stdbool.h>
#include <string.h>

#include "brig/egress_proto.h"

/* NUL-padded to its end, so that nothing hides behind. */
static bool text_ok(const char *s, size_t cap, bool id)
{
	size_t n = strnlen(s, cap);
	if (n == 0 || n == cap)
		return false;
	for (size_t i = 0; i < cap; i++) {
		bool good = i >= n ? s[i] == 0
			    : id   ? (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9')
				   : s[i] > ' ' && s[i] <= '~';
		if (!good)
			return false;
	}
	return true;
}

static bool rate_ok(uint64_t v, uint64_t min, uint64_t max)
{
	return v == EGRESS_NO_LIMIT || (v >= min && v <= max);
}

static int lease_check(const struct egress_lease *m, size_t n, struct brig_err *err)
{
	const char *bad = NULL;
	if (m->text_len == 0 || m->text_len > EGRESS_TEXT_MAX || n != sizeof(*m) + m->text_len)
		bad = "text_len";
	else if (!text_ok(m->id, sizeof(m->id), true))
		bad = "id";
	else if (!text_ok(m->tenant, sizeof(m->tenant), false))
		bad = "tenant";
	else if (m->generation == 0)
		bad = "generation";
	else if (m->reserved || m->zero)
		bad = "reserved";
	else if (m->connections_max < 1 || m->connections_max > 65536)
		bad = "connections_max";
	else if (!rate_ok(m->connects_per_second, 1, 1000000))
		bad = "connects_per_second";
	else if (!rate_ok(m->rate_out_bps, 1024, 1ull << 50) ||
		 !rate_ok(m->rate_in_bps, 1024, 1ull << 50))
		bad = "rate";
	return bad ? brig_fail(err, BRIG_E_PROTOCOL, 0, "LEASE: '%s' is out of its range", bad) : 0;
}

int control_check(const void *p, size_t n, struct brig_err *err)
{
	const struct egress_hdr *h = p;
	if (n < sizeof(*h))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a message of %zu bytes", n);
	if (h->seq == 0)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a request without a number");
	switch (h->verb) {
	case EGRESS_LEASE:
		if (n < sizeof(struct egress_lease))
			break;
		return lease_check(p, n, err);
	case EGRESS_REMOVE:
	case EGRESS_ASK:
		if (n != sizeof(struct egress_ref) ||
		    !text_ok(((const struct egress_ref *)p)->id, EGRESS_ID_MAX, true))
			break;
		return 0;
	default:
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "unknown verb %u", h->verb);
	}
	return brig_fail(err, BRIG_E_PROTOCOL, 0, "verb %u has another size or no id", h->verb);
}
