# SPDX-License-Identifier: Apache-2.0
"""Runs every attack program of this folder inside a sandbox, where it must fail, and outside, where it
must succeed: a defence that stops what cannot be done anyway shows nothing.

A program is one C file, linked statically. It tries one thing (or a family of it), is harmless to a
machine on which it succeeds, and prints one line per attempt:

    HELD name detail        the attempt failed, as it must inside
    BROKEN name detail      it succeeded

and exits 0 if every attempt held, 1 otherwise. Its head comment has a line

    CONTROL: outside-root           as root outside of a sandbox at least one attempt succeeds
    CONTROL: outside-user           the same as an ordinary user
    CONTROL: none(reason)           it cannot be shown safely

and may have `USERS: user` or `USERS: root` if it makes sense only for one of them. Inside it runs as both.

What a program may look for, in both runs:
    $BRIG_CANARY_FILE       a file of the host with a secret, readable by all
    $BRIG_CANARY_PORT       (also the first argument) a TCP listener on the host's loopback
    $BRIG_CANARY_ABSTRACT   (also the second argument) an abstract unix socket of the host, without "@"
    $BRIG_CANARY_PID        a process of the host
and, in the environment of the `brig` that starts it only, BRIG_CANARY_LEAK=<secret>.

The oracles are outside: whether a listener was reached, whether the host's settings, modules, files and
the neighbour sandbox are as before (class Inside), and what every test compares by itself (brigtest).
"""

import os
import pathlib
import re
import secrets
import socket
import subprocess
import threading
import unittest

import brigtest
import hoststate
from brigtest import ResidentCase

HERE = pathlib.Path(__file__).resolve().parent
MARK = re.compile(r"^[\s*/]*(CONTROL|USERS):\s*(\S.*?)\s*(?:\*/)?$", re.M)
LINE = re.compile(r"^(HELD|BROKEN) (\S+)\s*(.*)$", re.M)

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


class Program:
    def __init__(self, source):
        self.source, self.name = source, source.stem
        text = source.read_text()
        marks = dict(MARK.findall(text))
        self.control = marks.get("CONTROL", "")
        self.users = [marks["USERS"]] if marks.get("USERS") else ["user", "root"]
        self.binary = None

    def compile(self, folder):
        self.binary = folder / self.name
        done = subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-static", "-pthread",
                               "-I", str(brigtest.SOURCE / "include"), "-I", str(HERE),
                               "-o", str(self.binary), str(self.source)],
                              capture_output=True, text=True)
        return done.stderr if done.returncode else ""


class Canary:
    """Things of the host that a sandbox must not reach, and whether it did."""

    def __init__(self):
        self.secret = f"canary-{secrets.token_hex(12)}"
        self.reached = []
        self.file = brigtest.SCRATCH / f"canary-{secrets.token_hex(4)}"
        self.file.write_text(self.secret)
        self.file.chmod(0o644)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.abstract = f"brig-canary-{secrets.token_hex(6)}"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind("\0" + self.abstract)
        self.unix.listen()
        self.open = True
        self.threads = [threading.Thread(target=self._accept, args=(s, what), daemon=True)
                        for s, what in ((self.tcp, "the host's loopback"),
                                        (self.unix, "an abstract socket of the host"))]
        for t in self.threads:
            t.start()

    def _accept(self, sock, what):
        while self.open:
            try:
                peer, _ = sock.accept()
            except OSError:
                return
            self.reached.append(what)
            try:
                peer.sendall(self.secret.encode())
            except OSError:
                pass
            peer.close()

    def env(self):
        return {"BRIG_CANARY_FILE": str(self.file),
                "BRIG_CANARY_PORT": str(self.tcp.getsockname()[1]),
                "BRIG_CANARY_ABSTRACT": self.abstract, "BRIG_CANARY_PID": str(os.getpid())}

    def arguments(self):
        return [str(self.tcp.getsockname()[1]), self.abstract]

    def close(self):
        self.open = False
        for s in (self.tcp, self.unix):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
        self.file.unlink()


PROGRAMS = [Program(p) for p in sorted(HERE.glob("*.c"))]


def compiled():
    """Every program, once; {name: the compiler's complaint}."""
    folder = brigtest.SCRATCH / "attacks"
    if not folder.exists():
        brigtest.need_program("gcc")
        folder.mkdir(mode=0o755)
        compiled.failed = {p.name: bad for p in PROGRAMS if (bad := p.compile(folder))}
    return compiled.failed


class Inside(ResidentCase):
    """Each program, as the user and as root inside, with a neighbour and canaries; the host's settings
    are compared at the end."""

    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        cls.failed = compiled()
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
        if program.name in self.failed:
            self.fail(f"it does not compile:\n{self.failed[program.name]}")
        reached = len(self.canary.reached)
        env = [w for name, value in self.canary.env().items() for w in ("--env", f"{name}={value}")]
        done = self.brig.run("--user", user, "--timeout", "40s", "--memory", "256m", *env, "--volume",
                             f"{program.binary}:/opt/attack:ro", "--", "/opt/attack",
                             *self.canary.arguments(), env={"BRIG_CANARY_LEAK": self.canary.secret})
        lines = LINE.findall(done.text)
        broken = [f"{name}: {detail}" for verdict, name, detail in lines if verdict == "BROKEN"]
        self.assertEqual(broken, [], str(done))
        self.assertEqual(done.code, 0, str(done))
        self.assertTrue(lines, f"it tried nothing\n{done}")
        self.assertEqual(self.canary.reached[reached:], [])
        # Whatever it claims: the secret must not be in what it saw.
        self.assertNotIn(self.canary.secret.encode(), done.out + done.err)


class Outside(unittest.TestCase):
    """The negative control of each program."""

    def setUp(self):
        brigtest.need_root()
        self.failed = compiled()
        self.canary = Canary()
        self.addCleanup(self.canary.close)

    def control(self, program):
        if program.name in self.failed:
            self.fail("it does not compile")
        if program.control.startswith("none("):
            return  # the reason stands in its head, for the reader
        prefix = []
        if program.control == "outside-user":
            prefix = [brigtest.need_program("setpriv"), "--reuid=65534", "--regid=65534",
                      "--clear-groups"]
        elif program.control != "outside-root":
            self.fail(f"its head has no line CONTROL: outside-root, outside-user or none(reason), but "
                      f"{program.control!r}")
        env = {"PATH": os.environ.get("PATH", ""), "BRIG_CANARY_LEAK": self.canary.secret,
               **self.canary.env()}
        p = subprocess.Popen([*prefix, str(program.binary), *self.canary.arguments()], env=env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             start_new_session=True, cwd="/")
        try:
            out, _ = p.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            out, _ = p.communicate()
            self.fail(f"it did not end outside:\n{out.decode(errors='replace')[-2000:]}")
        verdicts = {verdict for verdict, _, _ in LINE.findall(out.decode(errors="replace"))}
        self.assertIn("BROKEN", verdicts, "nothing succeeds even without a sandbox, so that it held inside "
                      f"shows nothing:\n{out.decode(errors='replace')[-2000:]}")


def _add(cls, name, body):
    setattr(cls, f"test_{name}", body)


for _program in PROGRAMS:
    for _user in _program.users:
        _add(Inside, f"{_program.name}_as_{_user}",
             lambda self, p=_program, u=_user: self.attack(p, u))
    _add(Outside, _program.name, lambda self, p=_program: self.control(p))
