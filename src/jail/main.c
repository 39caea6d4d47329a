/* SPDX-License-Identifier: Apache-2.0 */
/* The program brig-jaild; see entry.c. */
#include "jail/entry.h"

int main(int argc, char **argv)
{
	return jaild_main(argc, argv);
}
