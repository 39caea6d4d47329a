/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h: a virtio socket device (virtio 1.2, section 5.10) without the host's vsock: it knows one
 * port of one peer, and what is connected there is the agent channel, a stream descriptor of ours.
 */
#ifndef BRIG_MICROVM_VSOCK_H
#define BRIG_MICROVM_VSOCK_H

#include "engine/microvm/dev/mmio.h"

#define VSOCK_CID_HOST 2u
#define VSOCK_CID_GUEST 3u
#define VSOCK_BUF (256u << 10) /* bytes that the guest may have under way towards the host */
#define VSOCK_REPLIES 32u

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_hdr) == 44, "wire");

enum vsock_state {
	VSOCK_IDLE,	 /* the guest is to call */
	VSOCK_CONNECTED, /* .. it is bridged; left by either side's end, for good, or by vsock_cut() */
	VSOCK_ENDED,	 /* the channel is over: the VM has no further use */
};

struct vsock {
	int chan;      /* nonblocking stream, not owned */
	uint32_t port; /* of the host, where the guest calls */
	enum vsock_state state;
	uint32_t guest_port;
	uint32_t peer_buf, peer_fwd;	  /* what the guest said of its own buffer */
	uint32_t tx_cnt;		  /* bytes given to the guest */
	uint32_t rx_cnt, fwd_cnt, fwd_told; /* bytes taken from it, passed on, and last told of */
	/* A packet of the guest of which the channel has not yet taken all. */
	bool held;
	uint16_t held_head;
	unsigned held_n;
	size_t held_at, held_len; /* bytes of the chain's readable part: next, end */
	struct iovec held_iov[VIRTQ_MAX];
	/* A packet of a call that is no more, to be given back unread. */
	bool stale;
	uint16_t stale_head;
	/* Packets without data that wait for a buffer of the guest. */
	struct vsock_hdr reply[VSOCK_REPLIES];
	unsigned nreply;
	bool starved; /* no buffer or no credit for data to the guest */
};
extern const struct vdev_ops vsock_ops;

void vsock_init(struct vsock *v, int chan, uint32_t port);
/* The call is over, and the guest is to call again: the other end of the channel is somebody else now. */
void vsock_cut(struct vsock *v);
/* What outlives the device: that there was a call, which is over for whoever loads it. Bytes under way are lost,
 * as with every host that takes a channel over. */
struct vsock_saved {
	uint32_t guest_port;
	uint8_t has_call, has_held;
	uint16_t held_head;
};
void vsock_save(const struct vsock *v, struct vsock_saved *to);
void vsock_load(struct vsock *v, const struct vsock_saved *from);
/* EPOLLIN and EPOLLOUT as the device waits for the channel; with the lock of its vmmio held. */
uint32_t vsock_events(const struct vsock *v);

#endif
