/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of a command line elsewhere. The first byte of the input says what the rest is: what a
 * client sends to brig-api after the upgrade (a request's JSON up to the first byte 0xff, then
 * frames), what BRIG_URL says, or what answers brig-remote.
 *
 * Oracle: a request that is taken is one of the verbs, names no descriptor, and is taken again as
 * the same when it is written anew; a frame that is taken is one that a client may send, within the
 * bounds of its operation. A URL that is taken leads to one host without a secret, and so does what
 * it is taken for. An answer means the same however it is cut.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/remote_ask.h"
#include "base/buf.h"
#include "brig/client_proto.h"
#include "remote/greet.h"
#include "remote/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void check_frame(const struct remote_ask *a, const struct frame *f)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (remote_frame_check(a, f, &err) < 0) {
		must(err.code == BRIG_E_PROTOCOL && err.msg[0]);
		return;
	}
	must(a->frames != REMOTE_FRAMES_NONE);
	must(frame_dir(f->h.type) & FRAME_DIR_H);
	must(f->h.stream != 0 && (f->h.flags & ~BRIG_FF_EOF) == 0);
	must(a->frames == REMOTE_FRAMES_FILES || f->h.stream == BRIG_CLIENT_STREAM);
	must(f->h.type != BRIG_EXEC && f->h.type != BRIG_ATTACH && f->h.type != BRIG_FS_IMPORT &&
	     f->h.type != BRIG_TCP_CONNECT);
	must(f->h.type != BRIG_CREDIT || f->h.len == sizeof(struct brig_credit));
}

static void check_ask(const struct remote_ask *a)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct remote_ask again;
	json_t *volumes = json_object_get(json_object_get(a->req, "spec"), "volumes");
	must(json_is_object(a->req) && strcmp(remote_verb_name(a->verb), "?") != 0);
	must(!remote_makes(a) || json_is_object(json_object_get(a->req, "spec")));
	must(!remote_makes(a) || json_array_size(volumes) == 0);
	must(!a->id || a->id[0]);
	char *text = json_dumps(a->req, JSON_COMPACT);
	must(text && remote_ask_parse(text, strlen(text), &again, &err) == 0);
	must(again.verb == a->verb && again.detach == a->detach && json_equal(again.req, a->req));
	free(text);
	remote_ask_done(&again);
}

static void try_client(const uint8_t *p, size_t n)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct remote_ask a;
	struct frame f;
	const uint8_t *end = n ? memchr(p, 0xff, n) : NULL;
	size_t text = end ? (size_t)(end - p) : n;
	if (remote_ask_parse(p, text, &a, &err) < 0) {
		must(err.code != BRIG_E_OK && err.msg[0]);
		return;
	}
	check_ask(&a);
	struct buf b = BUF_INIT(1u << 20);
	if (end && buf_add(&b, end + 1, n - text - 1) == 0) {
		while (frame_peek(&b, &f) == 1) {
			check_frame(&a, &f);
			buf_consume(&b, frame_size(&f));
		}
	}
	buf_done(&b);
	remote_ask_done(&a);
}

static void try_url(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct url u, again;
	char whole[2 * URL_MAX];
	if (url_parse(text, &u, &err) < 0) {
		must(err.code == BRIG_E_INVALID && err.msg[0] && err.remedy[0]);
		return;
	}
	size_t n = strlen(u.path);
	must(u.host[0] && !strpbrk(u.host, "@/?#\\ \r\n"));
	must(n == 0 || (u.path[0] == '/' && u.path[n - 1] != '/'));
	must(strncmp(u.base, u.tls ? "https://" : "http://", u.tls ? 8 : 7) == 0);
	snprintf(whole, sizeof(whole), "%.*s%s", (int)strlen(u.base) - 1, u.base, u.path);
	if (strlen(whole) >= URL_MAX)
		return;
	must(url_parse(whole, &again, &err) == 0 && strcmp(again.host, u.host) == 0 &&
	     strcmp(again.path, u.path) == 0 && again.tls == u.tls &&
	     again.loopback == u.loopback);
	struct buf out = BUF_INIT(65536);
	must(greet_request(&out, &u, "e2b_0") == 0);
	must(memmem(buf_head(&out), buf_len(&out), "\r\n\r\n", 4) ==
	     buf_head(&out) + buf_len(&out) - 4);
	buf_done(&out);
}

/* What is left over is counted: it belongs to brig. */
static int answer(const uint8_t *p, size_t n, size_t piece, struct brig_err *err, size_t *ret_left)
{
	struct buf in = BUF_INIT(GREET_ANSWER_MAX);
	struct greet g;
	size_t at = 0;
	int r = 0;
	greet_init(&g);
	while (r == 0 && at < n) {
		size_t k = n - at < piece ? n - at : piece;
		if (buf_add(&in, p + at, k) < 0)
			break;
		at += k;
		r = greet_answer(&g, &in, false, err);
	}
	if (r == 0)
		r = greet_answer(&g, &in, true, err);
	must(r == 1 || r == -1);
	must(r == 1 || (err->code != BRIG_E_OK && err->msg[0]));
	*ret_left = r == 1 ? buf_len(&in) + (n - at) : 0;
	buf_done(&in);
	greet_done(&g);
	return r;
}

static void try_answer(const uint8_t *p, size_t n)
{
	struct brig_err whole = BRIG_ERR_INIT, cut = BRIG_ERR_INIT;
	size_t left, rest;
	int a = answer(p, n, n ? n : 1, &whole, &left), b = answer(p, n, 1, &cut, &rest);
	must(a == b && left == rest && whole.code == cut.code && strcmp(whole.msg, cut.msg) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 100000)
		return 0;
	if (data[0] % 3 == 0) {
		try_client(data + 1, size - 1);
	} else if (data[0] % 3 == 1) {
		char *text = buf_text(data + 1, size - 1);
		must(text != NULL);
		try_url(text);
		free(text);
	} else {
		try_answer(data + 1, size - 1);
	}
	return 0;
}
