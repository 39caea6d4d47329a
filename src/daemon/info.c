/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/info.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/exec.h"
#include "daemon/network.h"
#include "daemon/publish.h"
#include "daemon/sandbox.h"

static const char *cgroup_name(uint32_t version)
{
	return version == 2 ? "v2" : version == 1 ? "v1" : "none";
}

json_t *info_version(const struct brigd *d)
{
	const struct jail_hello *h = &d->host;
	uint32_t all = 0;
#define X(bit, name, lost) all |= 1u << bit;
	BRIG_ENFORCE(X)
#undef X
	const struct tier_offer offer = brigd_tiers(d);
	return json_pack("{s:s,s:i,s:o,s:o,s:o,s:s,s:s,s:b,s:o,s:o,s:i,s:s}", "version", BRIG_VERSION,
			 "proto", (int)BRIG_CLIENT_PROTO_VERSION, "tiers", tier_names(&offer),
			 "refused", tier_refused(&offer), "tier_details", tier_details(&offer), "tier",
			 d->usual_tier == TIER_AUTO ? "auto" : brig_tier_name((uint32_t)d->usual_tier),
			 "cgroup",
			 cgroup_name(h->cgroup), "rootless", (int)h->rootless, "enforced",
			 enforce_json(h->enforced), "missing", enforce_json(all & ~h->enforced),
			 "pid", (int)getpid(), "instance", d->instance);
}

static json_t *opt_string(const char *s)
{
	return s && s[0] ? json_string(s) : json_null();
}

static json_t *volumes_json(const struct sandbox *sb)
{
	json_t *a = json_array();
	for (unsigned i = 0; i < sb->spec.nvolumes; i++)
		json_array_append_new(a, json_pack("{s:s,s:b,s:s*}", "guest", sb->spec.volumes[i].guest,
						   "readonly", (int)sb->spec.volumes[i].readonly, "volume",
						   sb->spec.volumes[i].id));
	return a;
}

static json_t *execs_json(const struct sandbox *sb)
{
	json_t *a = json_array();
	const struct exec *x;
	uint64_t now = clock_now();
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link)) {
		if (x->is_main)
			continue;
		json_array_append_new(a,
				      json_pack("{s:s,s:O,s:b,s:I}", "exec", x->id, "cmd",
						x->cmd.argv, "detached", (int)x->detach, "age_ms",
						(json_int_t)((now - x->asked_ns) / MS_NS)));
	}
	return a;
}

json_t *sandbox_created(const struct sandbox *sb)
{
	const char *digest = sb->image ? sb->image->store.config.digest.text : "";
	return json_pack("{s:s,s:s,s:s,s:s,s:O,s:o,s:s,s:s,s:o,s:b,s:o}", "id", sb->id, "name", sb->name,
			 "tier", sandbox_tier(sb), "image", sb->image_name, "warnings", sb->warnings,
			 "digest", opt_string(digest), "user", sb->owner.user, "home",
			 sb->owner.home, "limits", limits_json(&sb->spec.limits), "network",
			 sb->net != NULL, "ports", publish_json(sb->publish));
}

json_t *sandbox_info(const struct sandbox *sb, bool full)
{
	char created[STAMP_MAX];
	stamp_utc(sb->created_real_ns, created);
	json_t *o = json_pack(
		"{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:O*,s:o}", "id", sb->id, "name", sb->name, "tier",
		sandbox_tier(sb), "image", sb->image_name, "state", state_name(sb->rewind ? SB_CREATING : sb->state), "created",
		created, "cmd", sb->main_argv ? json_incref(sb->main_argv) : json_null(), "labels",
		sb->spec.labels, "status", sb->status ? json_incref(sb->status) : json_null());
	if (!o || !full)
		return o;
	/* Of the image that it was made of, which its name may not mean any more. */
	json_object_set_new(o, "digest", opt_string(sb->image && sb->image->id ? sb->image->store.config.digest.text : NULL));
	json_object_set_new(o, "limits", limits_json(&sb->spec.limits));
	/* The client's own entries; those of the image are the image's. */
	json_object_set_new(o, "env", sb->spec.env ? json_incref(sb->spec.env) : json_array());
	if (!sb->spec.labels)
		json_object_set_new(o, "labels", json_object());
	json_object_set_new(o, "volumes", volumes_json(sb));
	json_object_set_new(o, "execs", execs_json(sb));
	json_object_set_new(o, "user", json_string(sb->owner.user));
	json_object_set_new(o, "workdir", opt_string(sb->spec.workdir));
	json_object_set_new(o, "hostname",
			    json_string(sb->spec.hostname ? sb->spec.hostname : sb->id));
	json_object_set_new(o, "not_enforced", enforce_json(sb->missing));
	json_object_set_new(o, "network", sb->net ? json_incref(sb->net->ask.policy) : json_null());
	json_object_set_new(o, "ports", publish_json(sb->publish));
	json_object_set_new(o, "fault", opt_string(sb->fault));
	return o;
}
