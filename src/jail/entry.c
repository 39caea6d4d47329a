/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-jaild: the only privileged program of brig. It is started by `brig serve` or by a private
 * `brig run` with a socket to brigd, and knows three other errands: --gc, --prove and --probe. main.c
 * calls jaild_main() in the program brig-jaild; a private server is a fork of `brig` that calls it
 * (cli/spawn.c).
 */
#include "jail/entry.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "brig/tier.h"
#include "engine/container/cgroup.h"
#include "jail/gc.h"
#include "jail/instance.h"
#include "jail/probe.h"
#include "jail/rootless.h"
#include "jail/serve.h"

static const char usage[] =
	"usage: brig-jaild --broker-fd N --agent PROGRAM [--data DIR] [--cgroup DIR] [--ready N | --once]\n"
	"                  [--control-fd N [--resume]] [--net-fd N] [--tier TIER] [--guest-kernel FILE]\n"
	"       brig-jaild --gc | --prove | --probe\n"
	"Started by brig; not meant to be run by hand.\n";

static int fail(const struct brig_err *err)
{
	fprintf(stderr, "brig-jaild: %s\n", err->msg);
	if (err->remedy[0])
		fprintf(stderr, "  remedy: %s\n", err->remedy);
	return 125;
}

int jaild_main(int argc, char **argv)
{
	enum { O_BROKER = 256, O_CONTROL, O_RESUME, O_AGENT, O_DATA, O_CGROUP, O_READY, O_ONCE, O_NET, O_TIER, O_KERNEL,
	       O_GC, O_PROVE, O_PROBE };
	static const struct option options[] = {
		{ "broker-fd", 1, NULL, O_BROKER }, { "control-fd", 1, NULL, O_CONTROL },
		{ "agent", 1, NULL, O_AGENT },	    { "resume", 0, NULL, O_RESUME },
		{ "data", 1, NULL, O_DATA },	    { "cgroup", 1, NULL, O_CGROUP },
		{ "ready", 1, NULL, O_READY },	    { "once", 0, NULL, O_ONCE },
		{ "gc", 0, NULL, O_GC },	    { "prove", 0, NULL, O_PROVE },
		{ "probe", 0, NULL, O_PROBE },	    { "net-fd", 1, NULL, O_NET },
		{ "tier", 1, NULL, O_TIER },	    { "guest-kernel", 1, NULL, O_KERNEL },
		{ NULL, 0, NULL, 0 },
	};
	struct serve_options o = { .broker = -1, .control = -1, .net = -1, .tiers = ~0u, .ready = 8, .delegated = getenv("BRIG_CGROUP") };
	struct brig_err err = BRIG_ERR_INIT;
	int errand = 0, c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case O_BROKER:
			o.broker = atoi(optarg);
			break;
		case O_CONTROL:
			o.control = atoi(optarg);
			break;
		case O_RESUME:
			o.resume = 1;
			break;
		case O_AGENT:
			o.agent = optarg;
			break;
		case O_DATA:
			o.data = optarg;
			break;
		case O_CGROUP:
			o.delegated = optarg;
			break;
		case O_READY:
			o.ready = atoi(optarg);
			break;
		case O_ONCE:
			o.once = 1;
			o.ready = 1;
			break;
		case O_NET:
			o.net = atoi(optarg);
			break;
		case O_TIER: /* the one that its only request is for; of another name: it looks for all */
			o.tiers = 1u << brig_tier_by_name(optarg);
			if (o.tiers == 1u << BRIG_TIER__N)
				o.tiers = ~0u;
			break;
		case O_KERNEL:
			o.guest_kernel = optarg;
			break;
		case O_GC:
		case O_PROVE:
		case O_PROBE:
			errand = c;
			break;
		default:
			fputs(usage, stderr);
			return 2;
		}
	umask(022);
	if (o.delegated && !o.delegated[0])
		o.delegated = NULL;
	char own[512];
	if (geteuid() != 0 && !o.delegated && cgroup_own(own, sizeof(own)) == 0)
		o.delegated = own;
	if (errand == O_PROBE)
		return probe_report(o.delegated);
	if (errand)
		return gc_report(o.delegated, errand == O_PROVE) == 0 ? 0 : 1;
	if (o.broker < 3 || !o.agent || o.ready < 0 || (o.resume && o.control < 0)) {
		fputs(usage, stderr);
		return 2;
	}
	const int given[] = { o.broker, o.control, o.net };
	for (unsigned i = 0; i < 3; i++)
		if (given[i] >= 0 && fd_set_cloexec(given[i], 1) < 0) {
			fprintf(stderr, "brig-jaild: descriptor %d is not open\n", given[i]);
			return 2;
		}
	o.net_ready = o.once ? 1 : (o.ready + 1) / 2;
	unsetenv(INSTANCE_ENV_ROOTLESS);
	if (geteuid() != 0) {
		char run[256];
		int fd = instance_run_dir(run, sizeof(run), &err);
		if (fd < 0)
			return fail(&err);
		close(fd);
		/* Inside we are uid 0 and would look in root's place. */
		setenv(INSTANCE_ENV_ROOTLESS, run, 1);
		o.rootless = 1;
		if (rootless_enter(&o.sub_ids, &err) < 0)
			return fail(&err);
	}
	return serve_run(&o) ? 125 : 0;
}
