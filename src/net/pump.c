/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * splice(2) moves the pages of one socket to another through a pipe, without copying. A direction
 * has a pipe only while something is in it: pipes come from a pool and go back when they are empty,
 * so that thousands of idle connections need none. A run moves RUN_MAX bytes at most; then others
 * have their turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "net/flow.h"

#define PIPE_BYTES (256 * 1024)
#define RUN_MAX (1024 * 1024)

static bool pipe_get(struct gw *g, struct pump *p)
{
	if (p->pipe[0] >= 0)
		return true;
	if (g->npipes) {
		g->npipes--;
		memcpy(p->pipe, g->pipes[g->npipes], sizeof(p->pipe));
		return true;
	}
	if (pipe2(p->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
		p->pipe[0] = p->pipe[1] = -1;
		return false;
	}
	/* The kernel bounds what one user may have; smaller ones work as well. */
	(void)fcntl(p->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
	return true;
}

static void pipe_put(struct gw *g, struct pump *p)
{
	if (p->pipe[0] < 0)
		return;
	if (p->held == 0 && g->npipes < GW_PIPES_MAX) {
		memcpy(g->pipes[g->npipes], p->pipe, sizeof(p->pipe));
		g->npipes++;
		p->pipe[0] = p->pipe[1] = -1;
		return;
	}
	fd_close(&p->pipe[0]);
	fd_close(&p->pipe[1]);
	p->held = 0;
}

void pump_done(struct gw *g, struct pump *p)
{
	pipe_put(g, p);
}

void pumps_done(struct gw *g)
{
	while (g->npipes) {
		g->npipes--;
		fd_close(&g->pipes[g->npipes][0]);
		fd_close(&g->pipes[g->npipes][1]);
	}
}

static enum pump_result end(struct gw *g, struct pump *p, enum pump_result r)
{
	if (p->held == 0)
		pipe_put(g, p);
	return r;
}

enum pump_result pump_run(struct gw *g, struct pump *p, int from, int to, uint64_t *limit)
{
	uint64_t moved = 0;
	while (moved < RUN_MAX) {
		ssize_t n = 0;
		if (p->held == 0 && p->eof)
			return end(g, p, PUMP_END);
		if (p->held == 0) {
			size_t most = *limit < PIPE_BYTES ? (size_t)*limit : PIPE_BYTES;
			if (most == 0)
				return end(g, p, PUMP_LIMIT);
			if (!pipe_get(g, p))
				return PUMP_BROKEN;
			n = splice(from, NULL, p->pipe[1], NULL, most,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
			if (n < 0)
				return end(g, p,
					   errno == EAGAIN || errno == EINTR ? PUMP_WAIT_READ
									     : PUMP_BROKEN);
			if (n == 0) {
				p->eof = true;
				continue;
			}
			p->held = (size_t)n;
			*limit -= (uint64_t)n;
			moved += (uint64_t)n;
			p->moved = true;
		}
		n = splice(p->pipe[0], NULL, to, NULL, p->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR) ? PUMP_WAIT_WRITE
									    : PUMP_BROKEN;
		p->held -= (size_t)n;
		p->moved = true;
	}
	/* The other side may still have more: the level-triggered loop says so. */
	return p->held ? PUMP_WAIT_WRITE : end(g, p, PUMP_WAIT_READ);
}
