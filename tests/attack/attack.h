/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack.h: what the programs of this folder share. Each is one static program without arguments
 * that tries one thing from inside a sandbox, and prints one line: HELD name detail     exit 0: it
 * failed, as it must BROKEN name detail   exit 1: it worked ERROR name detail    exit 2: it could
 * not be tried; neither shown nor refuted A line "CONTROL: outside-root" in a program says that the
 * same program, run as root outside of any sandbox, prints BROKEN and harms nothing: it stops at
 * its first success and undoes it. A line "CONTROL: none(reason)" says why there can be no such
 * run.
 *
 * What the runner prepares, on the host, and tells by these variables, inside and outside alike:
 *     BRIG_CANARY_FILES   paths, with ':' between, of files of the host that nobody inside may read
 *     BRIG_CANARY_TCP     port of a listener on the host's loopback addresses
 *     BRIG_CANARY_UNIX    abstract name, without the NUL, of a listening stream socket of the host
 *     BRIG_CANARY_SHM     key of a System V shared memory segment of the host
 *     BRIG_CANARY_LOCK    file below /usr of the host on which the runner holds an exclusive flock
 *     BRIG_CANARY_NS      the host's namespaces as /proc/self/ns names them: "pid:[4026531836]
 * net:[.." BRIG_CANARY_HOST    the host's name BRIG_CANARY_UPTIME  whole seconds since the host's
 * boot, when the sandbox was started BRIG_CANARY_VOLUME  where the runner has attached a volume,
 * with these programs; may be unset BRIG_CANARY_INIT    for a control: a sleeping process that
 * stands for the agent; 1 when unset A control also runs with descriptor 9 open on "/", and with
 * BRIG_LEAK=1 in its environment.
 */
#ifndef BRIG_ATTACK_H
#define BRIG_ATTACK_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef ATTACK
#error "define ATTACK, the name of the program, before this header"
#endif

#define N(a) (sizeof(a) / sizeof((a)[0]))

enum outcome { HELD, BROKEN, UNTRIED };

__attribute__((noreturn, format(printf, 2, 3))) static void end(enum outcome o, const char *fmt,
								...)
{
	static const char *const words[] = { "HELD", "BROKEN", "ERROR" };
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What the kernel or a tenant named must not make a second line. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	printf("%s %s %s\n", words[o], ATTACK, text);
	fflush(stdout);
	_exit((int)o);
}

#define held(...) end(HELD, __VA_ARGS__)
#define broken(...) end(BROKEN, __VA_ARGS__)
#define untried(...) end(UNTRIED, __VA_ARGS__)

/* What the runner has prepared. Without it nothing could be shown. */
static inline const char *canary(const char *name)
{
	const char *value = getenv(name);
	if (!value || !*value)
		untried("%s is not set", name);
	return value;
}

/* The start of a file, terminated; its length or -1 with errno. */
static inline ssize_t read_some(const char *path, char *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, buf, cap - 1);
	int saved = errno;
	close(fd);
	errno = saved;
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

/* Runs body in a child, for what may end the process; its wait status. */
static inline int in_child(int (*body)(void))
{
	int st;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(body());
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		untried("no child: %s", strerror(errno));
	return st;
}

#endif
