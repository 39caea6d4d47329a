/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that somebody gives as the guest's kernel.
 *
 * Oracle: refused with a message and, unless reading failed, a remedy; or every byte went into guest
 * memory, which is as long as AddressSanitizer says, and the entry lies in what was loaded.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/microvm/acpi.h"
#include "engine/microvm/boot.h"
#include "engine/microvm/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAM = 4 << 20 };

static void must(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_mem m = { .n = 1, .region = { { 0, RAM, malloc(RAM) } } };
	struct brig_err err = BRIG_ERR_INIT;
	struct kernel k;
	struct initrd initrd;
	struct kvm_regs regs;
	struct kvm_sregs sregs = { 0 };
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	must(fd >= 0 && m.region[0].host);
	if (write(fd, data, size) == (ssize_t)size) {
		if (kernel_load(fd, &m, &k, &err) < 0) {
			must(err.code != BRIG_E_OK && err.msg[0]);
		} else {
			must(k.entry >= k.start && k.entry < k.end && k.end <= RAM && k.start >= AT_KERNEL_MIN);
			if (initrd_load(fd, &m, &k, &initrd, &err) == 0) {
				must(initrd.at >= k.end && initrd.at + initrd.len <= RAM);
				if (boot_write(&m, &k, &initrd, "console=none", &err) == 0)
					boot_registers(&k, &regs, &sregs);
			}
		}
	}
	close(fd);
	free(m.region[0].host);
	return 0;
}
