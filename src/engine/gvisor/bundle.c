/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bundle.c: see bundle.h. Two of its texts come from a client: the host name and the paths of volumes. Both
 * were checked by jail/check.c, and are written as JSON strings whatever they hold.
 *
 * No mount that runsc makes by itself is asked for (/proc, /sys, /dev, /dev/pts). /tmp is named, because
 * runsc puts a file system in the sentry's memory over an empty one, which no limit of the disk counts.
 */
#include "engine/gvisor/bundle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/caps.h"
#include "engine/gvisor/keeper.h"

struct out {
	char *at;
	size_t cap, n; /* n may be beyond cap: it did not fit */
};

static void put(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct out *o, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(o->n < o->cap ? o->at + o->n : NULL, o->n < o->cap ? o->cap - o->n : 0, fmt, ap);
	va_end(ap);
	o->n += n > 0 ? (size_t)n : 0;
}

static void put_string(struct out *o, const char *prefix, const char *text)
{
	put(o, "\"%s", prefix);
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '"' || *p == '\\' || *p < 0x20 || *p == 0x7f)
			put(o, "\\u%04x", *p);
		else
			put(o, "%c", *p);
	}
	put(o, "\"");
}

/* Bits of BRIG_CAPS_AGENT by their names in the OCI specification. */
static const struct {
	int cap;
	const char *name;
} cap_names[] = {
	{ CAP_CHOWN, "CAP_CHOWN" },	  { CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE" },
	{ CAP_FOWNER, "CAP_FOWNER" },	  { CAP_FSETID, "CAP_FSETID" },
	{ CAP_KILL, "CAP_KILL" },	  { CAP_SETGID, "CAP_SETGID" },
	{ CAP_SETUID, "CAP_SETUID" },	  { CAP_SYS_CHROOT, "CAP_SYS_CHROOT" },
	{ CAP_SETPCAP, "CAP_SETPCAP" },
};

static void put_caps(struct out *o)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	for (unsigned s = 0; s < 3; s++) {
		const char *comma = "";
		put(o, "%s\"%s\":[", s ? "," : "", sets[s]);
		for (unsigned i = 0; i < sizeof(cap_names) / sizeof(cap_names[0]); i++) {
			if (!(BRIG_CAPS_AGENT & BRIG_CAP_BIT(cap_names[i].cap)))
				continue;
			put(o, "%s\"%s\"", comma, cap_names[i].name);
			comma = ",";
		}
		put(o, "]");
	}
}

/* from: what stands before `rest` in the name of the source. */
static void put_bind(struct out *o, const char *path, const char *from, const char *rest, int readonly)
{
	put(o, ",{\"type\":\"bind\",\"destination\":");
	put_string(o, "", path);
	put(o, ",\"source\":");
	put_string(o, from, rest);
	put(o, ",\"options\":[\"rbind\",\"%s\",\"nosuid\",\"nodev\"]}", readonly ? "ro" : "rw");
}

int bundle_write(const struct jail_spec *p, int own_tmp, char *ret, size_t cap)
{
	struct out o = { .at = ret, .cap = cap };
	put(&o, "{\"ociVersion\":\"1.0.2\",\"process\":{\"user\":{\"uid\":0,\"gid\":0},"
		"\"args\":[\"" KEEPER_AGENT "\",\"" KEEPER_AGENT_MODE "\"],\"env\":[],\"cwd\":\"/\","
		"\"noNewPrivileges\":true,\"capabilities\":{");
	put_caps(&o);
	put(&o, "},\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":%u,\"soft\":%u},"
		"{\"type\":\"RLIMIT_CORE\",\"hard\":0,\"soft\":0}]},"
		"\"root\":{\"path\":\"/r\",\"readonly\":false},\"hostname\":",
	    p->nofile, p->nofile);
	put_string(&o, "", p->hostname);
	put(&o, ",\"mounts\":[{\"type\":\"proc\",\"destination\":\"/proc\",\"source\":\"proc\"}");
	put_bind(&o, KEEPER_AGENT, "/b/agent", "", 1);
	/* A part of the writable layer, as in a container. */
	put_bind(&o, "/dev/shm", "/w/s", "", 0);
	if (own_tmp)
		put_bind(&o, "/tmp", "/r", "/tmp", 0);
	for (uint32_t i = 0; i < p->nvolumes; i++)
		put_bind(&o, p->volumes[i].path, "/r", p->volumes[i].path, p->volumes[i].readonly != 0);
	put(&o, "],\"linux\":{\"namespaces\":[{\"type\":\"pid\"},%s{\"type\":\"ipc\"},"
		"{\"type\":\"uts\"},{\"type\":\"mount\"}]}}",
	    p->net ? "" : "{\"type\":\"network\"},");
	return o.n < cap ? (int)o.n : -EOVERFLOW;
}
