/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_layer.c: the stream of FS_IMPORT, which comes from whoever keeps snapshots, into the parser
 * that the agent applies.
 *
 * What the parser lets pass must keep what layer_import.c relies on: strings end within the body,
 * paths are clean, names ascend. That is asserted here in other words than the parser's. Every
 * input is also parsed from a copy that ends where the bytes end, so that a read beyond them is
 * seen.
 */
#include <assert.h>
#include <stdbool.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/layer.h"
#include "cli/layerdiff.h"

static void none(void *ctx, char kind, const char *path)
{
	(void)ctx;
	(void)kind;
	(void)path;
	/* A layer that differs from itself. */
	assert(false);
}

static void seen(void *ctx, char kind, const char *path)
{
	(void)ctx;
	assert(strchr("ACD", kind) && path[0] == '/' && path[1]);
}

/* The list of its paths, as `brig diff` reads it. */
static void paths_check(const uint8_t *data, size_t size)
{
	struct layer_paths l;
	struct brig_err err = BRIG_ERR_INIT;
	int fd = memfd_create("layer", MFD_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, data, size) == (ssize_t)size && layer_paths_read(fd, &l, &err) == 0) {
		for (size_t i = 1; i < l.n; i++)
			assert(strcmp(l.v[i - 1].path, l.v[i].path) <= 0);
		bool twice = false;
		for (size_t i = 1; i < l.n; i++)
			twice = twice || strcmp(l.v[i - 1].path, l.v[i].path) == 0;
		/* Two records of one path are nobody's layer, and sort as they like. */
		if (!twice)
			layer_paths_diff(&l, &l, none, NULL);
		layer_paths_diff(NULL, &l, seen, NULL);
		layer_paths_done(&l);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void path_check(const char *path, const uint8_t *end)
{
	const char *nul = memchr(path, 0, (size_t)(end - (const uint8_t *)path));
	assert(nul && path[0] != '/' && strlen(path) < PATH_MAX);
	assert(!strstr(path, "//") && strncmp(path, "../", 3) != 0 && strcmp(path, "..") != 0);
	assert(!strstr(path, "/../") && !strstr(path, "/./"));
	assert(nul == path || nul[-1] != '/');
	assert(nul - path < 3 || strcmp(nul - 3, "/..") != 0);
}

static void names_check(const struct layer_item *it)
{
	const char *at = (const char *)it->value, *end = at + it->value_len, *last = NULL;
	for (; at < end; last = at, at += strlen(at) + 1) {
		assert(at[0] && !strchr(at, '/') && strlen(at) <= NAME_MAX);
		assert(!last || strcmp(last, at) < 0);
	}
	assert(at == end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	const uint8_t *at = copy, *end = copy + size;
	ptrdiff_t n = layer_parse_head(at, size);
	for (at += n > 0 ? n : 0; n > 0 && at<end; at += n> 0 ? n : 0) {
		struct layer_item it;
		n = layer_parse(at, (size_t)(end - at), &it);
		assert(n <= end - at);
		if (n <= 0)
			break;
		assert((size_t)n == sizeof(it.h) + it.h.len);
		if (it.path && it.h.type != LAYER_XATTR)
			path_check(it.path, at + n);
		if (it.h.type == LAYER_XATTR)
			assert(layer_xattr_ok(it.path) && it.value + it.value_len == at + n);
		if (it.h.type == LAYER_LINK)
			path_check(it.target, at + n);
		if (it.h.type == LAYER_SYMLINK)
			assert(it.target[0] &&
			       (const uint8_t *)it.target + strlen(it.target) < at + n);
		if (it.h.type == LAYER_NAMES)
			names_check(&it);
		if (it.h.type == LAYER_DATA)
			assert(it.value_len && it.h.size + it.value_len <= INT64_MAX);
	}
	free(copy);
	paths_check(data, size);
	return 0;
}
