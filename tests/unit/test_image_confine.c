/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process that was taken over by an archive could try from behind confine.c. Each attempt
 * runs inside and reports by its result; the control runs the same attempt outside, where it
 * succeeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_image_tar.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/path.h"
#include "image/confine.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_FILTER 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_FILTER 0
#endif
#endif
#ifndef WITH_FILTER
#define WITH_FILTER 1
#endif

struct attempt {
	const char *what;
	int (*run)(int root); /* 0 = it worked */
	/* What stops it where there is no filter (a sanitizer's build), and behind the filter too.
	 */
	int namespaces_stop_it;
};

static int try_read_host_file(int root)
{
	(void)root;
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? -errno : 0;
}

/* The call that the filter does allow. */
static int try_openat2_host_file(int root)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { O_RDONLY | O_CLOEXEC, 0, 0 };
	(void)root;
	return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how)) < 0 ? -errno : 0;
}

static int try_climb(int root)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { O_RDONLY | O_CLOEXEC, 0, 0 };
	return syscall(SYS_openat2, root, "../../../../../../etc/passwd", &how, sizeof(how)) < 0
		       ? -errno
		       : 0;
}

static int try_climb_input(int root)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { O_RDONLY | O_CLOEXEC, 0, 0 };
	(void)root;
	/* Descriptor 3 is the directory to import. */
	return syscall(SYS_openat2, 3, "../canary/secret", &how, sizeof(how)) < 0 ? -errno : 0;
}

static int try_socket(int root)
{
	(void)root;
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? -errno : 0;
}

static int try_fork(int root)
{
	(void)root;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	return pid < 0 ? -errno : waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int try_exec(int root)
{
	static char *const argv[] = { (char *)(uintptr_t) "true", NULL };
	(void)root;
	/* Success shows by not coming back: exit code 0 without an answer. */
	execv("/bin/true", argv);
	return -errno;
}

static int try_executable_memory(int root)
{
	(void)root;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	return p == MAP_FAILED ? -errno : 0;
}

static int try_make_executable(int root)
{
	(void)root;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0 ? -errno : 0;
}

static int try_kill_parent(int root)
{
	(void)root;
	return kill(getppid(), 0) < 0 ? -errno : 0;
}

static int try_device(int root)
{
	return mknodat(root, "null", S_IFCHR | 0666, 0x103) < 0 ? -errno : 0;
}

static int try_chroot(int root)
{
	(void)root;
	return chroot(".") < 0 ? -errno : 0;
}

static int try_mount(int root)
{
	(void)root;
	return mount("none", "/", "tmpfs", 0, NULL) < 0 ? -errno : umount("/");
}

static const struct attempt attempts[] = {
	{ "read a file of the host", try_read_host_file, 1 },
	{ "read a file of the host by openat2", try_openat2_host_file, 1 },
	{ "climb out by ..", try_climb, 1 },
	{ "climb out of the directory to import", try_climb_input, 1 },
	{ "open a socket", try_socket, 0 },
	{ "start a process", try_fork, 0 },
	{ "execute a program", try_exec, 1 },
	{ "map executable memory", try_executable_memory, 0 },
	{ "make memory executable", try_make_executable, 0 },
	{ "signal its parent", try_kill_parent, 0 },
	{ "make a device node", try_device, 1 },
	{ "change its root again", try_chroot, 1 },
	{ "mount something", try_mount, 1 },
};

static int run_attempt(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct attempt *a = ctx;
	(void)input;
	(void)err;
	*(int *)result = a->run(root);
	return 0;
}

struct fixture {
	struct scratch s;
	int input;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	scratch_make(&f->s);
	if (mkdirat(f->s.top, "input", 0755) < 0)
		abort();
	f->input = openat(f->s.top, "input", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	close(f->input);
	scratch_drop(&f->s);
	free(f);
	return 0;
}

static struct confine_job job_of(struct fixture *f, void *ctx, void *result, size_t n)
{
	return (struct confine_job){ .root = f->s.root,
				     .input = f->input,
				     .input_dir = true,
				     .max_file_bytes = 1 << 20,
				     .run = run_attempt,
				     .ctx = ctx,
				     .result = result,
				     .result_size = n,
				     .cancel = -1 };
}

/* A host that cannot confine does not import: nothing to test, and no other test may pass by it. */
static void skip_if_unsupported(const struct brig_err *err)
{
	const char *must = getenv("BRIG_MUST_RUN");
	if (err->code != BRIG_E_UNSUPPORTED)
		return;
	if (must && strstr(must, "userns"))
		fail_msg("%s", err->msg);
	print_message("skipped: %s\n", err->msg);
	skip();
}

static void must_not_reach_anything_from_inside(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const struct attempt *a = &attempts[i];
		struct brig_err err = BRIG_ERR_INIT;
		int result = 0;
		if (!WITH_FILTER && !a->namespaces_stop_it)
			continue;
		struct confine_job job = job_of(f, (void *)(uintptr_t)a, &result, sizeof(result));
		int rc = confine_run(&job, &err);
		skip_if_unsupported(&err);
		if (rc < 0 && err.code == BRIG_E_DENIED && strstr(err.msg, "system call"))
			continue; /* ended by the filter */
		if (rc < 0)
			fail_msg("%s: %s", a->what, err.msg);
		if (result == 0)
			fail_msg("it could %s", a->what);
	}
}

/* The control: outside, as the user who runs this, the attempts are possible. */
static void the_attempts_work_outside(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const struct attempt *a = &attempts[i];
		int status;
		/* These need root, and would change this process's host. */
		if (a->run == try_device || a->run == try_chroot || a->run == try_mount)
			continue;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			dup2(f->input, 3);
			_exit(a->run(f->s.root) == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			fail_msg("outside it could not %s either (%#x)", a->what, status);
	}
}

/* Every call that the extraction needs, so that the filter is not wrong by being too strict. */
static int run_work(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	char text[64] = "";
	(void)ctx;
	(void)err;
	int at = path_open_beneath(input, "given", O_RDONLY, 0);
	int fd = path_open_beneath(root, "made", O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (at < 0 || fd < 0 || read(at, text, sizeof(text)) != 5 || write(fd, text, 5) != 5 ||
	    fchmod(fd, 0640) < 0 || ftruncate(fd, 4) < 0 || mkdirat(root, "d", 0700) < 0 ||
	    symlinkat("made", root, "s") < 0 || linkat(root, "made", root, "h", 0) < 0 ||
	    unlinkat(root, "s", 0) < 0)
		return -1;
	/* Sorting many things makes the C library ask how much memory there is. */
	char *block = calloc(100000, 16);
	qsort(block, 100000, 16, (int (*)(const void *, const void *))strcmp);
	free(block);
	memcpy(result, text, 6);
	return 0;
}

static void the_work_of_an_import_is_possible(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	char result[6] = "";
	struct stat st;
	scratch_file(f->input, "given", "bytes");
	struct confine_job job = job_of(f, NULL, result, sizeof(result));
	job.run = run_work;
	int rc = confine_run(&job, &err);
	skip_if_unsupported(&err);
	if (rc < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(result, "bytes");
	assert_int_equal(fstatat(f->s.root, "made", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(st.st_nlink, 2);
}

static int run_fail(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	(void)root;
	(void)input;
	(void)ctx;
	memset(result, 0xff, 4);
	brig_fail(err, BRIG_E_LIMIT, ENOSPC, "entry '\x1b[31m' is bad");
	err->code = (enum brig_code)12345;
	memset(err->remedy, 'r', sizeof(err->remedy)); /* no end */
	return -1;
}

static void what_it_reports_is_made_harmless(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	int result = 7;
	struct confine_job job = job_of(f, NULL, &result, sizeof(result));
	job.run = run_fail;
	assert_int_equal(confine_run(&job, &err), -1);
	skip_if_unsupported(&err);
	assert_int_equal(err.code, BRIG_E_INTERNAL);
	assert_string_equal(err.msg, "entry '?[31m' is bad: No space left on device");
	assert_true(strnlen(err.remedy, sizeof(err.remedy)) < sizeof(err.remedy));
	assert_int_equal(result, 7);
}

static int run_hang(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	(void)root;
	(void)input;
	(void)ctx;
	(void)result;
	(void)err;
	close(4); /* the pipe of its answer: looks like its end, but is not */
	for (volatile int go = 1; go;)
		getpid();
	return 0;
}

static void one_that_closes_its_pipe_and_stays_is_ended(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	int result = 0;
	struct confine_job job = job_of(f, NULL, &result, sizeof(result));
	job.run = run_hang;
	assert_int_equal(confine_run(&job, &err), -1);
	skip_if_unsupported(&err);
	assert_non_null(strstr(err.msg, "killed by signal 9"));
}

static int run_loop(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	(void)root;
	(void)input;
	(void)ctx;
	(void)result;
	(void)err;
	for (volatile int go = 1; go;)
		getpid();
	return 0;
}

static void it_can_be_cancelled(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	int result = 0, wake[2];
	assert_int_equal(pipe2(wake, O_CLOEXEC), 0);
	assert_int_equal(write(wake[1], "x", 1), 1);
	struct confine_job job = job_of(f, NULL, &result, sizeof(result));
	job.run = run_loop;
	job.cancel = wake[0];
	assert_int_equal(confine_run(&job, &err), -1);
	assert_string_equal(err.msg, "interrupted");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	close(wake[0]);
	close(wake[1]);
}

static int run_big_file(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	(void)input;
	(void)ctx;
	(void)err;
	int fd = path_open_beneath(root, "big", O_WRONLY | O_CREAT, 0600);
	*(int *)result = ftruncate(fd, 2 << 20) < 0 ? errno : 0;
	return 0;
}

static void no_file_grows_beyond_the_limit(void **state)
{
	struct fixture *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	int result = 0;
	struct confine_job job = job_of(f, NULL, &result, sizeof(result));
	job.run = run_big_file;
	int rc = confine_run(&job, &err);
	skip_if_unsupported(&err);
	assert_int_equal(rc, 0);
	assert_int_equal(result, EFBIG);
	job.max_file_bytes = 4 << 20;
	assert_int_equal(confine_run(&job, &err), 0);
	assert_int_equal(result, 0);
}

int main(void)
{
#define FIXED(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		FIXED(must_not_reach_anything_from_inside),
		FIXED(the_attempts_work_outside),
		FIXED(the_work_of_an_import_is_possible),
		FIXED(what_it_reports_is_made_harmless),
		FIXED(one_that_closes_its_pipe_and_stays_is_ended),
		FIXED(it_can_be_cancelled),
		FIXED(no_file_grows_beyond_the_limit),
	};
	return cmocka_run_group_tests_name("image confinement", tests, NULL, NULL);
}
