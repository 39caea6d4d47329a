# SPDX-License-Identifier: Apache-2.0
"""What the tests of the real programs share.

A test drives the command line (class Brig) and looks at the host from outside (hoststate). Every
TestCase compares the host before and after by itself: a test that leaves anything behind fails,
whatever else it wanted to show. PrivateCase runs without a server, so each `brig run` starts its own;
ResidentCase has a `brig serve` of its own for the class. Cases that must hold in both ways are written
once, in a plain class, and mixed into one of each.

Environment, set by tests/run: BRIG_BUILD (folder of the programs), BRIG_TEST_DATA (image store that is
kept between runs), BRIG_TEST_SLOW (factor for deadlines under sanitizers).
"""

import atexit
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

os.environ.setdefault("BRIG_TEST_TOKEN", secrets.token_hex(8))

import hoststate  # noqa: E402  (needs the token)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SLOW = float(os.environ.get("BRIG_TEST_SLOW", "1"))
SANITIZED = "BRIG_TEST_SANITIZED" in os.environ
# "Kill means gone": point 5 of the specification.
GONE_S = 2.0 * SLOW
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# The tier in which the tests ask for sandboxes, where they do not name one.
TIER = os.environ.get("BRIG_TEST_TIER", "container")


def build_dir():
    return pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()


def _scratch_make():
    path = pathlib.Path(tempfile.mkdtemp(prefix="brig-test-", dir="/tmp"))
    path.chmod(0o711)  # passable: the daemon has an id of its own
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


SCRATCH = _scratch_make()
_started = []


@atexit.register
def _end_all():
    """Whatever happened, nothing that was started here outlives this program."""
    alive = [p for p in _started if p.poll() is None]
    for p in alive:
        p.terminate()  # a server removes its sandboxes; a killed one could not
    for p in alive:
        try:
            p.wait(5)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()


def need_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")


def need_program(name):
    path = shutil.which(name)
    if not path:
        raise unittest.SkipTest(f"'{name}' is not installed")
    return path


def wait_until(what, condition, timeout=10.0, explain=None):
    """Polls until condition() is true and returns its value; fails after timeout."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout * SLOW:.0f} s: {what}"
                                 + (f"; there is {explain()}" if explain else ""))
        time.sleep(0.01)


class Done:
    """A finished command: exit code as the shell counts it, and what it wrote."""

    def __init__(self, args, code, out, err, seconds):
        self.args, self.code, self.out, self.err, self.seconds = args, code, out, err, seconds

    @property
    def text(self):
        return self.out.decode(errors="replace")

    @property
    def errors(self):
        return self.err.decode(errors="replace")

    def __str__(self):
        def short(data):
            return data[:1500].decode(errors="replace") + ("..." if len(data) > 1500 else "")
        words = " ".join(w if len(w) < 300 else w[:300] + "..." for w in map(str, self.args))
        return (f"{words[:3000]}\nexit code {self.code} after {self.seconds:.2f} s"
                f"\nstdout: {short(self.out)}\nstderr: {short(self.err)}")


class Brig:
    """The command line under one environment: its own socket (hence no server but its own), the store
    of the test run, and nothing of the caller's environment but what every program needs."""

    def __init__(self, socket=None, data=None, build=None, image="host", **env):
        self.build = pathlib.Path(build or build_dir())
        self.socket = pathlib.Path(socket or SCRATCH / f"s-{secrets.token_hex(4)}" / "brigd.sock")
        self.image = image
        self.env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                    "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8",
                    "BRIG_SOCKET": str(self.socket), "BRIG_DATA": str(data or data_dir()),
                    "BRIG_TEST_TOKEN": os.environ["BRIG_TEST_TOKEN"]}
        for name, value in os.environ.items():
            if name.startswith(("ASAN_", "UBSAN_", "LSAN_")) or name in ("BRIG_RUN",
                                                                        "XDG_RUNTIME_DIR"):
                self.env[name] = value
        # The same tests in another tier (tests/run --only gvisor).
        if TIER != "container":
            self.env["BRIG_TIER"] = TIER
        self.env.update({k: str(v) for k, v in env.items()})

    @property
    def program(self):
        return str(self.build / "brig")

    def popen(self, *args, prefix=(), env=None, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        # A session of its own: Ctrl-C of the tester goes to the tests alone, which then clean up.
        kw.setdefault("start_new_session", True)
        full = {**self.env, **{k: str(v) for k, v in (env or {}).items()}}
        p = subprocess.Popen([*map(str, prefix), self.program, *map(str, args)],
                             env={k: v for k, v in full.items() if v != ""}, **kw)
        _started.append(p)
        return p

    def call(self, *args, input=None, timeout=60, **kw):
        """Runs `brig args...` to its end."""
        if input is not None:
            kw["stdin"] = subprocess.PIPE
            input = input.encode() if isinstance(input, str) else input
        start = time.monotonic()
        p = self.popen(*args, **kw)
        try:
            out, err = p.communicate(input, timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            raise AssertionError("it did not end in time\n" + str(
                Done(p.args, "none", out or b"", err or b"", time.monotonic() - start))) from None
        except BaseException:
            p.kill()
            raise
        finally:
            if p in _started and p.returncode is not None:
                _started.remove(p)
        code = p.returncode if p.returncode >= 0 else 128 - p.returncode
        return Done(p.args, code, out or b"", err or b"", time.monotonic() - start)

    def run(self, *args, **kw):
        """`brig run` from this environment's image."""
        return self.call("run", "--image", self.image, *args, **kw)

    def status(self, *args, expect=None, **kw):
        """The same with --status-json: (Done, the status)."""
        path = SCRATCH / f"status-{secrets.token_hex(4)}"
        done = self.run("--status-json", path, *args, **kw)
        try:
            status = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise AssertionError(f"no status was written ({e})\n{done}") from None
        finally:
            path.unlink(missing_ok=True)
        if expect is not None and done.code != expect:
            raise AssertionError(f"exit code {expect} was expected\n{done}\nstatus: {status}")
        return done, status

    def json(self, *args, **kw):
        done = self.call(*args, "-o", "json", **kw)
        if done.code:
            raise AssertionError(str(done))
        return json.loads(done.out)


class Server:
    """A resident server: `brig serve` in the foreground; it speaks HTTP only if an address is given,
    because tests run beside each other and the usual port is one."""

    def __init__(self, brig, *args, **kw):
        self.brig = brig
        brig.socket.parent.mkdir(parents=True, exist_ok=True)
        brig.socket.parent.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if not {"--http", "--no-http", "--config"} & set(args):
            args = (*args, "--no-http")
        if "--shutdown-grace" not in args:
            # Most tests end with something still under way.
            args = (*args, "--shutdown-grace", "0")
        self.process = brig.popen("serve", *args, stderr=subprocess.STDOUT, **kw)
        # It may first say that it cleared up after another.
        self.log = [self.process.stdout.readline()]
        while self.log[-1] and b"serving" not in self.log[-1]:
            self.log.append(self.process.stdout.readline())
        if not self.log[-1]:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"brig serve: {self.text()}")
        # The pipe must be read, or a talkative server would stop.
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line)

    def stop(self, timeout=10):
        """Tells it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.ended(timeout)

    def ended(self, timeout=10):
        """Waits for its end, and for that of everything that it started."""
        try:
            code = self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("brig serve does not end; it wrote:\n" + self.text()) from None
        self.reader.join(GONE_S)
        if self.reader.is_alive():
            # Closing the pipe below the reader would wait for it.
            raise AssertionError("brig serve has ended, but what it started has not: "
                                 f"{[(p, hoststate.comm_of(p)) for p in hoststate.brig_pids()]}; "
                                 f"it wrote:\n{self.text()}")
        self.process.stdout.close()
        return code

    def text(self):
        return b"".join(self.log).decode(errors="replace")


_data = None


def data_dir():
    """The image store of this test run; the daemon, an id of its own, must be able to pass through
    its parents."""
    global _data
    if _data is None:
        wanted = pathlib.Path(os.environ.get("BRIG_TEST_DATA", SOURCE / "build" / "test-data"))
        parents = [p for p in wanted.parents if p.exists()]
        if os.geteuid() != 0 and not os.access(parents[0], os.W_OK):
            wanted = SCRATCH / "data"
        elif os.geteuid() == 0 and any(not p.stat().st_mode & 0o001 for p in parents):
            wanted = pathlib.Path(f"/var/tmp/brig-test-data-{os.geteuid()}")
        wanted.mkdir(parents=True, exist_ok=True)
        if wanted.stat().st_uid != os.geteuid():
            wanted = SCRATCH / "data"
            wanted.mkdir(exist_ok=True)
        _data = wanted
    return _data


_image_problems = {}


def tiers(brig):
    """{tier: whether `brig doctor` says that it works here}"""
    return json.loads(brig.call("doctor", "-o", "json").out)["tiers"]


# A server that finds no runsc, for tests whose point is the container tier and which would do
# everything twice.
NO_GVISOR = {"BRIG_RUNSC": "/nonexistent"}


def need_image(name, word):
    """An image that `brig image build WORD` makes, built once and kept; skips if it cannot be built
    here."""
    brig = Brig()
    note = pathlib.Path(os.environ.get("BRIG_TEST_STATE", SCRATCH)) / f"no-{name}-image"
    if brig.call("image", "inspect", name).code == 0:
        return
    if name not in _image_problems and note.exists():
        _image_problems[name] = note.read_text()
    if name not in _image_problems:
        print(f"building the {name} image from Debian packages", file=sys.stderr, flush=True)
        done = brig.call("image", "build", word, timeout=900)
        if done.code == 0:
            return
        last = [line for line in done.errors.splitlines() if line.strip()][-3:]
        _image_problems[name] = f"the {name} image cannot be built: " + " / ".join(last)
        note.write_text(_image_problems[name])
    raise unittest.SkipTest(_image_problems[name])


def need_base():
    need_image("base", "base")


class MemoryWatch:
    """Highest resident size of every brig program of this run, sampled while the body runs."""

    def __init__(self):
        self.peak = {}
        self.stop = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def _watch(self):
        known = {}
        while not self.stop.is_set():
            for pid in hoststate.brig_pids():
                known[pid] = hoststate.comm_of(pid)
            for pid, name in known.items():
                for line in hoststate.read(f"/proc/{pid}/status").splitlines():
                    if line.startswith("VmHWM:"):
                        kib = int(line.split()[1])
                        self.peak[name] = max(self.peak.get(name, 0), kib * KIB)
            self.stop.wait(0.05)


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.tmp = SCRATCH / f"t-{secrets.token_hex(4)}"
        self.tmp.mkdir(mode=0o755)
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)
        self.before = hoststate.snapshot()
        # Registered first, so it runs last but one: after every server of the test was stopped.
        self.addCleanup(self.assertNothingLeft)

    def left(self, within):
        return hoststate.left(self.before, within)

    def assertNothingLeft(self, within=None):
        left = self.left(GONE_S if within is None else within)
        if left:
            self.fail(f"left on the host after {GONE_S:.0f} s:\n{hoststate.explain(left)}")

    def assertCode(self, done, code):
        if done.code != code:
            self.fail(f"exit code {code} was expected\n{done}")

    def assertOk(self, done):
        self.assertCode(done, 0)

    def assertRefused(self, done, code, *words):
        """One clear error: the code, nothing on standard output, every word in the message."""
        self.assertIn(done.code, code if isinstance(code, tuple) else (code,), str(done))
        self.assertEqual(done.out, b"", str(done))
        self.assertTrue(done.errors.startswith("brig: "), str(done))
        for word in words:
            self.assertRegex(done.errors, word, str(done))

    def start(self, brig, *args, ready=b"ready\n", **kw):
        """Starts `brig run` and waits until the command inside has written `ready`."""
        p = brig.popen("run", "--image", brig.image, *args, **kw)
        self.addCleanup(self._end, p)
        got = b""
        while not got.endswith(ready):
            c = os.read(p.stdout.fileno(), 1)
            if not c:
                self.fail(f"it ended before it was ready: {got!r} {p.stderr.read()!r}")
            got += c
        return p

    @staticmethod
    def _end(p):
        if p.poll() is None:
            p.kill()
        p.wait()
        for f in (p.stdin, p.stdout, p.stderr):
            if f:
                try:
                    f.close()
                except OSError:
                    pass


class PrivateCase(TestCase):
    """No server runs: every `brig run` brings its own."""

    def setUp(self):
        super().setUp()
        self.brig = Brig()


class ResidentCase(TestCase):
    """One server for all tests of the class. Its stock of prepared groups and id ranges comes and
    goes, and its gateway starts when it is serving already, so between tests only sandboxes are
    compared; everything is, when the server has ended."""

    server_args = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.class_before = hoststate.snapshot()
        cls.class_brig = Brig()
        cls.server = Server(cls.class_brig, *cls.server_args)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        left = hoststate.left(cls.class_before, GONE_S)
        if left or code:
            raise AssertionError(f"the server ended with {code} and left:\n"
                                 f"{hoststate.explain(left)}\nlog:\n{cls.server.text()[-4000:]}")
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.brig = self.class_brig
        if self.server.process.poll() is not None:
            self.fail("the server has ended: " + self.server.text()[-2000:])
        self.addCleanup(self._remove_all)

    def _remove_all(self):
        ids = self.brig.call("ls", "-q").text.split()
        if ids:
            self.brig.call("rm", "-f", *ids)

    def left(self, within):
        end = time.monotonic() + within
        while True:
            left = hoststate.difference(self.before)
            left.pop("id range", None)
            for kind in ("cgroup", "process"):
                ours = [x for x in left.pop(kind, ())
                        if "/ready-" not in x and " brig-slots " not in x and " brig-egress " not in x
                        and not x.endswith(" prepared")]
                if ours:
                    left[kind] = ours
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.02)
