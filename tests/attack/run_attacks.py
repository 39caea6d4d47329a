# SPDX-License-Identifier: Apache-2.0
"""Runs every attack of brig-attack inside a sandbox, where it must fail, and outside, where it must
succeed: a defence that stops what cannot be done anyway shows nothing.

src/attack/attacks.h has the table of attacks and of their controls, src/attack/attack.h what they print and
are told. ERROR, inside or outside, means that it could not be tried on this host: that is a skip, with its
words as the reason.

What must not arrive: BRIG_CANARY_LEAK, a variable of the program that starts it, and descriptor 9, which
is open on the host's root there.

The oracles are outside: whether a listener was reached, whether the host's settings, modules and files
and the neighbour sandbox are as before, and what every test compares by itself (brigtest).
"""

import fcntl
import os
import pathlib
import re
import secrets
import socket
import subprocess
import threading
import unittest
from dataclasses import dataclass

import brigtest
import hoststate
from brigtest import ResidentCase

LINE = re.compile(r"^(HELD|BROKEN|ERROR) (\S+)\s*(.*)$", re.M)

# Settings that an escape would go for; the values must not change.
SETTINGS = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/sysrq", "/proc/sys/kernel/hotplug", "/sys/kernel/uevent_helper",
            "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory",
            "/proc/sys/fs/binfmt_misc/status", "/sys/kernel/mm/ksm/run", "/proc/swaps", "/proc/modules"]


def settings():
    """Names of modules, not their use counts."""
    found = {}
    for path in SETTINGS:
        text = hoststate.read(path)
        if path == "/proc/modules":
            text = " ".join(sorted(line.split()[0] for line in text.splitlines()))
        found[path] = text
    for agent in pathlib.Path("/sys/fs/cgroup").glob("*/release_agent"):
        found[str(agent)] = hoststate.read(agent)
    return found


ATTACK = brigtest.build_dir() / "brig-attack"


@dataclass
class Program:
    name: str
    kind: str
    control: str
    reason: str


def programs():
    if not ATTACK.exists():
        return []
    text = subprocess.run([ATTACK, "--list"], capture_output=True, text=True, check=True).stdout
    return [Program(*line.split("\t")) for line in text.splitlines()]


class Canary:
    """Things of the host that a sandbox must not reach, and whether it did."""

    def __init__(self):
        self.secret = f"canary-{secrets.token_hex(12)}"
        self.reached, self.closers, self.open = [], [], True
        self.file = brigtest.SCRATCH / f"canary-{secrets.token_hex(6)}"
        self.file.write_text(self.secret)
        self.file.chmod(0o644)
        self.closers.append(self.file.unlink)
        self.process = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL)
        self.closers += [self.process.kill, self.process.wait]
        self.name = f"brig-canary-{secrets.token_hex(6)}"
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        unix = socket.socket(socket.AF_UNIX)
        unix.bind("\0" + self.name)
        unix.listen()
        listeners = [(self.tcp, "a listener on the host's loopback"),
                     (unix, "an abstract socket of the host")]
        try:
            six = socket.create_server(("::1", self.port), family=socket.AF_INET6)
            listeners.append((six, "a listener on the host's loopback"))
        except OSError:
            pass  # a host without IPv6
        for sock, what in listeners:
            self.closers.append(sock.close)
            threading.Thread(target=self._accept, args=(sock, what), daemon=True).start()
        self.lock = open("/usr/bin/env", "rb")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.closers.append(self.lock.close)

    def _accept(self, sock, what):
        sock.settimeout(0.2)
        while self.open:
            try:
                peer, _ = sock.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.reached.append(what)
            try:
                peer.sendall(self.secret.encode())
            except OSError:
                pass
            peer.close()

    def env(self):
        names = [os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "net", "mnt", "ipc", "uts", "user",
                                                             "cgroup", "time")
                 if os.path.exists(f"/proc/self/ns/{n}")]
        return {"BRIG_CANARY_FILE": str(self.file), "BRIG_CANARY_PORT": str(self.port),
                "BRIG_CANARY_ABSTRACT": self.name, "BRIG_CANARY_PID": str(self.process.pid),
                "BRIG_CANARY_LOCK": "/usr/bin/env", "BRIG_CANARY_NS": " ".join(names),
                "BRIG_CANARY_PIDS": "64", "BRIG_CANARY_MEMORY": str(256 << 20),
                "BRIG_CANARY_DISK": str(64 << 20),
                "BRIG_CANARY_HOST": socket.gethostname(),
                "BRIG_CANARY_UPTIME": hoststate.read("/proc/uptime").split(".")[0]}

    def close(self):
        self.open = False
        for closer in self.closers:
            closer()


# Started like this, the program that leads to the attack has a descriptor and a variable that must not
# arrive inside, and for a control do.
LEAKY = ("sh", "-c", 'exec 9</ && BRIG_CANARY_LEAK=1 exec "$@"', "sh")

PROGRAMS = programs()


class Inside(ResidentCase):
    """Each program, as the user and as root inside, with a neighbour and canaries; the host's settings
    are compared at the end."""

    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        cls.canary = Canary()
        cls.addClassCleanup(cls.canary.close)
        cls.settings_before = settings()
        super().setUpClass()
        done = cls.class_brig.call("create", "--image", "host", "--name", "neighbour", "--memory", "64m")
        if done.code:
            raise AssertionError(str(done))
        cls.class_brig.call("exec", "neighbour", "sh", "-c", f"echo {cls.canary.secret} >/tmp/secret")

    @classmethod
    def tearDownClass(cls):
        neighbour = cls.class_brig.call("exec", "neighbour", "cat", "/tmp/secret")
        after = settings()
        super().tearDownClass()
        if neighbour.text.strip() != cls.canary.secret:
            raise AssertionError(f"the neighbour was harmed\n{neighbour}")
        changed = {k: (v, after.get(k)) for k, v in cls.settings_before.items() if after.get(k) != v}
        if changed:
            raise AssertionError(f"the host was changed: {changed}")
        if cls.canary.reached:
            raise AssertionError(f"from inside was reached: {set(cls.canary.reached)}")

    def _remove_all(self):
        """The neighbour stays."""

    def attack(self, program, user):
        reached = len(self.canary.reached)
        env = [w for name, value in self.canary.env().items() for w in ("--env", f"{name}={value}")]
        done = self.brig.run("--user", user, "--timeout", "40s", "--memory", "256m", "--disk", "64m",
                             "--pids", "64", *env, "--volume", f"{ATTACK}:/opt/attack:ro", "--", "/opt/attack", program.name, prefix=LEAKY)
        lines = LINE.findall(done.text)
        broken = [f"{name}: {detail}" for verdict, name, detail in lines if verdict == "BROKEN"]
        self.assertEqual(broken, [], "it succeeded")
        self.assertTrue(lines, f"it tried nothing\n{done}")
        untried = [detail for verdict, _, detail in lines if verdict == "ERROR"]
        self.assertEqual(self.canary.reached[reached:], [])
        # Whatever it claims: the secret must not be in what it saw.
        self.assertNotIn(self.canary.secret.encode(), done.out + done.err)
        if untried:
            self.skipTest(f"it could not be tried: {untried[0]}")
        self.assertEqual(done.code, 0, str(done))


class Outside(unittest.TestCase):
    """The negative control of each program."""

    def setUp(self):
        brigtest.need_root()
        self.canary = Canary()
        self.addCleanup(self.canary.close)

    def test_every_program_states_its_control(self):
        self.assertGreater(len(PROGRAMS), 50)
        for p in PROGRAMS:
            self.assertIn(p.control, ("outside", "loads", "roomier", "none"), p)
            self.assertEqual(p.control == "none", bool(p.reason), p)

    def roomier(self, program):
        """Inside, and told of a limit that is a quarter of the real one."""
        env = {**self.canary.env(), "BRIG_CANARY_PIDS": "16", "BRIG_CANARY_MEMORY": str(32 << 20),
               "BRIG_CANARY_DISK": str(16 << 20)}
        done = brigtest.Brig().run("--pids", "64", "--memory", "256m", "--disk", "64m", "--volume",
                                   f"{ATTACK}:/opt/attack:ro",
                                   *[w for name, value in env.items() for w in ("--env", f"{name}={value}")],
                                   "--", "/opt/attack", program.name)
        self.assertIn("BROKEN", {verdict for verdict, _, _ in LINE.findall(done.text)}, str(done))

    def control(self, program):
        if program.control == "roomier":
            self.roomier(program)
            return
        env = {"PATH": os.environ.get("PATH", ""), **self.canary.env()}
        p = subprocess.Popen([*LEAKY, str(ATTACK), program.name], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                             cwd="/")
        try:
            out, _ = p.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            out, _ = p.communicate()
            self.fail(f"it did not end outside:\n{out.decode(errors='replace')[-2000:]}")
        lines = LINE.findall(out.decode(errors="replace"))
        untried = [detail for verdict, _, detail in lines if verdict == "ERROR"]
        if untried:
            self.skipTest(f"it could not be tried: {untried[0]}")
        self.assertIn("BROKEN", {verdict for verdict, _, _ in lines}, "it fails without a sandbox, too, so "
                      f"that it held inside shows nothing:\n{out.decode(errors='replace')[-2000:]}")


def _add(cls, name, body):
    setattr(cls, f"test_{name.replace('-', '_')}", body)


for _program in PROGRAMS:
    for _user in ("user", "root"):
        _add(Inside, f"{_program.name}_as_{_user}",
             lambda self, p=_program, u=_user: self.attack(p, u))
    if _program.control != "none":
        _add(Outside, _program.name, lambda self, p=_program: self.control(p))
