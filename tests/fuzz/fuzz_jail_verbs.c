/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What brigd could send to brig-jaild. Input: one byte (number of descriptors), then the message.
 * Oracle: whatever passes the checks has only texts that end, names without a slash, paths that stay
 * below a root, and numbers within the host.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "brig/limits.h"
#include "jail/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void path_stays(const char *p, size_t cap)
{
	must(memchr(p, 0, cap) != NULL && p[0] == '/');
	must(!strstr(p, "/../") && !strstr(p, "//"));
	size_t n = strlen(p);
	must(n < 3 || strcmp(p + n - 3, "/..") != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct jail_facts facts = { .mem_total = 4 * GIB,
						 .pids_total = 32768,
						 .nofile_hard = 4096,
						 .enforced = ~0u & ~(uint32_t)JAIL_ENF_swap,
						 .range = 1,
						 .ids = 65536,
						 .image = { 1, 0, 1 } };
	struct brig_err err = BRIG_ERR_INIT;
	if (size < 1)
		return 0;
	unsigned n_fd = data[0] % 20;
	data++;
	size--;
	union {
		struct jail_spec spec;
		struct jail_image image;
		struct jail_ref ref;
		struct jail_volume_ask volume;
	} m;
	int verb = jail_check_message(data, size, n_fd, &err);
	if (verb < 0)
		return 0;
	must(size <= sizeof(m));
	memset(&m, 0, sizeof(m));
	memcpy(&m, data, size);
	if (verb == JAIL_CREATE && jail_check_spec(&m.spec, &facts, &err) == 0) {
		const struct jail_spec *p = &m.spec;
		must(strlen(p->id) == BRIG_ID_LEN && !strchr(p->id, '/'));
		must(memchr(p->hostname, 0, sizeof(p->hostname)) && !strchr(p->hostname, '/'));
		if (p->home[0])
			path_stays(p->home, sizeof(p->home));
		must(p->nvolumes <= JAIL_VOLUMES_MAX);
		for (unsigned i = 0; i < p->nvolumes; i++)
		{
			path_stays(p->volumes[i].path, JAIL_PATH_MAX);
			must(!p->volumes[i].id[0] || strlen(p->volumes[i].id) == BRIG_ID_LEN);
			must(p->volumes[i].path[1] || (p->volumes[i].id[0] && !p->volumes[i].readonly));
		}
		must(jail_spec_fds(p) <= 2 + JAIL_VOLUMES_MAX);
		must(p->memory_bytes <= facts.mem_total && p->disk_bytes <= p->memory_bytes);
		must(p->pids <= facts.pids_total && p->image < JAIL_IMAGES_MAX);
		must(p->uid < facts.ids && p->gid < facts.ids);
		must(p->accept & JAIL_ENF_swap);
	} else if (verb == JAIL_IMAGE && jail_check_image(&m.image, &facts, n_fd, &err) == 0) {
		must(m.image.id > 0 && m.image.id < JAIL_IMAGES_MAX);
	} else if (verb == JAIL_VOLUME && jail_check_volume(&m.volume, &err) == 0) {
		must(strlen(m.volume.id) == BRIG_ID_LEN && !strchr(m.volume.id, '/'));
		must(strlen(m.volume.from) == (m.volume.op == JAIL_VOLUME_CLONE ? BRIG_ID_LEN : 0));
		must(m.volume.op == JAIL_VOLUME_MAKE || (!m.volume.bytes && !m.volume.inodes));
	} else if ((verb == JAIL_DESTROY || verb == JAIL_PAUSE || verb == JAIL_RESUME) &&
		   jail_check_id(m.ref.id)) {
		must(strlen(m.ref.id) == BRIG_ID_LEN);
	}
	return 0;
}
