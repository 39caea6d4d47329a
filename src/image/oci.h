/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h: what an image of others says about itself: an OCI image layout (index.json, blobs/), or what
 * `docker save` writes (manifest.json). All of it is hostile.
 *
 * Sources: OCI image specification 1.1 (image-layout.md, manifest.md, config.md), Docker image
 * specification v1.2 (manifest.json of an archive).
 */
#ifndef BRIG_IMAGE_OCI_H
#define BRIG_IMAGE_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/config.h"

#define OCI_JSON_MAX (4u << 20) /* of an index, manifest or configuration; registries say 4 MiB */
#define OCI_PATH_MAX 200
#define OCI_TAG_MAX 128

struct oci_layer {
	uint64_t size;			/* of the file, if a manifest says so */
	char path[OCI_PATH_MAX];	/* of the file, in the layout */
	char blob[IMAGE_HEX_LEN + 1];	/* what it must hash to; "" = nobody says */
	char diff[IMAGE_HEX_LEN + 1];	/* .. and what it unpacks to */
};

/* What is to be made of it. Plain bytes: the process that read the source reports it, and who gets it
 * checks it (oci_plan_check). */
struct oci_plan {
	unsigned n;
	struct oci_layer layer[IMAGE_LAYERS_MAX];
	char arch[16];
	char user[128], workdir[IMAGE_DIR_MAX]; /* "" = not given */
	size_t settings_n;
	char settings[IMAGE_CONFIG_MAX]; /* JSON: {"env":[],"entrypoint":[],"cmd":[],"ports":[],
					  * "labels":{}} */
};

/* What this build runs: "amd64". */
extern const char oci_arch[];

/* 1 if the directory holds one or the other kind, and not the tree of a system. */
int oci_recognise(int dir);

/* tag: which of several images; NULL = the only one. Verifies the digest of everything that it reads. */
int oci_plan_read(int dir, const char *tag, struct oci_plan *ret, struct brig_err *err);

/* The reader's side: every field is what oci_plan_read could have put there. */
int oci_plan_check(struct oci_plan *p, struct brig_err *err);
/* Adds the plan's settings to c, whose others stay. */
int oci_plan_settings(const struct oci_plan *p, struct image_config *c, struct brig_err *err);

/* ---- for tests and fuzzers: the parsers, without files ---- */

struct oci_ref {
	char hex[IMAGE_HEX_LEN + 1];
	uint64_t size;
	bool index; /* of manifests: to be looked into */
};
/* Of an index: the manifest for this machine. */
int oci_index_pick(const char *text, size_t n, const char *tag, struct oci_ref *ret,
		   struct brig_err *err);
/* Of a manifest: its configuration, and the layers' blobs into p. */
int oci_manifest_read(const char *text, size_t n, struct oci_ref *ret_config, struct oci_plan *p,
		      struct brig_err *err);
/* Of a configuration: the rest of p, whose layers are known. */
int oci_config_read(const char *text, size_t n, struct oci_plan *p, struct brig_err *err);
/* Of a docker archive: the path of its configuration, and the layers' paths into p. */
int oci_docker_read(const char *text, size_t n, const char *tag, char ret_config[OCI_PATH_MAX],
		    struct oci_plan *p, struct brig_err *err);

#endif
