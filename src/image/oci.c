/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.c: from an image layout to a list of files to unpack, and settings.
 *
 * Theory of operation
 * -------------------
 * Runs in a confined process that sees the layout read-only. A chain of digests is followed: the
 * index names a manifest, that names a configuration and layers, and each of these files is hashed
 * before its first byte means anything. Layers are hashed by who unpacks them. A docker archive has
 * no such chain; there the configuration says what each layer must unpack to.
 *
 * Not followed: "urls" of a descriptor (a layer that is to be fetched elsewhere is refused),
 * annotations but the one that is a tag, artifacts that are no images, signatures.
 */
#include "image/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

/* An index may name an index; two are enough for all that is known. */
#define INDEX_DEPTH 4

#if defined(__x86_64__)
const char oci_arch[] = "amd64";
#elif defined(__aarch64__)
const char oci_arch[] = "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
const char oci_arch[] = "riscv64";
#else
#error "the OCI name of this machine is not known here"
#endif

static int corrupt(struct brig_err *err, const char *what)
{
	return brig_fail(err, BRIG_E_CORRUPT, 0, "the image is no OCI or docker image: %s", what);
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* NULL after an error. */
static json_t *parse(const char *text, size_t n, const char *what, struct brig_err *err)
{
	json_error_t je;
	char shown[JSON_ERROR_TEXT_LENGTH];
	json_t *root = json_loadb(text, n, 0, &je);
	if (!root)
		brig_fail(err, BRIG_E_CORRUPT, 0, "the image's %s is no JSON: line %d: %s", what,
			  je.line, image_name_print(je.text, shown, sizeof(shown)));
	return root;
}

/* sha256:HEX, the only algorithm that registries use, into 64 digits. */
static int take_digest(const char *text, char hex[IMAGE_HEX_LEN + 1])
{
	struct image_digest d;
	if (!text || strncmp(text, "sha256:", 7) != 0 || image_digest_parse(text, &d) < 0)
		return -1;
	memcpy(hex, d.text + 7, IMAGE_HEX_LEN + 1);
	return 0;
}

static int take_ref(const json_t *o, struct oci_ref *ret)
{
	const json_t *size = json_object_get(o, "size");
	if (take_digest(text_of(o, "digest"), ret->hex) < 0 || !json_is_integer(size) ||
	    json_integer_value(size) < 0)
		return -1;
	ret->size = (uint64_t)json_integer_value(size);
	return 0;
}

/* ---- index ---- */

static bool type_is(const json_t *o, const char *oci, const char *docker)
{
	const char *t = text_of(o, "mediaType");
	return t && (strcmp(t, oci) == 0 || strcmp(t, docker) == 0);
}

static bool is_index(const json_t *o)
{
	return type_is(o, "application/vnd.oci.image.index.v1+json",
		       "application/vnd.docker.distribution.manifest.list.v2+json");
}

static bool is_manifest(const json_t *o)
{
	return type_is(o, "application/vnd.oci.image.manifest.v1+json",
		       "application/vnd.docker.distribution.manifest.v2+json");
}

/* A descriptor without a platform is for whoever wants it. */
static bool fits(const json_t *o)
{
	const json_t *p = json_object_get(o, "platform");
	const char *os = text_of(p, "os"), *arch = text_of(p, "architecture");
	return !p || (os && arch && strcmp(os, "linux") == 0 && strcmp(arch, oci_arch) == 0);
}

static bool tagged(const json_t *o, const char *tag)
{
	const char *name = text_of(json_object_get(o, "annotations"),
				   "org.opencontainers.image.ref.name");
	const char *colon = name ? strrchr(name, ':') : NULL;
	return name && (strcmp(name, tag) == 0 || (colon && strcmp(colon + 1, tag) == 0));
}

int oci_index_pick(const char *text, size_t n, const char *tag, struct oci_ref *ret,
		   struct brig_err *err)
{
	json_t *root = parse(text, n, "index", err), *o;
	const json_t *list = json_object_get(root, "manifests");
	size_t i;
	unsigned found = 0, others = 0;
	if (!root)
		return -1;
	json_array_foreach(list, i, o)
	{
		struct oci_ref one = { .index = is_index(o) };
		if ((!one.index && !is_manifest(o)) || (tag && !tagged(o, tag)))
			continue;
		if (!fits(o)) {
			others++;
			continue;
		}
		if (take_ref(o, &one) < 0) {
			json_decref(root);
			return corrupt(err, "a descriptor of its index is malformed");
		}
		/* One image may stand there several times; the first is what registries mean. */
		if (found++ == 0)
			*ret = one;
		else if (!json_object_get(o, "platform") && strcmp(one.hex, ret->hex) != 0)
			found += 1000;
	}
	json_decref(root);
	if (found >= 1000) {
		brig_fail(err, BRIG_E_INVALID, 0, "there are several images in it");
		return brig_fix(err, "say which: oci:DIR:TAG");
	}
	if (found)
		return 0;
	if (others) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "there is no image for linux/%s in it", oci_arch);
		return brig_fix(err, "build or choose one for this machine");
	}
	char shown[128];
	if (!tag)
		return corrupt(err, "its index names no image");
	brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no image with the tag '%s' in it",
		  image_name_print(tag, shown, sizeof(shown)));
	return brig_fix(err, "its index.json names those that there are");
}

/* ---- manifest ---- */

static bool layer_type_ok(const char *t)
{
	static const char *const types[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
	};
	for (size_t i = 0; t && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(t, types[i]) == 0)
			return true;
	return false;
}

static int many_layers(struct brig_err *err)
{
	brig_fail(err, BRIG_E_LIMIT, 0, "the image has more than %u layers", IMAGE_LAYERS_MAX);
	return brig_fix(err, "flatten it where it was made");
}

static int manifest_take(const json_t *root, struct oci_ref *config, struct oci_plan *p,
			 struct brig_err *err)
{
	const json_t *layers = json_object_get(root, "layers"), *version;
	size_t i;
	json_t *o;
	version = json_object_get(root, "schemaVersion");
	if (json_integer_value(version) != 2 || !json_is_array(layers) ||
	    take_ref(json_object_get(root, "config"), config) < 0)
		return corrupt(err, "its manifest is malformed");
	json_array_foreach(layers, i, o)
	{
		struct oci_ref one;
		const char *type = text_of(o, "mediaType");
		char shown[96];
		if (p->n == IMAGE_LAYERS_MAX)
			return many_layers(err);
		if (take_ref(o, &one) < 0)
			return corrupt(err, "a layer of its manifest is malformed");
		if (!layer_type_ok(type)) {
			brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a layer of the image is '%s'",
				  image_name_print(type ? type : "of no type", shown, sizeof(shown)));
			return brig_fix(err, "layers are tar archives, plain or with gzip or zstd");
		}
		struct oci_layer *l = &p->layer[p->n++];
		memcpy(l->blob, one.hex, sizeof(l->blob));
		l->size = one.size;
		snprintf(l->path, sizeof(l->path), "blobs/sha256/%s", one.hex);
	}
	return p->n ? 0 : corrupt(err, "it has no layers");
}

int oci_manifest_read(const char *text, size_t n, struct oci_ref *ret_config, struct oci_plan *p,
		      struct brig_err *err)
{
	json_t *root = parse(text, n, "manifest", err);
	if (!root)
		return -1;
	int r = manifest_take(root, ret_config, p, err);
	json_decref(root);
	return r;
}

/* ---- configuration ---- */

static int copy_text(const json_t *o, const char *key, char *dst, size_t cap)
{
	const json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);
	if (!v || json_is_null(v))
		return 0;
	if (!s || strlen(s) >= cap || strlen(s) != json_string_length(v))
		return -1;
	strcpy(dst, s);
	return 0;
}

/* A list of strings, or null, or nothing: an empty list. NULL for anything else. */
static json_t *strings(const json_t *o, const char *key)
{
	const json_t *list = json_object_get(o, key);
	json_t *v, *out = json_array();
	size_t i;
	if (list && !json_is_null(list) && !json_is_array(list))
		goto bad;
	json_array_foreach(list, i, v)
	{
		const char *s = json_string_value(v);
		if (!s || strlen(s) != json_string_length(v) || json_array_append(out, v) < 0)
			goto bad;
	}
	return out;
bad:
	json_decref(out);
	return NULL;
}

/* The names of an object: {"80/tcp": {}}. */
static json_t *keys_of(const json_t *o, const char *key)
{
	json_t *set = json_object_get(o, key), *v, *out = json_array();
	const char *name;
	json_object_foreach(set, name, v)
	{
		json_array_append_new(out, json_string(name));
	}
	return out;
}

static int settings_take(const json_t *c, struct oci_plan *p, struct brig_err *err)
{
	json_t *labels = json_object_get(c, "Labels");
	json_t *env = strings(c, "Env"), *entrypoint = strings(c, "Entrypoint"),
	       *cmd = strings(c, "Cmd");
	json_t *o = env && entrypoint && cmd
			    ? json_pack("{s:O s:O s:O s:o s:O?}", "env", env, "entrypoint", entrypoint,
					"cmd", cmd, "ports", keys_of(c, "ExposedPorts"), "labels",
					json_is_object(labels) ? labels : NULL)
			    : NULL;
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0;
	int r = 0;
	if (!text)
		r = corrupt(err, "its settings are malformed");
	else if (n >= sizeof(p->settings))
		r = brig_fail(err, BRIG_E_LIMIT, 0, "the image's settings are more than 64 KiB");
	else
		memcpy(p->settings, text, p->settings_n = n);
	free(text);
	json_decref(o);
	json_decref(env);
	json_decref(entrypoint);
	json_decref(cmd);
	return r;
}

static int config_take(const json_t *root, struct oci_plan *p, struct brig_err *err)
{
	const char *os = text_of(root, "os"), *arch = text_of(root, "architecture");
	const json_t *diffs = json_object_get(json_object_get(root, "rootfs"), "diff_ids");
	const json_t *c = json_object_get(root, "config");
	if (!os || !arch || !json_is_array(diffs))
		return corrupt(err, "its configuration is malformed");
	if (strcmp(os, "linux") != 0 || strcmp(arch, oci_arch) != 0) {
		char shown[64];
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "the image is for %s, this machine is linux/%s",
			  image_name_print(arch, shown, sizeof(shown)), oci_arch);
		return brig_fix(err, "build or choose one for this machine");
	}
	snprintf(p->arch, sizeof(p->arch), "%s", oci_arch);
	if (json_array_size(diffs) != p->n)
		return corrupt(err, "its configuration tells of other layers than its manifest");
	for (unsigned i = 0; i < p->n; i++)
		if (take_digest(json_string_value(json_array_get(diffs, i)), p->layer[i].diff) < 0)
			return corrupt(err, "a diff_id is no SHA-256 digest");
	if (copy_text(c, "User", p->user, sizeof(p->user)) < 0 ||
	    copy_text(c, "WorkingDir", p->workdir, sizeof(p->workdir)) < 0)
		return corrupt(err, "its User or WorkingDir is malformed");
	return settings_take(c, p, err);
}

int oci_config_read(const char *text, size_t n, struct oci_plan *p, struct brig_err *err)
{
	json_t *root = parse(text, n, "configuration", err);
	if (!root)
		return -1;
	int r = config_take(root, p, err);
	json_decref(root);
	return r;
}

/* ---- docker archive ---- */

/* A name in the layout: clean and relative. */
static int path_ok(const char *s)
{
	char abs[OCI_PATH_MAX + 1];
	int n = s ? snprintf(abs, sizeof(abs), "/%s", s) : -1;
	return n > 1 && (size_t)n < OCI_PATH_MAX && path_is_clean(abs, sizeof(abs));
}

static bool has_tag(const json_t *entry, const char *tag)
{
	const json_t *list = json_object_get(entry, "RepoTags");
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		const char *s = json_string_value(v), *colon = s ? strrchr(s, ':') : NULL;
		if (s && (strcmp(s, tag) == 0 || (colon && strcmp(colon + 1, tag) == 0)))
			return true;
	}
	return false;
}

/* blobs/sha256/HEX and HEX.json say what they hold. */
static void digest_in_path(const char *path, char hex[IMAGE_HEX_LEN + 1])
{
	const char *base = strrchr(path, '/');
	struct image_digest d;
	char text[IMAGE_HEX_LEN + 1];
	base = base ? base + 1 : path;
	hex[0] = '\0';
	if (strspn(base, "0123456789abcdef") != IMAGE_HEX_LEN ||
	    (base[IMAGE_HEX_LEN] && strcmp(base + IMAGE_HEX_LEN, ".json") != 0))
		return;
	snprintf(text, sizeof(text), "%.64s", base);
	if (image_digest_from_hex(text, &d) == 0)
		memcpy(hex, text, sizeof(text));
}

static int docker_take(const json_t *root, const char *tag, char ret_config[OCI_PATH_MAX],
		       struct oci_plan *p, struct brig_err *err)
{
	const json_t *entry = json_array_get(root, 0), *layers;
	size_t i;
	json_t *v;
	if (tag) {
		entry = NULL;
		json_array_foreach(root, i, v)
		{
			if (!entry && has_tag(v, tag))
				entry = v;
		}
	} else if (json_array_size(root) > 1) {
		brig_fail(err, BRIG_E_INVALID, 0, "there are several images in the archive");
		return brig_fix(err, "save one alone: docker save IMAGE");
	}
	if (!entry) {
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no such image in the archive");
		return brig_fix(err, "its manifest.json names those that there are");
	}
	const char *config = text_of(entry, "Config");
	layers = json_object_get(entry, "Layers");
	if (!path_ok(config) || !json_is_array(layers))
		return corrupt(err, "its manifest.json is malformed");
	snprintf(ret_config, OCI_PATH_MAX, "%s", config);
	json_array_foreach(layers, i, v)
	{
		const char *path = json_string_value(v);
		if (p->n == IMAGE_LAYERS_MAX)
			return many_layers(err);
		if (!path_ok(path))
			return corrupt(err, "its manifest.json names an impossible file");
		struct oci_layer *l = &p->layer[p->n++];
		snprintf(l->path, sizeof(l->path), "%s", path);
		digest_in_path(path, l->blob);
	}
	return p->n ? 0 : corrupt(err, "it has no layers");
}

int oci_docker_read(const char *text, size_t n, const char *tag, char ret_config[OCI_PATH_MAX],
		    struct oci_plan *p, struct brig_err *err)
{
	json_t *root = parse(text, n, "manifest.json", err);
	if (!root)
		return -1;
	int r = docker_take(root, tag, ret_config, p, err);
	json_decref(root);
	return r;
}

/* ---- files ---- */

/* A JSON file of the layout, whose digest is hex unless that is "". To be freed; NULL: err. */
static char *slurp(int dir, const char *path, const char *hex, size_t *ret_n, struct brig_err *err)
{
	struct stat st;
	unsigned char sum[32];
	struct image_digest d;
	char shown[OCI_PATH_MAX];
	image_name_print(path, shown, sizeof(shown));
	AUTO_FD fd = path_open_beneath(dir, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		brig_fail(err, BRIG_E_CORRUPT, fd < 0 ? -fd : 0, "open '%s' of the image", shown);
		return NULL;
	}
	if (st.st_size > OCI_JSON_MAX) {
		brig_fail(err, BRIG_E_LIMIT, 0, "'%s' of the image is more than 4 MiB", shown);
		return NULL;
	}
	char *text = malloc(OCI_JSON_MAX + 1);
	ssize_t n = text ? fd_read_full(fd, text, OCI_JSON_MAX + 1) : -ENOMEM;
	if (n < 0 || n > (ssize_t)OCI_JSON_MAX || !EVP_Digest(text, (size_t)n, sum, NULL, EVP_sha256(), NULL)) {
		brig_fail(err, BRIG_E_CORRUPT, n < 0 ? (int)-n : 0, "read '%s' of the image", shown);
		free(text);
		return NULL;
	}
	image_digest_from_bytes(sum, &d);
	if (hex[0] && strcmp(d.text + 7, hex) != 0) {
		brig_fail(err, BRIG_E_CORRUPT, 0, "'%s' of the image has the digest %.19s..", shown,
			  d.text);
		brig_fix(err, "fetch the image again; if it persists, what offers it is broken or "
			      "hostile");
		free(text);
		return NULL;
	}
	*ret_n = (size_t)n;
	return text;
}

static char *slurp_blob(int dir, const struct oci_ref *r, size_t *ret_n, struct brig_err *err)
{
	char path[OCI_PATH_MAX];
	snprintf(path, sizeof(path), "blobs/sha256/%s", r->hex);
	return slurp(dir, path, r->hex, ret_n, err);
}

static int read_layout(int dir, const char *tag, struct oci_plan *p, struct brig_err *err)
{
	struct oci_ref at = { .index = true }, config;
	size_t n;
	AUTO_FREE char *text = slurp(dir, "index.json", "", &n, err);
	for (unsigned depth = 0; text && at.index; depth++) {
		if (depth == INDEX_DEPTH)
			return corrupt(err, "its indexes name each other without end");
		if (oci_index_pick(text, n, depth ? NULL : tag, &at, err) < 0)
			return -1;
		free(text);
		text = slurp_blob(dir, &at, &n, err);
	}
	if (!text || oci_manifest_read(text, n, &config, p, err) < 0)
		return -1;
	free(text);
	text = slurp_blob(dir, &config, &n, err);
	return text ? oci_config_read(text, n, p, err) : -1;
}

static int read_docker(int dir, const char *tag, struct oci_plan *p, struct brig_err *err)
{
	char path[OCI_PATH_MAX], hex[IMAGE_HEX_LEN + 1];
	size_t n;
	AUTO_FREE char *text = slurp(dir, "manifest.json", "", &n, err);
	if (!text || oci_docker_read(text, n, tag, path, p, err) < 0)
		return -1;
	digest_in_path(path, hex);
	free(text);
	text = slurp(dir, path, hex, &n, err);
	return text ? oci_config_read(text, n, p, err) : -1;
}

static bool has(int dir, const char *name, mode_t type)
{
	struct stat st;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}

int oci_recognise(int dir)
{
	bool layout = has(dir, "oci-layout", S_IFREG) && has(dir, "index.json", S_IFREG) &&
		      has(dir, "blobs", S_IFDIR);
	bool system = has(dir, "usr", S_IFDIR) || has(dir, "bin", S_IFDIR) || has(dir, "bin", S_IFLNK) ||
		      has(dir, "etc", S_IFDIR);
	return !system && (layout || has(dir, "manifest.json", S_IFREG));
}

int oci_plan_read(int dir, const char *tag, struct oci_plan *ret, struct brig_err *err)
{
	memset(ret, 0, sizeof(*ret));
	if (has(dir, "index.json", S_IFREG))
		return read_layout(dir, tag, ret, err);
	if (has(dir, "manifest.json", S_IFREG))
		return read_docker(dir, tag, ret, err);
	brig_fail(err, BRIG_E_INVALID, 0, "there is neither index.json nor manifest.json in it");
	return brig_fix(err, "give the directory of an OCI image layout, or what docker save wrote");
}

/* ---- the reader's side ---- */

static int ends(const char *s, size_t cap)
{
	return memchr(s, 0, cap) != NULL;
}

static int hex_ok(const char *s, size_t cap)
{
	return ends(s, cap) &&
	       (!s[0] || (strspn(s, "0123456789abcdef") == IMAGE_HEX_LEN && !s[IMAGE_HEX_LEN]));
}

int oci_plan_check(struct oci_plan *p, struct brig_err *err)
{
	int ok = p->n >= 1 && p->n <= IMAGE_LAYERS_MAX && ends(p->arch, sizeof(p->arch)) &&
		 ends(p->user, sizeof(p->user)) && ends(p->workdir, sizeof(p->workdir)) &&
		 p->settings_n < sizeof(p->settings);
	for (unsigned i = 0; ok && i < p->n; i++) {
		const struct oci_layer *l = &p->layer[i];
		ok = ends(l->path, sizeof(l->path)) && path_ok(l->path) &&
		     hex_ok(l->blob, sizeof(l->blob)) && hex_ok(l->diff, sizeof(l->diff)) && l->diff[0];
	}
	if (ok)
		snprintf(p->arch, sizeof(p->arch), "%s", oci_arch);
	return ok ? 0
		  : brig_fail(err, BRIG_E_PROTOCOL, 0,
			      "the process that read the image reported nonsense");
}

static int words_take(const json_t *list, struct image_words *w)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		if (!json_is_string(v) || image_words_add(w, json_string_value(v)) < 0)
			return -1;
	}
	return 0;
}

static int env_take(const json_t *list, struct image_config *c)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		const char *s = json_string_value(v);
		size_t n = s ? strcspn(s, "=") : 0;
		AUTO_FREE char *name = s ? strndup(s, n) : NULL;
		/* A name that no shell could use, or no value: nothing that could be kept. */
		if (!name || !s[n])
			continue;
		int r = image_config_setenv(c, name, s + n + 1);
		if (r < 0 && r != -EINVAL)
			return r;
	}
	return 0;
}

int oci_plan_settings(const struct oci_plan *p, struct image_config *c, struct brig_err *err)
{
	size_t i;
	json_t *v;
	const char *key;
	json_t *o = json_loadb(p->settings, p->settings_n, 0, NULL);
	int bad = !o || env_take(json_object_get(o, "env"), c) < 0 ||
		  words_take(json_object_get(o, "entrypoint"), &c->entrypoint) < 0 ||
		  words_take(json_object_get(o, "cmd"), &c->cmd) < 0;
	/* A port range, a label without a name: what does not fit here says nothing that is used. */
	if (!bad)
		json_array_foreach(json_object_get(o, "ports"), i, v)
		{
			if (json_is_string(v))
				(void)image_config_port(c, json_string_value(v));
		}
	if (!bad)
		json_object_foreach(json_object_get(o, "labels"), key, v)
		{
			if (json_is_string(v))
				(void)image_config_label(c, key, json_string_value(v));
		}
	json_decref(o);
	return bad ? brig_fail(err, BRIG_E_LIMIT, 0,
			       "the image has more variables or words of a command than %d",
			       IMAGE_ENV_MAX)
		   : 0;
}
