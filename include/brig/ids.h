/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids.h: which host user and group ids brig uses when it runs as root.
 *
 * 0x70000000 to 0x7ffeffff is unassigned in systemd's table of uid ranges (UIDS-GIDS.md: containers
 * end at 1879048191, "foreign" ids begin at 2147352576), below the sign bit, and far from the ranges
 * that adduser, subuid files and container managers hand out. It is cut into slots of 65536 ids:
 * slot 0 is for brig's own daemons, each live sandbox leases one of the others.
 */
#ifndef BRIG_IDS_H
#define BRIG_IDS_H

#define BRIG_ID_BASE 0x70000000u
#define BRIG_ID_SLOT 65536u
#define BRIG_ID_SLOTS 4094u /* slot 0 included */

#define BRIG_DAEMON_UID (BRIG_ID_BASE + 0u)
#define BRIG_DAEMON_GID (BRIG_ID_BASE + 0u)
/* brig-api's user and group: not brigd's, so that neither can read or signal the other. */
#define BRIG_API_UID (BRIG_ID_BASE + 1u)
#define BRIG_API_GID (BRIG_ID_BASE + 1u)
/* brig-egress's: what it may reach a host firewall can tell by this user. */
#define BRIG_EGRESS_UID (BRIG_ID_BASE + 2u)
#define BRIG_EGRESS_GID (BRIG_ID_BASE + 2u)

/* Sandbox and instance names. An id is BRIG_ID_LEN characters of [a-z0-9], random, never reused. */
#define BRIG_ID_LEN 16u

#endif
