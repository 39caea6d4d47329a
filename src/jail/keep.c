/* SPDX-License-Identifier: Apache-2.0 */
/* keep.c: see keep.h. The half that lives; recover.c is the other. */
#include "jail/keep.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/fd.h"

int keep_on(const struct serve *j)
{
	return j->control >= 0 && !j->o->once && !j->o->rootless && j->cg.version != 0;
}

static struct keep_hdr head(uint32_t verb)
{
	return (struct keep_hdr){ verb, BRIG_KEEP_VERSION };
}

void keep_host(struct serve *j)
{
	struct keep_host m = { .h = head(KEEP_HOST) };
	int fds[KEEP_FDS_MAX] = { j->in.lock, j->slots.lock };
	unsigned n = 2;
	if (!keep_on(j))
		return;
	snprintf(m.instance, sizeof(m.instance), "%s", j->in.name);
	m.net = j->gateway.netns >= 0;
	m.six = (uint32_t)j->gateway.six;
	m.volumes = j->volumes_lock >= 0;
	if (m.net) {
		fds[n++] = j->gateway.netns;
		fds[n++] = j->gateway.packets;
	}
	if (m.volumes)
		fds[n++] = j->volumes_lock;
	int r = fd_send(j->control, &m, sizeof(m), fds, n);
	j->host_unkept = r == -EAGAIN;
	if (r < 0 && r != -EAGAIN)
		fprintf(stderr, "brig-jaild: leave word with brig serve: %s; sandboxes end with this process\n",
			strerror(-r));
}

void keep_ready(struct serve *j)
{
	const struct keep_hdr m = head(KEEP_READY);
	if (keep_on(j))
		(void)fd_send(j->control, &m, sizeof(m), NULL, 0);
}

void keep_box(struct serve *j, struct box *b)
{
	static struct keep_box m; /* what is not sent is not cleared */
	const size_t spec = offsetof(struct jail_spec, volumes) + b->spec->nvolumes * sizeof(b->spec->volumes[0]);
	const int fds[2] = { b->slot.pidfd, b->chan };
	if (!keep_on(j) || b->chan < 0 || !b->engine->adopt)
		return;
	memset(&m, 0, offsetof(struct keep_box, spec));
	m.h = head(KEEP_BOX);
	memcpy(m.id, b->id, sizeof(m.id));
	m.lease = b->slot.lease;
	m.net = (uint32_t)b->slot.net;
	m.deny_suid = (uint32_t)b->deny_suid;
	m.counts = b->slot.counts;
	memcpy(m.ns, b->ns, sizeof(m.ns));
	receipt_keep_image(j, b);
	memcpy(m.image, b->image, sizeof(m.image));
	memcpy(&m.spec, b->spec, spec);
	int r = fd_send(j->control, &m, offsetof(struct keep_box, spec) + spec, fds, 2);
	(void)FAILPOINT("jail.kept");
	j->unkept -= b->unkept;
	b->unkept = r == -EAGAIN;
	j->unkept += b->unkept;
	if (r < 0 && r != -EAGAIN)
		fprintf(stderr, "brig-jaild: leave sandbox %s with brig serve: %s; it ends with this process\n",
			b->id, strerror(-r));
}

void keep_retry(struct serve *j)
{
	if (j->host_unkept)
		keep_host(j);
	for (int i = 0; j->unkept && i < j->n_boxes; i++)
		if (j->box[i].state == BOX_LIVE && j->box[i].unkept)
			keep_box(j, &j->box[i]);
}
