/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack.h: what the attacks of this folder share. Each is one file that tries one thing from
 * inside a sandbox, stops at the first success, and prints one line: HELD name detail     exit 0:
 * it failed, as it must BROKEN name detail   exit 1: it worked ERROR name detail    exit 2: it
 * could not be tried; neither shown nor refuted attacks.h has their table, main.c the program that
 * lists and runs them. What of the host an attack is told is in the environment (see canary()).
 */
#ifndef BRIG_ATTACK_ATTACK_H
#define BRIG_ATTACK_ATTACK_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

#include "attack/attacks.h"

/* Opens the definition of an attack, which ends with held(), broken() or untried(). */
#define ATTACK(id) void attack_##id(void)

#define N(a) (sizeof(a) / sizeof((a)[0]))

enum outcome { HELD, BROKEN, UNTRIED };

/* Prints the line and ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void attack_end(enum outcome o, const char *fmt,
								...);

#define held(...) attack_end(HELD, __VA_ARGS__)
#define broken(...) attack_end(BROKEN, __VA_ARGS__)
#define untried(...) attack_end(UNTRIED, __VA_ARGS__)

/* clang-format off: a table */
/*
 * What the runner has prepared; without it nothing could be shown.
 *     BRIG_CANARY_FILE       a file of the host, readable by all
 *     BRIG_CANARY_PORT       port of listeners on the host's loopback addresses
 *     BRIG_CANARY_ABSTRACT   name, without the NUL, of an abstract unix socket of the host that listens
 *     BRIG_CANARY_PID        a process of the host, of no other use
 *     BRIG_CANARY_LOCK       a file below the host's /usr that is locked exclusively with flock
 *     BRIG_CANARY_NS         the host's namespaces as /proc/self/ns shows them, with blanks between
 *     BRIG_CANARY_PIDS, BRIG_CANARY_MEMORY, BRIG_CANARY_DISK    what the sandbox may have of each
 *     BRIG_CANARY_HOST, BRIG_CANARY_UPTIME    the host's name, and for how many seconds it has been up
 * What must not arrive: BRIG_CANARY_LEAK, a variable of the program that starts the sandbox, and
 * descriptor 9, which is open on the host's root there.
 */
/* clang-format on */
const char *canary(const char *name);

/* The start of a file, terminated; its length or -1 with errno. */
ssize_t read_some(const char *path, char *buf, size_t cap);

/* Runs body in a child, for what may end the process; its wait status. */
int in_child(int (*body)(void));

#endif
