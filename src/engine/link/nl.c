/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/link/nl.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fd.h"

/* The kernel answers inside of sendmsg(); this is for a kernel that is broken. */
#define WAIT_S 5

int nl_open(int family)
{
	AUTO_FD fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
	struct sockaddr_nl me = { .nl_family = AF_NETLINK };
	struct timeval wait = { .tv_sec = WAIT_S };
	int room = 256 * 1024, one = 1;
	if (fd < 0 || bind(fd, (struct sockaddr *)&me, sizeof(me)) < 0)
		return -errno;
	/* Acknowledgements that repeat the request would not fit for a batch of rules. */
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	return fd_steal(&fd);
}

void nl_reset(struct nl *m)
{
	m->n = m->at = 0;
	m->expects = 0;
	m->full = 0;
}

static void *room(struct nl *m, size_t n)
{
	if (m->full || n > NL_SIZE - 8 - m->n) {
		m->full = 1;
		return NULL;
	}
	void *p = m->buf + m->n;
	size_t padded = NLMSG_ALIGN(n);
	memset(p, 0, padded);
	m->n += padded;
	return p;
}

/* The request that is being written has grown. */
static void grown(struct nl *m)
{
	struct nlmsghdr h;
	memcpy(&h, m->buf + m->at, sizeof(h));
	h.nlmsg_len = (uint32_t)(m->n - m->at);
	memcpy(m->buf + m->at, &h, sizeof(h));
}

void nl_request(struct nl *m, uint16_t type, uint16_t flags, const void *head, size_t n)
{
	struct nlmsghdr h = { .nlmsg_type = type,
			      .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST),
			      .nlmsg_seq = ++m->seq };
	size_t at = m->n;
	uint8_t *p = room(m, sizeof(h) + n);
	if (!p)
		return;
	m->at = at;
	memcpy(p, &h, sizeof(h));
	memcpy(p + sizeof(h), head, n);
	m->expects += (flags & NLM_F_ACK) != 0;
	grown(m);
}

void nl_attr(struct nl *m, uint16_t type, const void *data, size_t n)
{
	struct nlattr a = { .nla_len = (uint16_t)(sizeof(a) + n), .nla_type = type };
	uint8_t *p = room(m, sizeof(a) + n);
	if (!p)
		return;
	memcpy(p, &a, sizeof(a));
	if (n)
		memcpy(p + sizeof(a), data, n);
	grown(m);
}

void nl_attr_str(struct nl *m, uint16_t type, const char *s)
{
	nl_attr(m, type, s, strlen(s) + 1);
}

void nl_attr_u32(struct nl *m, uint16_t type, uint32_t v)
{
	nl_attr(m, type, &v, sizeof(v));
}

void nl_attr_be32(struct nl *m, uint16_t type, uint32_t v)
{
	nl_attr_u32(m, type, htonl(v));
}

void nl_attr_be64(struct nl *m, uint16_t type, uint64_t v)
{
	v = htobe64(v);
	nl_attr(m, type, &v, sizeof(v));
}

size_t nl_nest(struct nl *m, uint16_t type)
{
	size_t at = m->n;
	nl_attr(m, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
	return at;
}

void nl_end(struct nl *m, size_t nest)
{
	struct nlattr a;
	if (m->full)
		return;
	memcpy(&a, m->buf + nest, sizeof(a));
	a.nla_len = (uint16_t)(m->n - nest);
	memcpy(m->buf + nest, &a, sizeof(a));
	grown(m);
}

void nl_bytes(struct nl *m, const void *data, size_t n)
{
	uint8_t *p = room(m, n);
	if (!p)
		return;
	memcpy(p, data, n);
	grown(m);
}

struct waiting {
	uint32_t first; /* sequence number of the first request */
	unsigned expects, *which;
	void *reply;
	size_t *reply_n, reply_cap;
	int error;
};

static void one_answer(struct waiting *w, const struct nlmsghdr *h, const uint8_t *body)
{
	struct nlmsgerr e;
	if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_len >= NLMSG_HDRLEN + sizeof(e.error)) {
		memcpy(&e.error, body, sizeof(e.error));
		w->expects -= w->expects > 0;
		if (e.error && !w->error) {
			w->error = e.error;
			if (w->which)
				*w->which = h->nlmsg_seq - w->first;
		}
	} else if (w->reply && !*w->reply_n) {
		size_t n = h->nlmsg_len - NLMSG_HDRLEN;
		n = n < w->reply_cap ? n : w->reply_cap;
		memcpy(w->reply, body, n);
		*w->reply_n = n;
	}
}

static unsigned count(const struct nl *m)
{
	unsigned n = 0;
	for (size_t at = 0; at < m->n; n++) {
		struct nlmsghdr h;
		memcpy(&h, m->buf + at, sizeof(h));
		at += NLMSG_ALIGN(h.nlmsg_len);
	}
	return n;
}

int nl_talk(int fd, struct nl *m, unsigned *ret_which, void *reply, size_t *reply_n)
{
	_Alignas(8) static uint8_t in[32768];
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct waiting w = { .first = m->seq - (m->n ? count(m) : 1) + 1,
			     .expects = m->expects,
			     .which = ret_which,
			     .reply = reply,
			     .reply_n = reply_n,
			     .reply_cap = reply_n ? *reply_n : 0 };
	if (reply_n)
		*reply_n = 0;
	if (m->full)
		return -EMSGSIZE;
	/* What an exchange that failed has left behind is not ours. */
	while (recv(fd, in, sizeof(in), MSG_DONTWAIT) > 0)
		;
	if (sendto(fd, m->buf, m->n, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	while (w.expects && !w.error) {
		ssize_t got = recv(fd, in, sizeof(in), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EPIPE;
		for (size_t at = 0; (size_t)got - at >= NLMSG_HDRLEN;) {
			struct nlmsghdr h;
			memcpy(&h, in + at, sizeof(h));
			if (h.nlmsg_len < NLMSG_HDRLEN || h.nlmsg_len > (size_t)got - at)
				break;
			one_answer(&w, &h, in + at + NLMSG_HDRLEN);
			size_t step = NLMSG_ALIGN(h.nlmsg_len);
			if (step > (size_t)got - at)
				break;
			at += step;
		}
	}
	return w.error;
}
