/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c: a process's boundaries, read from outside; measure.h has the theory. */
#include "engine/container/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/caps.h"
#include "base/failpoint.h"
#include "base/fd.h"

/* Pages of the kernel's counters; limits are kept in whole ones. */
#define PAGE 4096u

static const char *const ns_names[JAIL_NS__N] = {
#define X(name) "ns/" #name,
	JAIL_NAMESPACES(X)
#undef X
};

static int differs(struct measure_diff *d, const char *item, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int differs(struct measure_diff *d, const char *item, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	snprintf(d->item, sizeof(d->item), "%s", item);
	vsnprintf(d->text, sizeof(d->text), fmt, ap);
	va_end(ap);
	return 1;
}

int measure_namespaces(int proc, uint64_t ret[JAIL_NS__N])
{
	/* "mnt:[4026531841]": the link tells without an inode being made for it. */
	for (unsigned i = 0; i < JAIL_NS__N; i++) {
		char text[48];
		ssize_t n = readlinkat(proc, ns_names[i], text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		const char *number = strchr(text, '[');
		ret[i] = number ? strtoull(number + 1, NULL, 10) : 0;
		if (!ret[i] && (i != JAIL_NS_time || errno != ENOENT)) /* before Linux 5.6 */
			return n < 0 ? -errno : -EPROTO;
	}
	return 0;
}

/* The number behind "\nKEY:\t" in a /proc/PID/status; -1 if there is none. */
static int field(const char *status, const char *key, int base, uint64_t *ret)
{
	const char *p = strstr(status, key);
	char *end;
	if (!p)
		return -1;
	p += strlen(key);
	*ret = strtoull(p, &end, base);
	return end == p ? -1 : 0;
}

/* CapEff and the rest stand together; a status of 64 CPUs or more has 4 KiB before them. */
static int read_status(int proc, char *text, size_t cap)
{
	ssize_t n = fd_slurp_at(proc, "status", text, cap);
	return n < 0 ? (int)n : 0;
}

/* The first line of a map, and nothing but 65534 behind it when rootless (slot.c). */
static int read_map(int proc, const char *file, uint32_t *ret_first, uint32_t *ret_count)
{
	char text[512];
	unsigned inside, outside, count, more[3];
	ssize_t r = fd_slurp_at(proc, file, text, sizeof(text));
	if (r < 0)
		return (int)r;
	int n = sscanf(text, "%u %u %u %u %u %u", &inside, &outside, &count, &more[0], &more[1],
		       &more[2]);
	*ret_first = *ret_count = 0;
	if (n == 3 && inside == 0) {
		*ret_first = outside;
		*ret_count = count;
	} else if (n == 6 && inside == 0 && more[0] == 65534 && more[1] == outside + count &&
		   more[2] == 1) {
		*ret_first = outside;
		*ret_count = count + 1;
	}
	return 0;
}

int measure_process(int proc, struct jail_receipt *m)
{
	static char status[8192]; /* not cleared each time; one thread */
	uint64_t nnp, mode, filters;
	int r = measure_namespaces(proc, m->ns);
	if (r < 0 || (r = read_status(proc, status, sizeof(status))) < 0 ||
	    (r = read_map(proc, "uid_map", &m->uid_first, &m->uid_count)) < 0 ||
	    (r = read_map(proc, "gid_map", &m->gid_first, &m->gid_count)) < 0)
		return r;
	if (field(status, "\nCapInh:\t", 16, &m->cap_inherit) < 0 ||
	    field(status, "\nCapPrm:\t", 16, &m->cap_permit) < 0 ||
	    field(status, "\nCapEff:\t", 16, &m->cap_effect) < 0 ||
	    field(status, "\nCapBnd:\t", 16, &m->cap_bound) < 0 ||
	    field(status, "\nCapAmb:\t", 16, &m->cap_ambient) < 0 ||
	    field(status, "\nNoNewPrivs:\t", 10, &nnp) < 0 ||
	    field(status, "\nSeccomp:\t", 10, &mode) < 0)
		return -EPROTO;
	m->no_new_privs = (uint32_t)nnp;
	m->seccomp_mode = (uint32_t)mode;
	/* Linux 5.9. */
	m->filters = field(status, "\nSeccomp_filters:\t", 10, &filters) < 0 ? 0 : (uint32_t)filters;
	/* Real, effective, saved and file system ids: all the first of the range. */
	const char *uid = strstr(status, "\nUid:\t"), *gid = strstr(status, "\nGid:\t");
	unsigned u[4], g[4];
	if (!uid || !gid || sscanf(uid + 6, "%u %u %u %u", &u[0], &u[1], &u[2], &u[3]) != 4 ||
	    sscanf(gid + 6, "%u %u %u %u", &g[0], &g[1], &g[2], &g[3]) != 4)
		return -EPROTO;
	for (unsigned i = 0; i < 4; i++)
		if (u[i] != m->uid_first || g[i] != m->gid_first)
			m->uid_count = 0; /* told as a map that is not right */
	ssize_t n = fd_slurp_at(proc, "cgroup", status, sizeof(status));
	if (n < 0)
		return (int)n;
	m->cgroup[0] = '\0';
	m->groups = 0;
	/* "NUMBER:CONTROLLERS:PATH", whose last part is the sandbox's id. */
	for (char *p = status, *save = NULL, *line; (line = strtok_r(p, "\n", &save)); p = NULL) {
		size_t len = strlen(line), id = strlen(m->id);
		const char *path = strchr(line, ':');
		path = path ? strchr(path + 1, ':') : NULL;
		if (!path || len < id || strcmp(line + len - id, m->id) != 0)
			continue;
		m->groups++;
		snprintf(m->cgroup, sizeof(m->cgroup), "%s", path + 1);
	}
	return 0;
}

static int compare_ns(const struct measure_want *w, const struct jail_receipt *m,
		      struct measure_diff *d)
{
	for (unsigned i = 0; i < JAIL_NS__N; i++) {
		const char *name = ns_names[i] + 3;
		if (!m->ns[i] && !w->ns_own[i] && i == JAIL_NS_time)
			continue; /* this kernel has none */
		if (!m->ns[i])
			return differs(d, "namespaces", "it has no %s namespace", name);
		if (w->ns_own[i] ? m->ns[i] != w->ns_own[i] : m->ns[i] == w->ns_host[i])
			return differs(d, "namespaces", "%s namespace %" PRIu64 ", %s %" PRIu64, name,
				       m->ns[i], w->ns_own[i] ? "specified" : "the host's own is",
				       w->ns_own[i] ? w->ns_own[i] : w->ns_host[i]);
	}
	return 0;
}

int measure_limits(const struct measure_want *w, const struct jail_receipt *m,
		   struct measure_diff *d)
{
	const struct jail_spec *p = w->spec;
	if (m->memory_bytes && m->memory_bytes != p->memory_bytes / PAGE * PAGE)
		return differs(d, "memory", "limit %" PRIu64 " bytes, specified %" PRIu64,
			       m->memory_bytes, p->memory_bytes);
	/* 0 beyond memory: no swap at all. */
	if (m->memory_swap_bytes && m->memory_bytes &&
	    m->memory_swap_bytes != m->memory_bytes + (unsigned)FAILPOINT_IS("mutate.swap"))
		return differs(d, "swap", "limit %" PRIu64 " bytes with swap, specified %" PRIu64,
			       m->memory_swap_bytes, p->memory_bytes);
	if (m->pids && m->pids != (uint64_t)w->pids + 1) /* and the agent */
		return differs(d, "pids", "limit %" PRIu64 ", specified %u and the first process",
			       m->pids, w->pids);
	if (m->cpu_period_us && m->cpu_quota_us != cgroup_quota_us(p->cpu_milli, m->cpu_period_us))
		return differs(d, "cpu", "%" PRIu64 " us of %" PRIu64 ", specified %u / 1000 CPUs",
			       m->cpu_quota_us, m->cpu_period_us, p->cpu_milli);
	return 0;
}

int measure_compare(const struct measure_want *w, const struct jail_receipt *m,
		    struct measure_diff *d)
{
	uint32_t ids = w->range ? w->ids : 1;
	if (compare_ns(w, m, d))
		return 1;
	if (m->uid_first != w->uid_first || m->uid_count != ids)
		return differs(d, "uid_map", "%u ids from %u, specified %u from %u", m->uid_count,
			       m->uid_first, ids, w->uid_first);
	if (m->gid_first != w->gid_first || m->gid_count != ids)
		return differs(d, "gid_map", "%u ids from %u, specified %u from %u", m->gid_count,
			       m->gid_first, ids, w->gid_first);
	uint64_t caps = w->may_drop && !m->cap_permit ? 0 : w->caps;
	if (m->cap_permit != caps || m->cap_effect != caps || m->cap_bound != w->caps ||
	    m->cap_inherit || m->cap_ambient)
		return differs(d, "capabilities",
			       "permitted %" PRIx64 ", effective %" PRIx64 ", bounding %" PRIx64
			       ", inheritable %" PRIx64 ", specified %" PRIx64 " and none inheritable",
			       m->cap_permit, m->cap_effect, m->cap_bound, m->cap_inherit, w->caps);
	if (m->no_new_privs != w->no_new_privs)
		return differs(d, "no_new_privs", "%u, specified %u", m->no_new_privs,
			       w->no_new_privs);
	if (m->seccomp_mode != w->seccomp_mode)
		return differs(d, "seccomp", "mode %u, specified %u", m->seccomp_mode, w->seccomp_mode);
	if (m->filters && m->filters != 1u + w->writable_volume)
		return differs(d, "seccomp", "%u filters, specified %u", m->filters,
			       1u + w->writable_volume);
	if (m->groups != w->groups)
		return differs(d, "cgroup", "it is in its group in %u hierarchies, specified %u",
			       m->groups, w->groups);
	return measure_limits(w, m, d);
}

int measure_commands(char *pids, int first, struct jail_receipt *m, struct measure_diff *d)
{
	for (char *p = pids, *save = NULL, *tok; (tok = strtok_r(p, "\n", &save)); p = NULL) {
		char path[48], status[8192];
		uint64_t inh, prm, bnd, nnp, mode;
		int pid = atoi(tok);
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
		/* One that is just ending has no part in it any more. */
		if (pid <= 0 || fd_slurp_at(AT_FDCWD, path, status, sizeof(status)) < 0 ||
		    strstr(status, "\nState:\tZ") || strstr(status, "\nState:\tX"))
			continue;
		m->processes++;
		if (field(status, "\nCapInh:\t", 16, &inh) < 0 ||
		    field(status, "\nCapPrm:\t", 16, &prm) < 0 ||
		    field(status, "\nCapBnd:\t", 16, &bnd) < 0 ||
		    field(status, "\nNoNewPrivs:\t", 10, &nnp) < 0 ||
		    field(status, "\nSeccomp:\t", 10, &mode) < 0)
			return differs(d, "commands", "the status of process %d cannot be read", pid);
		if (nnp != 1 || mode != 2)
			return differs(d, "commands",
				       "process %d has no_new_privs %" PRIu64 ", seccomp %" PRIu64, pid,
				       nnp, mode);
		if ((inh | prm | bnd) & ~(FAILPOINT_IS("mutate.commands") ? 0 : BRIG_CAPS_AGENT))
			return differs(d, "commands", "process %d has capabilities %" PRIx64, pid,
				       inh | prm | bnd);
		if (pid == first)
			continue;
		m->cap_commands |= inh | prm;
		m->cap_commands_bound |= bnd;
	}
	return 0;
}

/* Lines of a /proc/PID/net file about routes whose device, the last word (or the first), is not lo. */
static unsigned count_routes(const char *text, bool v6)
{
	unsigned n = 0;
	const char *p = text;
	if (!v6) /* a heading */
		p += strcspn(p, "\n");
	while (*p) {
		p += *p == '\n';
		size_t len = strcspn(p, "\n");
		const char *end = p + len;
		while (end > p && end[-1] == ' ')
			end--;
		bool lo = v6 ? end - p > 3 && strncmp(end - 3, " lo", 3) == 0
			     : strncmp(p, "lo\t", 3) == 0;
		if (len && !lo)
			n++;
		p += len;
	}
	return n;
}

int measure_network(int proc, int net, struct jail_receipt *m, struct measure_diff *d)
{
	char text[16384];
	m->n_links = m->n_routes = 0;
	if (fd_slurp_at(proc, "net/dev", text, sizeof(text)) < 0)
		return differs(d, "network", "its interfaces cannot be read");
	for (char *p = text, *save = NULL, *line; (line = strtok_r(p, "\n", &save)); p = NULL) {
		char *colon = strchr(line, ':');
		if (!colon || strchr(line, '|'))
			continue;
		*colon = '\0';
		line += strspn(line, " ");
		if (m->n_links < JAIL_LINKS_MAX)
			snprintf(m->links[m->n_links], sizeof(m->links[0]), "%.15s", line);
		m->n_links++;
	}
	if (fd_slurp_at(proc, "net/route", text, sizeof(text)) >= 0)
		m->n_routes += count_routes(text, false);
	/* Hosts without IPv6 have no such file. */
	if (fd_slurp_at(proc, "net/ipv6_route", text, sizeof(text)) >= 0)
		m->n_routes += count_routes(text, true);
	if (net) {
		if (m->n_links == 2 && strcmp(m->links[0], "lo") == 0 && strcmp(m->links[1], "eth0") == 0)
			return 0;
		return differs(d, "network", "%u interfaces, the first '%.15s'; specified: loopback and eth0",
			       m->n_links, m->links[0]);
	}
	if (m->n_links != 1u + (unsigned)FAILPOINT_IS("mutate.network") || strcmp(m->links[0], "lo") != 0 || m->n_routes)
		return differs(d, "network",
			       "%u interfaces, the first '%.15s', and %u routes; specified: loopback "
			       "only",
			       m->n_links, m->links[0], m->n_routes);
	return 0;
}
