/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h: whether a sandbox of the gVisor tier is what was specified.
 *
 * Measured is what is on the host, before the tenant's first instruction: the keeper as the first process of
 * a container (engine/container/measure.h), with runsc's capabilities; and every other process of the group,
 * which runsc has made by then: none in a namespace of the host, none with a capability that the keeper did
 * not have, each behind our filter and one of runsc's. What is inside of gVisor is not asked for.
 */
#ifndef BRIG_GVISOR_MEASURE_H
#define BRIG_GVISOR_MEASURE_H

#include "base/err.h"
#include "brig/jail_proto.h"

struct serve;
struct box;
struct measure_diff;
struct measure_want;

/* Host tasks for the tasks of a sandbox: the sentry has up to two threads and a stub for each. */
uint32_t gvisor_tasks(const struct jail_spec *p);
/* Of engine.h. Gives the word to start. */
int gvisor_measure(struct serve *j, struct box *b, struct brig_err *err);
int gvisor_look(const struct serve *j, const struct box *b, int proc, const struct measure_want *w,
		struct jail_receipt *m, struct measure_diff *d);

#endif
