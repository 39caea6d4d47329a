/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * /proc is read into a table; kernel threads and other sandboxes do not appear in it. What is to
 * die gets SIGKILL, and the table is read again until it shows nobody that was not killed before: a
 * process may have forked between the reading and the signal. A tenant that forks faster than this
 * is not caught here but by the end of its sandbox; the rounds are bounded.
 *
 * The agent may be an ordinary process (tests, virtual machines with another init): then it is the
 * reaper of its descendants (PR_SET_CHILD_SUBREAPER), and nobody else is ever touched.
 */
#include "agent/procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/clock.h"
#include "base/fd.h"

#define ROUNDS_MAX 64
/* Parents are followed this far up; a longer chain belongs to nobody. */
#define CHAIN_MAX 4096

struct proc {
	pid_t pid, ppid, pgid, sid;
	uint64_t start;
	bool dead, killed;
};

struct table {
	struct proc *p;
	size_t n, cap;
};

uint64_t procs_clock(void)
{
	return clock_ns(CLOCK_BOOTTIME) / (SEC_NS / (uint64_t)sysconf(_SC_CLK_TCK));
}

static bool proc_read(const char *pid, struct proc *ret)
{
	char path[32], text[1024];
	snprintf(path, sizeof(path), "/proc/%.10s/stat", pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return false;
	/* The name in parentheses may hold anything, parentheses and newlines too. */
	char *at = strrchr(text, ')'), state;
	int ppid, pgid, sid;
	unsigned long long start;
	if (!at ||
	    sscanf(at + 1,
		   " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &state, &ppid, &pgid, &sid, &start) != 5)
		return false;
	*ret = (struct proc){
		.pid = (pid_t)strtol(pid, NULL, 10),
		.ppid = ppid,
		.pgid = pgid,
		.sid = sid,
		.start = start,
		.dead = state == 'Z' || state == 'X',
	};
	return true;
}

static int by_pid(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static int table_read(struct table *t)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	*t = (struct table){ 0 };
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		struct proc p;
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || !proc_read(e->d_name, &p))
			continue;
		if (t->n == t->cap) {
			size_t cap = t->cap ? t->cap * 2 : 64;
			struct proc *mem = reallocarray(t->p, cap, sizeof(*mem));
			if (!mem)
				break; /* the rest is found in the next round */
			t->p = mem;
			t->cap = cap;
		}
		t->p[t->n++] = p;
	}
	closedir(d);
	if (t->n)
		qsort(t->p, t->n, sizeof(t->p[0]), by_pid);
	return 0;
}

static const struct proc *table_find(const struct table *t, pid_t pid)
{
	struct proc key = { .pid = pid };
	return t->n ? bsearch(&key, t->p, t->n, sizeof(key), by_pid) : NULL;
}

/* The parent, or who asked the agent for the process. */
static pid_t parent_of(const struct agent *a, const struct proc *p)
{
	for (const struct child *c = a->children; c; c = c->next)
		if (c->pid == p->pid && c->asker)
			return c->asker;
	return p->ppid;
}

static bool belongs_to(const struct agent *a, const struct table *t, const struct proc *p,
		       pid_t main)
{
	for (int i = 0; p && i < CHAIN_MAX; i++) {
		if (p->pid == main || p->sid == main || p->pgid == main)
			return true;
		p = table_find(t, parent_of(a, p));
	}
	return false;
}

static bool belongs_to_live(const struct agent *a, const struct table *t, const struct proc *p)
{
	for (const struct child *c = a->children; c; c = c->next)
		if (c->asker == 0 && belongs_to(a, t, p, c->pid))
			return true;
	return false;
}

static bool is_ours(const struct agent *a, const struct table *t, const struct proc *p)
{
	pid_t self = getpid();
	if (a->is_init)
		return p->pid != self;
	for (int i = 0; p && p->pid != self && i < CHAIN_MAX; i++) {
		if (p->ppid == self)
			return true;
		p = table_find(t, p->ppid);
	}
	return false;
}

/* What is to die: all of a command, and with `leftovers` what is nobody's and started since. */
struct sentence {
	pid_t main; /* 0 = everybody */
	bool leftovers;
	uint64_t since;
};

static bool condemned(const struct agent *a, const struct table *t, const struct proc *p,
		      const struct sentence *s)
{
	if (p->dead || p->pid == getpid() || !is_ours(a, t, p))
		return false;
	if (s->main == 0 || belongs_to(a, t, p, s->main))
		return true;
	return s->leftovers && p->start >= s->since && !belongs_to_live(a, t, p);
}

static bool execute(const struct agent *a, const struct sentence *s)
{
	struct table old = { 0 }, now;
	bool more = true;
	for (int i = 0; more && i < ROUNDS_MAX; i++) {
		if (table_read(&now) < 0)
			break;
		more = false;
		for (size_t k = 0; k < now.n; k++) {
			struct proc *p = &now.p[k];
			const struct proc *was = table_find(&old, p->pid);
			p->killed = was && was->killed && was->start == p->start;
			if (p->killed || !condemned(a, &now, p, s))
				continue;
			p->killed = kill(p->pid, SIGKILL) == 0;
			more = more || p->killed;
		}
		free(old.p);
		old = now;
	}
	free(old.p);
	return !more;
}

void procs_kill_command(struct agent *a, pid_t main)
{
	execute(a, &(struct sentence){ .main = main });
	/* Also without /proc. The main process has not been reaped: its pid is still its own. */
	kill(-main, SIGKILL);
	kill(main, SIGKILL);
}

void procs_kill_leftovers(struct agent *a, pid_t main, uint64_t since)
{
	bool alone = a->is_init;
	for (const struct child *c = a->children; c; c = c->next)
		alone = alone && c->asker != 0;
	if (alone)
		kill(-1, SIGKILL);
	else
		execute(a, &(struct sentence){ .main = main, .leftovers = true, .since = since });
}

void procs_kill_all(struct agent *a)
{
	if (a->is_init) {
		kill(-1, SIGKILL);
		return;
	}
	uint64_t deadline = clock_now() + 2 * SEC_NS;
	while (clock_now() < deadline) {
		execute(a, &(struct sentence){ .main = 0 });
		for (const struct child *c = a->children; c; c = c->next)
			kill(-c->pid, SIGKILL);
		child_reap(a);
		siginfo_t si;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 &&
		    errno == ECHILD)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}
