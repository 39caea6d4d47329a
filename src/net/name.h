/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.h: names of hosts in one form, so that two spellings of one name are one string. Pure.
 */
#ifndef BRIG_NET_NAME_H
#define BRIG_NET_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "net/addr.h"

#define NET_NAME_MAX 254u /* with its NUL; 253 characters, RFC 1035 */

enum net_name_kind {
	NET_NAME_BAD,  /* no name and no address, or an address in a form that programs disagree on
			*/
	NET_NAME_HOST, /* out is the name: lower case, no last dot */
	NET_NAME_ADDR, /* *ret_addr is set */
};

/* What n bytes at s name. `s` need not end with a NUL. [IPv6] in brackets is an address, too. */
enum net_name_kind net_name_read(const char *s, size_t n, char out[NET_NAME_MAX],
				 struct net_addr *ret_addr);

/* Whether name is below suffix ("host.example", without "*."), not itself. */
bool net_name_below(const char *name, const char *suffix);

/* Whether the part of name before `keep` bytes at its end could carry data: more labels, longer
 * ones, or more information in all than names of hosts have. */
bool net_name_tunnel(const char *name, size_t keep);

#endif
