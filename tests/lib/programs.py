# SPDX-License-Identifier: Apache-2.0
"""Starting programs so that each has a deadline and none is left, and building the trees."""

import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]

# A test of its own per tree: what it is for, meson's options, and the environment of its programs.
# Reports go to files below BRIG_TEST_STATE, because the daemons have nobody who reads their standard
# error; an empty folder afterwards is itself a test. Leaks are looked for where LeakSanitizer can
# work (its tracer needs ptrace, which a process that gave up its privileges or sits in other
# namespaces does not grant): the unit tests.
SANITIZE = ["-Db_sanitize=address,undefined", "-Db_lundef=false"]
TREES = {
    "build": ["--buildtype=release", "-Ddebug=true"],
    "build-fault": ["--buildtype=debugoptimized", "-Dfailpoints=true"],
    "build-san": ["--buildtype=debugoptimized", *SANITIZE],
}


class BuildFailed(Exception):
    pass


class Programs:
    """Every program started here, so that none outlives the run."""

    def __init__(self):
        self.alive = []

    def start(self, argv, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        p = subprocess.Popen([str(a) for a in argv], start_new_session=True, **kw)
        self.alive.append(p)
        return p

    def end(self, p, grace=0):
        """Ends the program and the session it leads."""
        if p.poll() is None and grace:
            p.terminate()
            try:
                p.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        if p.poll() is None:
            try:
                os.killpg(p.pid, signal.SIGKILL)  # the session was made by start()
            except ProcessLookupError:
                pass
            p.wait()
        if p in self.alive:
            self.alive.remove(p)

    def end_all(self):
        for p in list(self.alive):
            self.end(p, grace=10)

    def output(self, argv, timeout, **kw):
        """(exit code or None if the time was up, output and errors together)."""
        p = self.start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
        try:
            out, _ = p.communicate(timeout=timeout)
            code = p.returncode
        except subprocess.TimeoutExpired:
            self.end(p)
            out, code = p.stdout.read() if p.stdout else b"", None
        finally:
            self.end(p)
        return code, (out or b"").decode(errors="replace")

    def lines(self, p, fd, quiet_s, total_s, ask=None):
        """Yields the lines that p writes to fd. Ends p and yields None when nothing came for quiet_s
        or p runs for more than total_s; `ask` is a signal that makes it say where it is."""
        end = time.monotonic() + total_s
        rest = b""
        with selectors.DefaultSelector() as sel:
            sel.register(fd, selectors.EVENT_READ)
            while True:
                wait = min(quiet_s, end - time.monotonic())
                if wait <= 0 or not sel.select(wait):
                    if ask and p.poll() is None:
                        p.send_signal(ask)
                        time.sleep(0.5)
                    self.end(p, grace=5)
                    yield None
                    return
                data = os.read(fd, 65536)
                if not data:
                    return
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")


def tree_build(programs, name, note):
    """Configures (if needed) and builds SOURCE/name with two jobs; the log of a failure is raised."""
    path = SOURCE / name
    start = time.monotonic()
    log = []

    def step(argv, timeout):
        code, text = programs.output(argv, timeout, cwd=SOURCE)
        log.append(text)
        if code != 0:
            why = "did not end in time" if code is None else f"exit code {code}"
            raise BuildFailed(f"{' '.join(map(str, argv))}: {why}\n" + text[-6000:])

    for tool in ("meson", "ninja"):
        if not shutil.which(tool):
            raise BuildFailed(f"'{tool}' is not installed: run tools/deps build")
    if not (path / "build.ninja").exists():
        # With what else the folder may hold (caches of earlier runs) it is still a new tree.
        step(["meson", "setup", path, *TREES[name]], 120)
    step(["ninja", "-j2", "-C", path], 900)
    warnings = [line for line in "".join(log).splitlines() if ": warning:" in line]
    note(f"{name}: built in {time.monotonic() - start:.0f} s")
    return warnings
