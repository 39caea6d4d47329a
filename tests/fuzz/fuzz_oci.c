/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image of others says about itself: index, manifest, configuration and the manifest of a docker
 * archive, as the process reads them that brig-image confines.
 *
 * Input: one byte that chooses the parser, then its text.
 *
 * Oracle: what was accepted passes the check of the process that gets it, names files that lie in the
 * layout, and gives settings that can be stored and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static int hex_ok(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static void check_paths(const struct oci_plan *p)
{
	must(p->n >= 1 && p->n <= IMAGE_LAYERS_MAX);
	for (unsigned i = 0; i < p->n; i++) {
		const char *path = p->layer[i].path;
		must(path[0] && path[0] != '/' && !strstr(path, "//"));
		must(strncmp(path, "../", 3) != 0 && !strstr(path, "/../") && strcmp(path, "..") != 0);
	}
}

static void check_settings(struct oci_plan *p)
{
	struct image_config c = { .env = NULL, .workdir = "/", .user.home = "/" };
	must(oci_plan_check(p, NULL) == 0);
	if (oci_plan_settings(p, &c, NULL) == 0) {
		char *text = image_config_text(&c);
		must(text != NULL);
		free(text);
	}
	image_config_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct oci_plan p;
	struct oci_ref ref = { .index = false };
	char config[OCI_PATH_MAX];
	if (size == 0)
		return 0;
	const char *text = (const char *)data + 1, *tag = data[0] & 8 ? "latest" : NULL;
	memset(&p, 0, sizeof(p));
	switch (data[0] & 3) {
	case 0:
		if (oci_index_pick(text, size - 1, tag, &ref, NULL) == 0)
			must(hex_ok(ref.hex));
		break;
	case 1:
		if (oci_manifest_read(text, size - 1, &ref, &p, NULL) == 0) {
			must(hex_ok(ref.hex));
			check_paths(&p);
		}
		break;
	case 2:
		p.n = 1;
		strcpy(p.layer[0].path, "l");
		if (oci_config_read(text, size - 1, &p, NULL) == 0)
			check_settings(&p);
		break;
	default:
		if (oci_docker_read(text, size - 1, tag, config, &p, NULL) == 0)
			check_paths(&p);
	}
	return 0;
}
