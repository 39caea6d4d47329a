# SPDX-License-Identifier: Apache-2.0
"""Attacks that need no C: floods, bombs, tricks with signals, links and terminals. Each must end as its
limit says, harm neither the host nor a neighbour, and leave nothing (which every test compares)."""

import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import brigtest
import hoststate
from brigtest import MIB, ResidentCase, wait_until
from terminal import Terminal

PYTHON = "/usr/bin/python3"


class Neighbour(threading.Thread):
    """A sandbox beside the attacker that answers as long as it is left alone."""

    def __init__(self, brig):
        super().__init__(daemon=True)
        self.brig, self.stop, self.slowest, self.failed = brig, threading.Event(), 0.0, None

    def run(self):
        while not self.stop.is_set():
            start = time.monotonic()
            try:
                done = self.brig.call("exec", "neighbour", "cat", "/tmp/mark", timeout=30)
                if done.out != b"mine\n":
                    self.failed = str(done)
                    return
            except AssertionError as e:
                self.failed = str(e)
                return
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.stop.wait(0.05)


class Scripts(ResidentCase):
    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        super().setUpClass()
        brig = cls.class_brig
        brig.call("create", "--image", "host", "--name", "neighbour", "--memory", "64m")
        brig.call("exec", "neighbour", "sh", "-c", "echo mine >/tmp/mark")

    def _remove_all(self):
        """The neighbour stays; a test's own sandboxes are `run`s."""

    def attack(self, *args, user="user", expect=None, **kw):
        """Runs the attack beside a neighbour; (Done, status)."""
        beside = Neighbour(self.brig)
        beside.start()
        try:
            done, status = self.brig.status("--user", user, *args, **kw)
        finally:
            beside.stop.set()
            beside.join()
        self.assertIsNone(beside.failed, "the neighbour was harmed")
        # Two CPUs, one of them burnt at most: a neighbour may be slow, not stopped.
        self.assertLess(beside.slowest, 3.0 * brigtest.SLOW, "the neighbour was starved")
        if expect is not None:
            self.assertEqual(status["stop_reason"], expect, f"{status}\n{done}")
        return done, status

    # ---- floods and bombs ----

    def test_a_fork_bomb(self):
        for user in ("user", "root"):
            _, status = self.attack("--pids", "64", "--timeout", "2s", "--", "bash", "-c",
                                    "b() { b | b & }; b; while :; do sleep 1; done", user=user,
                                    expect="wall_time")
            self.assertIn("pids", status["limits_hit"])
            self.assertLessEqual(status["usage"]["pids_peak"], 64)

    def test_a_thread_bomb(self):
        text = ("import threading, time\nwhile True:\n try: threading.Thread(target=time.sleep, args=(9,), "
                "daemon=True).start()\n except RuntimeError: time.sleep(0.01)")
        _, status = self.attack("--pids", "64", "--timeout", "2s", "--", PYTHON, "-S", "-c", text,
                                expect="wall_time")
        self.assertIn("pids", status["limits_hit"])

    def test_a_zombie_flood(self):
        # Children that nobody collects fill the limit; those whose parent dies are the agent's to reap.
        text = ("import os, time\nfor i in range(300):\n if os.fork() == 0:\n  if os.fork() == 0:\n"
                "   os._exit(0)\n  os._exit(0)\n os.wait()\ntime.sleep(0.3)\n"
                "n = sum(open(f'/proc/{p}/stat').read().split()[2] == 'Z' for p in os.listdir('/proc') "
                "if p.isdigit())\nprint(n)")
        done, status = self.attack("--pids", "40", "--", PYTHON, "-S", "-c", text, expect="exited")
        self.assertEqual(done.code, 0, str(done))
        self.assertLess(int(done.text), 10, "orphans are not reaped")
        self.assertNotIn("pids", status["limits_hit"])

    def test_a_memory_bomb(self):
        _, status = self.attack("--memory", "64m", "--", "tail", "/dev/zero", expect="out_of_memory")
        self.assertLessEqual(status["usage"]["memory_peak_bytes"], 64 * MIB)

    def test_a_memory_bomb_of_many_processes(self):
        _, status = self.attack("--memory", "64m", "--timeout", "3s", "--", "sh", "-c",
                                "while :; do tail /dev/zero & tail /dev/zero & wait; done")
        self.assertIn("memory", status["limits_hit"])

    def test_a_memory_bomb_by_files_and_pages_of_others(self):
        for script in ("head -c 1000000000 /dev/zero >/dev/shm/f; cat /dev/shm/f >/tmp/g",
                       "for i in $(seq 200); do cat /usr/bin/* >/dev/null & done 2>/dev/null; wait"):
            _, status = self.attack("--memory", "96m", "--timeout", "4s", "--", "sh", "-c", script)
            self.assertLessEqual(status["usage"]["memory_peak_bytes"], 96 * MIB)

    def test_a_disk_filler(self):
        _, status = self.attack("--disk", "30m", "--", "sh", "-c", "cat /dev/zero >/tmp/f; "
                                "cat /dev/zero >/home/user/f; cat /dev/zero >/dev/shm/f; sleep 0.6")
        self.assertIn("disk", status["limits_hit"])

    def test_a_filler_of_inodes(self):
        text = ("import os, time\nos.chdir('/tmp')\ntry:\n for i in range(10**6): os.mkdir(f'd{i}')\n"
                "except OSError as e: print(e.errno, i); time.sleep(0.6)")
        done, status = self.attack("--inodes", "2000", "--", PYTHON, "-S", "-c", text, expect="exited")
        self.assertRegex(done.text, r"^28 1\d\d\d$")
        self.assertIn("inodes", status["limits_hit"])

    def test_endless_output(self):
        done, status = self.attack("--max-output", "5m", "--", "sh", "-c", "yes & yes >&2 & yes",
                                   expect="output")
        self.assertEqual(status["usage"]["stdout_bytes"] + status["usage"]["stderr_bytes"], 5 * MIB)

    def test_output_without_newlines_or_in_single_bytes(self):
        text = "import os\nwhile True: os.write(1, b'x'); os.write(2, b'y')"
        self.attack("--max-output", "300k", "--timeout", "30s", "--", PYTHON, "-S", "-c", text,
                    expect="output")

    def test_a_cpu_burner(self):
        self.attack("--cpus", "1", "--cpu-time", "1s", "--", "sh", "-c",
                    "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait", expect="cpu_time")

    def test_descriptors_are_exhausted_inside_only(self):
        text = ("import os, socket, time\nn = []\ntry:\n while True: n += socket.socketpair()\n"
                "except OSError as e: print(e.errno); time.sleep(0.4)")
        done, _ = self.attack("--nofile", "1024", "--", PYTHON, "-S", "-c", text, expect="exited")
        self.assertEqual(done.out, b"24\n")

    def test_descriptors_in_flight_are_bounded(self):
        # Descriptors that travel in a socket are counted against the user, not the process.
        text = ("import array, os, socket\ns = [socket.socketpair() for _ in range(100)]\nn = 0\n"
                "f = [os.open('/dev/null', 0) for _ in range(200)]\n"
                "try:\n for a, b in s:\n  a.setblocking(False)\n  for _ in range(50):\n"
                "   a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', f))])\n"
                "   n += len(f)\nexcept OSError as e: print('stopped', e.errno, n)")
        done, _ = self.attack("--nofile", "1024", "--", PYTHON, "-S", "-c", text)
        self.assertIn("stopped", done.text, "a million descriptors of the host were taken")

    # ---- signals, sessions, ends ----

    def test_kill_of_everything(self):
        for user in ("user", "root"):
            done, status = self.attack("--", "sh", "-c", "kill -9 -1; echo survived", user=user)
            self.assertIn(status["stop_reason"], ("exited", "signaled", "host_fault"))

    def test_every_signal_to_the_agent(self):
        text = ("import os\nfor s in range(1, 65):\n try: os.kill(1, s)\n except OSError: pass\n"
                "print('sent')")
        for user in ("user", "root"):
            done, status = self.attack("--", PYTHON, "-S", "-c", text, user=user)
            self.assertIn(status["stop_reason"], ("exited", "host_fault"), str(done))
            if status["stop_reason"] == "exited":
                self.assertEqual(done.out, b"sent\n")

    def test_stopping_the_agent_does_not_stop_the_clock(self):
        _, status = self.attack("--timeout", "1s", "--", PYTHON, "-S", "-c",
                                "import os, time\ntry: os.kill(1, 19)\nexcept OSError: pass\ntime.sleep(60)",
                                user="root")
        self.assertEqual(status["stop_reason"], "wall_time")

    def test_daemons_of_every_kind_end(self):
        text = ("import os, signal, time\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n"
                " except (OSError, ValueError): pass\nfor _ in range(30):\n if os.fork() == 0:\n"
                "  os.setsid()\n  if os.fork() == 0:\n   os.chdir('/')\n   time.sleep(600)\n  os._exit(0)\n")
        done, status = self.attack("--", PYTHON, "-S", "-c", text, expect="exited")
        self.assertLess(done.seconds, 5 * brigtest.SLOW)

    # ---- files and paths ----

    def test_deep_directories(self):
        text = ("import os\ntry:\n for i in range(20000): os.mkdir('d'); os.chdir('d')\n"
                "except OSError: pass\nprint(i)")
        done, _ = self.attack("--workdir", "/tmp", "--", PYTHON, "-S", "-c", text, expect="exited")
        self.assertGreater(int(done.text), 1000)

    def test_huge_argument_lists_inside(self):
        text = ("import os\ntry: os.execv('/bin/true', ['x'] * 3000000)\n"
                "except OSError as e: print(e.errno)")
        done, _ = self.attack("--memory", "256m", "--", PYTHON, "-S", "-c", text)
        self.assertIn(done.out, (b"7\n", b""))

    def test_the_memory_of_other_processes(self):
        # Of its own process it may; of the agent and through /proc/PID/mem of a neighbour it may not.
        text = ("import os\nfor p in ('1', str(os.getppid())):\n for how in (os.O_RDONLY, os.O_RDWR):\n"
                "  try:\n   f = os.open(f'/proc/{p}/mem', how)\n   os.pread(f, 16, 0x400000)\n"
                "   print('BROKEN', p, how)\n  except OSError: pass\nprint('tried')")
        for user in ("user", "root"):
            done, _ = self.attack("--", PYTHON, "-S", "-c", text, user=user, expect="exited")
            self.assertEqual(done.out, b"tried\n")

    def test_own_code_cannot_be_used_to_change_files_of_the_image(self):
        victim = pathlib.Path("/usr/bin/id")
        before = hashlib.sha256(victim.read_bytes()).hexdigest()
        text = ("import mmap, os\nfor flags in (os.O_RDONLY, os.O_RDWR):\n try:\n"
                "  f = os.open('/usr/bin/id', flags)\n"
                "  m = mmap.mmap(f, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)\n"
                "  m[0:4] = b'evil'\n  m.flush()\n except (OSError, PermissionError): pass\n"
                " try:\n  r, w = os.pipe()\n  os.write(w, b'x')\n  os.splice(r, f, 1)\n"
                " except OSError: pass\n"
                "m = os.open('/proc/self/mem', os.O_RDWR)\nprint('tried')")
        for user in ("user", "root"):
            done, _ = self.attack("--", PYTHON, "-S", "-c", text, user=user, expect="exited")
            self.assertEqual(done.out, b"tried\n")
        self.assertEqual(hashlib.sha256(victim.read_bytes()).hexdigest(), before)
        self.assertEqual(subprocess.run([str(victim), "-u"], capture_output=True).returncode, 0)

    def test_hard_links_to_files_of_the_image_and_of_volumes(self):
        d = self.tmp / "vol"
        d.mkdir()
        (d / "secret").write_text("x")
        (d / "secret").chmod(0o600)
        done, _ = self.attack("--volume", f"{d}:/data", "--", "sh", "-c",
                              "ln /usr/bin/id /data/id; ln /usr/bin/id /tmp/id; ln /etc/passwd /data/p; "
                              "ln /data/secret /tmp/s; ls /data")
        self.assertEqual([p.name for p in d.iterdir()], ["secret"], str(done))

    def test_a_renamed_volume_directory_is_not_followed_out(self):
        # While a process inside sits in a directory of the volume, the host moves it elsewhere.
        d = self.tmp / "vol"
        (d / "in").mkdir(parents=True)
        (self.tmp / "secret").write_text("canary")
        p = self.start(self.brig, "--volume", f"{d}:/data", "--", "sh", "-c",
                       "cd /data/in && echo ready; read x; cat ../secret ../../secret ../vol/x; ls -a ..; "
                       "echo tried", stdin=subprocess.PIPE)
        (d / "in").rename(self.tmp / "out")
        p.stdin.write(b"go\n")
        p.stdin.close()
        out = p.stdout.read()
        self.assertIn(b"tried", out)
        self.assertNotIn(b"canary", out)

    # ---- the terminal ----

    def test_keys_cannot_be_put_into_a_terminal(self):
        text = ("import ctypes, fcntl, os, termios\nlibc = ctypes.CDLL(None, use_errno=True)\n"
                "for request in (0x5412, 0x5412 | 1 << 32, 0x541c, 0x541c | 7 << 40, 0x541d):\n"
                " b = ctypes.create_string_buffer(b'x')\n"
                " r = libc.syscall(ctypes.c_long(16), ctypes.c_long(0), ctypes.c_ulong(request), b)\n"
                " print('BROKEN' if r == 0 else 'held', hex(request), ctypes.get_errno())\nprint('tried')")
        t = Terminal([self.brig.program, "run", "--image", "host", "--user", "root", "--", PYTHON, "-S",
                      "-c", text], {**self.brig.env, "TERM": "xterm"})
        self.addCleanup(t.close)
        out = t.rest()
        self.assertEqual(t.wait(), 0)
        self.assertIn(b"tried", out)
        self.assertNotIn(b"BROKEN", out)

    def test_what_brig_says_about_a_sandbox_cannot_steer_a_terminal(self):
        evil = "\x1b]0;title\x07\x1b[2J"
        for args in (["--", f"/no{evil}such"], ["--workdir", f"/a{evil}", "--", "true"],
                     ["--image", f"x{evil}", "--", "true"], ["--memory", evil, "--", "true"]):
            done = self.brig.call("run", *args)
            self.assertNotEqual(done.code, 0)
            self.assertNotIn(b"\x1b", done.err, str(done))

    # ---- the network ----

    def test_addresses_of_the_host_are_not_there(self):
        listener = socket.create_server(("0.0.0.0", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        listener.settimeout(0.2)
        addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
        text = ("import socket, sys\nfor host in sys.argv[2:]:\n try:\n"
                "  socket.create_connection((host, int(sys.argv[1])), 1)\n  print('BROKEN', host)\n"
                " except OSError: pass\nprint('tried')")
        done, _ = self.attack("--user", "root", "--", PYTHON, "-S", "-c", text, port, "127.0.0.1", "::1",
                              "0.0.0.0", "169.254.169.254", *addresses)
        self.assertEqual(done.out, b"tried\n")
        self.assertRaises(TimeoutError, listener.accept)

    # ---- together ----

    def test_all_at_once(self):
        scripts = {"fork": ["--pids", "64", "--", "bash", "-c", "b() { b | b & }; b; wait"],
                   "memory": ["--memory", "64m", "--", "sh", "-c", "while :; do tail /dev/zero; done"],
                   "cpu": ["--cpus", "1", "--", "sh", "-c", "while :; do :; done"],
                   "disk": ["--disk", "30m", "--", "sh", "-c",
                            "while :; do cat /dev/zero >/tmp/f; rm /tmp/f; done"],
                   "output": ["--max-output", "none", "--", "yes"]}
        ps = [self.brig.popen("run", "--image", "host", "-q", "--timeout", "4s", *args,
                              stdout=subprocess.DEVNULL) for args in scripts.values()]
        beside = Neighbour(self.brig)
        beside.start()
        codes = [p.wait(60 * brigtest.SLOW) for p in ps]
        beside.stop.set()
        beside.join()
        self.assertIsNone(beside.failed)
        for p in ps:
            self._end(p)
        for code, name in zip(codes, scripts):
            self.assertIn(code, (124, 137) if name != "fork" else range(256), name)
        wait_until("they are gone", lambda: len(hoststate.sandbox_processes()) <= 1, 3)

    def test_a_client_that_floods_the_server_with_requests(self):
        ps = [self.brig.popen("run", "--image", "host", "-q", "--memory", "32m", "--", "sh", "-c",
                              "sleep 0.2; echo ok") for _ in range(60)]
        outs = [p.communicate(timeout=60 * brigtest.SLOW) for p in ps]
        for p, (out, err) in zip(ps, outs):
            if p.returncode:
                self.assertTrue(err.startswith(b"brig: "), err)  # refused with a reason
            else:
                self.assertEqual(out, b"ok\n")
        self.assertEqual(self.brig.call("exec", "neighbour", "cat", "/tmp/mark").out, b"mine\n")

    def test_a_killed_client_during_a_bomb(self):
        for _ in range(3):
            p = self.start(self.brig, "--pids", "100", "--", "bash", "-c",
                           "echo ready; b() { b | b & }; b; while :; do sleep 1; done")
            time.sleep(0.2)
            os.kill(p.pid, signal.SIGKILL)
            p.wait()
            wait_until("the bomb is gone", lambda: len(hoststate.sandbox_processes()) <= 1, 2)
