/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_profile.h: the text form of a system-call filter.
 *
 *     # a comment
 *     default errno EPERM                       # what is not listed
 *     unknown errno ENOSYS                      # numbers above SYSCALL_LAST; left out = as default
 *     read                                      # reason
 *     ?open                                     # reason; left out where the call does not exist
 *     clone3 errno ENOSYS                       # reason
 *     clone arg0 masked CLONE_NEWNS|0x80 == 0   # reason
 *     socket arg0 == AF_UNIX                    # reason
 *     socket arg0 in {AF_INET, AF_INET6}, arg1 masked 0xf != SOCK_RAW     # reason
 *     socket errno EAFNOSUPPORT                 # reason
 *
 * A rule is a name, an action (allow, errno NAME-or-number, kill; allow when left out) and
 * conditions that must all hold. The rules of one call stand together and are tried in order; the
 * first that holds decides, then the default. Every rule ends with its reason. A line may end where
 * more must follow: inside braces, and behind a comma or a bar. "masked ~A|B" is all bits but those
 * of A and B.
 *
 * A condition looks at the low 32 bits of an argument, because that is what the kernel looks at:
 * each argument that a profile checks is an int there. A comparison of all 64 bits would let a
 * forbidden value through with a bit set above them (CVE-2019-10063).
 *
 * Calls of another ABI (i386, x32) end the process whatever the profile says: their numbers mean
 * something else, and some of them take their arguments behind a pointer.
 */
#ifndef BRIG_TOOLS_SECCOMP_PROFILE_H
#define BRIG_TOOLS_SECCOMP_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "seccomp_names.h"

#define PROFILE_RULES_MAX 1024
#define PROFILE_CONDS_MAX 4
#define PROFILE_VALUES_MAX 64

struct profile_cond {
	unsigned arg; /* 0-5 */
	bool negated; /* != and not-in */
	uint32_t mask;
	unsigned n_values;
	uint32_t values[PROFILE_VALUES_MAX]; /* ascending, no two alike */
};

struct profile_rule {
	uint32_t nr;
	unsigned line;
	uint32_t ret; /* SECCOMP_RET_* and its data */
	unsigned n_conds;
	struct profile_cond *conds; /* n_conds of them */
};

struct profile {
	const struct seccomp_arch *arch;
	uint32_t default_ret, unknown_ret;
	struct profile_rule *rules; /* by number, then in the order of the text */
	unsigned n_rules;
};

/*
 * Reads a profile of `len` bytes; `name` is for messages ("payload.seccomp:12: ..."). 0, or -1 with
 * err set and *ret empty. The result ends with profile_done().
 */
int profile_parse(const char *name, const char *text, size_t len, const struct seccomp_arch *arch,
		  struct profile *ret, struct brig_err *err);
void profile_done(struct profile *p);

/* What the profile means: the verdict for one call. The compiler is tested against it. */
uint32_t profile_decide(const struct profile *p, uint32_t audit_arch, uint32_t nr,
			const uint64_t args[6]);
bool profile_cond_holds(const struct profile_cond *c, const uint64_t args[6]);
/* The rule that decides, NULL = none of the call's. Native calls only. */
const struct profile_rule *profile_match(const struct profile *p, uint32_t nr,
					 const uint64_t args[6]);
/* The rules of one call: index of the first, *ret_n = how many. */
unsigned profile_rules_of(const struct profile *p, uint32_t nr, unsigned *ret_n);
/* How many calls of this architecture some rule allows. */
unsigned profile_allowed(const struct profile *p);

#endif
