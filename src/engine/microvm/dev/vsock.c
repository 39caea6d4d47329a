/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The guest calls port `port` of CID 2 once; from then on the bytes of that connection are the bytes
 * of the channel. Any other call is reset. When either side ends, the device is done (VSOCK_ENDED)
 * and so is the VM: an agent has one channel for its life.
 *
 * Another host may take the channel over: it sends a byte that carries a descriptor (protocol.md, Attach).
 * There is no such byte on a connection of the guest, so it becomes a reset, and the guest calls again.
 * The same happens to a guest that was restored. The byte is read without room for a descriptor, so that
 * nothing enters this process.
 *
 *   guest to host  a packet's data is written from guest memory to the channel. If the channel does
 *                  not take all, the packet is held, no further one is looked at, and the guest's
 *                  credit (buf_alloc, fwd_cnt) stops it. More than its credit is a reset.
 *   host to guest  read from the channel straight into a buffer of the guest, as much as the buffer
 *                  and the guest's own credit allow. A guest that gives neither is left alone: the
 *                  channel is not polled for reading until it does.
 *   replies        wait in a short list for buffers; while it is full nothing more is taken from the
 *                  guest (5.10.6.1.1), so a guest that never gives a buffer stops itself only.
 *
 * Headers are copied before they are looked at. Counters are uint32_t and wrap, as the wire wants it.
 */
#include "engine/microvm/dev/vsock.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { Q_RX, Q_TX, Q_EVENT };
enum op { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { TYPE_STREAM = 1 };
/* Data of one packet towards the guest; Linux gives buffers of 4 KiB. */
#define RX_MAX (64u << 10)

void vsock_init(struct vsock *v, int chan, uint32_t port)
{
	*v = (struct vsock){ .chan = chan, .port = port };
}

uint32_t vsock_events(const struct vsock *v)
{
	if (v->state != VSOCK_CONNECTED)
		return 0;
	return (v->starved ? 0u : EPOLLIN) | (v->held ? EPOLLOUT : 0u);
}

static void vsock_config(void *dev, uint32_t off, void *to, size_t len)
{
	uint64_t cid = VSOCK_CID_GUEST;
	(void)dev;
	memset(to, 0, len);
	if (off < sizeof(cid))
		memcpy(to, (const uint8_t *)&cid + off, len < sizeof(cid) - off ? len : sizeof(cid) - off);
}

static void vsock_reset(void *dev)
{
	struct vsock *v = dev;
	enum vsock_state was = v->state;
	vsock_init(v, v->chan, v->port);
	if (was != VSOCK_IDLE)
		v->state = VSOCK_ENDED;
}

static struct vsock_hdr hdr_make(struct vsock *v, uint32_t guest_port, uint32_t port, enum op op)
{
	v->fwd_told = v->fwd_cnt;
	return (struct vsock_hdr){
		.src_cid = VSOCK_CID_HOST, .dst_cid = VSOCK_CID_GUEST, .src_port = port, .dst_port = guest_port,
		.type = TYPE_STREAM, .op = (uint16_t)op, .buf_alloc = VSOCK_BUF, .fwd_cnt = v->fwd_cnt,
	};
}

/* The caller made sure that there is room. */
static void reply(struct vsock *v, uint32_t guest_port, uint32_t port, enum op op)
{
	v->reply[v->nreply++] = hdr_make(v, guest_port, port, op);
}

static void end(struct vsock *v)
{
	v->state = VSOCK_ENDED;
	v->held = false;
}

void vsock_cut(struct vsock *v)
{
	if (v->state != VSOCK_CONNECTED)
		return;
	if (v->held_n) {
		v->stale = true;
		v->stale_head = v->held_head;
	}
	v->held = false;
	v->held_n = 0;
	v->peer_buf = v->peer_fwd = v->tx_cnt = v->rx_cnt = v->fwd_cnt = v->fwd_told = 0;
	v->state = VSOCK_IDLE;
	v->nreply = 0; /* of the call that is over, or the guest may ask again */
	reply(v, v->guest_port, v->port, OP_RST);
}

void vsock_save(const struct vsock *v, struct vsock_saved *to)
{
	*to = (struct vsock_saved){ .guest_port = v->guest_port, .has_call = v->state == VSOCK_CONNECTED,
				    .has_held = v->held_n || v->stale,
				    .held_head = v->stale ? v->stale_head : v->held_head };
}

void vsock_load(struct vsock *v, const struct vsock_saved *from)
{
	v->stale = from->has_held;
	v->stale_head = from->held_head;
	if (!from->has_call)
		return;
	v->guest_port = from->guest_port;
	reply(v, v->guest_port, v->port, OP_RST);
}

/* Gives waiting replies to the guest; *ret_used is set if any went. */
static int replies_send(struct vsock *v, struct vmmio *m, bool *ret_used)
{
	unsigned sent = 0;
	int r = 0;
	while (sent < v->nreply && (r = virtq_pop(&m->q[Q_RX], m->mem, &m->chain)) > 0) {
		const struct virtq_chain *c = &m->chain;
		/* Made when the reply was; what was forwarded since is news. */
		v->reply[sent].fwd_cnt = v->fwd_told = v->fwd_cnt;
		if (c->nout || iov_scatter(chain_in(c), c->nin, 0, &v->reply[sent], sizeof(v->reply[0])) !=
				       sizeof(v->reply[0]))
			return -EPROTO;
		virtq_push(&m->q[Q_RX], c->head, sizeof(v->reply[0]));
		*ret_used = true;
		sent++;
	}
	v->nreply -= sent;
	memmove(v->reply, v->reply + sent, v->nreply * sizeof(v->reply[0]));
	return r < 0 ? r : 0;
}

/* Writes what is held of a packet to the channel. 1: all is gone, 0: later. */
static int held_write(struct vsock *v)
{
	while (v->held && v->held_at < v->held_len) {
		struct iovec rest[VIRTQ_MAX];
		unsigned k = iov_cut(v->held_iov, v->held_n, v->held_at, v->held_len - v->held_at, rest);
		ssize_t n = writev(v->chan, rest, (int)k);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			end(v);
			break;
		}
		v->held_at += (size_t)n;
		v->fwd_cnt += (uint32_t)n;
	}
	return 1;
}

static void packet_done(struct vmmio *m, uint16_t head)
{
	virtq_push(&m->q[Q_TX], head, 0);
}

/* A packet of the connection, or one that wants to be it. Data is left held. */
static void packet(struct vsock *v, const struct vsock_hdr *h, size_t have)
{
	bool ours = v->state == VSOCK_CONNECTED && h->src_port == v->guest_port && h->dst_port == v->port;
	if (h->op == OP_REQUEST && v->state == VSOCK_IDLE && h->dst_port == v->port) {
		v->state = VSOCK_CONNECTED;
		v->guest_port = h->src_port;
		reply(v, v->guest_port, v->port, OP_RESPONSE);
	} else if (!ours) {
		if (h->op != OP_RST)
			reply(v, h->src_port, h->dst_port, OP_RST);
		return;
	}
	v->peer_buf = h->buf_alloc;
	v->peer_fwd = h->fwd_cnt;
	switch (h->op) {
	case OP_REQUEST:
		if (!ours)
			return; /* just answered */
		break;
	case OP_CREDIT_UPDATE: return;
	case OP_CREDIT_REQUEST: reply(v, v->guest_port, v->port, OP_CREDIT_UPDATE); return;
	case OP_RW:
		if (h->len <= have && h->len <= VSOCK_BUF - (v->rx_cnt - v->fwd_cnt)) {
			v->rx_cnt += h->len;
			v->held = true;
			v->held_at = sizeof(*h);
			v->held_len = sizeof(*h) + h->len;
			return;
		}
		break;
	default: break;
	}
	/* RST, SHUTDOWN, a second REQUEST, more data than credit, nonsense. */
	if (h->op != OP_RST)
		reply(v, v->guest_port, v->port, OP_RST);
	end(v);
}

/* Takes packets of the guest. */
static int tx_run(struct vsock *v, struct vmmio *m, bool *ret_used, unsigned *done)
{
	int r = 0;
	for (;;) {
		if (v->held && !held_write(v))
			return 0;
		if (v->held_n) {
			packet_done(m, v->held_head);
			v->held = false;
			v->held_n = 0;
			*ret_used = true;
		}
		if (*done >= VMMIO_ROUND)
			return 1;
		if (v->nreply >= VSOCK_REPLIES || (r = virtq_pop(&m->q[Q_TX], m->mem, &m->chain)) <= 0)
			return r;
		(*done)++;
		const struct virtq_chain *c = &m->chain;
		struct vsock_hdr h;
		if (c->nin || iov_gather(c->iov, c->nout, 0, &h, sizeof(h)) != sizeof(h))
			return -EPROTO;
		v->held_head = c->head;
		v->held_n = c->nout;
		memcpy(v->held_iov, c->iov, c->nout * sizeof(c->iov[0]));
		if (h.type == TYPE_STREAM && h.dst_cid == VSOCK_CID_HOST && h.src_cid == VSOCK_CID_GUEST)
			packet(v, &h, iov_bytes(c->iov, c->nout) - sizeof(h));
	}
}

/* Reads from the channel into one buffer of the guest: bytes, 0 = nothing there, -1 = it ended,
 * -EPROTO. */
static ssize_t rx_one(struct vsock *v, struct vmmio *m, size_t credit)
{
	struct iovec to[VIRTQ_MAX];
	const struct virtq_chain *c = &m->chain;
	if (c->nout || iov_bytes(chain_in(c), c->nin) <= sizeof(struct vsock_hdr))
		return -EPROTO;
	unsigned k = iov_cut(chain_in(c), c->nin, sizeof(struct vsock_hdr), credit, to);
	struct msghdr msg = { .msg_iov = to, .msg_iovlen = k };
	ssize_t n;
	do
		n = recvmsg(v->chan, &msg, 0);
	while (n < 0 && errno == EINTR);
	bool is_cut = n > 0 && (msg.msg_flags & MSG_CTRUNC);
	if (n <= 0 || is_cut) {
		virtq_unpop(&m->q[Q_RX]);
		if (is_cut)
			vsock_cut(v);
		else if (n == 0 || errno != EAGAIN)
			end(v);
		return 0;
	}
	struct vsock_hdr h = hdr_make(v, v->guest_port, v->port, OP_RW);
	h.len = (uint32_t)n;
	iov_scatter(chain_in(c), c->nin, 0, &h, sizeof(h));
	virtq_push(&m->q[Q_RX], c->head, (uint32_t)sizeof(h) + (uint32_t)n);
	v->tx_cnt += (uint32_t)n;
	return n;
}

/* Gives the guest what the channel has. */
static int rx_run(struct vsock *v, struct vmmio *m, bool *ret_used, unsigned *done)
{
	v->starved = false;
	while (v->state == VSOCK_CONNECTED && v->nreply == 0) {
		uint32_t flying = v->tx_cnt - v->peer_fwd;
		size_t credit = flying < v->peer_buf ? v->peer_buf - flying : 0;
		if (*done >= VMMIO_ROUND)
			return 1;
		int r = credit ? virtq_pop(&m->q[Q_RX], m->mem, &m->chain) : 0;
		if (r < 0)
			return r;
		if (r == 0) {
			v->starved = true;
			return 0;
		}
		ssize_t n = rx_one(v, m, credit < RX_MAX ? credit : RX_MAX);
		if (n <= 0)
			return (int)n;
		*ret_used = true;
		(*done)++;
	}
	v->starved = v->nreply > 0;
	return 0;
}

static int vsock_run(void *dev, struct vmmio *m)
{
	struct vsock *v = dev;
	bool rx_used = false, tx_used = false;
	unsigned ntx = 0, nrx = 0;
	int more_tx = 0, more_rx = 0;
	if (v->stale && m->q[Q_TX].ready) {
		packet_done(m, v->stale_head);
		v->stale = false;
		tx_used = true;
	}
	int r = replies_send(v, m, &rx_used);
	if (r == 0)
		r = more_tx = tx_run(v, m, &tx_used, &ntx);
	if (r >= 0 && v->state == VSOCK_CONNECTED && v->nreply < VSOCK_REPLIES &&
	    v->fwd_cnt - v->fwd_told >= VSOCK_BUF / 4)
		reply(v, v->guest_port, v->port, OP_CREDIT_UPDATE);
	if (r >= 0)
		r = replies_send(v, m, &rx_used);
	if (r == 0)
		r = more_rx = rx_run(v, m, &rx_used, &nrx);
	/* A cut on the way. */
	if (r == 0 && v->state == VSOCK_IDLE && v->nreply)
		r = replies_send(v, m, &rx_used);
	if (rx_used)
		vmmio_used(m, Q_RX);
	if (tx_used)
		vmmio_used(m, Q_TX);
	return r < 0 ? r : more_tx || more_rx;
}

const struct vdev_ops vsock_ops = { .device_id = 19, .nqueues = 3, .config = vsock_config,
				    .run = vsock_run, .reset = vsock_reset };
