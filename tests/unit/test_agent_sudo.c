/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-sudo through the real agent, and the agent against clients of its socket that are not
 * brig-sudo.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/sudo_args.h"
#include "agent_driver.h"
#include "base/clock.h"

static const char *missing;

static int boxed(void **state)
{
	*state = NULL;
	if (!missing)
		*state = drv_start(&(struct drv_options){
			.boxed = true, .sudo = drv_program("brig-sudo", "BRIG_SUDO") });
	return 0;
}

static int unboxed(void **state)
{
	return *state ? drv_stop(*state) : 0;
}

static struct agent_driver *agent(void **state)
{
	if (!*state) {
		print_message("skipped: %s\n", missing);
		skip();
	}
	return *state;
}

/* The program is bound to /opt/sudo. */
static struct drv_stream *run(struct agent_driver *d, const char *user, const char *script)
{
	char text[2048];
	snprintf(text, sizeof(text), "sudo() { /opt/sudo \"$@\"; }; %s", script);
	return drv_sh(d, 1, user, text);
}

static void command_runs_as_root_with_the_callers_stdio(void **state)
{
	struct agent_driver *d = agent(state);
	struct drv_stream *s = run(
		d, "user", "echo in | sudo sh -c 'id -u; id -G; cat; echo err >&2; pwd; exit 7'");
	assert_string_equal(drv_out(s), "0\n0\nin\n/\n");
	assert_string_equal(drv_err(s), "err\n");
	assert_int_equal(s->exit.code, 7);
	s = run(d, "user",
		"sudo grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | cut -f2");
	assert_string_equal(drv_out(s), "00000000000400fb\n00000000000400fb\n1\n");
	/* What it was for: another user's files and processes. */
	s = run(d, "user",
		"sudo touch /etc/made && sudo chown user /etc/made && stat -c %U /etc/made");
	assert_string_equal(drv_out(s), "user\n");
}

static void only_members_and_the_listed_are_allowed(void **state)
{
	struct agent_driver *d = agent(state);
	struct drv_stream *s = run(d, "other", "sudo id -u");
	assert_int_equal(s->exit.code, 1);
	assert_string_equal(drv_out(s), "");
	assert_non_null(strstr(drv_err(s), "not allowed"));
	assert_int_equal(run(d, "other", "sudo -v")->exit.code, 1);
	assert_int_equal(run(d, "user", "sudo -v")->exit.code, 0);
	assert_int_equal(run(d, "", "sudo -v")->exit.code, 0);
	assert_int_equal(run(d, "4321", "sudo -v")->exit.code, 1);
	/* Having the group's id is not being a member by name. */
	assert_int_equal(run(d, "other:sudo", "sudo -v")->exit.code, 1);
	drv_sh(d, 2, "", "echo other >/etc/brig/sudoers; chmod 666 /etc/brig/sudoers");
	assert_int_equal(run(d, "other", "sudo -v")->exit.code, 1);
	drv_sh(d, 2, "", "chmod 644 /etc/brig/sudoers; chown 1001 /etc/brig/sudoers");
	assert_int_equal(run(d, "other", "sudo -v")->exit.code, 1);
	drv_sh(d, 2, "", "chown 0 /etc/brig/sudoers");
	assert_int_equal(run(d, "other", "sudo id -u >/dev/null")->exit.code, 0);
}

static void options_mean_what_sudo_means(void **state)
{
	static const struct {
		const char *script, *out;
		uint32_t code;
	} cases[] = {
		{ "sudo -u other id -un", "other\n", 0 },
		{ "sudo -u '#1001' id -un", "other\n", 0 },
		{ "sudo --user=other -- id -un", "other\n", 0 },
		{ "sudo -u other -g extra id -gn", "extra\n", 0 },
		{ "sudo -nkES id -u", "0\n", 0 },
		{ "sudo A=1 B=2 sh -c 'echo $A $B'", "1 2\n", 0 },
		{ "X=1 sudo sh -c 'echo [$X] $HOME $USER $LOGNAME $SUDO_USER $SUDO_UID $SUDO_GID'",
		  "[] /root root root user 1000 1000\n", 0 },
		{ "export X=1; sudo -E sh -c 'echo $X $HOME'", "1 /home/user\n", 0 },
		{ "export X=1; sudo -EH sh -c 'echo $X $HOME'", "1 /root\n", 0 },
		{ "export X=1 Y=2; sudo --preserve-env=X sh -c 'echo $X $Y'", "1\n", 0 },
		{ "LC_ALL=C TERM=vt100 sudo sh -c 'echo $LC_ALL $TERM'", "C vt100\n", 0 },
		{ "PATH=/home/user /opt/sudo sh -c 'echo $PATH'",
		  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", 0 },
		{ "cd /tmp; sudo pwd; sudo -D /usr pwd", "/tmp\n/usr\n", 0 },
		{ "sudo -i sh -c 'echo \"a  b\"'", "a  b\n", 0 },
		{ "sudo -i pwd; sudo -u user -i echo '$HOME'", "/root\n/home/user\n", 0 },
		{ "SHELL=/bin/sh sudo -s echo 'a  b;c'", "a  b;c\n", 0 },
		{ "echo 'shopt -q login_shell && echo login' | sudo -i", "login\n", 0 },
		{ "sudo -k; sudo -K", "", 0 },
		{ "sudo no-such-command", "", 1 },
		{ "sudo /etc/passwd", "", 1 },
		{ "sudo -u nobody-here id", "", 1 },
		{ "sudo -D /nope id", "", 1 },
		{ "sudo", "", 1 },
		{ "sudo -i -s", "", 1 },
		{ "sudo --bogus id", "", 1 },
		{ "sudo -u", "", 1 },
	};
	struct agent_driver *d = agent(state);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct drv_stream *s = run(d, "user", cases[i].script);
		if (strcmp(drv_out(s), cases[i].out) != 0 || s->exit.code != cases[i].code)
			fail_msg("%s: printed '%s' ('%s'), code %u", cases[i].script, drv_out(s),
				 drv_err(s), s->exit.code);
	}
}

static void signals_and_the_status_pass_both_ways(void **state)
{
	struct agent_driver *d = agent(state);
	struct drv_stream *s = run(d, "user", "sudo sh -c 'kill -TERM $$'; echo $?");
	assert_string_equal(drv_out(s), "143\n");
	/* Through the client: the tenant cannot signal root's process itself. */
	s = run(d, "user",
		"mkfifo /tmp/f; /opt/sudo sh -c 'trap \"echo got; exit 9\" INT; echo >/tmp/f;"
		"while :; do sleep 0.01; done' & read x </tmp/f; kill -INT $!; wait $!; echo $?");
	assert_string_equal(drv_out(s), "got\n9\n");
}

static void end_of_the_client_ends_the_command(void **state)
{
	struct agent_driver *d = agent(state);
	struct drv_stream *s = run(
		d, "user",
		"mkfifo /tmp/g; /opt/sudo sh -c 'echo >/tmp/g; exec sleep 651' & read x </tmp/g;"
		"kill -9 $!; for i in $(seq 300); do pgrep -f '^sleep 651' >/dev/null ||"
		"{ echo ended; exit; }; sleep 0.01; done");
	assert_string_equal(drv_out(s), "ended\n");
	/* And with LIFELINE the end of the command that called it. */
	const char *const argv[] = { "/bin/sh", "-c", "/opt/sudo sleep 652 & sleep 0.2", NULL };
	s = drv_exec(
		d, 3,
		&(struct drv_exec){ .user = "user", .argv = argv, .flags = BRIG_EXEC_LIFELINE });
	drv_until(d, &s->exited);
	s = drv_sh(d, 4, "",
		   "for i in $(seq 300); do pgrep -f '^sleep 652' >/dev/null ||"
		   "{ echo ended; exit; }; sleep 0.01; done");
	assert_string_equal(drv_out(s), "ended\n");
}

static void terminal_is_handed_on(void **state)
{
	struct agent_driver *d = agent(state);
	const char *const argv[] = { "/opt/sudo", "sh", "-c", "stty size; read x; echo got $x",
				     NULL };
	struct drv_stream *s = drv_exec(d, 1,
					&(struct drv_exec){ .user = "user",
							    .argv = argv,
							    .flags = BRIG_EXEC_TTY,
							    .rows = 44,
							    .cols = 99,
							    .credit = { 4096, 4096 } });
	drv_until(d, &s->started);
	drv_stdin(d, 1, "line\n", 5, false);
	drv_until(d, &s->exited);
	assert_non_null(strstr(drv_out(s), "44 99\r\n"));
	assert_non_null(strstr(drv_out(s), "got line\r\n"));
}

/* A client in Python: it can send what brig-sudo never would. */
static const char hostile[] =
	"import socket, struct, array, os, sys, time\n"
	"def conn():\n"
	"  s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
	"  s.connect('\\0brig-sudo'); s.settimeout(8); return s\n"
	"def req(magic=0x6f647573, flags=0, argc=1, envc=0, rest=b'\\0/\\0\\0/bin/id\\0', "
	"fds=(0,1,2)):\n"
	"  s = conn()\n"
	"  a = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []\n"
	"  s.sendmsg([struct.pack('<IIII', magic, flags, argc, envc) + rest], a); return s\n"
	"def answer(s):\n"
	"  try:\n"
	"    m = s.recv(100)\n"
	"  except ConnectionResetError:\n"
	"    m = b''\n"
	"  return struct.unpack('<IiII', m)[:2] if m else None\n";

static struct drv_stream *python(struct agent_driver *d, const char *user, const char *script)
{
	char text[8192];
	snprintf(text, sizeof(text), "%s%s", hostile, script);
	const char *const argv[] = { "/usr/bin/python3", "-c", text, NULL };
	struct drv_stream *s = drv_exec(
		d, 5, &(struct drv_exec){ .user = user, .argv = argv, .credit = { 65536, 65536 } });
	drv_until(d, &s->exited);
	return s;
}

static void malformed_requests_are_refused(void **state)
{
	struct agent_driver *d = agent(state);
	struct drv_stream *s = python(d, "user",
				      "for kw in [dict(magic=1), dict(flags=2), dict(argc=0), "
				      "dict(argc=2), dict(argc=5000),\n"
				      "  dict(envc=1), dict(envc=4294967295), dict(rest=b''), "
				      "dict(rest=b'\\0/\\0\\0/bin/id'),\n"
				      "  dict(rest=b'\\0/\\0\\0/bin/id\\0x\\0'), dict(envc=1, "
				      "rest=b'\\0/\\0\\0/bin/id\\0NOEQ\\0'),\n"
				      "  dict(fds=()), dict(fds=(0,1))]:\n"
				      "  a = answer(req(**kw))\n"
				      "  if a != (1, 71): print('answered', kw, a)\n"
				      "for kw in [dict(fds=(0,1,2,0)), dict(fds=tuple([0]*40)), "
				      "dict(rest=b'\\0'*131072)]:\n"
				      "  a = answer(req(**kw))\n"
				      "  if a is not None: print('answered', kw.keys(), a)\n"
				      "s = conn(); s.send(b'x'); a = answer(s)\n"
				      "if a != (1, 71): print('short', a)\n"
				      "print('done')\n");
	assert_string_equal(drv_err(s), "");
	assert_string_equal(drv_out(s), "done\n");
	assert_int_equal(run(d, "user", "sudo -v")->exit.code, 0);
}

static void silent_connections_hold_it_for_seconds_only(void **state)
{
	struct agent_driver *d = agent(state);
	/* All places are taken by connections that say nothing: one more is closed at once. Others
	 * of the agent's work goes on, and the places come back. */
	struct drv_stream *s = python(
		d, "user",
		"held = [conn() for i in range(32)]\n"
		"t = time.time()\n"
		"more = conn()\n"
		"print('closed' if more.recv(10) == b'' and time.time() - t < 1 else 'open')\n"
		"print('freed' if held[0].recv(10) == b'' else 'held')\n");
	assert_string_equal(drv_err(s), "");
	assert_string_equal(drv_out(s), "closed\nfreed\n");
	assert_int_equal(run(d, "user", "sudo -v")->exit.code, 0);
}

static void signals_after_the_start_are_checked(void **state)
{
	struct agent_driver *d = agent(state);
	/* A packet that is no signal ends the connection, and the command with it. */
	struct drv_stream *s = python(d, "user",
				      "for bad in [b'', b'x', struct.pack('<I', 0), "
				      "struct.pack('<I', 65), b'y' * 1000]:\n"
				      "  s = req(argc=2, rest=b'\\0/\\0\\0sleep\\000100\\0')\n"
				      "  assert answer(s)[0] == 2\n"
				      "  if bad: s.send(bad)\n"
				      "  else: s.shutdown(socket.SHUT_WR)\n"
				      "  m = struct.unpack('<IiII', s.recv(100))\n"
				      "  if m != (3, 0, 0, 9): print(bad, m)\n"
				      "print('done')\n");
	assert_string_equal(drv_err(s), "");
	assert_string_equal(drv_out(s), "done\n");
}

/* ---- the command line ---- */

/* Words as main() gets them. */
#define WORDS(...)                \
	(char *[])                \
	{                         \
		__VA_ARGS__, NULL \
	}
#define W(text)      \
	(char[])     \
	{            \
		text \
	}

static void words_are_quoted_for_the_shell(void **state)
{
	(void)state;
	char *text = sudo_shell_quote(WORDS(W("a b"), W(""), W("$HOME"), W("x;y'\"")));
	assert_string_equal(text, "a\\ b '' $HOME x\\;y\\'\\\"");
	free(text);
}

static void command_line_is_parsed_like_sudos(void **state)
{
	char err[128];
	struct sudo_args a;
	char **argv = WORDS(W("sudo"), W("-nu"), W("other"), W("A=b"), W("cmd"), W("-x"), W("B=c"));
	(void)state;
	assert_int_equal(sudo_args_parse(7, argv, &a, err, sizeof(err)), 0);
	assert_string_equal(a.user, "other");
	assert_int_equal(a.nassign, 1);
	assert_string_equal(a.command[0], "cmd");
	assert_string_equal(a.command[1], "-x");
	assert_int_equal(sudo_args_parse(2, WORDS(W("sudo"), W("-k")), &a, err, sizeof(err)), 0);
	assert_int_equal(a.verb, SUDO_NOTHING);
	argv = WORDS(W("sudo"), W("-k"), W("cmd"));
	assert_int_equal(sudo_args_parse(3, argv, &a, err, sizeof(err)), 0);
	assert_int_equal(a.verb, SUDO_RUN);
	assert_int_equal(sudo_args_parse(2, WORDS(W("sudo"), W("A=b")), &a, err, sizeof(err)), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, boxed, unboxed)
	const struct CMUnitTest tests[] = {
		TEST(command_runs_as_root_with_the_callers_stdio),
		TEST(only_members_and_the_listed_are_allowed),
		TEST(options_mean_what_sudo_means),
		TEST(signals_and_the_status_pass_both_ways),
		TEST(end_of_the_client_ends_the_command),
		TEST(terminal_is_handed_on),
		TEST(malformed_requests_are_refused),
		TEST(silent_connections_hold_it_for_seconds_only),
		TEST(signals_after_the_start_are_checked),
		cmocka_unit_test(words_are_quoted_for_the_shell),
		cmocka_unit_test(command_line_is_parsed_like_sudos),
	};
	drv_can_box(&missing);
	if (!missing && !drv_program("brig-sudo", "BRIG_SUDO"))
		missing = "brig-sudo is not built";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
