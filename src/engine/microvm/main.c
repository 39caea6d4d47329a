/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-vmm: one virtual machine on KVM.
 *
 * Theory of operation
 * -------------------
 * Started by brig-jaild (or a test) with every descriptor it needs; the arguments say which is which.
 * It makes the VM, gives all its rights away, and serves the devices until the guest or the agent
 * channel ends. Its process is the VM: killed, nothing of it remains.
 *
 * Exit codes: 0 the VM ended; 1 it could not be started (one line on standard error: cause and
 * remedy); 2 the arguments are wrong; 3 and 4: see VM_ENDS.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/control.h"
#include "engine/microvm/filter.h"
#include "engine/microvm/jail.h"
#include "engine/microvm/vm.h"

static const char usage[] =
	"usage: brig-vmm kvm=FD chan=FD memory=MIB vcpus=N uid=N gid=N\n"
	"         kernel=FD [initrd=FD] [cmdline=TEXT] | state=FD ram=FD\n"
	"         [disk=FD[,rw][,bytes=N][,requests=N]]... [console=FD] [port=N] [control=FD]\n"
	"One virtual machine; started by brig-jaild, not meant to be run by hand.\n";

static int number(const char *text, uint32_t max, uint32_t *ret)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || n > max)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

static int descriptor(const char *text, int *ret)
{
	uint32_t n;
	int r = number(text, 1u << 20, &n);
	if (r == 0)
		*ret = (int)n;
	return r;
}

/* A second; not 0, which is none. */
static int rate(const char *text, uint64_t *ret)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || n == 0 || n > BUCKET_RATE_MAX)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int disk(struct vm_config *c, char *text)
{
	if (c->ndisks == DISKS_MAX)
		return -EINVAL;
	char *save = NULL, *word = strtok_r(text, ",", &save);
	int r = word ? descriptor(word, &c->disk[c->ndisks].fd) : -EINVAL;
	while (r == 0 && (word = strtok_r(NULL, ",", &save))) {
		if (strcmp(word, "rw") == 0)
			c->disk[c->ndisks].writable = true;
		else if (strncmp(word, "bytes=", 6) == 0)
			r = rate(word + 6, &c->disk[c->ndisks].bytes);
		else if (strncmp(word, "requests=", 9) == 0)
			r = rate(word + 9, &c->disk[c->ndisks].requests);
		else
			r = -EINVAL;
	}
	c->ndisks++;
	return r;
}

static int argument(struct vm_config *c, char *arg)
{
	char *v = strchr(arg, '=');
	uint32_t n = 0;
	int r;
	if (!v)
		return -EINVAL;
	*v++ = '\0';
	if (strcmp(arg, "kvm") == 0)
		return descriptor(v, &c->kvm);
	if (strcmp(arg, "kernel") == 0)
		return descriptor(v, &c->kernel);
	if (strcmp(arg, "initrd") == 0)
		return descriptor(v, &c->initrd);
	if (strcmp(arg, "chan") == 0)
		return descriptor(v, &c->chan);
	if (strcmp(arg, "console") == 0)
		return descriptor(v, &c->console);
	if (strcmp(arg, "control") == 0)
		return descriptor(v, &c->control);
	if (strcmp(arg, "state") == 0)
		return descriptor(v, &c->state);
	if (strcmp(arg, "ram") == 0)
		return descriptor(v, &c->ram);
	if (strcmp(arg, "disk") == 0)
		return disk(c, v);
	if (strcmp(arg, "cmdline") == 0) {
		c->cmdline = v;
		return 0;
	}
	if (strcmp(arg, "memory") == 0) {
		r = number(v, GUEST_MEM_MAX >> 20, &n);
		c->memory = (uint64_t)n << 20;
		return r;
	}
	if (strcmp(arg, "vcpus") == 0) {
		r = number(v, VCPUS_MAX, &n);
		c->vcpus = n;
		return r;
	}
	if (strcmp(arg, "uid") == 0)
		return number(v, UINT32_MAX - 1, &c->uid);
	if (strcmp(arg, "gid") == 0)
		return number(v, UINT32_MAX - 1, &c->gid);
	if (strcmp(arg, "port") == 0)
		return number(v, UINT32_MAX - 1, &c->port);
	return -EINVAL;
}

static int config_read(struct vm_config *c, int argc, char **argv)
{
	*c = (struct vm_config){ .kvm = -1, .kernel = -1, .initrd = -1, .chan = -1, .console = -1,
				 .control = -1, .state = -1, .ram = -1, .port = 1, .cmdline = "" };
	for (int i = 1; i < argc; i++)
		if (argument(c, argv[i]) < 0)
			return -EINVAL;
	/* Uid 0 never runs a guest. */
	bool restores = c->state >= 0 && c->ram >= 0 && c->kernel < 0 && c->initrd < 0,
	     boots = c->state < 0 && c->ram < 0 && c->kernel >= 0;
	return c->kvm < 0 || (!boots && !restores) || c->chan < 0 || c->memory == 0 || c->vcpus == 0 || c->uid == 0 ||
			       c->gid == 0
		       ? -EINVAL
		       : 0;
}

static int start(struct vm *vm, struct vm_config *c, struct brig_err *err)
{
	int *fd[8 + DISKS_MAX] = { &c->kvm, &c->kernel, &c->initrd, &c->chan, &c->console, &c->control, &c->state,
				   &c->ram };
	unsigned n = 8;
	const pid_t parent = getppid();
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < c->ndisks; i++)
		fd[n++] = &c->disk[i].fd;
	if (jail_files(fd, n, err) < 0 || vm_init(vm, c, err) < 0 || jail_namespaces(err) < 0 ||
	    jail_user(c->uid, c->gid, err) < 0 || vm_threads_start(vm, err) < 0)
		return -1;
	if (getppid() != parent)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "whoever started it is gone");
	/* What only the start needed. */
	int *const done[] = { &c->kvm, &c->kernel, &c->initrd, &c->state, &c->ram };
	for (unsigned i = 0; i < sizeof(done) / sizeof(done[0]); i++)
		fd_close(done[i]);
	int r = filter_vmm();
	if (r < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, -r, "install the system call filter");
	vm_tell(vm, VMM_STARTED, NULL);
	vm_go(vm);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		int code;
		const char *text;
	} ends[] = {
#define X(name, code, text) { code, text },
		VM_ENDS(X)
#undef X
	};
	static struct vm vm;
	struct vm_config c;
	struct brig_err err = BRIG_ERR_INIT;
	if (config_read(&c, argc, argv) < 0) {
		fputs(usage, stderr);
		return 2;
	}
	if (start(&vm, &c, &err) < 0) {
		/* Before vm_init() the machine knows no socket; whoever waits on it sees our end. */
		vm.control = c.control;
		vm_tell(&vm, VMM_STARTED, &err);
		fprintf(stderr, "brig-vmm: %s%s%s\n", err.msg, err.remedy[0] ? "; remedy: " : "", err.remedy);
		return 1;
	}
	enum vm_end end = vm_loop(&vm);
	dprintf(STDERR_FILENO, "brig-vmm: %s (%llu, %llu)\n", ends[end].text,
		(unsigned long long)vm.end_detail[0], (unsigned long long)vm.end_detail[1]);
	/* The kernel undoes the rest with the process; the vCPU threads may still be in the guest. */
	_exit(ends[end].code);
}
