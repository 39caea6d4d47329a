/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.h: the shipped attacks (src/attack), run in each tier that a server offers, judged from
 * outside.
 */
#ifndef BRIG_CLI_SELFTEST_H
#define BRIG_CLI_SELFTEST_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"

struct selftest_opts {
	const char *tier;   /* only this one; NULL = every one that is offered */
	const char *accept; /* names for --accept of every sandbox; NULL */
	bool private;	    /* a server of our own, even if one is running */
	bool loads;	    /* controls that may load a module, too */
	/* Told before each attack of a tier; NULL. */
	void (*progress)(const char *tier, unsigned at, unsigned of);
};

/*
 * Runs it all. *ret is a new reference:
 *   {"ok":bool,"kernel","version","tiers":{TIER:{"ok":bool,"contained":n,"escaped":n,"undecided":n,
 *     "not_applicable":n}},"controls":{"noticed":n,"failed":n,"not_run":n},
 *    "attacks":[{"tier","class","attack","result","detail","control","control_detail"}]}
 * result: contained, escaped, undecided (it was run and nobody knows) or not_applicable; a tier is
 * ok if nothing escaped, nothing is undecided and something was contained. -1 with err if it could
 * not be run.
 */
int selftest_run(const struct selftest_opts *o, json_t **ret, struct brig_err *err);

#endif
