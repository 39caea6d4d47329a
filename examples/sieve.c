/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the primes up to N (default ten million) with the sieve of Eratosthenes, odd numbers only. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Entry i of the sieve stands for the number 2 * i + 1. */
static uint64_t count_primes(uint8_t *composite, uint64_t n)
{
	uint64_t found = n >= 2; /* 2, which the sieve leaves out */
	for (uint64_t i = 1; 2 * i + 1 <= n; i++) {
		if (composite[i])
			continue;
		uint64_t p = 2 * i + 1;
		found++;
		for (uint64_t m = p * p; m <= n; m += 2 * p)
			composite[m / 2] = 1;
	}
	return found;
}

int main(int argc, char **argv)
{
	char *end = NULL;
	errno = 0;
	uint64_t n = argc > 1 ? strtoull(argv[1], &end, 10) : 10000000;
	if (errno || (end && (*end || end == argv[1])) || n > UINT32_MAX) {
		fprintf(stderr, "usage: sieve [N]   (N up to %u)\n", UINT32_MAX);
		return 2;
	}
	uint8_t *composite = calloc(n / 2 + 1, 1);
	if (!composite) {
		perror("sieve");
		return 1;
	}
	printf("%llu primes up to %llu\n", (unsigned long long)count_primes(composite, n),
	       (unsigned long long)n);
	free(composite);
	return 0;
}
