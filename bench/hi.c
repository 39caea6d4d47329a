/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hi.c: the payload of the latency benchmarks. Linked statically with musl it needs no loader, no
 * library and no file of its root, so that what is timed is the sandbox and not the program in it.
 */
#include <unistd.h>

int main(void)
{
	return write(STDOUT_FILENO, "hi\n", 3) == 3 ? 0 : 1;
}
