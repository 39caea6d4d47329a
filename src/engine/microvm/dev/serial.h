/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.h: the transmitting half of a 16450 at port 0x3f8, for a guest that must be debugged. Off by
 * default; what it writes is bounded, and nothing can be read from it.
 */
#ifndef BRIG_MICROVM_SERIAL_H
#define BRIG_MICROVM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_PORT 0x3f8u
#define SERIAL_PORTS 8u
#define SERIAL_IRQ 4u
#define SERIAL_RING 8192u
#define SERIAL_TOTAL_MAX (1ull << 20) /* bytes of one VM; what comes later is dropped */

struct serial {
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scratch, divisor[2];
	bool thre;	/* "the transmitter is empty" has not been read since it was enabled or happened */
	uint64_t total; /* bytes accepted */
	unsigned head, n;
	uint8_t ring[SERIAL_RING];
};

/* What of it outlives it: all but output that was not taken. */
struct serial_saved {
	uint8_t ier, lcr, mcr, scratch, divisor[2], thre, reserved;
	uint64_t total;
};
void serial_save(struct serial *s, struct serial_saved *to);
void serial_load(struct serial *s, const struct serial_saved *from);

void serial_init(struct serial *s);
/* A byte access to port SERIAL_PORT + off, off < SERIAL_PORTS. The write returns a set of: */
#define SERIAL_HAS_OUTPUT 1u /* serial_take() has something */
#define SERIAL_IRQ_PULSE 2u  /* the line is to be raised */
unsigned serial_write(struct serial *s, unsigned off, uint8_t v);
uint8_t serial_read(struct serial *s, unsigned off);
/* Takes up to n bytes of output. */
size_t serial_take(struct serial *s, uint8_t *to, size_t n);

#endif
