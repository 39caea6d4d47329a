/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h: figures of running boxes, sampled from brigd every few seconds into a bounded ring per
 * box, and counters of brig-api itself.
 *
 * The samples are also how the death of a sandbox is noticed that nobody was using: a running box
 * that brigd has no figures of is looked for, and killed here if it is not there any more.
 */
#ifndef BRIG_API_METRICS_H
#define BRIG_API_METRICS_H

#include "api/api.h"
#include "base/buf.h"

int metrics_open(struct api *a, struct brig_err *err);
void metrics_close(struct api *a);
void metrics_box_done(struct box *b);
/* Counts an answered request; an execution of /v1/run that ended. */
void metrics_request(struct api *a, unsigned status);
void metrics_run(struct api *a, bool failed);
/* Prometheus text of what is counted here, and a line of more. */
void metrics_text(struct api *a, struct buf *out);
void metrics_line(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* SandboxMetric objects of start <= time <= end, unix seconds (0 = no bound). New reference. */
json_t *metrics_json(const struct box *b, int64_t start_s, int64_t end_s);
/* The last sample, or NULL. New reference. */
json_t *metrics_last_json(const struct box *b);

#endif
