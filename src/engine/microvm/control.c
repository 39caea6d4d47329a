/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in the VMM thread, between two rounds. The other end is the one that started us; it has every right
 * over this process already, so nothing here protects us from it. What it sends is checked because it may be
 * of another version. The end of the socket is no reason to end: a jaild that dies takes us along by other
 * means.
 */
#include "engine/microvm/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/microvm/vm.h"

void vm_tell(const struct vm *vm, uint32_t verb, const struct brig_err *err)
{
	struct vmm_answer a = { .verb = verb, .code = err ? (uint32_t)err->code : 0 };
	if (err) {
		snprintf(a.msg, sizeof(a.msg), "%.383s", err->msg);
		snprintf(a.remedy, sizeof(a.remedy), "%.255s", err->remedy);
	}
	/* Who does not read it does not want it. */
	if (vm->control >= 0)
		(void)!write(vm->control, &a, sizeof(a));
}

static int snapshot(struct vm *vm, int state, int ram, struct brig_err *err)
{
	vm_halt(vm);
	int r = __atomic_load_n(&vm->ended, __ATOMIC_ACQUIRE) == VM_END_RUNNING ?
			state_save(vm, state, ram, err) :
			brig_fail(err, BRIG_E_STATE, 0, "the virtual machine has ended");
	vm_go(vm);
	return r;
}

bool control_serve(struct vm *vm)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct vmm_ask ask;
	int fd[2] = { -1, -1 };
	unsigned nfd = 2;
	ssize_t n = fd_recv(vm->control, &ask, sizeof(ask), fd, &nfd, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EINTR)
		return true;
	if (n == 0 || (n < 0 && n != -EMSGSIZE))
		return false;
	int r;
	if (n == sizeof(ask) && ask.verb == VMM_SNAPSHOT && ask.reserved == 0 && nfd == 2)
		r = snapshot(vm, fd[0], fd[1], &err);
	else
		r = brig_fail(&err, BRIG_E_PROTOCOL, 0, "brig-vmm does not know this request");
	for (unsigned i = 0; i < 2; i++)
		fd_close(&fd[i]);
	vm_tell(vm, n == sizeof(ask) ? ask.verb : 0, r < 0 ? &err : NULL);
	return true;
}
