/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive.c: what libarchive reads, handed to the tree entry by entry.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined process of confine.c. libarchive only reads: nothing of its disk writer is
 * used, and every name goes through tree.c. Of its formats tar alone is enabled (others are attack
 * surface, and mtree even reads files by name), and of its filters those that are compiled in:
 * libarchive starts an external program for a filter that it was built without, which is found out
 * on a reader that is thrown away. One layer of compression is accepted, not twenty.
 *
 * Not done: sparse regions of a tar cost no disk blocks but count with their full size, and
 * user names, extended attributes, ACLs and file flags are not read at all.
 */
#include "image/archive_inner.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <iconv.h>
#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>

#include "image/name.h"
#include "image/tree_inner.h"

typedef int (*filter_fn)(struct archive *);

/* Registers a filter if this libarchive has it inside. */
static int filter_enable(struct archive *a, filter_fn fn)
{
	struct archive *scratch = archive_read_new();
	if (!scratch)
		return ARCHIVE_FATAL;
	int inside = fn(scratch) == ARCHIVE_OK;
	archive_read_free(scratch);
	return inside ? fn(a) : ARCHIVE_OK;
}

int archive_add_filters(struct archive *a)
{
	static const filter_fn filters[] = {
		archive_read_support_filter_gzip,
		archive_read_support_filter_bzip2,
		archive_read_support_filter_xz,
		archive_read_support_filter_zstd,
	};
	int r = ARCHIVE_OK;
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]) && r == ARCHIVE_OK; i++)
		r = filter_enable(a, filters[i]);
	return r;
}

static struct archive *reader_new(void)
{
	struct archive *a = archive_read_new();
	if (!a)
		return NULL;
	int r = archive_read_support_format_tar(a);
	if (r == ARCHIVE_OK)
		r = archive_add_filters(a);
	if (r != ARCHIVE_OK) {
		archive_read_free(a);
		return NULL;
	}
	return a;
}

int archive_prepare(struct brig_err *err)
{
	/* See header_lossless. The converter is asked for once here, so that what the C library
	 * reads for it is the host's, not the image's. */
	if (!setlocale(LC_CTYPE, "C"))
		return brig_fail(err, BRIG_E_INTERNAL, 0, "the C library has no C locale");
	iconv_t c = iconv_open(nl_langinfo(CODESET), "UTF-8");
	if (c != (iconv_t)-1)
		iconv_close(c);
	struct archive *a = reader_new();
	if (!a)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "libarchive cannot read tar archives");
	archive_read_free(a);
	return 0;
}

/* libarchive's message may quote the archive. */
int archive_fail(struct brig_err *err, struct archive *a)
{
	char shown[256];
	const char *why = archive_error_string(a);
	enum brig_code code = archive_errno(a) == ENOMEM ? BRIG_E_EXHAUSTED : BRIG_E_CORRUPT;
	return brig_fail(err, code, 0, "the archive cannot be read: %s",
			 why ? image_name_print(why, shown, sizeof(shown)) : "unknown reason");
}

/* The most that any filter put out, against what went into the first. */
static int check_ratio(struct archive *a, unsigned max_ratio, struct brig_err *err)
{
	int64_t in = archive_filter_bytes(a, -1), out = 0;
	for (int i = 0; i < archive_filter_count(a); i++) {
		int64_t n = archive_filter_bytes(a, i);
		out = n > out ? n : out;
	}
	if ((uint64_t)out <= ARCHIVE_RATIO_FREE || (uint64_t)out / max_ratio <= (uint64_t)in)
		return 0;
	brig_fail(err, BRIG_E_LIMIT, 0, "the archive unpacks to more than %u times its size",
		  max_ratio);
	return brig_fix(err, "raise the limit with --max-ratio if this is expected");
}

/*
 * Passes the data of an entry on, or counts it only (f NULL: what a device or link carries is
 * nobody's). libarchive would skip data by itself, but then a bomb would unpack out of our sight.
 */
static int copy_data(struct archive *a, unsigned max_ratio, struct tree_file *f,
		     struct brig_err *err)
{
	const void *data;
	size_t n;
	int64_t offset;
	int r;
	while ((r = archive_read_data_block(a, &data, &n, &offset)) == ARCHIVE_OK) {
		if (offset < 0)
			return brig_fail(err, BRIG_E_CORRUPT, 0,
					 "it has data before its beginning");
		if (f && tree_file_write(f, (uint64_t)offset, data, n, err) < 0)
			return -1;
		if (check_ratio(a, max_ratio, err) < 0)
			return -1;
	}
	return r == ARCHIVE_EOF ? 0 : archive_fail(err, a);
}

static int unpack_file(struct archive *a, unsigned max_ratio, struct archive_entry *e,
		       const char *name, const struct tree_meta *m, struct tree *t,
		       struct brig_err *err)
{
	struct tree_file f;
	char shown[160];
	int64_t size = archive_entry_size(e);
	if (size < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "entry '%s' has a negative size",
				 image_name_print(name, shown, sizeof(shown)));
	if (tree_add_file(t, name, (uint64_t)size, m, &f, err) < 0)
		return -1;
	if (copy_data(a, max_ratio, &f, err) < 0) {
		tree_file_drop(&f);
		return brig_ctx(err, "entry '%s'", image_name_print(name, shown, sizeof(shown)));
	}
	if (tree_file_finish(&f, err) < 0)
		return brig_ctx(err, "entry '%s'", image_name_print(name, shown, sizeof(shown)));
	return 0;
}

#define MARK ".wh."
#define MARK_OPAQUE ".wh..wh..opq"

/* Does this name of a layer tell that something is hidden (OCI image specification, "Whiteouts")? Then
 * that is noted, 1. The other names that begin with .wh..wh. are aufs's own and mean nothing. */
static int layer_mark(struct tree *t, const char *name, struct brig_err *err)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	char hidden[TREE_PATH_MAX + 1];
	size_t dir = (size_t)(base - name), n = strlen(base);
	if (!t->lower || strncmp(base, MARK, sizeof(MARK) - 1) != 0)
		return 0;
	bool opaque = strcmp(base, MARK_OPAQUE) == 0;
	if (!opaque && (strncmp(base, ".wh..wh.", 8) == 0 || n == sizeof(MARK) - 1))
		return 1;
	if (dir + n > TREE_PATH_MAX)
		return tree_refuse(err, name, "has a name of more than 4095 bytes");
	memcpy(hidden, name, dir);
	strcpy(hidden + dir, opaque ? "" : base + sizeof(MARK) - 1);
	return tree_hide(t, hidden, opaque, err) < 0 ? -1 : 1;
}

static int unpack_entry(struct archive *a, unsigned max_ratio, struct archive_entry *e,
			struct tree *t, struct brig_err *err)
{
	const char *name = archive_entry_pathname(e), *target;
	struct tree_meta m = {
		.mode = archive_entry_perm(e),
		.uid = archive_entry_uid(e),
		.gid = archive_entry_gid(e),
		.mtime = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : -1,
	};
	if (!name)
		return brig_fail(err, BRIG_E_INVALID, 0, "an entry has a name that is no text");

	int mark = layer_mark(t, name, err);
	if (mark)
		return mark < 0 ? -1 : copy_data(a, max_ratio, NULL, err);
	/* A hard link's entry may say any type; what counts is that it names another. */
	if ((target = archive_entry_hardlink(e))) {
		if (tree_add_hardlink(t, name, target, err) < 0)
			return -1;
		return copy_data(a, max_ratio, NULL, err);
	}
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return unpack_file(a, max_ratio, e, name, &m, t, err);
	case AE_IFDIR:
		if (tree_add_dir(t, name, &m, err) < 0)
			return -1;
		break;
	case AE_IFLNK:
		target = archive_entry_symlink(e);
		if (tree_add_symlink(t, name, target ? target : "", &m, err) < 0)
			return -1;
		break;
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
	case AE_IFSOCK:
		if (tree_add_device(t, name, err) < 0)
			return -1;
		break;
	default: {
		char shown[160];
		return brig_fail(err, BRIG_E_INVALID, 0, "entry '%s' is of an unknown type",
				 image_name_print(name, shown, sizeof(shown)));
	}
	}
	return copy_data(a, max_ratio, NULL, err);
}

/*
 * Does the entry say what the archive says? A warning means that libarchive gives something
 * otherwise than it stands there (a broken attribute), and half an entry is none. With one
 * exception: names in pax headers are UTF-8, which libarchive converts for the locale. In a UTF-8
 * locale it changes them silently (it composes characters, so that two files may become one). In
 * the C locale it fails to convert them, says so, and leaves the bytes as they are, which is what a
 * file name is.
 */
static int header_lossless(struct archive *a, int r)
{
	const char *why = archive_error_string(a);
	return r == ARCHIVE_OK || (r == ARCHIVE_WARN && why && strstr(why, "can't be converted"));
}

static int unpack(struct archive *a, unsigned max_ratio, struct tree *t, struct brig_err *err)
{
	struct archive_entry *e;
	int r;
	/* The list ends with the file itself, which libarchive calls a filter as well. */
	if (archive_filter_count(a) > 2)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the archive is compressed more than once");
	while (header_lossless(a, r = archive_read_next_header(a, &e))) {
		if (check_ratio(a, max_ratio, err) < 0 || unpack_entry(a, max_ratio, e, t, err) < 0)
			return -1;
	}
	return r == ARCHIVE_EOF ? 0 : archive_fail(err, a);
}

int archive_unpack_opened(struct archive *a, int opened, unsigned max_ratio, struct tree *t,
			  struct brig_err *err)
{
	int r = opened == ARCHIVE_OK ? unpack(a, max_ratio, t, err) : archive_fail(err, a);
	archive_read_free(a);
	return r;
}

int archive_unpack_fd(int fd, unsigned max_ratio, struct tree *t, struct brig_err *err)
{
	struct archive *a = reader_new();
	if (!a)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the archive");
	return archive_unpack_opened(a, archive_read_open_fd(a, fd, 256 * 1024), max_ratio, t, err);
}

int archive_unpack_mem(const void *data, size_t n, unsigned max_ratio, struct tree *t,
		       struct brig_err *err)
{
	struct archive *a = reader_new();
	if (!a)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the archive");
	return archive_unpack_opened(a, archive_read_open_memory(a, data, n), max_ratio, t, err);
}
