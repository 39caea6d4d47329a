/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/check.h"

#include <string.h>

#include "base/path.h"
#include "brig/limits.h"

static const struct {
	uint32_t verb;
	size_t size;
	unsigned fds_most;
} shapes[] = {
	{ JAIL_HELLO, sizeof(struct jail_hello), 0 },
	{ JAIL_IMAGE, sizeof(struct jail_image), 1 },
	{ JAIL_CREATE, sizeof(struct jail_spec), 2 + JAIL_VOLUMES_MAX },
	{ JAIL_STATS, sizeof(struct jail_ref), 0 },
	{ JAIL_DESTROY, sizeof(struct jail_ref), 0 },
	{ JAIL_PAUSE, sizeof(struct jail_ref), 0 },
	{ JAIL_RESUME, sizeof(struct jail_ref), 0 },
	{ JAIL_MEASURE, sizeof(struct jail_ref), 0 },
	{ JAIL_RECEIPT, sizeof(struct jail_ref), 0 },
	{ JAIL_LIST, sizeof(struct jail_list), 0 },
	{ JAIL_VOLUME, sizeof(struct jail_volume_ask), 0 },
	{ JAIL_PEER, sizeof(struct jail_peer), 0 },
};

int jail_check_message(const void *msg, size_t n, unsigned n_fd, struct brig_err *err)
{
	struct jail_hdr h;
	if (n < sizeof(h))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a message of %zu bytes", n);
	memcpy(&h, msg, sizeof(h));
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (shapes[i].verb != h.verb)
			continue;
		if (n != shapes[i].size || n_fd > shapes[i].fds_most)
			return brig_fail(err, BRIG_E_PROTOCOL, 0,
					 "verb %u with %zu bytes and %u descriptors", h.verb, n, n_fd);
		return (int)h.verb;
	}
	return brig_fail(err, BRIG_E_PROTOCOL, 0, "unknown verb %u", h.verb);
}

int jail_check_id(const char id[BRIG_ID_LEN + 8])
{
	for (unsigned i = 0; i < BRIG_ID_LEN; i++)
		if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9')))
			return 0;
	for (unsigned i = BRIG_ID_LEN; i < BRIG_ID_LEN + 8; i++)
		if (id[i])
			return 0;
	return 1;
}

static int ends(const char *s, size_t cap)
{
	return memchr(s, 0, cap) != NULL;
}

static int no_id(const char id[BRIG_ID_LEN + 8])
{
	for (unsigned i = 0; i < BRIG_ID_LEN + 8; i++)
		if (id[i])
			return 0;
	return 1;
}

int jail_check_volume(const struct jail_volume_ask *m, struct brig_err *err)
{
	int makes = m->op == JAIL_VOLUME_MAKE;
	if (m->op >= JAIL_VOLUME__N || m->seal > (m->op == JAIL_VOLUME_CLONE) || !jail_check_id(m->id) ||
	    !(m->op == JAIL_VOLUME_CLONE ? jail_check_id(m->from) : no_id(m->from)) ||
	    (!makes && (m->bytes || m->inodes)))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "VOLUME is malformed");
	if (makes && (m->bytes < VOLUME_BYTES_MIN || m->bytes > VOLUME_BYTES_MAX ||
		      m->inodes < VOLUME_INODES_MIN || m->inodes > VOLUME_INODES_MAX))
		return brig_fail(err, BRIG_E_LIMIT, 0, "a volume of %llu bytes and %llu files is not possible",
				 (unsigned long long)m->bytes, (unsigned long long)m->inodes);
	return 0;
}

int jail_check_image(const struct jail_image *m, const struct jail_facts *f, unsigned n_fd,
		     struct brig_err *err)
{
	if (m->id == 0 || m->id >= JAIL_IMAGES_MAX || m->drop > 1 || (n_fd == 0) != (m->drop == 1))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "IMAGE %u is malformed", m->id);
	if (!m->drop && f->image[m->id])
		return brig_fail(err, BRIG_E_EXISTS, 0, "image %u is known already", m->id);
	if (m->drop && !f->image[m->id])
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "image %u is not known", m->id);
	return 0;
}

/* What a sandbox needs and the operator did not accept to lose. */
static int check_enforced(const struct jail_spec *p, const struct jail_facts *f, struct brig_err *err)
{
	static const struct {
		uint32_t bit;
		const char *name, *lost;
	} what[] = {
#define X(bit, name, lost) { 1u << bit, #name, lost },
		BRIG_ENFORCE(X)
#undef X
	};
	uint32_t missing = ~f->enforced & ~p->accept & ~(uint32_t)JAIL_ENF_OPTIONAL;
	for (unsigned i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		if (missing & what[i].bit) {
			brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this host cannot enforce: %s",
				  what[i].lost);
			return brig_fix(err, "run `brig doctor`, or accept it: --accept %s",
					what[i].name);
		}
	return 0;
}

static int check_texts(const struct jail_spec *p, struct brig_err *err)
{
	static const char host_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789-.";
	if (!jail_check_id(p->id) || !ends(p->hostname, sizeof(p->hostname)) ||
	    !ends(p->home, sizeof(p->home)) || p->nvolumes > JAIL_VOLUMES_MAX || p->keep > 1)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE is malformed");
	size_t n = strspn(p->hostname, host_chars);
	if (n == 0 || p->hostname[n])
		return brig_fail(err, BRIG_E_INVALID, 0, "the host name has other characters than "
							 "letters, digits, '-' and '.'");
	if (p->home[0] && (!path_is_clean(p->home, sizeof(p->home)) || !p->home[1]))
		return brig_fail(err, BRIG_E_INVALID, 0, "home '%s' is no clean absolute path below /",
				 p->home);
	for (unsigned i = 0; i < p->nvolumes; i++) {
		/* Only what is written can lie in a volume at the root, and only in one of the store. */
		int root = p->volumes[i].id[0] && !p->volumes[i].readonly;
		if (root && strncmp(p->volumes[i].path, "/", 2) == 0 && p->tier != BRIG_TIER_container) {
			brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a volume at / is had by the tier container only");
			return brig_fix(err, "ask for --tier container if its boundary is enough for this code");
		}
		if (!ends(p->volumes[i].path, JAIL_PATH_MAX) ||
		    !path_is_clean(p->volumes[i].path, JAIL_PATH_MAX) || (!p->volumes[i].path[1] && !root))
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "the path of volume %u is no clean absolute path below /", i);
		if (p->volumes[i].readonly > 1 || p->volumes[i].reserved ||
		    !(no_id(p->volumes[i].id) || jail_check_id(p->volumes[i].id)))
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "volume %u of CREATE is malformed", i);
	}
	return 0;
}

unsigned jail_spec_fds(const struct jail_spec *p)
{
	unsigned n = 1 + p->keep;
	for (unsigned i = 0; i < p->nvolumes; i++)
		n += !p->volumes[i].id[0];
	return n;
}

static int beyond(struct brig_err *err, const char *what)
{
	brig_fail(err, BRIG_E_LIMIT, 0, "the %s limit is beyond this host or too small", what);
	return brig_fix(err, "`brig doctor` tells what this host has");
}

int jail_check_spec(const struct jail_spec *p, const struct jail_facts *f, struct brig_err *err)
{
	if (check_texts(p, err) < 0)
		return -1;
	if (p->image >= JAIL_IMAGES_MAX || !f->image[p->image])
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "image %u is not known", p->image);
	/* The last id of a slot stands for 65534 in rootless mode; it is kept free in both. */
	if (f->range && (p->uid >= f->ids - 1 || p->gid >= f->ids - 1)) {
		brig_fail(err, BRIG_E_LIMIT, 0, "uid %u or gid %u is beyond the %u ids of a sandbox",
			  p->uid, p->gid, f->ids);
		return brig_fix(err, "choose a user with a smaller id");
	}
	if (p->memory_bytes < 1 * MIB || p->memory_bytes > f->mem_total)
		return beyond(err, "memory");
	if (p->disk_bytes < 64 * KIB || p->disk_bytes > p->memory_bytes)
		return beyond(err, "disk");
	if (p->inodes < 16 || p->inodes > UINT32_MAX)
		return beyond(err, "inodes");
	if (p->pids < 1 || p->pids > f->pids_total)
		return beyond(err, "pids");
	if (p->cpu_milli < 1)
		return beyond(err, "cpus");
	if (p->nofile < 16 || p->nofile > f->nofile_hard)
		return beyond(err, "nofile");
	if (p->tier >= BRIG_TIER__N)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE is malformed");
	if (!(f->tiers & 1u << p->tier)) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this host does not offer tier '%s'",
			  brig_tier_name(p->tier));
		return brig_fix(err, "`brig doctor` tells what is missing");
	}
	if (p->net > 1)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE is malformed");
	if (p->net && !f->net) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this server has no gateway for networks");
		return brig_fix(err, "run `brig doctor`; its log says why, or start it without --no-net");
	}
	return check_enforced(p, f, err);
}
