/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: brig-image, the program behind `brig image`.
 *
 * Theory of operation
 * -------------------
 * Runs as the owner of an image store: root for the one of the machine, any user for his own. It is
 * a program apart from brigd because it is the only one that needs archive and hash libraries and
 * the right to write the store, and it needs them for seconds a week. brigd reads the store with
 * store.c.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "image/cli.h"
#include "image/name.h"

/* Help texts keep to the 80 columns of a terminal. */
const struct cli_command image_commands[] = {
	{ "build", "-f FILE [CONTEXT]|KIND", "make an image of a build file, or of packages",
	  "Makes an image of a build file, a part of the language of Dockerfiles (see\n"
	  "docs/images.md): every RUN happens in a sandbox, COPY takes files of the folder\n"
	  "CONTEXT (default: the current one). Or makes one of brig's own from Debian\n"
	  "packages, with a user `user` (uid 1000) who may use sudo: `base`, the default\n"
	  "image, or `code-interpreter`, which has numpy, pandas, matplotlib and typescript\n"
	  "besides; that needs mmdebstrap and a package mirror. An image that has the name\n"
	  "already is replaced at the end.",
	  "  -f, --file FILE          the build file; - is stdin\n"
	  "  -t, --name NAME          its name (default: none, or base, code-interpreter-v1)\n"
	  "      --build-arg N=VALUE  sets an ARG; may be repeated\n"
	  "      --no-cache           run every RUN, whatever was run before\n"
	  "      --max-size BYTES     refuse more in all files (default: 16g)\n"
	  "      --net, --allow, --deny, --memory, --disk, --inodes, --cpus, --pids,\n"
	  "      --timeout, --tier    of the sandboxes of RUN, as of brig create (default: no\n"
	  "                           network, 2g of memory, 1g of disk)\n"
	  "      --suite SUITE        the Debian release (default: the host's own)\n",
	  cmd_build },
	{ "import", "NAME SOURCE", "store an archive, a directory or a layout as an image",
	  "Stores a file system tree as an image: a tar archive (plain, gzip, bzip2, xz,\n"
	  "zstd), a directory, or an archive on stdin (-). An archive that holds an image\n"
	  "of layers, as docker save or OCI tools write it, becomes that image. SOURCE may\n"
	  "say what it is: oci:DIR[:TAG] an OCI image layout, docker-archive:FILE[:TAG],\n"
	  "tar:FILE a tree, whatever it looks like. Device nodes are left out; setuid\n"
	  "bits, extended attributes and file capabilities are dropped: they have no\n"
	  "effect in a sandbox.",
	  "      --user USER          who commands run as: NAME, UID or UID:GID\n"
	  "                           (default: what the image says, or root)\n"
	  "      --env NAME=VALUE     a variable for every command; may be repeated\n"
	  "      --workdir DIR        where commands start (default: likewise, or /)\n"
	  "      --max-size BYTES     refuse more in all files (default: 16g)\n"
	  "      --max-entries N      refuse more names (default: 2000000)\n"
	  "      --max-ratio N        refuse what unpacks to more than N times its size\n"
	  "                           (default: 250)\n"
	  "      --cross-filesystems  of a directory, also what is mounted in it\n",
	  cmd_import },
	{ "pull", "HOST/NAME[:TAG]", "fetch an image from a registry",
	  "Fetches an image from a registry (OCI distribution, HTTPS) and stores it like\n"
	  "import does, verifying every digest. A name without a host is looked for at\n"
	  "$BRIG_REGISTRY (HOST[/PREFIX]). Who asks is $BRIG_REGISTRY_USER with\n"
	  "$BRIG_REGISTRY_PASSWORD, or nobody.",
	  "      --name NAME          its name here (default: the last part of its name,\n"
	  "                           and the tag unless that is latest)\n"
	  "      --plain-http         HTTP without TLS: whoever is on the way sees and\n"
	  "                           chooses what comes, unless @sha256:HEX is given\n"
	  "      --insecure-tls       any certificate will do; the same holds\n"
	  "      --cacert FILE        certificates to trust instead of the system's\n"
	  "      --stall-timeout N    give up after N seconds with hardly a byte (30)\n"
	  "      --max-size BYTES     refuse more, packed or unpacked (default: 16g)\n"
	  "      --max-ratio N        as of import\n",
	  cmd_pull },
	{ "ls", "", "list the images", "Lists the images.", "", cmd_ls },
	{ "rm", "NAME|DIGEST...", "remove names and images",
	  "Removes names, and with its last name the image; or an image with all its\n"
	  "names. An image that a sandbox uses stays.",
	  "", cmd_rm },
	{ "inspect", "NAME|DIGEST...", "show images and their settings",
	  "Shows images and the settings that commands start with.", "", cmd_inspect },
	{ "gc", "", "remove what interrupted imports left",
	  "Removes what interrupted imports left behind, and prints a line of JSON for\n"
	  "each thing found. Exits 1 if something in the store cannot be explained.",
	  "      --prove              remove nothing, account for all that is in the store\n",
	  cmd_gc },
	{ .name = NULL },
};

static void print_overview(FILE *out)
{
	fputs("Usage: brig image COMMAND [OPTIONS]\n\n"
	      "Images: the file systems that sandboxes start from.\n\n"
	      "Commands:\n",
	      out);
	for (const struct cli_command *c = image_commands; c->name; c++)
		fprintf(out, "  %-8s %-20s %s\n", c->name, c->args, c->summary);
	fputs("\nSee `brig image COMMAND --help`. The image `host` is built in.\n", out);
}

int main(int argc, char **argv)
{
	struct cli cli = { .cancel = -1 };
	char shown[128];
	/* A reader of our output that goes away is an error of write(), not our end. */
	signal(SIGPIPE, SIG_IGN);
	opterr = 0; /* the commands say it in brig's own form */
	if (argc < 2) {
		print_overview(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		print_overview(stdout);
		return cli_finish();
	}
	const struct cli_command *c = cli_command_find(argv[1]);
	if (c)
		return c->run(&cli, argc - 1, argv + 1);
	fprintf(stderr, "brig: image: there is no command '%s'\n",
		image_name_print(argv[1], shown, sizeof(shown)));
	fprintf(stderr, "  remedy: see `brig image --help`\n");
	return EXIT_USAGE;
}
