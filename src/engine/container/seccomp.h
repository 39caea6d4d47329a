/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp.h: the filters of everything that runs inside; the text is in payload.seccomp and
 * suid.seccomp, compiled at build time by tools/gen_seccomp. */
#ifndef BRIG_CONTAINER_SECCOMP_H
#define BRIG_CONTAINER_SECCOMP_H

#include <stdbool.h>

/* Installs the payload filter on the calling thread, and with deny_suid the second one that refuses to
 * make set-uid and set-gid files. Precondition: no_new_privs. Cannot be undone. 0 or -errno. */
int seccomp_install_payload(bool deny_suid);
/* SHA-256 of the payload filter as the kernel got it, in hexadecimal. */
const char *seccomp_payload_digest(void);

#endif
