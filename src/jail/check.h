/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h: what brig-jaild demands of a message before anything is done with it. Pure functions of the
 * message and of facts about the host, so that the fuzz target and the unit tests run the very code.
 */
#ifndef BRIG_JAIL_CHECK_H
#define BRIG_JAIL_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/jail_proto.h"

struct jail_facts {
	uint64_t mem_total;
	uint32_t pids_total;
	uint64_t nofile_hard;
	int net;           /* there is a gateway */
	uint32_t tiers;    /* offered: 1 << enum brig_tier */
	uint32_t enforced; /* JAIL_ENF_* */
	int range;         /* each sandbox has `ids` ids; else one */
	uint32_t ids;
	uint8_t image[JAIL_IMAGES_MAX]; /* known images */
};

/* Verb, size and number of descriptors of a message of n bytes (any alignment of content, any n).
 * Returns the verb, or -1 with err. */
int jail_check_message(const void *msg, size_t n, unsigned n_fd, struct brig_err *err);
/* The texts end, ids and paths are clean, numbers are in range for this host, and what it cannot
 * enforce was accepted by name. */
int jail_check_spec(const struct jail_spec *p, const struct jail_facts *f, struct brig_err *err);
int jail_check_image(const struct jail_image *m, const struct jail_facts *f, unsigned n_fd,
		     struct brig_err *err);
int jail_check_volume(const struct jail_volume_ask *m, struct brig_err *err);
/* How many descriptors belong to a spec that jail_check_spec() accepted. */
unsigned jail_spec_fds(const struct jail_spec *p);
int jail_check_id(const char id[BRIG_ID_LEN + 8]);

#endif
