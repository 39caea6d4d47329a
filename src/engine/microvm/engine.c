/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c: the microvm tier behind the seam (engine.h): it is told as missing. */
#include <stdio.h>

#include "engine/engine.h"

static void microvm_probe(const struct serve_options *o, int thorough, struct jail_tier *ret)
{
	(void)o;
	(void)thorough;
	snprintf(ret->text, sizeof(ret->text), "not part of this version of brig");
	snprintf(ret->remedy, sizeof(ret->remedy), "install a version of brig that has it");
}

const struct engine engine_microvm = {
	.tier = BRIG_TIER_microvm,
	.probe = microvm_probe,
};
