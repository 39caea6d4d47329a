/* SPDX-License-Identifier: Apache-2.0 */
/* The program brigd; see entry.c. */
#include "daemon/entry.h"

int main(int argc, char **argv)
{
	return brigd_main(argc, argv);
}
