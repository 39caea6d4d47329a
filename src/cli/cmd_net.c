/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_net.c: `brig net`: what a living sandbox may reach, and changing it. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/conn.h"
#include "cli/netopts.h"

struct net_cmd_opts {
	struct net_opts net;
	bool only;
};

static const struct flag flags[] = {
	NET_RULE_ROWS(struct net_cmd_opts, net),
	{ .name = "only",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct net_cmd_opts, only),
	  .help = "these rules instead of those that hold, not beside them" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static void print_list(const json_t *policy, const char *key)
{
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(policy, key), i, v) printf("%s %s\n", key, json_string_value(v));
}

static void print_networks(const json_t *policy)
{
	json_t *v, *alias;
	size_t i, k;
	json_array_foreach(json_object_get(policy, "networks"), i, v)
	{
		printf("network %s", json_string_value(json_object_get(v, "name")));
		json_array_foreach(json_object_get(v, "aliases"), k, alias) printf(" %s", json_string_value(alias));
		printf("\n");
	}
}

static int print(struct cli *cli, const json_t *ok)
{
	const json_t *policy = json_object_get(ok, "network");
	if (cli->json)
		return cli_print_json(cli, ok);
	const char *mode = json_string_value(json_object_get(policy, "mode"));
	printf("net %s\n", mode ? mode : "none");
	print_list(policy, "allow");
	print_list(policy, "deny");
	print_list(policy, "grant");
	print_networks(policy);
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct net_cmd_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *network, *ok = NULL;
	(void)argc;
	if (net_opts_json(&o->net, &network, &err) < 0)
		return cli_usage_err(cli, &err);
	if (network && net_opts_known(network, &err) < 0) {
		json_decref(network);
		return cli_fail(cli, &err);
	}
	if (!network && o->only)
		return cli_usage(cli, "--only needs --net, or rules");
	json_t *req = network ? json_pack("{s:s,s:s,s:o,s:b}", "op", "network", "id", argv[0], "network",
					  network, "add", !o->only)
			      : json_pack("{s:s,s:s}", "op", "network", "id", argv[0]);
	int code = conn_call(cli, req, &ok);
	if (code == 0)
		code = print(cli, ok);
	json_decref(ok);
	return code;
}

const struct cmd cmd_net = {
	.name = "net",
	.operands = "SANDBOX",
	.summary = "show or change what a sandbox may reach",
	.about = "Without flags the policy that holds is printed. With flags it is changed: rules are added to "
		 "those that hold, or take their place with --only, and --net changes what is done where no "
		 "rule matches. When brig net returns, the change is enforced: connections that are not "
		 "allowed any more are cut.\n"
		 "\n"
		 "It stays in its private networks unless --network none has it leave them, or --only with --network "
		 "names others.\n"
		 "\n"
		 "A sandbox that was made without a network cannot get one; made with --net deny it has one "
		 "that reaches nothing yet.",
	.flags = flags,
	.opts_size = sizeof(struct net_cmd_opts),
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
