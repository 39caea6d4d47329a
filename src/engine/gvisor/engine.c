/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c: the gvisor tier behind the seam (engine.h): it is told as missing. */
#include <stdio.h>

#include "engine/engine.h"

static void gvisor_probe(const struct serve_options *o, int thorough, struct jail_tier *ret)
{
	(void)o;
	(void)thorough;
	snprintf(ret->text, sizeof(ret->text), "not part of this version of brig");
	snprintf(ret->remedy, sizeof(ret->remedy), "install a version of brig that has it");
}

const struct engine engine_gvisor = {
	.tier = BRIG_TIER_gvisor,
	.probe = gvisor_probe,
};
