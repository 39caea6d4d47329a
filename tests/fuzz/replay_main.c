/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay_main.c: runs a fuzz target over a corpus without a fuzzer.
 *
 * Theory of operation
 * -------------------
 * Linked with one fuzz_<name>.c in place of libFuzzer's own main, so that every compiler and every
 * sanitizer build replays what the fuzzer once found. Every regular file below the directories (or
 * the files) of the command line is one input; a few truncations of each follow, because a cut frame
 * is the commonest hostile input there is. Each input lies at the very end of an allocation of its
 * own, so that AddressSanitizer sees a read of one byte too many. A target that crashes ends the
 * program: the input that was under way is named on standard error before it is run.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Optional in a target; libFuzzer calls it once before the first input. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

/* Larger files are no inputs that a fuzzer made. */
#define INPUT_MAX (16u << 20)

struct replay {
	unsigned long files, inputs;
	int failed;
};

/* What the crash handler prints; a handler can take no argument. */
static char current[512];

static void on_crash(int sig)
{
	static const char lead[] = "replay: crashed by ";
	/* Nothing useful can be done if standard error is gone. */
	if (write(STDERR_FILENO, lead, sizeof(lead) - 1) < 0 ||
	    write(STDERR_FILENO, current, strlen(current)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void replay_bytes(struct replay *r, const char *name, const uint8_t *data, size_t n)
{
	/* One byte at least, so that a length of zero still has a valid address. */
	uint8_t *copy = malloc(n ? n : 1);
	if (!copy) {
		fprintf(stderr, "replay: %s: out of memory\n", name);
		r->failed = 1;
		return;
	}
	if (n)
		memcpy(copy, data, n);
	snprintf(current, sizeof(current), "%s, first %zu bytes", name, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
	r->inputs++;
}

static void replay_cuts(struct replay *r, const char *name, const uint8_t *data, size_t n)
{
	const size_t cuts[] = { 0, 1, 4, 8, n / 4, n / 2, n > 8 ? n - 8 : n, n ? n - 1 : n };
	replay_bytes(r, name, data, n);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++)
		if (cuts[i] < n)
			replay_bytes(r, name, data, cuts[i]);
}

static int file_read(int fd, size_t size, uint8_t *ret)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, ret + at, size - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (size_t)n;
	}
	return 0;
}

static void replay_file(struct replay *r, int fd, const char *name, const struct stat *st)
{
	size_t size = (size_t)st->st_size;
	if (st->st_size < 0 || size > INPUT_MAX) {
		fprintf(stderr, "replay: %s: larger than %u bytes\n", name, INPUT_MAX);
		r->failed = 1;
		return;
	}
	uint8_t *data = malloc(size ? size : 1);
	int e = data ? file_read(fd, size, data) : -ENOMEM;
	if (e < 0) {
		fprintf(stderr, "replay: %s: %s\n", name, strerror(-e));
		r->failed = 1;
	} else {
		r->files++;
		replay_cuts(r, name, data, size);
	}
	free(data);
}

static void replay_path(struct replay *r, int at, const char *entry, const char *name);

static void replay_dir(struct replay *r, int fd, const char *name)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		fprintf(stderr, "replay: %s: %s\n", name, strerror(errno));
		r->failed = 1;
		close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		char path[4096];
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", name, e->d_name);
		replay_path(r, dirfd(d), e->d_name, path);
	}
	closedir(d);
}

static void replay_path(struct replay *r, int at, const char *entry, const char *name)
{
	struct stat st;
	/* Nonblocking: a FIFO that strayed into a corpus must not hang the tests. */
	int fd = openat(at, entry, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "replay: %s: %s\n", name, strerror(errno));
		r->failed = 1;
	} else if (S_ISDIR(st.st_mode)) {
		replay_dir(r, fd, name); /* closes it */
		return;
	} else if (S_ISREG(st.st_mode)) {
		replay_file(r, fd, name, &st);
	}
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct replay r = { 0 };
	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
		return 2;
	}
	if (LLVMFuzzerInitialize && LLVMFuzzerInitialize(&argc, &argv) != 0)
		return 1;
	signal(SIGABRT, on_crash);
	/* AddressSanitizer reports these better than we can. */
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	for (size_t i = 0; !WITH_ASAN && i < sizeof(faults) / sizeof(faults[0]); i++)
		signal(faults[i], on_crash);
	for (int i = 1; i < argc; i++)
		replay_path(&r, AT_FDCWD, argv[i], argv[i]);
	printf("replay: %lu files, %lu inputs\n", r.files, r.inputs);
	if (r.files == 0) {
		fprintf(stderr, "replay: the corpus is empty\n");
		return 1;
	}
	return r.failed;
}
