#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long the HTTP interfaces take, beside the same work without HTTP.

    bench/api.py [--rounds N] [--parallel N] [--data DIR] [--out DIR] [--document FILE]

Run as root. One `brig serve` with an HTTP address on loopback; every form takes turns with the others in
one run, as in run.py, against this same server. Raw forms write HTTP on a socket that is kept open, so
they show the server and not a client; the published JavaScript client is timed beside them if tests/e2b
has installed it. The floors: `brig run` against the same server, the same request in brigd's own
protocol, and an HTTP request that does nothing.

The commands of clients are `/bin/bash -l -c`, which the raw forms of /v1/run and brigd run, too: a login
shell is most of what they cost. The static forms run a program of a few instructions (hi.c) instead: what
is left is brig. They have two images of the same content, one with a pool and one without.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import brigc
import report
import run as runtimes

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent
COMMAND = ["/bin/bash", "-l", "-c", "echo hi"]
PAUSE_S = 0.01
POOL = 8
INTERPRETER = "code-interpreter-v1"  # by this name E2B's clients ask for it
STATIC_OUT = b"hi"  # of hi.c


def say(text):
    print(text, file=sys.stderr, flush=True)


class Failed(Exception):
    pass


class Http:
    """HTTP/1.1 on one kept socket: just enough to be faster than what it measures."""

    def __init__(self, port, headers=()):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(60)
        self.common = "".join(f"{k}: {v}\r\n" for k, v in headers)
        self.data = b""

    def send(self, method, path, body=b"", kind="application/json", more=""):
        head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self.common}{more}"
                f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n")
        self.sock.sendall(head.encode() + body)

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise Failed("the server closed the connection")
        self.data += piece

    def until(self, mark):
        while (at := self.data.find(mark)) < 0:
            self.more()
        got, self.data = self.data[:at], self.data[at + len(mark):]
        return got

    def exactly(self, n):
        while len(self.data) < n:
            self.more()
        got, self.data = self.data[:n], self.data[n:]
        return got

    def head(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v.strip() for k, _, v in
                                          (line.partition(":") for line in lines[1:])}

    def chunks(self):
        while n := int(self.until(b"\r\n"), 16):
            yield self.exactly(n)
            self.exactly(2)
        self.exactly(2)

    def ask(self, method, path, body=None, expect=(200, 201, 204)):
        self.send(method, path, b"" if body is None else json.dumps(body).encode())
        status, headers = self.head()
        if "chunked" in headers.get("transfer-encoding", ""):
            data = b"".join(self.chunks())
        else:
            data = self.exactly(int(headers.get("content-length", 0)))
        if status not in expect:
            raise Failed(f"{method} {path}: {status} {data[:200].decode(errors='replace')}")
        return json.loads(data) if data else None


class Envd(Http):
    """The data plane of one sandbox."""

    def __init__(self, port, box):
        super().__init__(port, [("E2b-Sandbox-Id", box["sandboxID"]), ("E2b-Sandbox-Port", "49983"),
                                ("X-Access-Token", box["envdAccessToken"]), ("Connect-Protocol-Version", "1")])

    def run(self, command=COMMAND, wanted=b"hi\n"):
        """A command to its end; when its first output was there."""
        message = json.dumps({"process": {"cmd": command[0], "args": command[1:]}, "stdin": False}).encode()
        self.send("POST", "/process.Process/Start", b"\0" + struct.pack(">I", len(message)) + message,
                  "application/connect+json")
        status, _ = self.head()
        if status != 200:
            raise Failed(f"Start: {status}")
        data, first, out = b"", None, b""
        for chunk in self.chunks():
            data += chunk
            while len(data) >= 5 and len(data) >= 5 + (n := struct.unpack(">I", data[1:5])[0]):
                flags, event, data = data[0], json.loads(data[5:5 + n]), data[5 + n:]
                if flags & 2 and "error" in event:
                    raise Failed(str(event["error"]))
                written = event.get("event", {}).get("data", {}).get("stdout")
                if written:
                    first = first or time.perf_counter()
                    out += base64.b64decode(written)
        if not out.startswith(wanted):
            raise Failed(f"the command wrote {out!r}")
        return first


class Node:
    """The published client in a process of its own."""

    def __init__(self, env):
        self.process = subprocess.Popen([shutil.which("node"), HERE / "api_client.mjs"], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "ready\n":
            raise Failed("the JavaScript client does not start")

    def ask(self, operation):
        self.process.stdin.write(operation + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not re.fullmatch(r"[\d.]+", answer):
            raise Failed(answer or "the JavaScript client has ended")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def elapsed(start, end=None):
    return ((end or time.perf_counter()) - start) * 1000


class Bench:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.build = pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()
        self.data_make()
        self.images_make()
        warm = ["--warm", f"{INTERPRETER}=4"] if self.interpreter else []
        self.server = brigc.Server(self.build, work, "api", "--pool", f"pooled={POOL}", *warm,
                                   http="127.0.0.1:0")
        self.node = None
        deadline = time.monotonic() + 20
        while not (found := re.search(r"(e2b_[0-9a-f]{20,})", self.log())):
            if time.monotonic() > deadline:
                raise RuntimeError("brig serve tells no API key: " + self.log()[-500:])
            time.sleep(0.02)
        self.key = found[1]
        self.port = int(re.search(r"^brig: HTTP on http://127\.0\.0\.1:(\d+)", self.log(), re.M)[1])
        self.idle = self.memory()
        self.control = Http(self.port, [("X-API-KEY", self.key)])
        self.env = dict(os.environ, BRIG_SOCKET=self.server.socket, BRIG_DATA=str(work / "data"))
        self.living = self.create()
        self.static = self.create("static")
        self.node_start()

    def log(self):
        return (self.server.run / "log").read_text(errors="replace")

    def data_make(self):
        """A data folder of our own with the image `base`: the one that exists, or a new one."""
        there, ours = pathlib.Path(self.args.data), self.work / "data"
        if (there / "names" / "base").exists():
            subprocess.run(["cp", "-a", "--reflink=auto", there, ours], check=True)
            shutil.rmtree(ours / "api", ignore_errors=True)
            return
        say("building the image base from Debian packages")
        env = dict(os.environ, BRIG_DATA=str(ours), BRIG_SOCKET=str(self.work / "nobody.sock"))
        subprocess.run([self.build / "brig", "image", "build", "base"], env=env, check=True,
                       stdout=subprocess.DEVNULL)

    def images_make(self):
        """The images of the static forms; whether there is one with the code interpreter."""
        data = self.work / "data"
        self.interpreter = (data / "names" / INTERPRETER).exists()
        root = runtimes.root_make(self.work, runtimes.tool(self.build, self.work, "hi"))
        env = dict(os.environ, BRIG_DATA=str(data), BRIG_SOCKET=str(self.work / "nobody.sock"))
        for name in ("static", "pooled"):
            (root / "etc" / "image").write_text(name)  # another content, or both would be one image
            subprocess.run([self.build / "brig", "image", "import", name, root], env=env, check=True,
                           stdin=subprocess.DEVNULL, capture_output=True)

    def memory(self):
        """MiB that the server's processes have for themselves (PSS), without the sandboxes of its pools."""
        total, children = 0, {}
        for pid in self.server.processes():
            try:
                comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
                found = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
                parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            children[str(pid)] = comm
            if comm in ("brig", "brigd", "brig-api", "brig-jaild", "brig-slots") or children.get(parent) == "brig-jaild":
                total += int(found[1]) if found else 0
        return total / 1024

    def node_start(self):
        clients = pathlib.Path(os.environ.get("BRIG_TEST_CLIENTS", self.build / "e2b-clients")) / "javascript"
        if not shutil.which("node") or not (clients / "node_modules").exists():
            say("the JavaScript client is not installed: tests/run --only e2b does it")
            return
        url = f"http://127.0.0.1:{self.port}"
        env = {k: v for k, v in self.env.items() if k.lower() not in ("http_proxy", "https_proxy", "all_proxy")}
        self.node = Node(dict(env, E2B_API_URL=url, E2B_SANDBOX_URL=url, E2B_API_KEY=self.key,
                              BRIG_E2B_CLIENTS=str(clients)))

    def close(self):
        if self.node:
            self.node.close()
        self.server.close()

    # ---- operations: each returns milliseconds ----

    def create(self, image="base"):
        return self.control.ask("POST", "/v2/sandboxes", {"templateID": image, "timeout": 3600})

    def kill(self, box):
        self.control.ask("DELETE", f"/sandboxes/{box['sandboxID']}")

    def nothing(self):
        start = time.perf_counter()
        self.control.ask("GET", "/v2/sandboxes?limit=1")
        return elapsed(start)

    def create_first(self):
        start = time.perf_counter()
        box = self.create()
        envd = Envd(self.port, box)
        first = envd.run()
        envd.sock.close()
        self.kill(box)
        return elapsed(start, first)

    def exec_http(self):
        start = time.perf_counter()
        self.envd.run()
        return elapsed(start)

    def exec_static_http(self):
        start = time.perf_counter()
        self.static_envd.run(["/bin/hi"], STATIC_OUT)
        return elapsed(start)

    def exec_static_brigd(self):
        start = time.perf_counter()
        _, out = self.server.complete({"op": "exec", "id": self.static["sandboxID"], "cmd": ["/bin/hi"]})
        took = elapsed(start)
        if not out.startswith(STATIC_OUT):
            raise Failed(repr(out))
        return took

    def run_http(self):
        start = time.perf_counter()
        answer = self.control.ask("POST", "/v1/run", {"image": "base", "cmd": COMMAND})
        took = elapsed(start)
        if answer["stdout"] != "hi\n":
            raise Failed(str(answer)[:200])
        return took

    def run_brigd(self):
        start = time.perf_counter()
        _, out = self.server.complete({"op": "run", "spec": {"image": "base"}, "cmd": COMMAND})
        took = elapsed(start)
        if out != b"hi\n":
            raise Failed(repr(out))
        return took

    def static_http(self, image, control=None):
        start = time.perf_counter()
        answer = (control or self.control).ask("POST", "/v1/run", {"image": image, "cmd": ["/bin/hi"]})
        took = elapsed(start)
        if not answer["stdout"].encode().startswith(STATIC_OUT):
            raise Failed(str(answer)[:200])
        return took

    def static_brigd(self, image):
        start = time.perf_counter()
        _, out = self.server.complete({"op": "run", "spec": {"image": image}, "cmd": ["/bin/hi"]})
        took = elapsed(start)
        if not out.startswith(STATIC_OUT):
            raise Failed(repr(out))
        return took

    def code(self):
        """The first runCode of a new sandbox with the interpreter, and the one after it."""
        box = self.control.ask("POST", "/v2/sandboxes", {"templateID": INTERPRETER, "timeout": 600})
        plane = Http(self.port, [("E2b-Sandbox-Id", box["sandboxID"]), ("E2b-Sandbox-Port", "49999"),
                                 ("X-Access-Token", box["envdAccessToken"])])
        took = []
        for _ in range(2):
            start = time.perf_counter()
            plane.send("POST", "/execute", json.dumps({"code": "1+1"}).encode())
            status, _ = plane.head()
            text = b"".join(plane.chunks())
            took.append(elapsed(start))
            if status != 200 or b'"2"' not in text:
                raise Failed(f"{status} {text[:200]!r}")
        plane.sock.close()
        self.kill(box)
        return took

    def run_cli(self):
        start = time.perf_counter()
        done = subprocess.run([self.build / "brig", "run", "-q", "--image", "base", "--", *COMMAND],
                              env=self.env, stdin=subprocess.DEVNULL, capture_output=True)
        took = elapsed(start)
        if done.stdout != b"hi\n":
            raise Failed(done.stderr.decode(errors="replace")[:200])
        return took

    def exec_brigd(self):
        start = time.perf_counter()
        _, out = self.server.complete({"op": "exec", "id": self.living["sandboxID"], "cmd": COMMAND})
        took = elapsed(start)
        if out != b"hi\n":
            raise Failed(repr(out))
        return took

    def forms(self):
        forms = [
            ("a request that only asks (floor)", self.nothing),
            ("brig run, same server (floor)", self.run_cli),
            ("brigd: run (floor)", self.run_brigd),
            ("POST /v1/run", self.run_http),
            ("brigd: run, static program, no pool (floor)", lambda: self.static_brigd("static")),
            ("POST /v1/run, static program, no pool", lambda: self.static_http("static")),
            ("brigd: run, static program, pool (floor)", lambda: self.static_brigd("pooled")),
            ("POST /v1/run, static program, pool", lambda: self.static_http("pooled")),
            ("create to first output, raw HTTP", self.create_first),
            ("brigd: exec (floor)", self.exec_brigd),
            ("command in a living sandbox, raw HTTP", self.exec_http),
            ("brigd: exec, static program (floor)", self.exec_static_brigd),
            ("static program in a living sandbox, raw HTTP", self.exec_static_http),
        ]
        if self.node:
            forms += [("create to first output, JavaScript client", lambda: self.node.ask("create")),
                      ("command in a living sandbox, JavaScript client", lambda: self.node.ask("exec"))]
        return forms

    def settle(self):
        """Until what the sections before left to do is done: pools are filled, sandboxes are removed."""
        deadline = time.monotonic() + 30
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:
            before = self.busy()
            time.sleep(0.5)
            quiet = quiet + 1 if self.busy() - before < 0.05 else 0

    @staticmethod
    def busy():
        """Seconds of CPU that this machine has worked."""
        user, nice, system = map(int, pathlib.Path("/proc/stat").read_text().split()[1:4])
        return (user + nice + system) / os.sysconf("SC_CLK_TCK")

    # ---- sections ----

    def latency(self):
        # Only now: what says nothing for a while is closed by the server.
        self.envd, self.static_envd = Envd(self.port, self.living), Envd(self.port, self.static)
        forms = self.forms()
        values, failed = {f: [] for f, _ in forms}, dict.fromkeys((f for f, _ in forms), 0)
        why = {}
        for i in range(self.args.rounds + 5):
            for form, call in forms:
                try:
                    took = call()
                    if i >= 5:  # the first ones fill caches
                        values[form].append(took)
                except (Failed, brigc.Refused, OSError) as e:
                    failed[form] += 1
                    why.setdefault(form, str(e))
                time.sleep(PAUSE_S)
        for form, text in why.items():
            say(f"{form}: {text}")
        rows = []
        for form, got in values.items():
            f = report.figures(got)
            rows.append([form, f["n"], *(f"{f[k]:.2f}" if f["n"] else "" for k in
                                         ("min", "p50", "p95", "p99", "max")), failed[form]])
        return report.table(["form", "n", "min ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "failed"], rows)

    def sustained(self):
        """POST /v1/run of the static program, for some seconds, with 1, 2 and 4 requests in flight."""
        rows = []
        body = json.dumps({"image": "pooled", "cmd": ["/bin/hi"]}).encode()
        for flight in (1, 2, 4):
            done = failed = 0
            end = time.perf_counter() + self.args.seconds
            start = time.perf_counter()
            with selectors.DefaultSelector() as wait:
                for _ in range(flight):
                    s = Http(self.port, [("X-API-KEY", self.key)])
                    s.send("POST", "/v1/run", body)
                    wait.register(s.sock, selectors.EVENT_READ, s)
                while wait.get_map():
                    for key, _ in wait.select(60):
                        s = key.data
                        status, headers = s.head()
                        s.exactly(int(headers["content-length"]))
                        done, failed = done + (status == 200), failed + (status != 200)
                        if time.perf_counter() < end:
                            s.send("POST", "/v1/run", body)
                        else:
                            wait.unregister(s.sock)
                            s.sock.close()
            rows.append([flight, f"{done / (time.perf_counter() - start):.0f}", failed])
        return report.table(["in flight", "runs a second", "failed"], rows)

    def interpreter_times(self):
        first, second = [], []
        for _ in range(max(5, self.args.rounds // 4)):
            a, b = self.code()
            first.append(a)
            second.append(b)
            time.sleep(0.5)  # the pool is refilled off the path, and this is the path
        rows = []
        for name, got in (("first runCode('1+1') after create", first), ("the next", second)):
            f = report.figures(got)
            rows.append([name, f["n"], *(f"{f[k]:.2f}" for k in ("min", "p50", "p95", "max"))])
        return report.table(["form", "n", "min ms", "p50 ms", "p95 ms", "max ms"], rows)

    def transfers(self):
        """A file up and down through /files, as octets."""
        self.settle()
        size = self.args.transfer << 20
        box = self.control.ask("POST", "/v2/sandboxes", {
            "templateID": "base", "timeout": 600,
            "limits": {"memory_bytes": size + (1 << 30), "disk_bytes": size + (256 << 20)}})
        plane = Http(self.port, [("E2b-Sandbox-Id", box["sandboxID"]), ("E2b-Sandbox-Port", "49983"),
                                 ("X-Access-Token", box["envdAccessToken"])])
        piece = os.urandom(1 << 20)
        rows = []
        start = time.perf_counter()
        plane.sock.sendall((f"POST /files?path=/home/user/big HTTP/1.1\r\nHost: 127.0.0.1\r\n{plane.common}"
                            f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n").encode())
        for _ in range(size >> 20):
            plane.sock.sendall(piece)
        status, headers = plane.head()
        text = plane.exactly(int(headers["content-length"]))
        if status != 200:
            raise Failed(f"upload: {status} {text[:200]!r}")
        rows.append([f"upload of {self.args.transfer} MiB", f"{size / elapsed(start) / 1000:.0f}"])
        start = time.perf_counter()
        plane.send("GET", "/files?path=/home/user/big")
        status, headers = plane.head()
        got = len(plane.data)
        plane.data = b""
        room = bytearray(1 << 20)
        if "content-length" not in headers or int(headers["content-length"]) != size:
            raise Failed(f"download: {status} {headers}")
        while got < size:
            n = plane.sock.recv_into(room)
            if not n:
                raise Failed("the download ended early")
            got += n
        rows.append([f"download of {self.args.transfer} MiB", f"{size / elapsed(start) / 1000:.0f}"])
        plane.sock.close()
        self.kill(box)
        return report.table(["form", "MB/s"], rows)

    def parallel(self):
        """All requests are written before the first answer is read."""
        n = self.args.parallel
        socks = [Http(self.port, [("X-API-KEY", self.key)]) for _ in range(n)]
        boxes, times, failed = [], [], 0
        body = json.dumps({"templateID": "base", "timeout": 600}).encode()
        with selectors.DefaultSelector() as wait:
            start = time.perf_counter()
            for s in socks:
                s.send("POST", "/v2/sandboxes", body)
                wait.register(s.sock, selectors.EVENT_READ, s)
            while wait.get_map():
                for key, _ in wait.select(60):
                    s = key.data
                    wait.unregister(s.sock)
                    status, headers = s.head()
                    data = s.exactly(int(headers["content-length"]))
                    if status == 201:
                        times.append(elapsed(start))
                        boxes.append(json.loads(data))
                    else:
                        failed += 1
            total = elapsed(start)
        for box in boxes:
            self.kill(box)
        for s in socks:
            s.sock.close()
        f = report.figures(times)
        return report.table(["figure", "value"], [
            ["created", len(boxes)], ["failed", failed], ["all of them after", f"{total:.0f} ms"],
            ["half of them after", f"{f.get('p50', 0):.0f} ms"], ["each a second", f"{1000 * len(boxes) / total:.0f}"]])


def main():
    parser = argparse.ArgumentParser(description="Time the HTTP interfaces of brig on this host.")
    parser.add_argument("--rounds", type=int, default=200, metavar="N")
    parser.add_argument("--parallel", type=int, default=100, metavar="N", help="creates at once")
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="of sustained load")
    parser.add_argument("--transfer", type=int, default=1024, metavar="MIB")
    parser.add_argument("--data", default=os.environ.get("BRIG_DATA", str(SOURCE / "build/test-data")),
                        metavar="DIR", help="a data folder with the image base; else one is built")
    parser.add_argument("--out", default=str(SOURCE / "build/bench-api"), metavar="DIR")
    parser.add_argument("--document", metavar="FILE", help="put the results into this document, too")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("run it as root, as the server is meant to be")
    if args.rounds < 1 or args.parallel < 1:
        parser.error("--rounds and --parallel are at least 1")
    environment = report.environment(SOURCE)
    with tempfile.TemporaryDirectory(prefix="brig-bench-api-", dir="/var/tmp") as tmp:
        os.chmod(tmp, 0o755)
        bench = Bench(args, pathlib.Path(tmp))
        try:
            bench.settle()
            parts = [("Round trips", bench.latency()),
                     ("POST /v1/run of a static program, sustained", bench.sustained())]
            if bench.interpreter:
                parts.append(("Code interpreter", bench.interpreter_times()))
            bench.settle()
            parts += [(f"{args.parallel} sandboxes created at once", bench.parallel()),
                      ("Files", bench.transfers()),
                      ("Memory of the server", report.table(["figure", "MiB"], [
                          ["idle, just started, pools filled", f"{bench.idle:.1f}"],
                          ["after all of this", f"{bench.memory():.1f}"]]))]
        finally:
            bench.close()
    environment["load after"] = f"{os.getloadavg()[0]:.2f}"
    text = "# Results\n\n" + report.table(["machine", ""], environment.items()) + "".join(
        f"\n## {title}\n\n{table}" for title, table in parts)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(text)
    print(text)
    if args.document:
        report.document_fill(args.document, text, "bench-api")
    return 0


if __name__ == "__main__":
    sys.exit(main())
