/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: brig-jaild measures, for only it may; brigd turns its numbers into JSON and adds the
 * one thing that it knows better, the image's name. brig-api adds whose it is and when, and signs. A
 * sandbox that is not what was specified any more is destroyed by jaild; here its commands and clients are
 * told why.
 */
#include "daemon/receipt.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/failpoint.h"
#include "daemon/note.h"
#include "daemon/sandbox.h"

static const char *const ns_names[JAIL_NS__N] = {
#define X(name) #name,
	JAIL_NAMESPACES(X)
#undef X
};

static json_t *hex(uint64_t v)
{
	char text[24];
	snprintf(text, sizeof(text), "%016" PRIx64, v);
	return json_string(text);
}

/* 0: this host does not enforce it; the greatest: there is no limit. */
static json_t *limit(uint64_t v)
{
	return v == 0 || v > INT64_MAX ? json_null() : json_integer((json_int_t)v);
}

static json_t *namespaces(const struct jail_receipt *m)
{
	json_t *o = json_object();
	for (unsigned i = 0; i < JAIL_NS__N; i++)
		json_object_set_new(o, ns_names[i],
				    json_pack("{s:I,s:I,s:b}", "inode", (json_int_t)m->ns[i], "host",
					      (json_int_t)m->ns_host[i], "own",
					      m->ns[i] != m->ns_host[i]));
	return o;
}

static json_t *mounts(const struct jail_receipt *m)
{
	json_t *a = json_array();
	size_t len = m->mounts_len < sizeof(m->mounts) ? m->mounts_len : sizeof(m->mounts);
	for (const char *p = m->mounts, *end = p + len; p < end;) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);
		json_t *line = json_stringn(p, n);
		/* A path of a volume that is no UTF-8. */
		json_array_append_new(a, line ? line : json_string("?"));
		p += n + 1;
	}
	return a;
}

static json_t *filters(const struct jail_receipt *m)
{
	json_t *a = json_array();
	for (unsigned i = 0; i < m->filters && i < JAIL_FILTERS_MAX; i++)
		json_array_append_new(a, json_pack("{s:s,s:s}", "name", m->filter_name[i], "sha256",
						   m->filter_digest[i]));
	return a;
}

json_t *receipt_json(const struct jail_receipt *m, const char *tier, const char *image)
{
	json_t *links = json_array();
	for (unsigned i = 0; i < m->n_links && i < JAIL_LINKS_MAX; i++)
		json_array_append_new(links, json_string(m->links[i]));
	json_t *o = json_pack("{s:s,s:s,s:s}", "sandbox", m->id, "tier", tier, "kernel",
			      m->kernel);
	json_object_set_new(o, "image",
			    json_pack("{s:s,s:s?}", "name", image, "digest",
				      m->image[0] ? m->image : NULL));
	json_object_set_new(o, "namespaces", namespaces(m));
	json_object_set_new(o, "ids",
			    json_pack("{s:I,s:I,s:I,s:I}", "uid_first", (json_int_t)m->uid_first,
				      "uid_count", (json_int_t)m->uid_count, "gid_first",
				      (json_int_t)m->gid_first, "gid_count",
				      (json_int_t)m->gid_count));
	json_object_set_new(o, "capabilities",
			    json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "inheritable",
				      hex(m->cap_inherit), "permitted", hex(m->cap_permit),
				      "effective", hex(m->cap_effect), "bounding", hex(m->cap_bound),
				      "ambient", hex(m->cap_ambient), "commands", hex(m->cap_commands),
				      "commands_bounding", hex(m->cap_commands_bound)));
	json_object_set_new(o, "processes", json_integer((json_int_t)m->processes));
	json_object_set_new(o, "no_new_privs", json_boolean(m->no_new_privs));
	json_object_set_new(o, "seccomp",
			    json_pack("{s:i,s:o,s:b}", "mode", (int)m->seccomp_mode, "filters",
				      filters(m), "read_back", (int)m->filters_read));
	json_object_set_new(
		o, "cgroup",
		json_pack("{s:i,s:s,s:i,s:o,s:o,s:o,s:o,s:o}", "version", (int)m->cgroup_version,
			  "path", m->cgroup, "hierarchies", (int)m->groups, "memory_bytes",
			  limit(m->memory_bytes), "memory_swap_bytes", limit(m->memory_swap_bytes),
			  "pids", limit(m->pids), "cpu_quota_us", limit(m->cpu_quota_us),
			  "cpu_period_us", limit(m->cpu_period_us)));
	json_object_set_new(o, "disk",
			    json_pack("{s:o,s:o}", "bytes", limit(m->layer_bytes), "inodes",
				      limit(m->layer_inodes)));
	json_object_set_new(o, "mounts", mounts(m));
	json_object_set_new(o, "egress",
			    json_pack("{s:s,s:o,s:i}", "policy", m->n_links > 1 ? "gateway" : "loopback", "interfaces", links,
				      "routes", (int)m->n_routes));
	return o;
}

/* ---- the operation ---- */

void receipt_mismatch(struct sandbox *sb, const char *what)
{
	log_line(&sb->d->log, LOG_ERROR, sb->id, "%s", what);
	note_host(sb->d, "mismatch", sb->id, "failed");
}

/* The store names an image by its digest; jaild told the name by which it opened the image. */
static int image_differs(const struct sandbox *sb, const struct jail_receipt *m, struct brig_err *err)
{
	const char *want = sb->image ? sb->image->store.config.digest.text : "";
	char got[sizeof(m->image)];
	snprintf(got, sizeof(got), "%s", m->image);
	/* "sha256:HEX", as a folder "sha256-HEX". */
	char *dash = strchr(got, '-');
	if (dash)
		*dash = ':';
	if (strcmp(got, want) == 0 && !FAILPOINT_IS("mutate.image"))
		return 0;
	brig_fail(err, BRIG_E_MISMATCH, 0,
		  "sandbox '%s' is not what was specified: image: %.90s, specified %.90s", sb->id,
		  got[0] ? got : "the host's", want[0] ? want : "the host's");
	return brig_fix(err, "it was destroyed; the server's log has more");
}

static void end_text(char *s, size_t cap)
{
	s[cap - 1] = '\0';
}

static void texts_end(struct jail_receipt *m)
{
	end_text(m->id, sizeof(m->id));
	end_text(m->cgroup, sizeof(m->cgroup));
	end_text(m->kernel, sizeof(m->kernel));
	end_text(m->image, sizeof(m->image));
	for (unsigned i = 0; i < JAIL_FILTERS_MAX; i++) {
		end_text(m->filter_digest[i], sizeof(m->filter_digest[i]));
		end_text(m->filter_name[i], sizeof(m->filter_name[i]));
	}
	for (unsigned i = 0; i < JAIL_LINKS_MAX; i++)
		end_text(m->links[i], sizeof(m->links[i]));
}

static void receipt_gone(struct conn *c)
{
	struct sandbox *sb = c->op;
	if (sb)
		sb->receipt_conn = NULL;
}

static void answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	struct conn *c = sb->receipt_conn;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *o = NULL;
	sb->receipt_conn = NULL;
	sb->measuring = false;
	if (a->h.verb == JAIL_RECEIPT_IS) {
		static struct jail_receipt m;
		m = a->receipt;
		texts_end(&m);
		if (image_differs(sb, &m, &err) == 0)
			o = receipt_json(&m, sandbox_tier(sb), sb->image_name);
	} else {
		jail_error_to(a, &err);
	}
	if (c) {
		c->op = NULL;
		c->role = NULL;
		if (o)
			conn_ok_last(c, json_pack("{s:o}", "receipt", json_incref(o)));
		else
			conn_error(c, &err);
	}
	json_decref(o);
	if (err.code == BRIG_E_MISMATCH) {
		receipt_mismatch(sb, err.msg);
		sandbox_fault(sb, "%s", err.msg);
	}
	sandbox_jail_answered(sb);
}

int receipt_serve(struct conn *c, struct sandbox *sb, struct brig_err *err)
{
	static const struct conn_role role = { .gone = receipt_gone };
	struct jail_ref m = { .h = { .verb = JAIL_RECEIPT } };
	if (!sb->born || sb->measuring) {
		brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is %s", sb->id,
			  sb->born ? "being measured" : "still being made");
		return brig_fix(err, "ask again");
	}
	memcpy(m.id, sb->id, sizeof(m.id));
	if (jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, answered, sb) < 0)
		return brig_fail(err, BRIG_E_BUSY, 0, "too many requests are under way");
	sb->jail_refs++;
	sb->measuring = true;
	sb->receipt_conn = c;
	conn_set_role(c, CONN_WAIT, &role, sb);
	return 0;
}
