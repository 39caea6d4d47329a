/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsio.h: files of a sandbox, for the control plane: whole files from and to memory, the writable
 * layer to a file of ours. One operation at a time on one connection to brigd.
 */
#ifndef BRIG_API_FSIO_H
#define BRIG_API_FSIO_H

#include "api/api.h"
#include "base/buf.h"

struct fsio;
/* err NULL: success. err->sys is the errno inside, if it was one. Called from the loop. */
typedef void (*fsio_done)(void *ctx, const struct brig_err *err);

/* user "" = the sandbox's default user. An error of the open comes with the first operation. */
int fsio_open(struct api *a, const char *id, const char *user, struct fsio **ret,
	      struct brig_err *err);
/* At any time, also from within done; a pending done is not called. */
void fsio_close(struct fsio *f);

/* p is borrowed until done. Parents are made. */
void fsio_write(struct fsio *f, const char *path, const void *p, size_t n, fsio_done done,
		void *ctx);
/* Appends at most max bytes to into (borrowed); more in the file is BRIG_E_LIMIT. */
void fsio_read(struct fsio *f, const char *path, struct buf *into, size_t max, fsio_done done,
	       void *ctx);
/* The writable layer; fd is borrowed. More than max bytes are BRIG_E_LIMIT. Written from offset 0.
 */
void fsio_export(struct fsio *f, int fd, uint64_t max, fsio_done done, void *ctx);
/* Bytes that the last operation moved. */
uint64_t fsio_bytes(const struct fsio *f);

#endif
