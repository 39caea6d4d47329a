/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The heap is given out from its beginning; pieces that come back wait in a list for each size and are
 * split when a smaller one is wanted. They are never joined: sizes are few, and what a busy hour took
 * is of use in the next. A large piece that comes back returns its pages to the kernel; the bytes of a
 * small one are overwritten, for they may have been a secret.
 *
 * After a death nothing says which pieces are free but the places: ledger_learn() marks what they name
 * and takes the gaps between. A place that names a piece outside the heap, or one that another place
 * names, too, is dropped: its sandbox is then one without a record.
 */
#include "daemon/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this size on a piece that is free has no pages. */
#define RELEASE_MIN (64u * 1024u)

static unsigned class_of(size_t n)
{
	unsigned c = 0;
	while (((size_t)LEDGER_PIECE_MIN << c) < n)
		c++;
	return c;
}

static size_t class_size(unsigned c)
{
	return (size_t)LEDGER_PIECE_MIN << c;
}

static uint64_t ref_at(ledger_ref ref)
{
	return (ref >> 32) * LEDGER_PIECE_MIN;
}

static size_t ref_len(ledger_ref ref)
{
	return (uint32_t)ref;
}

static ledger_ref ref_make(uint64_t at, size_t n)
{
	return (at / LEDGER_PIECE_MIN) << 32 | (uint32_t)n;
}

/* The first piece of the heap is never given out, so that no reference is 0. */
static bool ref_ok(ledger_ref ref)
{
	size_t n = ref_len(ref);
	if (n == 0 || n > LEDGER_PIECE_MAX)
		return false;
	size_t size = class_size(class_of(n));
	return ref_at(ref) >= LEDGER_PIECE_MIN && ref_at(ref) % size == 0 &&
	       ref_at(ref) <= LEDGER_HEAP - size;
}

int ledger_open(struct ledger *l, int fd, bool *ret_lost)
{
	*l = (struct ledger){ .map = NULL };
	uint8_t *map = mmap(NULL, LEDGER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	/* Nothing of it in a dump, whatever the limits say. */
	(void)madvise(map, LEDGER_SIZE, MADV_DONTDUMP);
	l->map = map;
	l->head = (struct ledger_head *)map;
	l->box = (struct ledger_box *)(map + LEDGER_AT_BOXES);
	l->exec = (struct ledger_exec *)(map + LEDGER_AT_EXECS);
	l->heap = map + LEDGER_AT_HEAP;
	l->used = LEDGER_PIECE_MIN;
	*ret_lost = false;
	if (l->head->magic == LEDGER_MAGIC && l->head->version == LEDGER_VERSION)
		return 0;
	*ret_lost = l->head->magic != 0;
	if (*ret_lost && madvise(map, LEDGER_SIZE, MADV_REMOVE) < 0)
		memset(map, 0, LEDGER_AT_HEAP);
	l->head->version = LEDGER_VERSION;
	ledger_put64(&l->head->magic, LEDGER_MAGIC);
	return 0;
}

void ledger_close(struct ledger *l)
{
	for (unsigned i = 0; i < LEDGER_CLASSES; i++)
		free(l->free[i].at);
	if (l->map)
		munmap(l->map, LEDGER_SIZE);
	*l = (struct ledger){ .map = NULL };
}

/* ---- the heap ---- */

/* Without memory for the list the piece is lost until the next brigd learns. */
static void give(struct ledger *l, uint64_t at, unsigned c)
{
	struct ledger_free *f = &l->free[c];
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 16;
		uint32_t *v = reallocarray(f->at, cap, sizeof(*v));
		if (!v)
			return;
		f->at = v;
		f->cap = cap;
	}
	f->at[f->n++] = (uint32_t)(at / LEDGER_PIECE_MIN);
}

/* [from, to), both multiples of the smallest size, in pieces as large as their place allows. */
static void give_range(struct ledger *l, uint64_t from, uint64_t to)
{
	while (from < to) {
		unsigned c = LEDGER_CLASSES - 1;
		while (from % class_size(c) || class_size(c) > to - from)
			c--;
		give(l, from, c);
		from += class_size(c);
	}
}

static bool take(struct ledger *l, unsigned c, uint64_t *ret)
{
	unsigned from = c;
	while (from < LEDGER_CLASSES && l->free[from].n == 0)
		from++;
	if (from < LEDGER_CLASSES) {
		uint64_t at = (uint64_t)l->free[from].at[--l->free[from].n] * LEDGER_PIECE_MIN;
		give_range(l, at + class_size(c), at + class_size(from));
		*ret = at;
		return true;
	}
	uint64_t size = class_size(c), at = (l->used + size - 1) / size * size;
	if (at > LEDGER_HEAP - size)
		return false;
	give_range(l, l->used, at);
	l->used = at + size;
	*ret = at;
	return true;
}

uint8_t *ledger_at(const struct ledger *l, ledger_ref ref)
{
	return l->heap + ref_at(ref);
}

uint8_t *ledger_piece(struct ledger *l, size_t size, ledger_ref *ret)
{
	uint64_t at;
	if (!ledger_on(l) || size > LEDGER_PIECE_MAX || !take(l, class_of(size), &at))
		return NULL;
	*ret = ref_make(at, size);
	return l->heap + at;
}

void ledger_piece_free(struct ledger *l, ledger_ref ref)
{
	if (!ledger_on(l) || !ref)
		return;
	unsigned c = class_of(ref_len(ref));
	uint8_t *p = ledger_at(l, ref);
	if (class_size(c) < RELEASE_MIN || madvise(p, class_size(c), MADV_REMOVE) < 0)
		explicit_bzero(p, ref_len(ref));
	give(l, ref_at(ref), c);
}

int ledger_text_set(struct ledger *l, ledger_ref *ref, const void *p, size_t n)
{
	ledger_ref old = *ref, new;
	if (n == 0 || n > LEDGER_PIECE_MAX)
		return -ENOMEM;
	uint8_t *mem = ledger_piece(l, n, &new);
	if (!mem)
		return -ENOMEM;
	memcpy(mem, p, n);
	ledger_put64(ref, new);
	ledger_piece_free(l, old);
	return 0;
}

const char *ledger_text(const struct ledger *l, ledger_ref ref, size_t *ret_n)
{
	if (!ledger_on(l) || !ref)
		return NULL;
	*ret_n = ref_len(ref);
	return (const char *)ledger_at(l, ref);
}

/* ---- places ---- */

struct ledger_box *ledger_box_new(struct ledger *l)
{
	for (uint32_t i = 0; ledger_on(l) && i < LEDGER_BOXES; i++) {
		struct ledger_box *b = &l->box[(l->next_box + i) % LEDGER_BOXES];
		if (b->used == LEDGER_USED)
			continue;
		memset(b, 0, sizeof(*b));
		l->next_box = (uint32_t)(b - l->box) + 1;
		return b;
	}
	return NULL;
}

struct ledger_exec *ledger_exec_new(struct ledger *l)
{
	for (uint32_t i = 0; ledger_on(l) && i < LEDGER_EXECS; i++) {
		struct ledger_exec *x = &l->exec[(l->next_exec + i) % LEDGER_EXECS];
		if (x->used == LEDGER_USED)
			continue;
		memset(x, 0, sizeof(*x));
		l->next_exec = (uint32_t)(x - l->exec) + 1;
		return x;
	}
	return NULL;
}

void ledger_commit(uint32_t *used)
{
	__atomic_store_n(used, LEDGER_USED, __ATOMIC_RELEASE);
}

void ledger_exec_free(struct ledger *l, struct ledger_exec *x)
{
	if (!x)
		return;
	__atomic_store_n(&x->used, 0, __ATOMIC_RELEASE);
	ledger_piece_free(l, x->cmd);
	x->cmd = 0;
	l->next_exec = (uint32_t)(x - l->exec);
}

void ledger_box_free(struct ledger *l, struct ledger_box *b)
{
	if (!b)
		return;
	__atomic_store_n(&b->used, 0, __ATOMIC_RELEASE);
	ledger_piece_free(l, b->text);
	ledger_piece_free(l, b->ring[0].mem);
	ledger_piece_free(l, b->ring[1].mem);
	memset(b, 0, sizeof(*b));
	l->next_box = (uint32_t)(b - l->box);
}

/* ---- after a death ---- */

struct piece {
	uint64_t at, size;
	uint32_t *used; /* of its place */
};

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Notes the piece of ref, if there is one. False: it makes no sense. */
static bool note(struct piece *v, size_t *n, ledger_ref ref, uint32_t *used)
{
	if (!ref)
		return true;
	if (!ref_ok(ref))
		return false;
	v[(*n)++] = (struct piece){ ref_at(ref), class_size(class_of(ref_len(ref))), used };
	return true;
}

static bool ring_ok(const struct ledger_ring *r)
{
	size_t size = ref_len(r->mem);
	if (!r->mem)
		return true;
	return (size & (size - 1)) == 0 && size >= LEDGER_PIECE_MIN;
}

/* Fewer than there are places, times the references of one. */
#define PIECES_MAX (3u * LEDGER_BOXES + LEDGER_EXECS)

static size_t notes_take(struct ledger *l, struct piece *v)
{
	size_t n = 0;
	for (uint32_t i = 0; i < LEDGER_BOXES; i++) {
		struct ledger_box *b = &l->box[i];
		size_t before = n;
		if (b->used != LEDGER_USED)
			continue;
		if (b->text && ring_ok(&b->ring[0]) && ring_ok(&b->ring[1]) &&
		    note(v, &n, b->text, &b->used) && note(v, &n, b->ring[0].mem, &b->used) &&
		    note(v, &n, b->ring[1].mem, &b->used))
			continue;
		n = before;
		b->used = 0;
	}
	for (uint32_t i = 0; i < LEDGER_EXECS; i++) {
		struct ledger_exec *x = &l->exec[i];
		if (x->used == LEDGER_USED && (x->box >= LEDGER_BOXES || l->box[x->box].used != LEDGER_USED ||
					       !note(v, &n, x->cmd, &x->used)))
			x->used = 0;
	}
	return n;
}

void ledger_learn(struct ledger *l)
{
	uint64_t end = LEDGER_PIECE_MIN;
	if (!ledger_on(l))
		return;
	struct piece *v = calloc(PIECES_MAX, sizeof(*v));
	size_t n = v ? notes_take(l, v) : 0;
	if (!v) { /* nothing can be told apart: nothing is believed */
		memset(l->map + LEDGER_AT_BOXES, 0, LEDGER_AT_HEAP - LEDGER_AT_BOXES);
		return;
	}
	qsort(v, n, sizeof(*v), by_place);
	for (size_t i = 0; i < n; i++) {
		/* Two places claim one piece: the later claim falls, and its sandbox with it. What else that
		 * place names stays taken until the next time. */
		if (v[i].at < end) {
			*v[i].used = 0;
			continue;
		}
		give_range(l, end, v[i].at);
		end = v[i].at + v[i].size;
	}
	l->used = end;
	free(v);
}
