/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BRIG_JAIL_PROBE_H
#define BRIG_JAIL_PROBE_H

/* Tries on this host what the tiers need, each in a process of its own, and prints one JSON object a
 * line: {"check","ok","required","tier","detail","remedy"}. Returns 1 if the container tier lacks
 * something required, else 0. */
int probe_report(const char *delegated);

#endif
