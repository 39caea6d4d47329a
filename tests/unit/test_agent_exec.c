/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: how they start, whose rights they have, how they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_driver.h"
#include "base/clock.h"

static const char *no_box;
#define NEED_BOX()                                              \
	do {                                                    \
		if (no_box) {                                   \
			print_message("skipped: %s\n", no_box); \
			skip();                                 \
		}                                               \
	} while (0)

static struct agent_driver *plain(void)
{
	return drv_start(&(struct drv_options){ 0 });
}

static struct agent_driver *boxed(void)
{
	return drv_start(&(struct drv_options){ .boxed = true });
}

/* Whoever runs the test, as a user the agent can become without being root. */
static const char *me(void)
{
	static char spec[16];
	snprintf(spec, sizeof(spec), "%u", getuid());
	return spec;
}

static void exit_code_and_output_pass_through(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = drv_sh(d, 1, me(), "echo out; echo err >&2; exit 42");
	assert_int_equal(s->start.err, 0);
	assert_true(s->start.pid > 1);
	assert_int_equal(s->exit.code, 42);
	assert_int_equal(s->exit.flags, 0);
	assert_string_equal(drv_out(s), "out\n");
	assert_string_equal(drv_err(s), "err\n");
	assert_int_equal(s->exit.stdout_bytes, 4);
	assert_int_equal(s->exit.stderr_bytes, 4);
	assert_true(s->exit.maxrss_bytes > 100000);
	assert_int_equal(drv_stop(d), 0);
}

/* The first command of an agent is spawned with shared memory, later ones are forked: both ways are
 * taken by each of these. */
static void failed_exec_names_errno_and_step(void **state)
{
	static const struct {
		const char *argv0, *cwd, *user;
		int err;
		uint32_t step;
	} cases[] = {
		{ "no-such-program", "/", NULL, ENOENT, BRIG_STEP_EXEC },
		{ "/no/such/program", "/", NULL, ENOENT, BRIG_STEP_EXEC },
		{ "/etc/passwd", "/", NULL, EACCES, BRIG_STEP_EXEC },
		{ "/etc", "/", NULL, EACCES, BRIG_STEP_EXEC },
		{ "/bin/true", "/no/such/dir", NULL, ENOENT, BRIG_STEP_CWD },
		{ "/bin/true", "/etc/passwd", NULL, ENOTDIR, BRIG_STEP_CWD },
		{ "/bin/true", "/", "no-such-user", ENOENT, BRIG_STEP_USER },
		{ "/bin/true", "/", "0:no-such-group", ENOENT, BRIG_STEP_USER },
		{ "/bin/true", "/", "4294967295", ENOENT, BRIG_STEP_USER },
		{ "", "/", NULL, ENOENT, BRIG_STEP_EXEC },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int later = 0; later < 2; later++) {
			struct agent_driver *d = plain();
			const char *const argv[] = { cases[i].argv0, NULL };
			if (later)
				drv_sh(d, 1, me(), "true");
			struct drv_stream *s = drv_exec(
				d, 2,
				&(struct drv_exec){ .user = cases[i].user ? cases[i].user : me(),
						    .cwd = cases[i].cwd,
						    .argv = argv });
			drv_until(d, &s->started);
			assert_int_equal(s->start.err, cases[i].err);
			assert_int_equal(s->start.step, cases[i].step);
			/* The stream is closed: its id may be used again. */
			assert_int_equal(drv_sh(d, 2, me(), "exit 3")->exit.code, 3);
			assert_int_equal(drv_stop(d), 0);
		}
}

static void path_search_prefers_eacces_over_enoent(void **state)
{
	char dir[] = "/tmp/brig-path.XXXXXX", file[64], path[128];
	struct agent_driver *d = plain();
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/tool", dir);
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	fputs("echo script $0 $1\n", f);
	fclose(f);
	snprintf(path, sizeof(path), "PATH=/nonexistent:%s:/also-not", dir);
	const char *const argv[] = { "tool", "arg", NULL }, *const env[] = { path, NULL };
	struct drv_exec e = { .user = me(), .argv = argv, .env = env, .credit = { 4096, 4096 } };
	struct drv_stream *s = drv_exec(d, 1, &e);
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, EACCES);
	/* Executable, without #!: sh runs it, also from the forked child. */
	assert_int_equal(chmod(file, 0755), 0);
	for (uint32_t id = 2; id < 4; id++) {
		char want[128];
		s = drv_exec(d, id, &e);
		drv_until(d, &s->exited);
		snprintf(want, sizeof(want), "script %s arg\n", file);
		assert_string_equal(drv_out(s), want);
	}
	unlink(file);
	rmdir(dir);
	assert_int_equal(drv_stop(d), 0);
}

static void death_by_signal_is_told_apart_from_exit(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = drv_sh(d, 1, me(), "kill -9 $$");
	assert_int_equal(s->exit.flags, BRIG_EXIT_SIGNALED);
	assert_int_equal(s->exit.code, 9);
	s = drv_sh(d, 2, me(), "exit 137");
	assert_int_equal(s->exit.flags, 0);
	assert_int_equal(s->exit.code, 137);
	assert_int_equal(drv_stop(d), 0);
}

static void signal_reaches_the_group(void **state)
{
	struct agent_driver *d = plain();
	const char *const argv[] = { "/bin/sh", "-c", "sleep 100 | sleep 100", NULL };
	uint32_t term = SIGTERM;
	(void)state;
	struct drv_stream *s = drv_exec(d, 1, &(struct drv_exec){ .user = me(), .argv = argv });
	/* Sent at once: before the exec is known of where the child is forked. */
	drv_send(d, BRIG_SIGNAL, 0, 1, &term, sizeof(term));
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.flags, BRIG_EXIT_SIGNALED);
	assert_int_equal(s->exit.code, SIGTERM);
	s = drv_exec(d, 2, &(struct drv_exec){ .user = me(), .argv = argv });
	drv_send(d, BRIG_SIGNAL, 0, 2, &term, sizeof(term));
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.code, SIGTERM);
	/* Nobody of the pipelines is left: the agent's end would find them by a wait of 2 s. */
	uint64_t t = clock_now();
	assert_int_equal(drv_stop(d), 0);
	assert_true(clock_now() - t < SEC_NS);
}

static void command_starts_with_clean_state(void **state)
{
	/* Descriptors, blocked and ignored signals, umask, OOM score, session. */
	static const char script[] =
		"ls /proc/self/fd | wc -l; umask; cat /proc/self/oom_score_adj;"
		"grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2;"
		"set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo leader";
	(void)state;
	signal(SIGHUP, SIG_IGN);
	struct agent_driver *d = plain();
	signal(SIGHUP, SIG_DFL);
	for (uint32_t id = 1; id < 3; id++) {
		struct drv_stream *s = drv_sh(d, id, me(), script);
		assert_string_equal(drv_out(s), "4\n0022\n500\n0000000000000000\n0000000000000000\n"
						"leader\n");
	}
	assert_int_equal(drv_stop(d), 0);
}

static void stdin_is_null_unless_asked_for(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	assert_string_equal(drv_out(drv_sh(d, 1, me(), "cat; echo end")), "end\n");
	assert_int_equal(drv_stop(d), 0);
}

static void environment_gets_what_it_lacks(void **state)
{
	NEED_BOX();
	struct agent_driver *d = boxed();
	const char *const argv[] = { "/usr/bin/env", NULL };
	const char *const env[] = { "A=1", "HOME=/elsewhere", NULL };
	(void)state;
	struct drv_exec e = { .user = "user", .argv = argv, .credit = { 4096, 4096 } };
	e.env = env;
	struct drv_stream *s = drv_exec(d, 1, &e);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s),
			    "A=1\nHOME=/elsewhere\nUSER=user\nLOGNAME=user\nSHELL=/bin/sh\n");
	assert_int_equal(drv_stop(d), 0);
}

static void user_spec_decides_ids_and_groups(void **state)
{
	static const struct {
		const char *user, *want;
	} cases[] = {
		{ "", "0 0 0\n" },
		{ "root", "0 0 0\n" },
		{ "user", "1000 1000 1000 27 2000 2001\n" },
		{ "1000", "1000 1000 1000 27 2000 2001\n" },
		{ "user:extra", "1000 2000 2000\n" },
		{ "user:77", "1000 77 77\n" },
		{ "4321", "4321 0 0\n" },
		{ "4321:27", "4321 27 27\n" },
		{ "other", "1001 1001 1001 2000\n" },
	};
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct drv_stream *s =
			drv_sh(d, i + 1, cases[i].user, "echo $(id -u) $(id -g) $(id -G)");
		assert_string_equal(drv_out(s), cases[i].want);
	}
	assert_int_equal(drv_stop(d), 0);
}

static void cwd_falls_back_only_from_a_missing_home(void **state)
{
	NEED_BOX();
	struct agent_driver *d = boxed();
	const char *const argv[] = { "/bin/pwd", NULL };
	struct drv_exec e = { .user = "user", .cwd = "", .argv = argv, .credit = { 99, 99 } };
	(void)state;
	struct drv_stream *s = drv_exec(d, 1, &e);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "/home/user\n");
	e.user = "other";
	s = drv_exec(d, 2, &e);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "/\n");
	e.cwd = "/nowhere";
	s = drv_exec(d, 3, &e);
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, ENOENT);
	assert_int_equal(s->start.step, BRIG_STEP_CWD);
	/* The directory is entered with the user's rights, not the agent's. */
	assert_int_equal(
		drv_fs_now(d, 4, BRIG_FS_MKDIR, &(struct drv_fs){ .path = "/tmp/p", .mode = 0700 }),
		0);
	e.cwd = "/tmp/p";
	s = drv_exec(d, 5, &e);
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, EACCES);
	assert_int_equal(drv_stop(d), 0);
}

static void no_capability_is_left_to_a_user(void **state)
{
	static const char script[] = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status | cut -f2";
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	for (uint32_t id = 1; id < 3; id++) {
		struct drv_stream *s = drv_sh(d, id, "user", script);
		assert_string_equal(drv_out(s),
				    "0000000000000000\n0000000000000000\n0000000000000000\n"
				    "0000000000000000\n0000000000000000\n1\n");
	}
	/* Root: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SYS_CHROOT. */
	struct drv_stream *s = drv_sh(d, 3, "", script);
	assert_string_equal(drv_out(s), "0000000000000000\n00000000000400fb\n00000000000400fb\n"
					"00000000000400fb\n0000000000000000\n1\n");
	assert_int_equal(drv_stop(d), 0);
}

static void hostile_passwd_and_group_do_no_harm(void **state)
{
	/* Malformed, negative, too long, without newline at the end. */
	static char passwd[200000], group[60000];
	NEED_BOX();
	(void)state;
	int n = snprintf(passwd, sizeof(passwd),
			 ":::::::\nx\n\nuser:x:-1:1000::/:/bin/sh\n"
			 "user:x:99999999999:1::/:/bin/sh\nuser:x:0x0:0::/:\n");
	memset(passwd + n, 'A', 100000);
	n += 100000;
	n += snprintf(passwd + n, sizeof(passwd) - (size_t)n,
		      "\nuser:x:1000:1000:gecos:relative/home:relative/shell\nlast:x:1002:1002::/:/"
		      "bin/sh");
	n = snprintf(group, sizeof(group), "extra:x:nan:user\nlong:x:5000:");
	memset(group + n, 'b', 20000);
	n += 20000;
	snprintf(group + n, sizeof(group) - (size_t)n,
		 "\nextra:x:2000:userx,user\nbad\nuserx:x:7:user2");
	struct agent_driver *d = drv_start(&(struct drv_options){
		.boxed = true, .passwd = passwd, .group = group, .root_kib = 8192 });
	struct drv_stream *s = drv_sh(d, 1, "user", "echo $(id -u) $(id -g) $(id -G) $HOME $SHELL");
	assert_string_equal(drv_out(s), "1000 1000 1000 2000 / /bin/sh\n");
	s = drv_sh(d, 2, "last", "id -u");
	assert_string_equal(drv_out(s), "1002\n");
	/* A FIFO in the place of the file must not stop the agent. */
	s = drv_sh(d, 3, "", "rm /etc/passwd; mkfifo /etc/passwd");
	assert_int_equal(s->exit.code, 0);
	assert_string_equal(drv_out(drv_sh(d, 4, "1000", "echo here")), "here\n");
	assert_int_equal(drv_stop(d), 0);
}

static void orphans_are_reaped(void **state)
{
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	drv_sh(d, 1, "", "for i in 1 2 3 4 5; do (setsid sh -c 'exit 0' &) ; done");
	/* Zombies of pid 1 would show; the loop waits for those that are just dying. */
	struct drv_stream *s =
		drv_sh(d, 2, "",
		       "for i in $(seq 200); do z=$(cat /proc/[0-9]*/stat 2>/dev/null |"
		       " grep -c ' Z '); [ $z = 0 ] && break; sleep 0.01; done; echo $z");
	assert_string_equal(drv_out(s), "0\n");
	assert_int_equal(drv_stop(d), 0);
}

static void held_output_delays_the_exit_by_a_tenth_of_a_second(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	uint64_t t = clock_now();
	struct drv_stream *s = drv_sh(d, 1, me(), "sleep 50 & echo done");
	uint64_t ms = (clock_now() - t) / MS_NS;
	assert_string_equal(drv_out(s), "done\n");
	assert_in_range(ms, 90, 1000);
	/* One that writes on without end does not delay it either. */
	t = clock_now();
	const char *const argv[] = { "/bin/sh", "-c", "yes & sleep 0.05", NULL };
	s = drv_exec(d, 2,
		     &(struct drv_exec){ .user = me(),
					 .argv = argv,
					 .credit = { 1u << 20, 1u << 20 },
					 .regrant = true,
					 .discard = true });
	drv_until(d, &s->exited);
	ms = (clock_now() - t) / MS_NS;
	assert_in_range(ms, 90, 3000);
	assert_int_equal(s->exit.stdout_bytes, s->total[0]);
	assert_int_equal(drv_stop(d), 0);
}

static unsigned count_procs(struct agent_driver *d, uint32_t id, const char *what)
{
	char script[160];
	snprintf(script, sizeof(script),
		 "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null |"
		 "grep -c '^%s'",
		 what);
	return (unsigned)strtoul(drv_out(drv_sh(d, id, "", script)), NULL, 10);
}

static void lifeline_kills_what_is_left_behind(void **state)
{
	static const char script[] =
		"sleep 611 & setsid sleep 612 & (setsid sh -c 'sleep 613 &' &); "
		"(trap '' TERM HUP; sleep 614 &); sleep 0.1";
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	const char *const other[] = { "/bin/sh", "-c", "sleep 711 & sleep 712", NULL };
	NEED_BOX();
	(void)state;
	for (int alone = 1; alone >= 0; alone--) {
		struct agent_driver *d = boxed();
		struct drv_stream *o = NULL;
		if (!alone) {
			o = drv_exec(d, 9, &(struct drv_exec){ .user = "user", .argv = other });
			drv_until(d, &o->started);
		}
		struct drv_stream *s = drv_exec(
			d, 1, &(struct drv_exec){ .argv = argv, .flags = BRIG_EXEC_LIFELINE });
		drv_until(d, &s->exited);
		assert_int_equal(count_procs(d, 2, "sleep 61[1-4]"), 0);
		/* The other command keeps its processes. */
		assert_int_equal(count_procs(d, 3, "sleep 71[12]"), alone ? 0 : 2);
		assert_true(alone || !o->exited);
		assert_int_equal(drv_stop(d), 0);
	}
}

static void without_lifeline_daemons_stay(void **state)
{
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	drv_sh(d, 1, "", "(setsid sleep 621 >/dev/null 2>&1 &)");
	assert_int_equal(count_procs(d, 2, "sleep 62[1]"), 1);
	assert_int_equal(drv_stop(d), 0);
}

static void close_kills_the_command(void **state)
{
	const char *const argv[] = { "/bin/sh", "-c", "sleep 631 & setsid -w sleep 632", NULL };
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	struct drv_stream *s = drv_exec(d, 1, &(struct drv_exec){ .user = "user", .argv = argv });
	drv_until(d, &s->started);
	uint64_t until = clock_now() + 5 * SEC_NS;
	while (count_procs(d, 2, "sleep 63[12]") < 2)
		assert_true(clock_now() < until);
	drv_close(d, 1);
	assert_int_equal(count_procs(d, 3, "sleep 63[12]"), 0);
	/* Its id is free at once. */
	assert_string_equal(drv_out(drv_sh(d, 1, "", "echo again")), "again\n");
	assert_int_equal(drv_stop(d), 0);
}

static void end_of_the_channel_kills_everything(void **state)
{
	struct agent_driver *d = plain();
	const char *const argv[] = { "/bin/sh", "-c", "setsid sleep 641 & exec sleep 642", NULL };
	(void)state;
	struct drv_stream *s = drv_exec(d, 1, &(struct drv_exec){ .user = me(), .argv = argv });
	drv_until(d, &s->started);
	pid_t pid = (pid_t)s->start.pid;
	assert_int_equal(drv_stop(d), 0);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(system("! pgrep -f '^sleep 64[12]$' >/dev/null"), 0);
}

static void shutdown_ends_the_agent(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	drv_send(d, BRIG_SHUTDOWN, 0, 0, NULL, 0);
	assert_int_equal(drv_wait_end(d), 0);
}

static void full_disk_and_inodes_are_reported(void **state)
{
	NEED_BOX();
	struct agent_driver *d = drv_start(&(struct drv_options){ .boxed = true, .root_kib = 512 });
	(void)state;
	struct drv_stream *s = drv_sh(d, 1, "", "true");
	assert_int_equal(s->exit.flags, 0);
	/* Full for a moment longer than a sample, and free again at the end. */
	s = drv_sh(d, 2, "",
		   "dd if=/dev/zero of=/tmp/f bs=64k count=99 2>/dev/null; sleep 0.6; rm /tmp/f");
	assert_int_equal(s->exit.flags, BRIG_EXIT_DISK_FULL);
	s = drv_sh(d, 3, "", "i=0; while : >/tmp/i$i; do i=$((i+1)); done 2>/dev/null");
	assert_true(s->exit.flags & BRIG_EXIT_INODES_FULL);
	assert_int_equal(drv_stop(d), 0);
}

static void descriptor_limit_is_reported(void **state)
{
	/* 0 to 9 are open; the program that waits was loaded before. */
#define TEN_OPEN(limit)                                                            \
	"sleep 0.6 & for i in 3 4 5 6 7 8 9; do eval \"exec $i</dev/null\"; done;" \
	"ulimit -Sn " limit "; wait"
	static const char below[] = TEN_OPEN("11"), full[] = TEN_OPEN("10");
	NEED_BOX();
	struct agent_driver *d = boxed();
	(void)state;
	assert_int_equal(drv_sh(d, 1, "user", below)->exit.flags, 0);
	assert_int_equal(drv_sh(d, 2, "user", full)->exit.flags, BRIG_EXIT_NOFILE);
	assert_int_equal(drv_stop(d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_code_and_output_pass_through),
		cmocka_unit_test(failed_exec_names_errno_and_step),
		cmocka_unit_test(path_search_prefers_eacces_over_enoent),
		cmocka_unit_test(death_by_signal_is_told_apart_from_exit),
		cmocka_unit_test(signal_reaches_the_group),
		cmocka_unit_test(command_starts_with_clean_state),
		cmocka_unit_test(stdin_is_null_unless_asked_for),
		cmocka_unit_test(environment_gets_what_it_lacks),
		cmocka_unit_test(user_spec_decides_ids_and_groups),
		cmocka_unit_test(cwd_falls_back_only_from_a_missing_home),
		cmocka_unit_test(no_capability_is_left_to_a_user),
		cmocka_unit_test(hostile_passwd_and_group_do_no_harm),
		cmocka_unit_test(orphans_are_reaped),
		cmocka_unit_test(held_output_delays_the_exit_by_a_tenth_of_a_second),
		cmocka_unit_test(lifeline_kills_what_is_left_behind),
		cmocka_unit_test(without_lifeline_daemons_stay),
		cmocka_unit_test(close_kills_the_command),
		cmocka_unit_test(end_of_the_channel_kills_everything),
		cmocka_unit_test(shutdown_ends_the_agent),
		cmocka_unit_test(full_disk_and_inodes_are_reported),
		cmocka_unit_test(descriptor_limit_is_reported),
	};
	drv_can_box(&no_box);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
