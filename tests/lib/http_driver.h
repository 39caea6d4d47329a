/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_driver.h: a real listening socket of src/api/http.c on loopback and plain client sockets, in
 * one process and one loop. What a path does is said in http_driver.c; requests that wait are found
 * in d->last, and every begin and gone is counted.
 */
#ifndef BRIG_TEST_HTTP_DRIVER_H
#define BRIG_TEST_HTTP_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "api/http.h"
#include "base/buf.h"

#define DRIVER_LIVE_MAX 1024u
#define REPLY_MAX (64u * 1024u * 1024u)

struct http_driver {
	struct ev ev;
	struct http *h;
	struct sockaddr_storage at; /* where it listens */
	socklen_t at_len;
	struct http_req *last;			/* begun last and not gone */
	struct http_req *live[DRIVER_LIVE_MAX]; /* begun and not gone, in no order */
	unsigned nlive;
	unsigned begun, ready, gone, drained, pieces;
	struct buf got;	   /* body of streamed requests */
	size_t hold_after; /* bytes after which /body holds */
	/* upgrade */
	int up_fd;
	struct http_upgrade *up;
	char early[256];
	size_t nearly;
	unsigned gone_before_up, ups;
};

extern struct http_driver *drv;
/* What /up passes to http_reply_upgrade(). */
void driver_upgraded(void *ctx, int fd, const void *early, size_t n, struct http_upgrade *u);
/* For the next start; 0 = as built in, and on TCP. */
extern unsigned driver_head_ms, driver_body_ms;
extern bool driver_unix;

/* PEMs NULL: without TLS. */
void driver_start(const char *cert_pem, const char *key_pem);
void driver_stop(void);
int driver_setup(void **state);
int driver_teardown(void **state);

/* One round of the loop. */
void driver_round(void);
/* Runs the loop until cond(); fails the test after some seconds. */
#define until(cond)                                                     \
	do {                                                            \
		uint64_t until_ = driver_deadline();                    \
		while (!(cond))                                         \
			driver_wait(until_, #cond, __FILE__, __LINE__); \
	} while (0)
uint64_t driver_deadline(void);
void driver_wait(uint64_t deadline, const char *what, const char *file, int line);

int client_open(void);
void client_send(int fd, const void *p, size_t n);
void client_text(int fd, const char *text);
/* Reads what is there into b; 0 at the end, -errno, or the count. */
ssize_t client_pull(int fd, struct buf *b);
/* Reads one answer with Content-Length, or in chunks (body decoded), and returns its status. */
unsigned client_answer(int fd, struct buf *head, struct buf *body);
void client_close(int fd);
/* Reads on to the end of the connection and closes: 0 if it was orderly, else errno. */
int client_end(int fd);

#endif
