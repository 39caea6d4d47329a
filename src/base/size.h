/* SPDX-License-Identifier: Apache-2.0 */
/*
 * size.h: quantities as people write them: sizes, durations, CPUs and counts, to and from numbers.
 *
 * Parsing is exact: what the text says is what is returned, or an error. Nothing is rounded, no
 * suffix is guessed, no sign, no blank and no locale is looked at, and only the whole text counts.
 *
 * All parsers return 0, or
 *   -EINVAL  not of the form described,
 *   -ERANGE  of the form, but larger than UINT64_MAX - 1 of the unit (UINT64_MAX is kept free for
 *            callers that use it for "none"),
 *   -EDOM    of the form, but not a whole number of the unit ("0.0001s" in milliseconds).
 */
#ifndef BRIG_BASE_SIZE_H
#define BRIG_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* "512m", "1.5GiB", "4096": a decimal number and one of b k m g t p, each but b optionally followed
 * by "b" or "ib", in any case. Every unit is a power of 1024, as with Docker. */
int size_parse_bytes(const char *text, uint64_t *ret_bytes);
/* "90s", "1m30s", "1.5h", "250ms", "2d": numbers with units, the larger unit first, each at most
 * once; a number alone is in seconds, as with timeout(1). */
int size_parse_ms(const char *text, uint64_t *ret_ms);
/* "1.5": CPUs with at most three decimals, in thousandths. */
int size_parse_cpus(const char *text, uint64_t *ret_milli);
/* "256": a decimal whole number. */
int size_parse_count(const char *text, uint64_t *ret_count);

/* Longest text of the functions below, with its NUL. */
#define SIZE_TEXT_MAX 32

/* "512 MiB": exact, in the largest unit that divides the number ("1025 KiB"). */
void size_format_exact(uint64_t bytes, char ret[SIZE_TEXT_MAX]);
/* "1.4 GiB": about three digits, for tables. */
void size_format_bytes(uint64_t bytes, char ret[SIZE_TEXT_MAX]);
/* "1m30s", "250ms", "0s": exact, and of the form that size_parse_ms() reads. */
void size_format_ms(uint64_t ms, char ret[SIZE_TEXT_MAX]);
/* "1.5", "2", "0.01". */
void size_format_cpus(uint64_t milli, char ret[SIZE_TEXT_MAX]);

#endif
