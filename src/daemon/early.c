/* SPDX-License-Identifier: Apache-2.0 */
/*
 * early.c: what a private server can do for its only request before brig-jaild has said what this host
 * offers: find the image and name it to brig-jaild, which then opens it while it waits for the
 * namespaces. Without the host's facts no request is judged; so this only looks, and whatever it
 * cannot make sense of is found and told when the request is read in earnest.
 */
#include <jansson.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/frame.h"
#include "brig/client_proto.h"
#include "daemon/daemon.h"

/* A request that is longer, or came in parts, is not looked at. */
#define EARLY_MAX 16384u

void brigd_look_ahead(struct brigd *d, int fd)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_err none = BRIG_ERR_INIT;
	struct image *img;
	struct frame f;
	json_error_t je;
	uint8_t *at;
	if (buf_reserve(&b, EARLY_MAX, &at) < 0)
		return;
	ssize_t n = recv(fd, at, EARLY_MAX, MSG_PEEK | MSG_DONTWAIT);
	buf_commit(&b, n > 0 ? (size_t)n : 0);
	json_t *req = frame_peek(&b, &f) == 1 && f.h.type == BRIG_CL_REQ
			      ? json_loadb((const char *)f.payload, f.h.len, JSON_REJECT_DUPLICATES, &je)
			      : NULL;
	json_t *spec = json_object_get(req, "spec");
	/* The idle time of an image is longer than anything that is still to come. */
	if (json_is_object(spec) &&
	    images_get(&d->images, json_string_value(json_object_get(spec, "image")), &img, &none) == 0)
		image_unref(img);
	json_decref(req);
	buf_done(&b);
}
