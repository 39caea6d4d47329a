/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive of whoever made the image, against the code that unpacks it (archive.c, tree.c) and
 * the code that looks at what it left (seal.c, digest.c). Without the confinement around them, so
 * that the inner wall is what is tested.
 *
 * Input: one byte of flags, then the archive. A header's checksum would stop nearly every mutation
 * at the door, so with flag 1 the checksums of blocks that look like headers are put right first.
 *
 * Oracle: beside the root lies a canary that stays as it is, with nothing new beside it; what is in
 * the root keeps the limits and holds neither device nor setuid bit, whether unpacking succeeded or
 * stopped half-way; a message has no byte that a terminal obeys.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/archive.h"
#include "image/seal.h"
#include "image/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const struct tree_limits limits = { .bytes = 1 << 20, .entries = 64 };

static char top_path[64];
static int top = -1;

static void must(int ok)
{
	if (!ok)
		abort();
}

static void clean(void)
{
	if (top >= 0) {
		stage_remove_tree(top, "root");
		stage_remove_tree(top, "canary");
		rmdir(top_path);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	must(archive_prepare(NULL) == 0 && digest_prepare(NULL) == 0);
	/* Memory, where there is such a place: a disk would be the slowest part. */
	const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(top_path, sizeof(top_path), "%s/brig-fuzz-image.XXXXXX", dir);
	must(mkdtemp(top_path) != NULL);
	top = open(top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(top >= 0 && mkdirat(top, "canary", 0750) == 0);
	int fd = openat(top, "canary/secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	must(fd >= 0 && write(fd, "sings", 5) == 5 && fchmod(fd, 0640) == 0);
	close(fd);
	umask(022);
	return atexit(clean);
}

static unsigned count_names(const char *sub)
{
	int fd = openat(top, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	unsigned n = 0;
	must(d != NULL);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2; /* . and .. */
}

static void canary_sings(void)
{
	struct stat dir, file;
	char text[8];
	int fd = openat(top, "canary/secret", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	must(fd >= 0 && read(fd, text, sizeof(text)) == 5 && memcmp(text, "sings", 5) == 0);
	must(fstat(fd, &file) == 0 && fstatat(top, "canary", &dir, AT_SYMLINK_NOFOLLOW) == 0);
	close(fd);
	must((file.st_mode & 07777) == 0640 && file.st_nlink == 1 && file.st_uid == geteuid());
	must(dir.st_mode == (S_IFDIR | 0750) && dir.st_uid == geteuid());
	must(count_names("canary") == 1 && count_names(".") == 2);
}

static void fix_checksums(uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 512 <= size; at += 512) {
		uint8_t *h = data + at;
		unsigned sum = 0;
		char text[8];
		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		memset(h + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += h[i];
		snprintf(text, sizeof(text), "%06o", sum & 0777777);
		memcpy(h + 148, text, 7);
	}
}

static void message_is_plain(const struct brig_err *err)
{
	for (const char *c = err->msg; *c; c++)
		must((unsigned char)*c >= 0x20 && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct tree t;
	if (size < 1 || size > 1 << 16)
		return 0;
	uint8_t *copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		fix_checksums(copy, size - 1);

	must(mkdirat(top, "root", 0755) == 0);
	int root = openat(top, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(root >= 0);
	tree_init(&t, root, geteuid() == 0, &limits);
	int r = archive_unpack_mem(copy, size - 1, ARCHIVE_RATIO_DEFAULT, &t, &err);
	if (r == 0)
		r = tree_finish(&t, &err);
	must(t.stats.bytes <= limits.bytes && t.stats.entries <= limits.entries);
	tree_done(&t);
	canary_sings();
	message_is_plain(&err);

	/* Only a mount point of a wrong kind, or an account of a passwd file, is a reason here; the
	 * rest means that something got in that must not. */
	struct seal_facts facts;
	struct seal_options o = { .keep_owner = geteuid() == 0, .max_entries = limits.entries };
	if (r == 0 && seal_tree(root, &o, &facts, &err) < 0)
		must(err.code == BRIG_E_INVALID);
	else if (r == 0)
		must(seal_check(&facts, &err) == 0 && facts.tree.size_bytes <= limits.bytes);
	canary_sings();
	message_is_plain(&err);

	close(root);
	must(stage_remove_tree(top, "root") == 0);
	free(copy);
	return 0;
}
