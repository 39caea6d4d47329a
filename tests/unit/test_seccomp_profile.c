/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters before they meet a kernel: that a profile says what it means and refuses what it cannot,
 * that the compiled program decides as the profile does, and that libseccomp, asked rule by rule,
 * agrees. Programs run in tests/lib/bpf_sim.c.
 */
#include <errno.h>
#include <linux/audit.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* after the headers it needs */
#include <cmocka.h>

#include "base/fd.h"
#include "bpf_sim.h"
#include "filter_samples.h"
#include "seccomp_compile.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define X32 0x40000000u
#define SAMPLES_PER_CALL 200
/* The target of docs/threat-model.md for what a container may call. It may only fall. */
#define ALLOWED_MAX 300u

static const char *const shipped[] = { "src/engine/container/payload.seccomp",
				       "src/engine/container/suid.seccomp",
				       "src/daemon/brigd.seccomp",
				       "src/api/api.seccomp" };
static const char *const arches[] = { "x86_64", "aarch64" };

static char *slurp(const char *path, size_t *ret_len)
{
	char *text = malloc(1u << 20);
	FILE *f = fopen(path, "re");
	if (!f || !text)
		fail_msg("%s: %s (run from the top of the source)", path, strerror(errno));
	*ret_len = fread(text, 1, 1u << 20, f);
	fclose(f);
	return text;
}

static void load(const char *path, const char *arch, struct profile *p, struct filter *f)
{
	struct brig_err err = BRIG_ERR_INIT;
	size_t len;
	AUTO_FREE char *text = slurp(path, &len);
	if (profile_parse(path, text, len, seccomp_arch_find(arch), p, &err) < 0 ||
	    filter_compile(p, f, &err) < 0)
		fail_msg("%s on %s: %s", path, arch, err.msg);
	const char *why = bpf_check(f->insns, f->n);
	if (why)
		fail_msg("%s on %s: the kernel would refuse it: %s", path, arch, why);
}

static uint32_t run(const struct filter *f, uint32_t arch, uint32_t nr, const uint64_t args[6])
{
	struct seccomp_data d = { .nr = (int)nr, .arch = arch };
	memcpy(d.args, args, sizeof(d.args));
	return bpf_run(f->insns, &d, NULL);
}

/* ---- the text ---- */

#define D "default errno EPERM # d\n"

static void refuses(const char *text, size_t len, const char *want)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct profile p;
	if (profile_parse("t", text, len, seccomp_arch_find("x86_64"), &p, &err) == 0) {
		profile_done(&p);
		fail_msg("accepted: %s", text);
	}
	if (!strstr(err.msg, want))
		fail_msg("'%s' is not in '%s'", want, err.msg);
	assert_null(p.rules);
}

static void test_bad_lines_are_named_with_the_reason(void **state)
{
	(void)state;
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "", "t:1: no 'default' line" },
		{ "read # r\n", "t:1: 'default' stands before all rules" },
		{ D "read # r\ndefault kill # again\n", "t:3: 'default' is given twice" },
		{ D "read # r\nunknown kill # late\n", "t:3: 'unknown' stands before all rules" },
		{ "default # d\n", "t:1: an action" },
		{ D "read\n", "t:2: no reason given" },
		{ D "read", "t:2: no reason given" },
		{ D "read # \n", "t:2: the reason is empty" },
		{ D "\n\nopenn # o\n", "t:4: x86_64 has no system call 'openn'" },
		{ D "? # o\n", "t:2: the name of a system call expected" },
		{ D "read allow allow # r\n", "t:2: 'allow' is neither an action nor arg0" },
		{ D "read errno # r\n", "t:2: the name of an error expected" },
		{ D "read errno EWHAT # r\n", "t:2: unknown error 'EWHAT'" },
		{ D "read errno 4096 # r\n", "t:2: error 4096 is above 4095" },
		{ D "read arg6 == 1 # r\n", "t:2: 'arg6' is neither an action nor arg0 to arg5" },
		{ D "read arg0 # r\n", "t:2: '==', '!=', 'in' or 'not-in' expected" },
		{ D "read arg0 like 3 # r\n", "not 'like'" },
		{ D "read arg0 == # r\n", "t:2: a value expected" },
		{ D "read arg0 == AF_WHAT # r\n", "t:2: unknown constant 'AF_WHAT'" },
		{ D "read arg0 == 0x100000000 # r\n",
		  "t:2: '0x100000000' is no number of 32 bits" },
		{ D "read arg0 == 08 # r\n", "t:2: '08' is no number" },
		{ D "read arg0 masked 0 == 0 # r\n", "t:2: a mask of 0" },
		{ D "read arg0 masked 0xf == 0x10 # r\n", "t:2: 0x10 has bits outside the mask" },
		{ D "read arg0 in 1 # r\n", "t:2: '{' expected" },
		{ D "read arg0 in {} # r\n", "t:2: a value expected" },
		{ D "read arg0 in {1\n,2\n 3} # r\n", "t:4: ',' or '}' expected" },
		{ D "read arg0 in {1, 2, 1} # r\n", "t:2: 0x1 is listed twice" },
		{ D "read arg0 == 1, # r\n", "t:2: a condition expected" },
		{ D "read arg0 == 1 arg1 == 2 # r\n", "t:2: '#' and a reason expected, not 'a'" },
		{ D "read arg0==1,arg1==1,arg2==1,arg3==1,arg4==1 # r\n",
		  "more than 4 conditions" },
		{ D "read # r\nread errno ENOSYS # again\n", "t:3: never reached: line 2 decides" },
		{ D "read # r\nwrite # w\nread # r\n", "t:4: the rules of 'read' stand together" },
		{ D "write # w\nread errno EPERM # r\n", "t:3: no effect: this is the default" },
		{ D "read arg0 == 1 # r\nread errno EPERM # r\n", "t:3: no effect" },
		{ D "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # a\n",
		  "a word of 70 characters" },
	};
	for (size_t i = 0; i < N(cases); i++)
		refuses(cases[i].text, strlen(cases[i].text), cases[i].want);
	refuses(D "read # \0 x\n", sizeof(D "read # \0 x\n") - 1, "t:2: a NUL character");
}

static void test_rules_are_tried_in_order(void **state)
{
	(void)state;
	static const char text[] =
		"default errno 1 # d\nunknown errno 38 # u\n"
		"write errno 5 arg0 == 1, arg1 masked 0xf0|0x1 in {0x10,\n 0x11} # both\n"
		"write kill arg0 not-in {1, 2, 4294967295} # none of them\n"
		"write arg0 != 2 # not it\n"
		"?no_such_call # left out\n"
		"read # always\n";
	static const struct {
		uint32_t nr;
		uint64_t arg0, arg1;
		uint32_t want;
	} cases[] = {
		{ 1, 1, 0x10, SECCOMP_RET_ERRNO | 5 },
		{ 1, 1, 0x1f, SECCOMP_RET_ERRNO | 5 },
		{ 1, 1, 0x20, SECCOMP_RET_ALLOW },
		{ 1, 1, 0xffffffff00000010, SECCOMP_RET_ERRNO | 5 },
		{ 1, 3, 0x10, SECCOMP_RET_KILL_PROCESS },
		{ 1, 2, 0x10, SECCOMP_RET_ERRNO | 1 },
		{ 1, 0xffffffff, 0, SECCOMP_RET_ALLOW },
		{ 1, 0x500000002, 0, SECCOMP_RET_ERRNO | 1 },
		{ 0, 9, 9, SECCOMP_RET_ALLOW },
		{ 2, 0, 0, SECCOMP_RET_ERRNO | 1 },
		{ SYSCALL_LAST, 0, 0, SECCOMP_RET_ERRNO | 1 },
		{ SYSCALL_LAST + 1, 0, 0, SECCOMP_RET_ERRNO | 38 },
		{ X32 - 1, 0, 0, SECCOMP_RET_ERRNO | 38 },
		{ X32, 0, 0, SECCOMP_RET_KILL_PROCESS },
		{ 0xfffffffe, 0, 0, SECCOMP_RET_KILL_PROCESS },
		/* A tracer cancels a call by this number; the kernel answers ENOSYS. */
		{ 0xffffffff, 0, 0, SECCOMP_RET_ERRNO | 38 },
	};
	struct brig_err err = BRIG_ERR_INIT;
	struct profile p;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	assert_int_equal(
		profile_parse("t", text, sizeof(text) - 1, seccomp_arch_find("x86_64"), &p, &err),
		0);
	assert_int_equal(filter_compile(&p, f, &err), 0);
	assert_int_equal(profile_allowed(&p), 2);
	for (size_t i = 0; i < N(cases); i++) {
		uint64_t args[6] = { cases[i].arg0, cases[i].arg1 };
		uint32_t says = profile_decide(&p, AUDIT_ARCH_X86_64, cases[i].nr, args);
		uint32_t does = run(f, AUDIT_ARCH_X86_64, cases[i].nr, args);
		if (says != cases[i].want || does != cases[i].want)
			fail_msg("case %zu: wanted %x, profile %x, program %x", i, cases[i].want,
				 says, does);
		assert_int_equal(run(f, AUDIT_ARCH_I386, cases[i].nr, args),
				 SECCOMP_RET_KILL_PROCESS);
	}
	profile_done(&p);
}

/* A profile of every call with a set of its own: code longer than a conditional jump reaches. */
static void test_long_programs_are_still_right(void **state)
{
	(void)state;
	AUTO_FREE char *text = malloc(1u << 20);
	size_t len = (size_t)sprintf(text, "default errno 1 # d\n");
	struct brig_err err = BRIG_ERR_INIT;
	struct samples s = { .seed = 7 };
	struct profile p;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (int nr = 0; nr < 300; nr++) {
		AUTO_FREE char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);
		if (name)
			len += (size_t)sprintf(text + len, "%s errno %d arg%d in {%d, %d} # r\n",
					       name, 2 + nr % 40, nr % 6, nr, 3 * nr + 2);
	}
	assert_int_equal(profile_parse("t", text, len, seccomp_arch_find("x86_64"), &p, &err), 0);
	assert_int_equal(filter_compile(&p, f, &err), 0);
	assert_null(bpf_check(f->insns, f->n));
	assert_true(f->n > 1000);
	s.p = &p;
	for (uint32_t nr = 0; nr < 512; nr++)
		for (int i = 0; i < 50; i++) {
			uint64_t args[6];
			samples_args(&s, nr, args);
			assert_int_equal(run(f, AUDIT_ARCH_X86_64, nr, args),
					 profile_decide(&p, AUDIT_ARCH_X86_64, nr, args));
		}
	profile_done(&p);
}

static void test_a_program_beyond_the_kernels_limit_is_refused(void **state)
{
	(void)state;
	AUTO_FREE char *text = malloc(1u << 20);
	size_t len = (size_t)sprintf(text, "default errno 1 # d\n");
	struct brig_err err = BRIG_ERR_INIT;
	struct profile p;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (int nr = 0; nr < 300; nr++) {
		AUTO_FREE char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);
		if (!name)
			continue;
		len += (size_t)sprintf(text + len, "%s arg0 in {%d", name, nr);
		for (int v = 1; v < 20; v++)
			len += (size_t)sprintf(text + len, ", %d", nr + 2 * v);
		len += (size_t)sprintf(text + len, "} # r\n");
	}
	assert_int_equal(profile_parse("t", text, len, seccomp_arch_find("x86_64"), &p, &err), 0);
	assert_int_equal(filter_compile(&p, f, &err), -1);
	assert_int_equal(err.code, BRIG_E_LIMIT);
	profile_done(&p);
}

/* ---- the shipped profiles ---- */

static void test_programs_decide_as_their_profiles(void **state)
{
	(void)state;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (size_t i = 0; i < N(shipped) * N(arches); i++) {
		struct profile p;
		const char *path = shipped[i / N(arches)];
		load(path, arches[i % N(arches)], &p, f);
		struct samples s = { .p = &p, .seed = i };
		for (uint32_t n = 0; n < 2048; n++) {
			/* 0 to 1023, as they are and as x32 and the last numbers */
			uint32_t nr = n < 1024 ? n : n & 1 ? X32 + n / 2 : 0u - n;
			unsigned rules;
			profile_rules_of(&p, nr, &rules);
			for (int k = 0; k < (rules ? SAMPLES_PER_CALL : 4); k++) {
				uint64_t args[6];
				samples_args(&s, nr, args);
				uint32_t want = profile_decide(&p, p.arch->audit, nr, args);
				uint32_t got = run(f, p.arch->audit, nr, args);
				if (got != want)
					fail_msg("%s on %s: call %u (%lx %lx %lx): %x, not %x",
						 path, p.arch->name, nr, (long)args[0],
						 (long)args[1], (long)args[2], got, want);
				assert_int_equal(run(f, AUDIT_ARCH_I386, nr, args),
						 SECCOMP_RET_KILL_PROCESS);
				assert_int_equal(run(f, AUDIT_ARCH_ARM, nr, args),
						 SECCOMP_RET_KILL_PROCESS);
			}
		}
		printf("%s on %s: %u allowed, %u instructions, %u on the longest path\n", path,
		       p.arch->name, profile_allowed(&p), f->n, f->depth);
		profile_done(&p);
	}
}

struct oracle {
	struct sock_filter insns[BPF_MAXINSNS];
	unsigned n;
};

static void oracle_take(scmp_filter_ctx ctx, struct oracle *o)
{
	AUTO_FD fd = memfd_create("filter", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	seccomp_release(ctx);
	ssize_t n = pread(fd, o->insns, sizeof(o->insns), 0);
	assert_true(n > 0 && n % (ssize_t)sizeof(o->insns[0]) == 0);
	o->n = (unsigned)n / (unsigned)sizeof(o->insns[0]);
	const char *why = bpf_check(o->insns, o->n);
	if (why)
		fail_msg("libseccomp's program: %s", why);
}

static scmp_filter_ctx oracle_start(uint32_t default_ret)
{
	scmp_filter_ctx ctx = seccomp_init(default_ret);
	assert_non_null(ctx);
	assert_int_equal(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
	return ctx;
}

/* libseccomp's program that allows call nr exactly where the condition, read without "not", holds.
 */
static void oracle_cond(uint32_t nr, const struct profile_cond *c, struct oracle *o)
{
	scmp_filter_ctx ctx = oracle_start(SCMP_ACT_ERRNO(1));
	for (unsigned i = 0; i < c->n_values; i++) {
		struct scmp_arg_cmp cmp = { c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->values[i] };
		assert_int_equal(seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, (int)nr, 1, &cmp), 0);
	}
	oracle_take(ctx, o);
}

static bool oracle_holds(const struct oracle *o, const struct profile_cond *c,
			 const struct seccomp_data *d)
{
	return (bpf_run(o->insns, d, NULL) == SECCOMP_RET_ALLOW) != c->negated;
}

/* The rules of one call, each condition compiled alone by libseccomp: it has no order of rules. */
static void agree_on_call(const struct profile *p, const struct filter *f, uint32_t nr)
{
	unsigned n, at = 0;
	unsigned first = profile_rules_of(p, nr, &n);
	struct samples s = { .p = p, .seed = nr };
	AUTO_FREE struct oracle *o = calloc((size_t)n * PROFILE_CONDS_MAX, sizeof(*o));
	assert_non_null(o);
	for (unsigned i = first; i < first + n; i++)
		for (unsigned j = 0; j < p->rules[i].n_conds; j++)
			oracle_cond(nr, &p->rules[i].conds[j], &o[at++]);
	for (int k = 0; k < 4 * SAMPLES_PER_CALL; k++) {
		struct seccomp_data d = { .nr = (int)nr, .arch = p->arch->audit };
		uint64_t args[6];
		uint32_t want = p->default_ret;
		bool decided = false;
		samples_args(&s, nr, args);
		memcpy(d.args, args, sizeof(args));
		at = 0;
		for (unsigned i = first; i < first + n; i++) {
			bool all = true;
			for (unsigned j = 0; j < p->rules[i].n_conds; j++)
				all &= oracle_holds(&o[at++], &p->rules[i].conds[j], &d);
			if (all && !decided) {
				want = p->rules[i].ret;
				decided = true;
			}
		}
		if (bpf_run(f->insns, &d, NULL) != want)
			fail_msg("call %u (%lx %lx %lx): %x, libseccomp %x", nr, (long)args[0],
				 (long)args[1], (long)args[2], bpf_run(f->insns, &d, NULL), want);
	}
}

static void test_libseccomp_agrees(void **state)
{
	(void)state;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	AUTO_FREE struct oracle *plain = malloc(sizeof(*plain));
	/* The library takes numbers of its own architecture. */
	if (!seccomp_arch_find(NULL))
		skip();
	for (size_t i = 0; i < N(shipped); i++) {
		struct profile p;
		load(shipped[i], NULL, &p, f);
		scmp_filter_ctx ctx = oracle_start(p.default_ret);
		for (unsigned r = 0, n; r < p.n_rules; r += n) {
			profile_rules_of(&p, p.rules[r].nr, &n);
			if (p.rules[r].n_conds)
				agree_on_call(&p, f, p.rules[r].nr);
			else
				assert_int_equal(seccomp_rule_add(ctx, p.rules[r].ret,
								  (int)p.rules[r].nr, 0),
						 0);
		}
		oracle_take(ctx, plain);
		for (uint32_t n = 0; n < 2048; n++) {
			uint32_t nr = n < 1024 ? n : X32 + n - 1024;
			struct seccomp_data d = { .nr = (int)nr, .arch = p.arch->audit };
			unsigned rules;
			unsigned first = profile_rules_of(&p, nr, &rules);
			if (rules && p.rules[first].n_conds)
				continue;
			/* It has no word for "newer than the list". */
			bool unknown = nr > SYSCALL_LAST &&
				       (nr < X32 || p.arch->audit != AUDIT_ARCH_X86_64);
			uint32_t want = unknown ? p.unknown_ret : bpf_run(plain->insns, &d, NULL);
			if (bpf_run(f->insns, &d, NULL) != want)
				fail_msg("%s: call %u: %x, libseccomp %x", shipped[i], nr,
					 bpf_run(f->insns, &d, NULL), want);
		}
		profile_done(&p);
	}
}

static void test_every_rule_makes_a_difference(void **state)
{
	(void)state;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (size_t i = 0; i < N(shipped); i++) {
		struct profile p;
		load(shipped[i], "x86_64", &p, f);
		struct samples s = { .p = &p, .seed = i };
		for (unsigned r = 0; r < p.n_rules; r++) {
			/* Made to match nothing, a rule is as good as removed. */
			struct profile_rule *rule = &p.rules[r], saved = *rule;
			struct profile_cond never = {
				.negated = true, .mask = 1, .n_values = 2, .values = { 0, 1 }
			};
			bool matters = false;
			for (int k = 0; k < 20000 && !matters; k++) {
				uint64_t args[6];
				samples_args(&s, saved.nr, args);
				uint32_t with = profile_decide(&p, p.arch->audit, saved.nr, args);
				rule->conds = &never;
				rule->n_conds = 1;
				matters = profile_decide(&p, p.arch->audit, saved.nr, args) != with;
				*rule = saved;
			}
			if (!matters)
				fail_msg("%s:%u: without this rule nothing changes", shipped[i],
					 saved.line);
		}
		profile_done(&p);
	}
}

static void test_the_payload_may_call_at_most_300(void **state)
{
	(void)state;
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (size_t i = 0; i < N(arches); i++) {
		struct profile p;
		load(shipped[0], arches[i], &p, f);
		assert_in_range(profile_allowed(&p), 200, ALLOWED_MAX);
		assert_int_not_equal(p.default_ret, SECCOMP_RET_ALLOW);
		profile_done(&p);
	}
}

/* What must never be allowed, whatever the arguments, by name: the list of the threat model. */
static void test_the_payload_never_allows_these(void **state)
{
	(void)state;
	static const char *const never[] = {
		"mount",
		"umount2",
		"fsopen",
		"fsconfig",
		"fsmount",
		"fspick",
		"open_tree",
		"move_mount",
		"mount_setattr",
		"open_tree_attr",
		"pivot_root",
		"unshare",
		"setns",
		"clone3",
		"io_uring_setup",
		"io_uring_enter",
		"io_uring_register",
		"bpf",
		"userfaultfd",
		"perf_event_open",
		"add_key",
		"request_key",
		"keyctl",
		"open_by_handle_at",
		"name_to_handle_at",
		"fanotify_init",
		"init_module",
		"finit_module",
		"delete_module",
		"kexec_load",
		"kexec_file_load",
		"reboot",
		"swapon",
		"swapoff",
		"acct",
		"syslog",
		"settimeofday",
		"clock_settime",
		"adjtimex",
		"clock_adjtime",
		"sethostname",
		"setdomainname",
		"quotactl",
		"quotactl_fd",
		"pidfd_getfd",
		"move_pages",
		"migrate_pages",
		"mbind",
		"set_mempolicy",
		"lookup_dcookie",
		"io_setup",
		"io_submit",
		"sync",
		"vhangup",
	};
	AUTO_FREE struct filter *f = malloc(sizeof(*f));
	for (size_t a = 0; a < N(arches); a++) {
		struct profile p;
		load(shipped[0], arches[a], &p, f);
		struct samples s = { .p = &p, .seed = a };
		for (size_t i = 0; i < N(never); i++) {
			uint32_t nr;
			assert_int_equal(seccomp_syscall_number(p.arch, never[i], &nr), 0);
			for (int k = 0; k < SAMPLES_PER_CALL; k++) {
				uint64_t args[6];
				samples_args(&s, nr, args);
				if (run(f, p.arch->audit, nr, args) == SECCOMP_RET_ALLOW)
					fail_msg("%s is allowed on %s", never[i], p.arch->name);
			}
		}
		profile_done(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_lines_are_named_with_the_reason),
		cmocka_unit_test(test_rules_are_tried_in_order),
		cmocka_unit_test(test_long_programs_are_still_right),
		cmocka_unit_test(test_a_program_beyond_the_kernels_limit_is_refused),
		cmocka_unit_test(test_programs_decide_as_their_profiles),
		cmocka_unit_test(test_libseccomp_agrees),
		cmocka_unit_test(test_every_rule_makes_a_difference),
		cmocka_unit_test(test_the_payload_may_call_at_most_300),
		cmocka_unit_test(test_the_payload_never_allows_these),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
