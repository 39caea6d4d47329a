/* SPDX-License-Identifier: Apache-2.0 */
/* oci_import.h: from an OCI image layout, or an unpacked docker archive, to a named image. */
#ifndef BRIG_IMAGE_OCI_IMPORT_H
#define BRIG_IMAGE_OCI_IMPORT_H

#include "image/import.h"

/* layout: the directory (lent). Of o: name, tag, user, workdir and env (which override those of the
 * image), max, max_ratio, cancel, progress. */
int oci_import(const struct publisher *p, int layout, const struct import_options *o,
	       struct import_result *ret, struct brig_err *err);

#endif
