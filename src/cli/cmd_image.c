/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_image.c: `brig image`: becomes brig-image, which reads its own arguments. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/spawn.h"

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	static char name[] = "brig-image";
	struct brig_err err = BRIG_ERR_INIT;
	char path[PATH_MAX];
	(void)opts;
	if (remote_wanted() && argc && argv[0][0] != '-')
		return image_remote(cli, argc, argv);
	if (spawn_find(name, path, &err) < 0)
		return cli_fail(cli, &err);
	/* For what it does in sandboxes (RUN of a build file). */
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		(void)setenv("BRIG_PROGRAM", self, 1);
	}
	char **all = calloc((size_t)argc + 2, sizeof(*all));
	if (all) {
		all[0] = name;
		memcpy(all + 1, argv, (size_t)argc * sizeof(*all));
		execv(path, all);
	}
	brig_err_set(&err, BRIG_E_UNAVAILABLE, errno, "start '%.256s'", path);
	free(all);
	return cli_fail(cli, &err);
}

const struct cmd cmd_image = {
	.name = "image",
	.operands = "build|import|pull|ls|rm|inspect|gc [ARG...]",
	.summary = "build, import, list and remove images",
	.about = "See brig image --help for its own commands and flags. Of a server "
		 "that BRIG_URL names, images are listed and inspected; what changes them is done "
		 "on its machine.",
	.max_args = -1,
	.raw = true,
	.run = run,
};
