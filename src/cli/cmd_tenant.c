/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tenant.c: `brig tenant`: those whose keys, sandboxes and snapshots are kept apart. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "brig/policy.h"
#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/limit.h"
#include "cli/remote.h"
#include "cli/table.h"

struct tenant_opts {
	bool force;
	const char *tier_floor, *images, *network, *publish;
#define X(field, flag, kind, min, max, what) const char *field;
	BRIG_POLICY(X)
#undef X
};

static const struct number {
	const char *field, *flag;
	enum limit_kind kind;
	size_t at;
} numbers[] = {
#define X(field, flag, kind, min, max, what) \
	{ #field, flag, LIMIT_##kind, offsetof(struct tenant_opts, field) },
	BRIG_POLICY(X)
#undef X
};
#define N_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

#define ARG_BYTES "SIZE"
#define ARG_CPU "CPUS"
#define ARG_COUNT "N"
#define ARG_MS "TIME"

static const struct flag flags[] = {
	{ .name = "force",
	  .letter = 'f',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct tenant_opts, force),
	  .help = "with rm: end its sandboxes and remove its snapshots, too" },
	{ .name = "tier-floor",
	  .kind = FLAG_STR,
	  .at = offsetof(struct tenant_opts, tier_floor),
	  .arg = "TIER",
	  .help = "with set: the weakest tier that it may use: container, gvisor or microvm" },
	{ .name = "images",
	  .kind = FLAG_STR,
	  .at = offsetof(struct tenant_opts, images),
	  .arg = "LIST",
	  .help = "with set: the only images that it may use, with commas",
	  .complete = COMPLETE_IMAGE },
	{ .name = "publish",
	  .kind = FLAG_STR,
	  .at = offsetof(struct tenant_opts, publish),
	  .arg = "WHERE",
	  .help = "with set: where it may have ports of this host: none, loopback or any" },
	{ .name = "network",
	  .kind = FLAG_STR,
	  .at = offsetof(struct tenant_opts, network),
	  .arg = "CEILING",
	  .help = "with set: the most network that it may ask for: none, deny (all but what is "
		  "named) or public" },
#define X(field_, flag_, kind_, min_, max_, what_)    \
	{ .name = flag_,                              \
	  .kind = FLAG_STR,                           \
	  .at = offsetof(struct tenant_opts, field_), \
	  .arg = ARG_##kind_,                         \
	  .help = "with set: the most of " what_ },
	BRIG_POLICY(X)
#undef X
		FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* What would be another path is refused here; the server says what else a name is not. */
static int path_of(const char *name, const char *suffix, char ret[128], struct brig_err *err)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	if (n < 1 || n > 64 || name[n] || name[0] == '.') {
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is no name of a tenant", name);
		return brig_fix(err, "see `brig tenant ls`");
	}
	snprintf(ret, 128, "/v1/tenants/%s%s", name, suffix);
	return 0;
}

static int done(struct cli *cli, json_t *answer, const char *name)
{
	int code;
	if (cli->json && json_is_object(answer)) {
		code = cli_print_json(cli, answer);
	} else {
		if (!cli->json)
			printf("%s\n", name);
		code = cli_flush(cli, 0);
	}
	json_decref(answer);
	return code;
}

static int create(struct cli *cli, const char *name)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *made;
	char path[128];
	if (path_of(name, "", path, &err) < 0 ||
	    api_call("POST", "/v1/tenants", json_pack("{s:s}", "name", name), &made, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, made, name);
}

/* A list with commas; NULL for "". */
static json_t *words(const char *list)
{
	json_t *all = *list ? json_array() : json_null();
	while (*list) {
		size_t n = strcspn(list, ",");
		json_array_append_new(all, json_stringn(list, n));
		list += n + (list[n] == ',');
	}
	return all;
}

static json_t *word(const char *text)
{
	return *text ? json_string(text) : json_null();
}

/* The policy's fields that were given; an empty value unsets one. New reference. */
static int policy_of(const struct tenant_opts *o, json_t **ret, struct brig_err *err)
{
	json_t *p = json_object();
	for (unsigned i = 0; i < N_NUMBERS; i++) {
		const char *text;
		uint64_t v = 0;
		memcpy(&text, (const char *)o + numbers[i].at, sizeof(text));
		if (!text)
			continue;
		if (*text && quantity_parse(numbers[i].kind, numbers[i].flag, text, &v, err) < 0) {
			json_decref(p);
			return -1;
		}
		json_object_set_new(p, numbers[i].field,
				    *text ? json_integer((json_int_t)v) : json_null());
	}
	if (o->tier_floor)
		json_object_set_new(p, "tier_floor", word(o->tier_floor));
	if (o->network)
		json_object_set_new(p, "network", word(o->network));
	if (o->publish)
		json_object_set_new(p, "publish", word(o->publish));
	if (o->images)
		json_object_set_new(p, "images", words(o->images));
	*ret = p;
	return 0;
}

static int change(struct cli *cli, const char *name, json_t *body)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *answer;
	char path[128];
	if (path_of(name, "", path, &err) < 0) {
		json_decref(body);
		return cli_fail(cli, &err);
	}
	if (api_call("PATCH", path, body, &answer, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, answer, name);
}

static int set(struct cli *cli, const char *name, json_t *policy)
{
	bool weight = json_is_integer(json_object_get(policy, "cpu_weight"));
	if (json_object_size(policy) == 0) {
		json_decref(policy);
		return cli_usage(cli, "tenant set: what to set is missing");
	}
	int code = change(cli, name, json_pack("{s:o}", "policy", policy));
	if (code == 0 && weight)
		cli_note("the weight is kept and not applied: tenants have no control group of "
			 "their own in this version");
	return code;
}

static int rm(struct cli *cli, const char *name, bool force)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *none;
	char path[128];
	if (path_of(name, force ? "?force=true" : "", path, &err) < 0 ||
	    api_call("DELETE", path, NULL, &none, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, none, name);
}

static int inspect(struct cli *cli, const char *name)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *t;
	char path[128];
	if (path_of(name, "", path, &err) < 0 || api_call("GET", path, NULL, &t, &err) < 0)
		return cli_fail(cli, &err);
	int code = cli_print_json(cli, t);
	json_decref(t);
	return code;
}

/* "3", or "3 of 20" where there is a quota. */
static void add_use(struct table *t, const json_t *tenant, const char *key, const char *quota,
		    enum limit_kind kind)
{
	char use[LIMIT_TEXT_MAX], most[LIMIT_TEXT_MAX];
	const json_t *u = json_object_get(json_object_get(tenant, "use"), key);
	const json_t *q = json_object_get(json_object_get(tenant, "policy"), quota);
	limit_format(kind, (uint64_t)json_integer_value(u), use);
	if (!json_is_integer(q)) {
		table_add(t, use);
		return;
	}
	limit_format(kind, (uint64_t)json_integer_value(q), most);
	table_addf(t, "%s of %s", use, most);
}

static int list(struct cli *cli)
{
	static const char *const head[] = { "TENANT", "STATE", "KEYS",	    "SANDBOXES", "CPUS",
					    "MEMORY", "DISK",  "SNAPSHOTS", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *all, *v;
	size_t i;
	int code;
	if (api_call("GET", "/v1/tenants", NULL, &all, &err) < 0)
		return cli_fail(cli, &err);
	json_t *rows = json_object_get(all, "tenants");
	if (cli->json) {
		code = cli_print_json(cli, rows);
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(rows, i, v)
	{
		table_add(&t, json_string_value(json_object_get(v, "name")));
		table_add(&t,
			  json_is_true(json_object_get(v, "disabled")) ? "disabled" : "enabled");
		table_addf(&t, "%lld", (long long)json_integer_value(json_object_get(v, "keys")));
		add_use(&t, v, "sandboxes", "quota_sandboxes", LIMIT_COUNT);
		add_use(&t, v, "cpu_milli", "quota_cpu_milli", LIMIT_CPU);
		add_use(&t, v, "memory_bytes", "quota_memory_bytes", LIMIT_BYTES);
		add_use(&t, v, "disk_bytes", "quota_disk_bytes", LIMIT_BYTES);
		add_use(&t, v, "snapshots", "quota_snapshots", LIMIT_COUNT);
	}
	json_decref(all);
	if (table_print(&t) == 0)
		return cli_flush(cli, 0);
	brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
	return cli_fail(cli, &err);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct tenant_opts *o = opts;
	const char *verb = argv[0];
	struct brig_err err = BRIG_ERR_INIT;
	json_t *policy = NULL;
	bool sets = strcmp(verb, "set") == 0;
	int refused = remote_refuse(cli, "brig tenant", "run it there");
	if (refused)
		return refused;
	if (policy_of(o, &policy, &err) < 0)
		return cli_usage_err(cli, &err);
	if (sets && argc == 2 && !o->force)
		return set(cli, argv[1], policy);
	bool given = json_object_size(policy) != 0;
	json_decref(policy);
	if (given && !sets)
		return cli_usage(cli, "a policy belongs to tenant set");
	if (o->force && strcmp(verb, "rm") != 0)
		return cli_usage(cli, "--force belongs to tenant rm");
	if (strcmp(verb, "ls") == 0)
		return argc == 1 ? list(cli) : cli_usage(cli, "tenant ls takes no operands");
	if (argc != 2)
		return cli_usage(cli, "tenant %.32s takes one tenant", verb);
	if (strcmp(verb, "create") == 0)
		return create(cli, argv[1]);
	if (strcmp(verb, "inspect") == 0)
		return inspect(cli, argv[1]);
	if (strcmp(verb, "revoke") == 0 || strcmp(verb, "disable") == 0)
		return change(cli, argv[1], json_pack("{s:b}", "disabled", 1));
	if (strcmp(verb, "enable") == 0)
		return change(cli, argv[1], json_pack("{s:b}", "disabled", 0));
	if (strcmp(verb, "rm") == 0)
		return rm(cli, argv[1], o->force);
	return cli_usage(
		cli,
		"tenant '%.32s': only create, ls, inspect, set, revoke, enable and rm are known",
		verb);
}

const struct cmd cmd_tenant = {
	.name = "tenant",
	.operands =
		"create NAME | ls | inspect NAME | set NAME | revoke NAME | enable NAME | rm NAME",
	.summary = "make, bound, disable and remove tenants of the server",
	.about = "Keys, sandboxes, snapshots and tags belong to a tenant, and no key sees those of "
		 "another. The tenant default always exists.\n\n"
		 "set changes what a tenant may ask for (--max-.., --tier-floor, --images, "
		"--network) and have at a time (--quota-..); what is not set is not bounded, and an "
		"empty value unsets. It holds for what is asked for from then on.\n\n"
		"revoke (or disable) makes all keys of a tenant useless until enable; what runs "
		 "goes "
		 "on to its end. rm removes the tenant with its keys and tags; it must have no "
		 "sandbox and no snapshot, or --force removes them first.",
	.flags = flags,
	.opts_size = sizeof(struct tenant_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
