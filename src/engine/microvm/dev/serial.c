/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The transmitter is always empty: a byte goes into a ring, which the VMM thread empties into the
 * console's descriptor. A full ring, or SERIAL_TOTAL_MAX, drops bytes and never holds the guest up.
 * Loopback exists because Linux's probe looks for it (drivers/tty/serial/8250, autoconfig); a FIFO
 * does not, hence a 16450.
 */
#include "engine/microvm/dev/serial.h"

#include <string.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { IER_THRI = 2, IIR_NONE = 1, IIR_THRI = 2, LCR_DLAB = 0x80, MCR_LOOP = 0x10, LSR_EMPTY = 0x60,
       MSR_READY = 0xb0 };

void serial_init(struct serial *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
}

static unsigned put(struct serial *s, uint8_t v)
{
	if (s->n == SERIAL_RING || s->total >= SERIAL_TOTAL_MAX)
		return 0;
	s->ring[(s->head + s->n++) % SERIAL_RING] = v;
	s->total++;
	return SERIAL_HAS_OUTPUT;
}

static unsigned reg_write(struct serial *s, unsigned off, uint8_t v)
{
	bool dlab = s->lcr & LCR_DLAB;
	unsigned r = 0;
	switch (off) {
	case DATA:
		if (dlab) {
			s->divisor[0] = v;
			return 0;
		}
		/* In loopback a byte comes back to the receiver, which we do not have. */
		r = s->mcr & MCR_LOOP ? 0 : put(s, v);
		break;
	case IER:
		if (dlab) {
			s->divisor[1] = v;
			return 0;
		}
		s->ier = v & 0x0f;
		break;
	case LCR: s->lcr = v; return 0;
	case MCR: s->mcr = v & 0x1f; return 0;
	case SCR: s->scratch = v; return 0;
	default: return 0;
	}
	/* The transmitter is empty again, or somebody wants to hear of it. */
	s->thre = s->ier & IER_THRI;
	return r | (s->thre ? SERIAL_IRQ_PULSE : 0);
}

static uint8_t reg_read(struct serial *s, unsigned off)
{
	bool dlab = s->lcr & LCR_DLAB;
	switch (off) {
	case DATA: return dlab ? s->divisor[0] : 0;
	case IER: return dlab ? s->divisor[1] : s->ier;
	case IIR:
		if (!s->thre)
			return IIR_NONE;
		s->thre = false;
		return IIR_THRI;
	case LCR: return s->lcr;
	case MCR: return s->mcr;
	case LSR: return LSR_EMPTY;
	case MSR:
		if (!(s->mcr & MCR_LOOP))
			return MSR_READY;
		/* DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD. */
		return (uint8_t)((s->mcr & 1) << 5 | (s->mcr & 2) << 3 | (s->mcr & 4) << 4 | (s->mcr & 8) << 4);
	default: return s->scratch;
	}
}

unsigned serial_write(struct serial *s, unsigned off, uint8_t v)
{
	pthread_mutex_lock(&s->lock);
	unsigned r = reg_write(s, off, v);
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint8_t serial_read(struct serial *s, unsigned off)
{
	pthread_mutex_lock(&s->lock);
	uint8_t v = reg_read(s, off);
	pthread_mutex_unlock(&s->lock);
	return v;
}

size_t serial_take(struct serial *s, uint8_t *to, size_t n)
{
	size_t done = 0;
	pthread_mutex_lock(&s->lock);
	while (done < n && s->n) {
		to[done++] = s->ring[s->head];
		s->head = (s->head + 1) % SERIAL_RING;
		s->n--;
	}
	pthread_mutex_unlock(&s->lock);
	return done;
}

void serial_save(struct serial *s, struct serial_saved *to)
{
	pthread_mutex_lock(&s->lock);
	*to = (struct serial_saved){ .ier = s->ier, .lcr = s->lcr, .mcr = s->mcr, .scratch = s->scratch,
				     .divisor = { s->divisor[0], s->divisor[1] }, .thre = s->thre, .total = s->total };
	pthread_mutex_unlock(&s->lock);
}

void serial_load(struct serial *s, const struct serial_saved *from)
{
	/* As reg_write() would have it. */
	s->ier = from->ier & 0x0f;
	s->lcr = from->lcr;
	s->mcr = from->mcr & 0x1f;
	s->scratch = from->scratch;
	s->divisor[0] = from->divisor[0];
	s->divisor[1] = from->divisor[1];
	s->thre = from->thre && (s->ier & IER_THRI);
	s->total = from->total;
}
