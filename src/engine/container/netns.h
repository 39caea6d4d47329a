/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netns.h: network namespaces with nothing but loopback, or a link besides, and whether one has ever been
 * used.
 */
#ifndef BRIG_CONTAINER_NETNS_H
#define BRIG_CONTAINER_NETNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/link/gateway.h"

/* Everything of a namespace that is compared; with an interface beside loopback it is more, and the
 * namespace is then not taken for an unused one. */
#define NETNS_FACE_MAX 16384u

struct netns_face {
	size_t n; /* 0 = none yet */
	char text[NETNS_FACE_MAX];
};

/* A network namespace with loopback up, and the link of a lease where g is not NULL; the caller's own,
 * `home`, is left as it was. Descriptor or -errno. */
int netns_make(int home, const struct gateway *g, uint32_t lease);
/* What a namespace in which nothing has happened looks like: taken from one that was just made. 0, or
 * -errno and nothing; -EBUSY: it has a socket. */
int netns_face(int home, int ns, struct netns_face *ret);
/* Whether nothing has ever happened in it and nobody has a socket of it. The caller knows that no
 * process is in it any more. */
bool netns_unused(int home, int ns, const struct netns_face *unused);

#endif
