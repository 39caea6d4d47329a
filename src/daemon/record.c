/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A record is written when there is something that a client was told, or is about to be: a made sandbox,
 * a started detached command, its end. Between these only words of its place change. So a command in the
 * foreground, whose sandbox nobody could ask for after its client, costs no record.
 *
 * The text may hold secrets: where it was made it is overwritten.
 */
#include "daemon/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/failpoint.h"
#include "daemon/daemon.h"
#include "daemon/exec.h"
#include "daemon/fields.h"
#include "daemon/logs.h"
#include "daemon/sandbox.h"

void record_done(struct record *r)
{
	spec_done(&r->spec);
	json_decref(r->root);
	*r = (struct record){ .root = NULL };
}

static bool id_ok(const char *id)
{
	return id && strlen(id) == BRIG_ID_LEN &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789") == BRIG_ID_LEN;
}

static int record_fields(struct record *r, struct brig_err *err)
{
	const char *tier = NULL;
	json_t *o = r->root, *spec = NULL, *cmd = json_object_get(o, "cmd"),
	       *status = json_object_get(o, "status");
	if (field_str(o, "id", BRIG_ID_LEN, &r->id, err) < 0 ||
	    field_str(o, "name", SPEC_NAME_MAX, &r->name, err) < 0 ||
	    field_str(o, "image", 128, &r->image, err) < 0 ||
	    field_str(o, "image_name", 128, &r->image_name, err) < 0 ||
	    field_str(o, "fault", 255, &r->fault, err) < 0 ||
	    field_str(o, "user", 79, &r->user, err) < 0 || field_str(o, "tier", 32, &tier, err) < 0 ||
	    field_object(o, "spec", &spec, err) < 0 || field_array(o, "warnings", &r->warnings, err) < 0 ||
	    field_u64(o, "missing", 0, UINT32_MAX, &r->missing, err) < 0 ||
	    field_u64(o, "created_ns", 0, INT64_MAX, &r->created_ns, err) < 0 ||
	    field_u64(o, "created_real_ns", 0, INT64_MAX, &r->created_real_ns, err) < 0)
		return -1;
	if (!id_ok(r->id) || !r->name || !name_valid(r->name) || !r->image || !r->image_name || !r->user || !spec ||
	    !r->warnings)
		return brig_fail(err, BRIG_E_INVALID, 0, "a field is missing or malformed");
	if (cmd && !json_is_null(cmd)) {
		if (field_strings(o, "cmd", SPEC_STRINGS_MAX, SPEC_CMD_BYTES_MAX, &r->cmd, err) < 0)
			return -1;
		if (json_array_size(r->cmd) == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "'cmd' is empty");
	}
	if (status && !json_is_null(status) && field_object(o, "status", &r->status, err) < 0)
		return -1;
	/* The descriptors of volumes came with the request and are in the sandbox by now. */
	unsigned nfds = 0;
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(spec, "volumes"), i, v) nfds += json_object_get(v, "volume") == NULL;
	if (spec_parse(spec, nfds, &r->spec, err) < 0)
		return -1;
	/* The one that serves it, whatever was asked for. */
	if (!tier || tier_parse(tier, &r->spec.tier, err) < 0 || r->spec.tier < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'tier' is missing or none");
	return 0;
}

int record_parse(const void *text, size_t n, struct record *ret, struct brig_err *err)
{
	struct record r = { .root = NULL };
	if (fields_parse(text, n, &r.root, err) < 0)
		return -1;
	if (record_fields(&r, err) < 0) {
		record_done(&r);
		return -1;
	}
	*ret = r;
	return 0;
}

/* ---- writing ---- */

static json_t *record_json(const struct sandbox *sb)
{
	const char *image = !sb->image ? "" : sb->image->id ? sb->image->store.config.digest.text : "host";
	json_t *spec = sb->spec.root ? json_incref(sb->spec.root) : json_object();
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:I,s:O,s:I,s:I,s:o,s:o,s:s,s:s}", "id", sb->id, "name", sb->name,
			 "tier", sandbox_tier(sb),
			 "image", image, "image_name", sb->image_name, "spec", spec, "missing",
			 (json_int_t)sb->missing, "warnings", sb->warnings, "created_ns",
			 (json_int_t)sb->created_ns, "created_real_ns", (json_int_t)sb->created_real_ns, "cmd",
			 sb->main_argv ? json_incref(sb->main_argv) : json_null(), "status",
			 sb->status ? json_incref(sb->status) : json_null(), "fault", sb->fault, "user",
			 sb->owner.user);
}

void record_touch(struct sandbox *sb)
{
	struct ledger_box *b = sb->kept;
	if (!b)
		return;
	__atomic_store_n(&b->flags,
			 (sb->keep ? LEDGER_KEEP : 0) | (sb->auto_rm ? LEDGER_AUTO_RM : 0) |
				 (sb->ring[0] ? LEDGER_RINGS : 0),
			 __ATOMIC_RELEASE);
	b->unpaused = sb->unpaused;
	b->frozen_ns = sb->frozen_ns;
	__atomic_store_n(&b->state, (uint32_t)sb->state, __ATOMIC_RELEASE);
}

static int record_write(struct sandbox *sb, struct ledger_box *b)
{
	char usual[4096], *text = usual;
	json_t *o = record_json(sb);
	size_t n = o ? json_dumpb(o, usual, sizeof(usual), JSON_COMPACT) : 0;
	if (n > sizeof(usual)) {
		text = malloc(n);
		n = text ? json_dumpb(o, text, n, JSON_COMPACT) : 0;
	}
	json_decref(o);
	(void)FAILPOINT("record.write");
	int r = n ? ledger_text_set(&sb->d->ledger, &b->text, text, n) : -1;
	explicit_bzero(usual, sizeof(usual));
	if (text && text != usual) {
		explicit_bzero(text, n);
		free(text);
	}
	return r;
}

void record_sandbox(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	struct exec *x;
	if (!ledger_on(&d->ledger) || sb->pool || sb->state == SB_GONE)
		return;
	struct ledger_box *b = sb->kept ? sb->kept : ledger_box_new(&d->ledger);
	if (!b || record_write(sb, b) < 0) {
		log_line(&d->log, LOG_WARN, sb->id, "there is no room for its record: it would not outlive brigd");
		if (b && !sb->kept)
			ledger_box_free(&d->ledger, b);
		return;
	}
	if (sb->kept) {
		record_touch(sb);
		return;
	}
	memcpy(b->id, sb->id, sizeof(b->id));
	sb->kept = b;
	for (int i = 0; i < 2; i++)
		if (sb->ring[i] && logring_keep(sb->ring[i], &d->ledger, &b->ring[i]) < 0)
			log_line(&d->log, LOG_WARN, sb->id, "there is no room to keep its output");
	record_touch(sb);
	ledger_commit(&b->used);
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		exec_note(x);
}

void record_drop(struct sandbox *sb)
{
	struct ledger_box *b = sb->kept;
	sb->kept = NULL;
	if (!b)
		return;
	/* The rings' pieces are theirs to give back. */
	__atomic_store_n(&b->used, 0, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++) {
		logring_free(sb->ring[i]);
		sb->ring[i] = NULL;
	}
	ledger_box_free(&sb->d->ledger, b);
}
