# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: the failpoints of the sources, who died of what, and the verdict that every
one of them ends with."""

import ctypes
import os
import re
import signal
import time

import brigtest
import hoststate
from brigtest import Brig, PrivateCase

PR_SET_CHILD_SUBREAPER = 36


def failpoints():
    """[(name, source file, True if the place handles an injected error)], from the sources."""
    found = []
    for path in sorted(brigtest.SOURCE.glob("src/**/*.c")):
        # Those of the client are switches of single tests.
        if path.parent.name in ("base", "cli"):
            continue
        for line in path.read_text().splitlines():
            for name in re.findall(r'FAILPOINT\("([^"]+)"\)', line):
                found.append((name, str(path.relative_to(brigtest.SOURCE)), "(void)" not in line))
    return found


class Fault(PrivateCase):
    """Orphans come to this process, which sees what each died of: the proof that a fault happened."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        brigtest.need_root()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "become a subreaper")

    def setUp(self):
        super().setUp()
        self.orphans()
        # The class comparison counts a zombie of ours as a process that was left.
        self.addCleanup(self.orphans)

    def left(self, within):
        end = time.monotonic() + within
        while True:
            self.orphans()
            left = hoststate.difference(self.before)
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.02)

    @staticmethod
    def orphans():
        """Collects dead processes that nobody else will: [(name, signal or 0)]."""
        dead = []
        known = {p.pid for p in brigtest._started}
        for thread in os.listdir("/proc/self/task"):
            for pid in map(int, hoststate.read(f"/proc/self/task/{thread}/children").split()):
                if pid in known:
                    continue
                try:
                    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if info is None:
                        continue
                    name = hoststate.comm_of(pid)
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    continue
                killed = info.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
                dead.append((name, info.si_status if killed else 0))
        return dead

    def victims(self, seconds=1.0):
        """Names of brig's programs that died of SIGKILL, as they come within the time."""
        dead, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            dead += [name for name, sig in self.orphans() if sig == signal.SIGKILL]
            if not hoststate.brig_pids("brigd") and not hoststate.brig_pids("brig-jaild"):
                break
            time.sleep(0.01)
        return dead

    def recovered(self, plain=None):
        """What must hold after every fault: gc explains or removes all there is, the host is as before,
        and the next command works."""
        plain = plain or Brig()
        end = time.monotonic() + brigtest.GONE_S
        while True:
            self.orphans()
            done = plain.call("gc", "--prove")
            if done.code == 0 or time.monotonic() > end:
                break
        self.assertOk(done)
        left = self.left(brigtest.GONE_S)
        self.assertEqual(left, {}, "after gc is left:\n" + hoststate.explain(left))
        done = plain.run("--", "echo", "works")
        self.assertEqual((done.code, done.out), (0, b"works\n"), str(done))
