/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/state.h"

static const char *const names[] = {
#define X(name, text) [SB_##name] = text,
	SB_STATES(X)
#undef X
};
_Static_assert(sizeof(names) / sizeof(names[0]) == SB__N_STATES, "one name per state");

/* Row: from; column: to. */
static const unsigned char may_go[SB__N_STATES][SB__N_STATES] = {
	[SB_CREATING] = { [SB_READY] = 1, [SB_RUNNING] = 1, [SB_REMOVING] = 1, [SB_GONE] = 1 },
	[SB_READY] = { [SB_RUNNING] = 1, [SB_PAUSED] = 1, [SB_REMOVING] = 1 },
	[SB_RUNNING] = { [SB_EXITED] = 1, [SB_PAUSED] = 1, [SB_REMOVING] = 1 },
	[SB_PAUSED] = { [SB_READY] = 1, [SB_RUNNING] = 1, [SB_EXITED] = 1, [SB_REMOVING] = 1 },
	[SB_EXITED] = { [SB_PAUSED] = 1, [SB_REMOVING] = 1 },
	[SB_REMOVING] = { [SB_STOPPED] = 1, [SB_GONE] = 1, [SB_CREATING] = 1 },
	[SB_STOPPED] = { [SB_GONE] = 1 },
};

const char *state_name(enum sb_state s)
{
	return (unsigned)s < SB__N_STATES ? names[s] : "unknown";
}

int state_may_go(enum sb_state from, enum sb_state to)
{
	return (unsigned)from < SB__N_STATES && (unsigned)to < SB__N_STATES && may_go[from][to];
}
