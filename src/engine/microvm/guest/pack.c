/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-guest-pack: makes the initial RAM disk of a microVM's guest.
 *
 *     brig-guest-pack lib/modules/VERSION brig-guest-init brig-agent OUTPUT
 *
 * Theory of operation
 * -------------------
 * Run once per kernel. The archive holds what brig-guest-init (init.c) expects: itself, brig-agent, and the
 * modules of the drivers that a guest needs, with the order in which to load them. The output appears
 * under its name when it is whole: it is written beside it and renamed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "engine/microvm/guest/cpio.h"
#include "engine/microvm/guest/modules.h"

/* The devices of dev/, and the file systems that a root is made of. */
static const char *const drivers[] = { "virtio_mmio", "virtio_blk", "virtio_rng", "virtio_balloon",
				       "vmw_vsock_virtio_transport", "overlay" };

static int program_add(struct cpio *c, const char *path, const char *name, struct brig_err *err)
{
	struct stat st;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_NOT_FOUND, errno, "open '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > (off_t)MODULE_BYTES_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is no program", path);
	AUTO_FREE uint8_t *data = malloc((size_t)st.st_size);
	if (!data)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read '%s'", path);
	ssize_t n = fd_read_full(fd, data, (size_t)st.st_size);
	if (n != st.st_size)
		return brig_fail(err, BRIG_E_CORRUPT, n < 0 ? (int)-n : EIO, "read '%s'", path);
	int r = cpio_file(c, name, 0755, data, (uint32_t)n);
	return r < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the archive") : 0;
}

static int modules_write(struct cpio *c, const struct modules *ms, struct brig_err *err)
{
	char order[MODULES_MAX * (MODULE_NAME_MAX + 4)], name[MODULE_NAME_MAX + 16];
	size_t n = 0;
	int r = 0;
	for (unsigned i = 0; r == 0 && i < ms->n; i++) {
		n += (size_t)snprintf(order + n, sizeof(order) - n, "%s.ko\n", ms->m[i].name);
		snprintf(name, sizeof(name), "modules/%s.ko", ms->m[i].name);
		r = cpio_file(c, name, 0644, ms->m[i].data, ms->m[i].len);
	}
	if (r == 0)
		r = cpio_file(c, "modules/order", 0644, order, (uint32_t)n);
	return r < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the archive") : 0;
}

static int archive_write(FILE *f, const struct modules *ms, const char *init, const char *agent,
			 struct brig_err *err)
{
	static const char *const dirs[] = { "dev", "image", "layer", "modules", "proc", "root", "sys" };
	struct cpio c = { .f = f };
	int r = 0;
	for (unsigned i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		r = cpio_dir(&c, dirs[i]);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the archive");
	if (program_add(&c, init, "init", err) < 0 || program_add(&c, agent, "agent", err) < 0 ||
	    modules_write(&c, ms, err) < 0)
		return -1;
	r = cpio_end(&c);
	if (r < 0 || fflush(f) != 0 || fsync(fileno(f)) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "write the archive");
	return 0;
}

static int pack(char **argv, struct brig_err *err)
{
	static struct modules ms;
	char fresh[4096];
	int r = 0;
	AUTO_FD dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return brig_fail(err, BRIG_E_NOT_FOUND, errno, "open '%s'", argv[1]);
	for (unsigned i = 0; r == 0 && i < sizeof(drivers) / sizeof(drivers[0]); i++)
		r = modules_add(&ms, dir, drivers[i], err);
	if (r == 0 && snprintf(fresh, sizeof(fresh), "%s.new", argv[4]) >= (int)sizeof(fresh))
		r = brig_fail(err, BRIG_E_INVALID, 0, "the name of the output is too long");
	FILE *f = r == 0 ? fopen(fresh, "we") : NULL;
	if (r == 0 && !f)
		r = brig_fail(err, BRIG_E_INVALID, errno, "make '%s'", fresh);
	if (r == 0)
		r = archive_write(f, &ms, argv[2], argv[3], err);
	if (f && fclose(f) != 0 && r == 0)
		r = brig_fail(err, BRIG_E_EXHAUSTED, errno, "write the archive");
	if (r == 0 && rename(fresh, argv[4]) < 0)
		r = brig_fail(err, BRIG_E_INVALID, errno, "name it '%s'", argv[4]);
	if (f && r < 0)
		unlink(fresh);
	modules_done(&ms);
	return r;
}

int main(int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (argc != 5) {
		fputs("usage: brig-guest-pack MODULES INIT AGENT OUTPUT\n"
		      "Makes the initial RAM disk of microVMs from a kernel's folder lib/modules/VERSION,\n"
		      "brig-guest-init and brig-agent.\n",
		      stderr);
		return 2;
	}
	if (pack(argv, &err) < 0) {
		fprintf(stderr, "brig-guest-pack: %s\n", err.msg);
		if (err.remedy[0])
			fprintf(stderr, "  remedy: %s\n", err.remedy);
		return 1;
	}
	return 0;
}
