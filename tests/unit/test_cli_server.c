/* SPDX-License-Identifier: Apache-2.0 */
/* Starting programs with exactly the right descriptors, finding the server, ending leftovers. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/leftover.h"
#include "cli/server.h"
#include "cli/spawn.h"

/* Runs a shell script with the given descriptors as 0, 1, 2 ..; what it prints comes back. */
static int run_shell(const char *script, const int *fds, unsigned nfds, char *ret, size_t cap)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct spawn s = { .path = "/bin/sh", .argv = argv, .nfds = nfds };
	struct brig_err err = BRIG_ERR_INIT;
	int status = -1;
	pid_t pid;
	memcpy(s.fds, fds, nfds * sizeof(*fds));
	if (spawn_start(&s, &pid, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(spawn_wait(pid, clock_now() + 10 * SEC_NS, &status), 1);
	ssize_t n = pread(fds[1], ret, cap - 1, 0);
	ret[n > 0 ? n : 0] = '\0';
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int temp_file(const char *text)
{
	char path[] = "/tmp/brig-spawn-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

static void test_the_child_has_what_it_was_given(void **state)
{
	char text[256];
	int low = temp_file("leak");
	int leak = fcntl(low, F_DUPFD,
			 30); /* without CLOEXEC: as a careless parent would pass it on */
	int in = temp_file("in"), out = temp_file(""), three = temp_file("three");
	const int fds[] = { in, out, 2, three };
	(void)state;
	assert_true(leak >= 30);
	assert_int_equal(run_shell("cat; cat <&3; echo; ls /proc/$$/fd | tr '\\n' ' '", fds, 4,
				   text, sizeof(text)),
			 0);
	assert_non_null(strstr(text, "inthree"));
	char path[64];
	snprintf(path, sizeof(path), " %d ", leak);
	assert_null(strstr(text, path));
	assert_non_null(strstr(text, "0 1 2 3 "));
	close(low);
	close(leak);
	close(in);
	close(out);
	close(three);
}

/* Sources that are themselves targets: 3 becomes 4 and 4 becomes 3. */
static void test_descriptors_that_change_places(void **state)
{
	char text[64];
	int out = temp_file(""), a = temp_file("A"), b = temp_file("B");
	(void)state;
	/* Park what cmocka may have there. */
	int old3 = fcntl(3, F_DUPFD_CLOEXEC, 20), old4 = fcntl(4, F_DUPFD_CLOEXEC, 20);
	int high = fcntl(out, F_DUPFD_CLOEXEC, 20);
	int a_up = fcntl(a, F_DUPFD_CLOEXEC, 20), b_up = fcntl(b, F_DUPFD_CLOEXEC, 20);
	dup3(a_up, 3, O_CLOEXEC);
	dup3(b_up, 4, O_CLOEXEC);
	const int fds[] = { 0, high, 2, 4, 3 };
	assert_int_equal(run_shell("cat <&3; cat <&4", fds, 5, text, sizeof(text)), 0);
	assert_string_equal(text, "BA");
	/* Ours are as they were, and closed at the next exec. */
	assert_int_equal(fcntl(3, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	if (old3 >= 0)
		dup2(old3, 3);
	if (old4 >= 0)
		dup2(old4, 4);
	for (int fd = 5; fd < 40; fd++)
		if (fd != old3 && fd != old4)
			close(fd);
}

static void test_a_program_that_cannot_be_run(void **state)
{
	const char *argv[] = { "x", NULL };
	struct spawn s = { .path = "/nonexistent/x", .argv = argv };
	struct brig_err err = BRIG_ERR_INIT;
	pid_t pid = 0;
	(void)state;
	assert_int_equal(spawn_start(&s, &pid, &err), -1);
	assert_int_equal(err.sys, ENOENT);
	assert_int_equal(pid, 0);
	s.path = "/etc/passwd";
	assert_int_equal(spawn_start(&s, &pid, &err), -1);
	assert_int_equal(err.sys, EACCES);
	/* No child is left to be waited for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_waiting_has_a_deadline(void **state)
{
	const char *argv[] = { "sleep", "100", NULL };
	struct spawn s = { .path = "/bin/sleep", .argv = argv, .fds = { 0, 1, 2 }, .nfds = 3 };
	struct brig_err err = BRIG_ERR_INIT;
	int status = 0;
	pid_t pid;
	(void)state;
	assert_int_equal(spawn_start(&s, &pid, &err), 0);
	assert_int_equal(spawn_wait(pid, clock_now() + 20 * MS_NS, &status), 0);
	kill(pid, SIGKILL);
	assert_int_equal(spawn_wait(pid, clock_now() + 10 * SEC_NS, &status), 1);
	assert_true(WIFSIGNALED(status));
}

static void test_only_our_environment_goes_on(void **state)
{
	bool path = false, brig = false;
	(void)state;
	setenv("BRIG_DATA", "/d", 1);
	setenv("LD_PRELOAD_NOT", "x", 1);
	setenv("AWS_SECRET", "x", 1);
	char **env = spawn_environ();
	for (char **e = env; *e; e++) {
		path = path || strncmp(*e, "PATH=", 5) == 0;
		brig = brig || strcmp(*e, "BRIG_DATA=/d") == 0;
		assert_true(strncmp(*e, "AWS_", 4) != 0 && strncmp(*e, "LD_", 3) != 0);
	}
	assert_true(path && brig);
	free(env);
	unsetenv("BRIG_DATA");
}

static void test_where_the_socket_is(void **state)
{
	char path[SERVER_PATH_MAX], longest[200];
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	unsetenv("BRIG_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/x", 1);
	assert_int_equal(server_socket_path(NULL, path, &err), 0);
	assert_string_equal(path, geteuid() == 0 ? "/run/brig/brigd.sock" : "/x/brig/brigd.sock");
	setenv("BRIG_SOCKET", "/elsewhere/s", 1);
	assert_int_equal(server_socket_path(NULL, path, &err), 0);
	assert_string_equal(path, "/elsewhere/s");
	assert_int_equal(server_socket_path("/given/s", path, &err), 0);
	assert_string_equal(path, "/given/s");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(server_socket_path(longest, path, &err), -1);
	longest[SERVER_PATH_MAX - 1] = '\0';
	assert_int_equal(server_socket_path(longest, path, &err), 0);
	unsetenv("BRIG_SOCKET");
}

static void test_a_folder_that_others_can_write_is_refused(void **state)
{
	char dir[] = "/tmp/brig-dir-XXXXXX", socket_path[64];
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(socket_path, sizeof(socket_path), "%s/s", dir);
	int fd = server_open_dir(socket_path, false, &err);
	assert_true(fd >= 0);
	close(fd);
	chmod(dir, 0770);
	assert_int_equal(server_open_dir(socket_path, false, &err), -1);
	assert_int_equal(err.code, BRIG_E_DENIED);
	chmod(dir, 0707);
	assert_int_equal(server_open_dir(socket_path, false, &err), -1);
	rmdir(dir);
	assert_int_equal(server_open_dir(socket_path, false, &err), -1);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	fd = server_open_dir(socket_path, true, &err);
	assert_true(fd >= 0);
	struct stat st;
	fstat(fd, &st);
	assert_int_equal(st.st_mode & 0777 & ~0711, 0);
	close(fd);
	rmdir(dir);
}

static pid_t sleeper(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void test_leftovers_are_ended(void **state)
{
	int fd = temp_file("");
	pid_t pids[2] = { sleeper(), sleeper() };
	int status;
	(void)state;
	assert_int_equal(leftover_record(fd, pids, 2), 0);
	assert_int_equal(leftover_kill(fd), 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	/* The record is used up. */
	assert_int_equal(lseek(fd, 0, SEEK_END), 0);
	assert_int_equal(leftover_kill(fd), 0);
	close(fd);
}

/* A process that merely has the same number lives. */
static void test_a_reused_number_is_spared(void **state)
{
	char text[64];
	pid_t pid = sleeper();
	(void)state;
	snprintf(text, sizeof(text), "%d 12345\nnonsense\n1 1\n-5 7\n%d\n", (int)pid, (int)pid);
	int fd = temp_file(text);
	assert_int_equal(leftover_kill(fd), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_child_has_what_it_was_given),
		cmocka_unit_test(test_descriptors_that_change_places),
		cmocka_unit_test(test_a_program_that_cannot_be_run),
		cmocka_unit_test(test_waiting_has_a_deadline),
		cmocka_unit_test(test_only_our_environment_goes_on),
		cmocka_unit_test(test_where_the_socket_is),
		cmocka_unit_test(test_a_folder_that_others_can_write_is_refused),
		cmocka_unit_test(test_leftovers_are_ended),
		cmocka_unit_test(test_a_reused_number_is_spared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
