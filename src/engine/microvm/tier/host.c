/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A kernel is known by its file: PREFIX/boot/vmlinuz-RELEASE has its modules in PREFIX/lib/modules/RELEASE,
 * as every Debian package unpacks them, installed or not. All paths here are the operator's.
 */
#include "engine/microvm/tier/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/probe.h"

#define GET_KERNEL                                                                                    \
	"apt-get install linux-image-cloud-amd64, or unpack that package anywhere and name its "     \
	"boot/vmlinuz-* with --guest-kernel or BRIG_GUEST_KERNEL"

static const char prefix[] = "vmlinuz-", boot[] = "/boot";

/* The newest vmlinuz-*cloud* of /boot, by version. */
static int kernel_newest(char *ret, size_t cap, struct brig_err *err)
{
	char best[256] = "";
	DIR *d = opendir(boot);
	for (struct dirent *e; d && (e = readdir(d));)
		if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && strstr(e->d_name, "cloud") &&
		    strlen(e->d_name) < sizeof(best) && strverscmp(e->d_name, best) > 0)
			snprintf(best, sizeof(best), "%s", e->d_name);
	if (d)
		closedir(d);
	if (!best[0]) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "there is no guest kernel");
		return brig_fix(err, GET_KERNEL);
	}
	snprintf(ret, cap, "%s/%s", boot, best);
	return 0;
}

static int kernel_find(const char *kernel, struct microvm_host *h, struct brig_err *err)
{
	if (!kernel || !kernel[0]) {
		if (kernel_newest(h->kernel, sizeof(h->kernel), err) < 0)
			return -1;
	} else if (snprintf(h->kernel, sizeof(h->kernel), "%s", kernel) >= (int)sizeof(h->kernel)) {
		return brig_fail(err, BRIG_E_INVALID, 0, "the path of the guest kernel is too long");
	}
	const char *slash = strrchr(h->kernel, '/'), *name = slash ? slash + 1 : "";
	size_t before = slash ? (size_t)(slash - h->kernel) : 0;
	if (h->kernel[0] != '/' || strncmp(name, prefix, strlen(prefix)) || before < strlen(boot) ||
	    memcmp(slash - strlen(boot), boot, strlen(boot))) {
		brig_fail(err, BRIG_E_INVALID, 0, "guest kernel '%.200s' is not named /../boot/vmlinuz-RELEASE", h->kernel);
		return brig_fix(err, "keep it as its package has it, with ../lib/modules/RELEASE beside its folder");
	}
	if (access(h->kernel, R_OK) < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, errno, "open the guest kernel '%.200s'", h->kernel);
		return brig_fix(err, GET_KERNEL);
	}
	snprintf(h->release, sizeof(h->release), "%.63s", name + strlen(prefix));
	int n = snprintf(h->modules, sizeof(h->modules), "%.*s/lib/modules/%s", (int)(before - strlen(boot)), h->kernel,
			 name + strlen(prefix));
	if (n >= (int)sizeof(h->modules) || access(h->modules, R_OK | X_OK) < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, errno, "the guest kernel %.100s has no modules in '%.200s'", h->release,
			  h->modules);
		return brig_fix(err, "unpack the whole package of the kernel, not its image only");
	}
	return 0;
}

static int programs_find(const char *agent, struct microvm_host *h, struct brig_err *err)
{
	const char *slash = strrchr(agent, '/');
	const struct {
		char *path;
		const char *file;
	} rows[] = {
#define X(member, file) { h->member, file },
		MICROVM_PROGRAMS(X)
#undef X
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int n = snprintf(rows[i].path, sizeof(h->vmm), "%.*s%s", slash ? (int)(slash + 1 - agent) : 0, agent,
				 rows[i].file);
		if (n >= (int)sizeof(h->vmm) || access(rows[i].path, X_OK) < 0) {
			brig_fail(err, BRIG_E_NOT_FOUND, errno, "there is no '%.200s'", rows[i].path);
			return brig_fix(err, "install brig completely");
		}
	}
	static const char *const places[] = { "/usr/sbin/mke2fs", "/sbin/mke2fs" };
	for (unsigned i = 0; i < 2 && !h->mke2fs[0]; i++)
		if (access(places[i], X_OK) == 0)
			snprintf(h->mke2fs, sizeof(h->mke2fs), "%s", places[i]);
	if (h->mke2fs[0])
		return 0;
	brig_fail(err, BRIG_E_UNSUPPORTED, 0, "there is no mke2fs, which makes disks of images");
	return brig_fix(err, "apt-get install e2fsprogs");
}

int microvm_host_find(const char *kernel, const char *agent, struct microvm_host *ret, struct brig_err *err)
{
	memset(ret, 0, sizeof(*ret));
	if (agent && programs_find(agent, ret, err) < 0)
		return -1;
	return kernel_find(kernel, ret, err);
}

int microvm_kvm_check(struct brig_err *err)
{
	uint64_t us = 0;
	AUTO_FD kvm = kvm_open();
	if (kvm < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, -kvm, "open /dev/kvm");
		return brig_fix(err, kvm == -EACCES ?
					     "add the user to the group of /dev/kvm" :
					     "modprobe kvm_intel or kvm_amd; in a virtual machine, allow nested virtualisation");
	}
	int r = kvm_probe_loop(kvm, &us);
	if (r == 0 && us <= KVM_PROBE_SLOW_US)
		return 0;
	if (r < 0)
		brig_fail(err, BRIG_E_UNSUPPORTED, -r, "a guest of a few bytes does not run");
	else
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this KVM emulates its guests: %u turns of a loop took %.1f ms", KVM_PROBE_TURNS,
			  (double)us / 1000);
	return brig_fix(err, "use a host, or a cloud's instance type, with hardware virtualisation for its guests");
}
