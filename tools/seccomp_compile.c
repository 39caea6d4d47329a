/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A seccomp program is classic BPF: no loops, and a conditional jump reaches at most 255
 * instructions ahead. The kernel runs it for each call that its cache does not know to be allowed,
 * and when a filter is installed it emulates it once for every system call number to fill that
 * cache (prepare_seccomp in kernel/seccomp.c). So a sandbox pays, at its start, for the sum of all
 * paths: a list of 216 comparisons cost 847 us where a tree of 256 cost 142 us.
 *
 * The numbers 0 to 2^32-1 are cut into ranges that share a verdict, and the ranges become the
 * leaves of the binary search tree with the smallest weighted path, found by dynamic programming.
 * The weight of a leaf is how many calls it stands for, and more where arguments are looked at,
 * because the kernel cannot cache those and walks the path on every call. Another ABI behind the
 * same entry (x32) is just one more range.
 *
 * Code is written from its end to its beginning, so that the target of every jump is already there.
 * A verdict is one `ret`, shared by all jumps that reach it, and repeated where they do not.
 *
 * Not done: equal subtrees are not merged, and a value that is already loaded is loaded again.
 */
#include "seccomp_compile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

#define JUMP_REACH 255u
/* See above. Sixteen plain calls: a guess that keeps ioctl and fcntl a few steps from the root. */
#define WEIGHT_CHECKED 16u
/* Two verdicts for each rule and the gaps between them, plus the ends of the number space. */
#define RANGES_MAX (2u * PROFILE_RULES_MAX + 8u)
_Static_assert(RANGES_MAX > 2u * PROFILE_VALUES_MAX + 1u, "sets of values use the same tree");
_Static_assert(RANGES_MAX > SYSCALL_LAST + 4u, "each call may need a range of its own");

/* Where a jump goes: to a verdict, or to code that is already written. */
struct target {
	bool is_ret;
	uint32_t v; /* SECCOMP_RET_*, or the index of an instruction */
};

struct range {
	uint32_t lo; /* up to the next one's lo */
	uint32_t weight;
	struct target to;
};

/* Lists of rules that are already written; calls with the same list share the code. */
struct written {
	unsigned first, n;
	struct target at;
};

struct emitter {
	struct sock_filter *out; /* in reverse: [0] is the last instruction */
	unsigned n;
	bool full;
	unsigned n_rets, n_written;
	struct {
		uint32_t ret;
		unsigned at;
	} rets[PROFILE_RULES_MAX + 3];
	struct written written[PROFILE_RULES_MAX];
	struct range ranges[RANGES_MAX];
	unsigned n_ranges;
	uint32_t *cost; /* [i * n_ranges + j]: of the best tree over the ranges i to j */
	uint16_t *cut;	/* .. and where it splits: the first range of its right half */
};

static struct target to_ret(uint32_t ret)
{
	return (struct target){ .is_ret = true, .v = ret };
}

static bool same_target(struct target a, struct target b)
{
	return a.is_ret == b.is_ret && a.v == b.v;
}

/* ---- instructions ---- */

/* Writes one instruction before all others and returns its index. */
static unsigned put(struct emitter *e, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (e->n == BPF_MAXINSNS) {
		e->full = true;
		return e->n - 1;
	}
	e->out[e->n] = (struct sock_filter){ code, jt, jf, k };
	return e->n++;
}

static unsigned put_ret(struct emitter *e, uint32_t ret)
{
	unsigned at = put(e, BPF_RET | BPF_K, 0, 0, ret);
	for (unsigned i = 0; i < e->n_rets; i++) {
		if (e->rets[i].ret == ret) {
			e->rets[i].at = at;
			return at;
		}
	}
	e->rets[e->n_rets].ret = ret;
	e->rets[e->n_rets++].at = at;
	return at;
}

/* An instruction that leads to t and that a jump can reach which is written after `slack` others.
 */
static unsigned nearby(struct emitter *e, struct target t, unsigned slack)
{
	if (!t.is_ret)
		return e->n + slack - t.v - 1 <= JUMP_REACH
			       ? t.v
			       : put(e, BPF_JMP | BPF_JA, 0, 0, e->n - t.v - 1);
	for (unsigned i = 0; i < e->n_rets; i++)
		if (e->rets[i].ret == t.v && e->n + slack - e->rets[i].at - 1 <= JUMP_REACH)
			return e->rets[i].at;
	return put_ret(e, t.v);
}

static struct target put_jump(struct emitter *e, uint16_t op, uint32_t k, struct target yes,
			      struct target no)
{
	/* Making `yes` near may add one instruction, so `no` must stay near after it. */
	unsigned no_at = nearby(e, no, 1);
	unsigned yes_at = nearby(e, yes, 0);
	if (e->full)
		return yes;
	return (struct target){ .v = put(e, (uint16_t)(BPF_JMP | BPF_K | op),
					 (uint8_t)(e->n - yes_at - 1), (uint8_t)(e->n - no_at - 1),
					 k) };
}

/* A load of a word of struct seccomp_data, which goes on at `next`. */
static struct target put_load(struct emitter *e, size_t offset, uint32_t mask, struct target next)
{
	/* Falls through: what follows must be the last thing written. */
	if (next.is_ret)
		put_ret(e, next.v);
	else if (next.v + 1 != e->n)
		put(e, BPF_JMP | BPF_JA, 0, 0, e->n - next.v - 1);
	if (mask != UINT32_MAX)
		put(e, BPF_ALU | BPF_AND | BPF_K, 0, 0, mask);
	return (struct target){ .v = put(e, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset) };
}

/* ---- trees ---- */

/* Appends [lo, ..] -> to; joins it with the range before where both lead to the same place. */
static void add_range(struct emitter *e, uint32_t lo, uint32_t weight, struct target to)
{
	struct range *last = e->n_ranges ? &e->ranges[e->n_ranges - 1] : NULL;
	if (last && same_target(last->to, to)) {
		last->weight += weight;
		return;
	}
	e->ranges[e->n_ranges++] = (struct range){ lo, weight, to };
}

/* Three ranges of which the middle one is a single number between equals: one comparison. */
static bool is_hole(const struct emitter *e, unsigned i, unsigned j)
{
	const struct range *r = &e->ranges[i];
	return j == i + 2 && same_target(r[0].to, r[2].to) && r[2].lo - r[1].lo == 1;
}

/*
 * Finds the best tree for all intervals, short ones first. The split of [i, j] is looked for
 * between those of [i, j-1] and [i+1, j] (Knuth 1971): that is where it is for plain trees, and
 * next to it with the holes, at n^2 instead of n^3 steps.
 */
static int plan_tree(struct emitter *e)
{
	unsigned n = e->n_ranges;
	e->cost = calloc((size_t)n * n, sizeof(e->cost[0]));
	e->cut = calloc((size_t)n * n, sizeof(e->cut[0]));
	uint64_t *upto = calloc(n + 1, sizeof(upto[0]));
	if (!e->cost || !e->cut || !upto) {
		free(upto);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n; i++)
		upto[i + 1] = upto[i] + e->ranges[i].weight;
	for (unsigned len = 1; len < n; len++) {
		for (unsigned i = 0; i + len < n; i++) {
			unsigned j = i + len;
			uint32_t own = (uint32_t)(upto[j + 1] - upto[i]);
			unsigned from = i + 1, to = j;
			if (len > 1) {
				from = e->cut[i * n + j - 1];
				to = e->cut[(i + 1) * n + j];
			}
			uint32_t best = UINT32_MAX;
			for (unsigned k = from; k <= to; k++) {
				uint32_t c = e->cost[i * n + k - 1] + e->cost[k * n + j];
				if (c < best) {
					best = c;
					e->cut[i * n + j] = (uint16_t)k;
				}
			}
			e->cost[i * n + j] = own + (is_hole(e, i, j) ? 0 : best);
		}
	}
	free(upto);
	return 0;
}

static struct target put_tree(struct emitter *e, unsigned i, unsigned j)
{
	const struct range *r = &e->ranges[i];
	if (i == j)
		return r->to;
	if (is_hole(e, i, j))
		return put_jump(e, BPF_JEQ, r[1].lo, r[1].to, r[0].to);
	unsigned k = e->cut[i * e->n_ranges + j];
	struct target right = put_tree(e, k, j);
	struct target left = put_tree(e, i, k - 1);
	return put_jump(e, BPF_JGE, e->ranges[k].lo, right, left);
}

/* Writes the tree over the ranges that were added, and forgets them. */
static int finish_tree(struct emitter *e, struct target *ret)
{
	int r = plan_tree(e);
	if (r == 0)
		*ret = put_tree(e, 0, e->n_ranges - 1);
	free(e->cost);
	free(e->cut);
	e->cost = NULL;
	e->cut = NULL;
	e->n_ranges = 0;
	return r;
}

/* ---- rules ---- */

static int put_cond(struct emitter *e, const struct profile_cond *c, struct target holds,
		    struct target fails, struct target *ret)
{
	struct target in = c->negated ? fails : holds, out = c->negated ? holds : fails;
	if (same_target(in, out)) {
		*ret = in;
		return 0;
	}
	for (unsigned i = 0; i < c->n_values; i++) {
		uint32_t v = c->values[i];
		/* The gap before the value, if there is one. */
		if (v != 0 && (i == 0 || c->values[i - 1] + 1 != v))
			add_range(e, i == 0 ? 0 : c->values[i - 1] + 1, 1, out);
		add_range(e, v, 1, in);
	}
	if (c->values[c->n_values - 1] != UINT32_MAX)
		add_range(e, c->values[c->n_values - 1] + 1, 1, out);
	struct target tree;
	int r = finish_tree(e, &tree);
	/* Little-endian, as all our architectures: the low word comes first. */
	if (r == 0)
		*ret = put_load(e, offsetof(struct seccomp_data, args) + 8 * c->arg, c->mask, tree);
	return r;
}

static bool same_cond(const struct profile_cond *a, const struct profile_cond *b)
{
	return a->arg == b->arg && a->negated == b->negated && a->mask == b->mask &&
	       a->n_values == b->n_values &&
	       memcmp(a->values, b->values, a->n_values * sizeof(a->values[0])) == 0;
}

static bool same_rules(const struct profile_rule *a, const struct profile_rule *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (a[i].ret != b[i].ret || a[i].n_conds != b[i].n_conds)
			return false;
		for (unsigned j = 0; j < a[i].n_conds; j++)
			if (!same_cond(&a[i].conds[j], &b[i].conds[j]))
				return false;
	}
	return true;
}

/* The code for the n rules of one call, from `first` on. */
static int put_rules(struct emitter *e, const struct profile *p, unsigned first, unsigned n,
		     struct target *ret)
{
	const struct profile_rule *rules = &p->rules[first];
	for (unsigned i = 0; i < e->n_written; i++) {
		const struct written *w = &e->written[i];
		if (w->n == n && same_rules(&p->rules[w->first], rules, n)) {
			*ret = w->at;
			return 0;
		}
	}
	struct target next = to_ret(p->default_ret);
	for (unsigned i = n; i-- > 0;) {
		struct target at = to_ret(rules[i].ret);
		for (unsigned j = rules[i].n_conds; j-- > 0;) {
			int r = put_cond(e, &rules[i].conds[j], at, next, &at);
			if (r < 0)
				return r;
		}
		next = at;
	}
	e->written[e->n_written++] = (struct written){ first, n, next };
	*ret = next;
	return 0;
}

static int put_profile(struct emitter *e, const struct profile *p)
{
	struct target to[SYSCALL_LAST + 1], tree;
	uint32_t weight[SYSCALL_LAST + 1];
	int r;
	/* First the code of all rules: it belongs to the end, and it uses the ranges too. */
	for (uint32_t nr = 0; nr <= SYSCALL_LAST; nr++) {
		unsigned n;
		unsigned first = profile_rules_of(p, nr, &n);
		to[nr] = to_ret(p->default_ret);
		if (n > 0 && (r = put_rules(e, p, first, n, &to[nr])) < 0)
			return r;
		weight[nr] = to[nr].is_ret ? 1 : WEIGHT_CHECKED;
	}
	for (uint32_t nr = 0; nr <= SYSCALL_LAST; nr++)
		add_range(e, nr, weight[nr], to[nr]);
	add_range(e, SYSCALL_LAST + 1, 1, to_ret(p->unknown_ret));
	if (p->arch->foreign) {
		add_range(e, p->arch->foreign, 1, to_ret(SECCOMP_RET_KILL_PROCESS));
		add_range(e, UINT32_MAX, 1, to_ret(p->unknown_ret));
	}
	if ((r = finish_tree(e, &tree)) < 0)
		return r;
	struct target start = put_load(e, offsetof(struct seccomp_data, nr), UINT32_MAX, tree);
	start = put_jump(e, BPF_JEQ, p->arch->audit, start, to_ret(SECCOMP_RET_KILL_PROCESS));
	put_load(e, offsetof(struct seccomp_data, arch), UINT32_MAX, start);
	return e->full ? -E2BIG : 0;
}

/* ---- the program ---- */

static unsigned longest_path(const struct sock_filter *f, unsigned n)
{
	unsigned depth[BPF_MAXINSNS];
	for (unsigned i = n; i-- > 0;) {
		unsigned below = 0;
		if (BPF_CLASS(f[i].code) == BPF_JMP && BPF_OP(f[i].code) == BPF_JA) {
			below = depth[i + 1 + f[i].k];
		} else if (BPF_CLASS(f[i].code) == BPF_JMP) {
			unsigned yes = depth[i + 1 + f[i].jt], no = depth[i + 1 + f[i].jf];
			below = yes > no ? yes : no;
		} else if (BPF_CLASS(f[i].code) != BPF_RET) {
			below = depth[i + 1];
		}
		depth[i] = below + 1;
	}
	return depth[0];
}

int filter_compile(const struct profile *p, struct filter *ret, struct brig_err *err)
{
	AUTO_FREE struct sock_filter *reversed = calloc(BPF_MAXINSNS, sizeof(*reversed));
	AUTO_FREE struct emitter *e = calloc(1, sizeof(*e));
	if (!reversed || !e)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "compile a filter");
	e->out = reversed;
	int r = put_profile(e, p);
	if (r == -E2BIG)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the filter is longer than %d instructions",
				 BPF_MAXINSNS);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "compile a filter");
	for (unsigned i = 0; i < e->n; i++)
		ret->insns[i] = reversed[e->n - 1 - i];
	ret->n = e->n;
	ret->depth = longest_path(ret->insns, ret->n);
	return 0;
}
