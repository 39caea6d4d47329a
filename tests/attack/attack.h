/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack.h: what the programs of this folder share. Each is one static program that tries one thing
 * from inside a sandbox, stops at the first success, and prints one line:
 *     HELD name detail     exit 0: it failed, as it must
 *     BROKEN name detail   exit 1: it worked
 *     ERROR name detail    exit 2: it could not be tried; neither shown nor refuted
 * The line "CONTROL: outside-root" in a program says that the same program, run as root outside of
 * any sandbox, prints BROKEN and harms nothing: it undoes what worked. "CONTROL: none(reason)" says
 * why there can be no such run. run_attacks.py runs both, and says what of the host a program is
 * told.
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
