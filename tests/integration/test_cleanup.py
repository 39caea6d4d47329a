# SPDX-License-Identifier: Apache-2.0
"""Kill means gone: whatever ends a run, within two seconds no process, group, namespace, mount, id range
or file of it is left. The comparison itself is made by the test case (brigtest.TestCase)."""

import os
import signal
import subprocess
import time

import brigtest
import hoststate
from brigtest import GONE_S, Brig, PrivateCase, ResidentCase, Server, wait_until

# Every way in which a process may try to stay: in the background, in another session, forked twice,
# stopped, deaf to every signal it can be deaf to, as a zombie, holding the outputs open.
STAYERS = r"""
trap '' TERM INT HUP QUIT USR1 USR2 PIPE
sleep 997 &
setsid sleep 997 &
(setsid sh -c 'sleep 997 & exec sleep 997' &) &
sleep 997 & kill -STOP $!
sh -c 'trap "" TERM INT HUP QUIT; while :; do sleep 997; done' &
nohup sleep 997 >/dev/null 2>&1 &
sh -c 'sh -c "exit 0" & exec sleep 997' &
python3 -S -c 'import os
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "997"])
        os._exit(0)
' 2>/dev/null
mkdir -p /tmp/deep/er; echo x >/tmp/deep/er/f
echo ready
"""
WAIT = "while :; do sleep 997; done"


class CleanupCases:
    def alive(self):
        """Processes of the sandbox, seen from the host: ten at least, or the test shows nothing."""
        found = hoststate.sandbox_processes()
        self.assertGreater(len(found), 10, found)
        return found

    def gone(self, what):
        end = time.monotonic() + GONE_S
        while left := self.left(0):
            if time.monotonic() > end:
                self.fail(f"{what}: left after {GONE_S:.0f} s:\n{hoststate.explain(left)}")
            time.sleep(0.01)

    def test_the_end_of_the_command(self):
        done = self.brig.run("--", "sh", "-c", STAYERS + "exit 3")
        self.assertCode(done, 3)
        self.gone("after the end")

    def test_a_timeout(self):
        done, status = self.brig.status("--timeout", "1500ms", "--", "sh", "-c", STAYERS + WAIT)
        self.assertCode(done, 124)
        self.assertEqual(done.out, b"ready\n")
        self.gone("after the timeout")

    def test_the_death_of_the_client(self):
        p = self.start(self.brig, "--", "sh", "-c", STAYERS + WAIT)
        self.alive()
        p.kill()
        p.wait()
        self.gone("after kill -9 of brig")

    def test_the_client_is_told_to_end(self):
        for sig in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(sig.name):
                p = self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 997")
                p.send_signal(sig)
                self.assertNotEqual(p.wait(10 * brigtest.SLOW), 0)
                self.gone(sig.name)

    def test_an_out_of_memory_kill_and_an_output_limit(self):
        for args in (["--memory", "48m", "--", "sh", "-c", STAYERS + "tail /dev/zero"],
                     ["--max-output", "100k", "--", "sh", "-c", STAYERS + "yes"]):
            done = self.brig.run(*args)
            self.assertNotEqual(done.code, 0)
            self.gone(args[0])

    def test_a_run_that_never_started(self):
        for args in (["--", "no-such-command"], ["--user", "nosuch", "--", "true"],
                     ["--workdir", "/nowhere", "--", "true"]):
            self.assertNotEqual(self.brig.run(*args).code, 0)
            self.gone(args)

    def test_a_client_that_dies_at_any_moment(self):
        # From before the first process exists until after the end; times in a spread of steps.
        for i in range(24):
            p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "sleep 0.03")
            time.sleep(i * 0.002 * brigtest.SLOW)
            p.kill()
            p.communicate()
        self.gone("after 24 kills")

    def test_a_stopped_client_does_not_extend_the_timeout(self):
        p = self.start(self.brig, "--timeout", "1s", "--", "sh", "-c", "echo ready; exec sleep 997")
        p.send_signal(signal.SIGSTOP)
        try:
            wait_until("the sandbox ends although its client is stopped",
                       lambda: not hoststate.sandbox_processes(), 5)
        finally:
            p.send_signal(signal.SIGCONT)
        self.assertEqual(p.wait(10), 124)

    def test_gc_proves_it(self):
        self.assertOk(self.brig.run("--", "sh", "-c", STAYERS))
        self.gone("after the end")
        done = self.brig.call("gc", "--prove")
        self.assertOk(done)


class Private(CleanupCases, PrivateCase):
    def setUp(self):
        super().setUp()
        brigtest.need_root()

    def test_the_death_of_a_shell_around_it(self):
        # The client's own group is killed, as a terminal that is closed does.
        p = subprocess.Popen(["sh", "-c", '"$0" run --image host -- sleep 997; true',
                              self.brig.program], env=self.brig.env, start_new_session=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until("it runs", hoststate.sandbox_processes)
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        self.gone("after the group's death")

    def test_many_runs_leak_nothing(self):
        for _ in range(40):
            self.assertOk(self.brig.run("--", "true"))
        self.gone("after 40 runs")


class Resident(CleanupCases, ResidentCase):
    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        super().setUpClass()

    def test_kill_of_a_sandbox(self):
        p = self.start(self.brig, "--name", "victim", "--", "sh", "-c", STAYERS + WAIT)
        self.alive()
        self.assertOk(self.brig.call("kill", "victim"))
        self.assertEqual(p.wait(10 * brigtest.SLOW), 137)
        self.gone("after brig kill")

    def test_removal_of_a_detached_sandbox(self):
        done = self.brig.run("-d", "--name", "back", "--", "sh", "-c", STAYERS + WAIT)
        self.assertOk(done)
        wait_until("it is up", lambda: b"ready" in self.brig.call("logs", "back").out)
        self.alive()
        self.assertNotEqual(self.brig.call("rm", "back").code, 0, "rm without -f took a running one")
        start = time.monotonic()
        self.assertOk(self.brig.call("rm", "-f", "back"))
        self.assertLess(time.monotonic() - start, GONE_S)
        # rm answers when nothing is left, so nothing has to be waited for.
        self.assertEqual(hoststate.sandbox_processes(), set())
        self.gone("after brig rm")

    def test_the_descriptors_of_the_server_do_not_grow(self):
        def count():
            return {name: len(os.listdir(f"/proc/{pid}/fd")) for name in ("brigd", "brig-jaild")
                    for pid in hoststate.brig_pids(name)[:1]}
        for _ in range(5):
            self.assertOk(self.brig.run("--", "true"))
        self.gone("warm-up")
        before = count()
        for i in range(40):
            self.brig.run("--", "sh", "-c", f"exit {i}")
        p = self.start(self.brig, "--", "sh", "-c", "echo ready; sleep 997")
        p.kill()
        p.wait()
        self.gone("after 40 runs")
        wait_until(f"as few descriptors as before: {before}, {count()}",
                   lambda: all(v <= before[k] + 2 for k, v in count().items()))


class ServerEnd(PrivateCase):
    def setUp(self):
        super().setUp()
        brigtest.need_root()

    def test_a_server_that_is_told_to_end_removes_everything(self):
        server = Server(self.brig)
        self.addCleanup(server.stop)
        for i in range(3):
            self.assertOk(self.brig.run("-d", "--", "sh", "-c", STAYERS + WAIT))
        self.assertOk(self.brig.call("create", "--image", "host"))
        wait_until("they run", lambda: len(hoststate.sandbox_processes()) > 30)
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 5 * brigtest.SLOW)
        self.assertEqual(hoststate.left(self.before, GONE_S), {})

    def test_the_death_of_the_whole_server(self):
        server = Server(self.brig)
        self.addCleanup(server.stop)
        self.assertOk(self.brig.run("-d", "--", "sh", "-c", STAYERS + WAIT))
        wait_until("it runs", lambda: len(hoststate.sandbox_processes()) > 10)
        victims = [p for p in hoststate.brig_pids() if p != server.process.pid]
        os.kill(server.process.pid, signal.SIGKILL)
        for pid in victims:
            if hoststate.comm_of(pid).startswith(("brigd", "brig-jaild")):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()
        # Nobody is left who could clean up: the next brig does.
        self.assertOk(self.brig.call("gc"))
        left = hoststate.left(self.before, GONE_S)
        self.assertEqual(left, {}, hoststate.explain(left))
        self.assertOk(self.brig.call("gc", "--prove"))

    def test_a_background_server_ends_when_it_has_nothing_to_do(self):
        brig = Brig()
        brig.socket.parent.mkdir(mode=0o711)
        server = Server(brig, "--idle-exit", "300ms")
        self.assertOk(brig.run("--", "true"))
        server.process.wait(10 * brigtest.SLOW)
        self.assertEqual(server.stop(), 0)
