/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep.h: sandboxes that outlive their brig-jaild; include/brig/keep_proto.h has the theory.
 */
#ifndef BRIG_JAIL_KEEP_H
#define BRIG_JAIL_KEEP_H

#include "brig/keep_proto.h"
#include "jail/jaild.h"

/* KEEP_BOX. The used part of spec.volumes is sent. */
struct keep_box {
	struct keep_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint32_t lease, net, deny_suid, reserved;
	struct rules_counts counts;
	uint64_t ns[JAIL_NS__N];
	char image[96]; /* digest; numbers of images mean others to the next brigd */
	struct jail_spec spec;
};
_Static_assert(sizeof(struct keep_box) <= KEEP_MSG_MAX, "one message");

/* Whether sandboxes outlive this jaild. They are found again by their groups, so it takes some; and a
 * rootless jaild's user namespace ends with it, over which the next one would have no right. */
int keep_on(const struct serve *j);
/* Leaves with the supervisor what is this jaild's own, anew when that has become more. */
void keep_host(struct serve *j);
/* .. a sandbox that is about to be known. It is tried again by keep_retry() if the supervisor is busy. */
void keep_box(struct serve *j, struct box *b);
void keep_retry(struct serve *j);
/* .. that it serves. */
void keep_ready(struct serve *j);

/* What a former jaild left. */
struct recovery {
	struct keep_host host;
	int fd[KEEP_FDS_MAX];
	struct kept {
		struct keep_box *m;
		size_t n;
		int pidfd, chan;
	} *box;
	unsigned n, cap;
};
#define RECOVERY_NONE                            \
	{                                        \
		.fd = { -1, -1, -1, -1, -1 } \
	}
/* Takes what is jaild's own from the control socket. 0, or -1 with err. */
int recovery_host(int control, struct recovery *ret, struct brig_err *err);
/* Takes the rest. Makes boxes of what is what it was, and destroys completely whatever else has the
 * instance's name; gives their leases back. Before anything new is made. */
int recovery_boxes(struct serve *j, struct recovery *r, struct brig_err *err);
void recovery_done(struct recovery *r);

#endif
