#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a server is left with after many sandboxes, beside neighbours that behave badly.

    bench/soak.py [--cycles N] [--samples N] [--threads N] [--no-neighbours] [--out DIR] [--document FILE]

Run as root. A server with HTTP (so with its database) is started; beside it live a fork bomb, a memory
bomb, a filler of disks, an endless output, and a flood of packets on its own loopback, each in a sandbox
of its own for the whole time. A cycle creates a sandbox over HTTP, runs a command in it, and deletes it
over HTTP; every tenth is a POST /v1/run as well. From time to time the cycles stop until what they started
has settled, and everything that could have grown is measured: memory, descriptors and threads of each
daemon, its processes, control groups, mounts, namespaces, the database and its log (WAL), files of the
data and run folders, and of the whole host slab memory and control groups that are dying.

Each figure's slope over the cycles is Sen's (the median of the slopes between all pairs of samples) with the
95 % interval that Kendall's test gives, after the first half of the samples, in which buffers and stocks
reach their size. It is zero within noise if the interval has zero in it, or what it grew by in the
whole time is less than the unit that it is counted in (a page, a thing). The exit code is 1 if a figure of
the server's own is not; those of the whole host are other programs' as well and are only reported.
"""

import argparse
import csv
import http.client
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import brigc
import report
import state

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
LIMITS = ["--cpus", "0.1", "--memory", "64m", "--disk", "16m", "--pids", "64", "--timeout", "none",
          "--max-output", "none"]
NEIGHBOURS = {
    "fork bomb": "while :; do sleep 5 & done",
    "memory bomb": "while :; do tail /dev/zero; done",
    "disk filler": "while :; do cat /dev/zero >/tmp/f; rm /tmp/f; done",
    "endless output": "yes",
    "packet flood": "while :; do echo x >/dev/udp/127.0.0.1/9; done",
}
DAEMONS = ("brig", "brigd", "brig-jaild", "brig-api")
# What belongs to the whole host: other programs move it, too.
OF_THE_HOST = ("host slab", "host control groups")


def say(text):
    print(text, file=sys.stderr, flush=True)


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


# ---- neighbours ----

class Neighbours:
    """Each in a sandbox of its own; one that ends is started again, and counted."""

    def __init__(self, brig, env):
        self.brig, self.env, self.running, self.restarts = brig, env, {}, 0
        for name in NEIGHBOURS:
            self.start(name)

    def start(self, name):
        self.running[name] = subprocess.Popen(
            [self.brig, "run", "--image", "host", "-q", *LIMITS, "--", "bash", "-c", NEIGHBOURS[name]],
            env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def look(self):
        for name, p in self.running.items():
            if p.poll() is not None:
                self.restarts += 1
                self.start(name)

    def close(self):
        for p in self.running.values():
            p.terminate()
        for p in self.running.values():
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


# ---- cycles ----

class Worker(threading.Thread):
    def __init__(self, soak, share):
        super().__init__()
        self.soak, self.share, self.failed, self.took = soak, share, [], []

    def http(self, method, path, body=None, expect=(200, 201, 204)):
        headers = {"X-API-Key": self.soak.key}
        self.conn.request(method, path, json.dumps(body) if body is not None else None, headers)
        r = self.conn.getresponse()
        text = r.read()
        if r.status not in expect:
            raise brigc.Refused(f"{method} {path}: {r.status} {text[:200]!r}")
        return json.loads(text) if text else None

    def cycle(self, n):
        box = self.http("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 300})["sandboxID"]
        status, out = self.soak.server.complete({"op": "exec", "id": box, "cmd": ["echo", "hello"]})
        self.http("DELETE", f"/sandboxes/{box}")
        if (status["exit_code"], out) != (0, b"hello\n"):
            raise brigc.Refused(f"exec: {status} {out!r}")
        if n % 10 == 0:
            self.http("POST", "/v1/run", {"image": "host", "cmd": ["true"]})

    def run(self):
        self.conn = http.client.HTTPConnection("127.0.0.1", self.soak.port, timeout=60)
        for n in range(self.share):
            start = time.monotonic()
            try:
                self.cycle(n)
            except (OSError, http.client.HTTPException, brigc.Refused, KeyError) as e:
                self.failed.append(f"{type(e).__name__}: {e}")
                self.conn.close()
            self.took.append(time.monotonic() - start)
        self.conn.close()


# ---- figures ----

class Soak:
    def __init__(self, server, build):
        self.server, self.build = server, build
        self.port = int(self.wait(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        self.key = self.wait(r"\b(e2b_[0-9a-f]{64})\n")

    def wait(self, pattern):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = re.search(pattern, read(self.server.run / "log"))
            if found:
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"the server does not say {pattern}: {read(self.server.run / 'log')}")

    def pids(self):
        """By name; of the daemons only."""
        found = {}
        for pid in [self.server.process.pid,
                    *map(int, read(f"/proc/{self.server.process.pid}/task/{self.server.process.pid}"
                                   "/children").split())]:
            name = read(f"/proc/{pid}/comm").strip()
            if name in DAEMONS:
                found.setdefault(name, pid)
        return found

    def groups(self):
        """Directories below the groups of this server's brig-jaild in all hierarchies."""
        jaild = self.pids()["brig-jaild"]
        names = set()
        for fd in os.listdir(f"/proc/{jaild}/fd"):
            try:
                names |= set(re.findall(r"/inst-(\w+)", os.readlink(f"/proc/{jaild}/fd/{fd}")))
            except OSError:
                pass
        if not names:
            raise RuntimeError("the groups of brig-jaild cannot be found")
        return sum(1 for where in state._brig_groups() if names & set(where.split("/")))

    def namespaces(self, pids):
        found = set()
        for pid in pids:
            for kind in ("net", "mnt", "pid", "ipc", "uts", "user", "cgroup", "time"):
                try:
                    found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
                except OSError:
                    pass
        for pid in self.pids().values():
            try:
                links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            except OSError:
                continue
            found.update(link for link in links if re.fullmatch(r"[a-z]+:\[\d+\]", link))
        return len(found)

    def sandboxes(self):
        return len(self.server.ask({"op": "ls"})["sandboxes"])

    def settle(self, boxes, deadline_s=30):
        """Until no sandbox but the neighbours' is known, and the number of groups has stood still: the
        stock of prepared ones has been filled again."""
        end, same, last = time.monotonic() + deadline_s, 0, None
        while time.monotonic() < end and same < 4:
            now = (self.sandboxes(), self.groups())
            same = same + 1 if now == last and now[0] <= boxes else 0
            last = now
            time.sleep(0.15)

    @staticmethod
    def files(*folders):
        return sum(1 + len(names) + len(dirs) for folder in folders
                   for _, dirs, names in os.walk(folder))

    def sample(self):
        row = {}
        for name, pid in sorted(self.pids().items()):
            status = read(f"/proc/{pid}/status")
            row[f"{name} memory (KiB)"] = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
            row[f"{name} descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
            row[f"{name} threads"] = int(re.search(r"Threads:\s+(\d+)", status)[1])
            row[f"{name} mounts"] = read(f"/proc/{pid}/mountinfo").count("\n")
        api = self.server.run.parent / "data" / "api"
        size = lambda p: p.stat().st_size // 1024 if p.exists() else 0  # noqa: E731
        row["control groups"] = self.groups()
        row["namespaces"] = self.namespaces(self.server.processes())
        row["host mounts"] = read("/proc/self/mountinfo").count("\n")
        row["database (KiB)"] = size(api / "api.db")
        row["database log (KiB)"] = size(api / "api.db-wal")
        row["files"] = self.files(self.server.run, self.server.run.parent / "data")
        row["host slab (KiB)"] = int(re.search(r"Slab:\s+(\d+)", read("/proc/meminfo"))[1])
        for line in read("/proc/cgroups").splitlines():
            if line.startswith("memory\t"):
                row["host control groups, dying ones included"] = int(line.split()[2])
        return row


# ---- slopes ----

def sen(points):
    """(slope, low, high) of [(x, y)]: Theil-Sen, and the interval of Kendall's test at 95 %."""
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0])
                    for i, a in enumerate(points) for b in points[i + 1:] if b[0] > a[0])
    n = len(points)
    if not slopes:
        return 0.0, -math.inf, math.inf
    spread = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, int((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, int((len(slopes) + spread) / 2) + 1)
    return statistics.median(slopes), slopes[low], slopes[high]


def unit(name):
    return PAGE_KIB if "(KiB)" in name else 1


def judge(samples):
    """[(name, first, last, slope, low, high, zero, of the host)]; samples: [(cycles, row)]."""
    kept = samples[len(samples) // 2:]
    verdicts = []
    for name in samples[0][1]:
        points = [(n, row[name]) for n, row in kept if name in row]
        slope, low, high = sen(points)
        grown = slope * (points[-1][0] - points[0][0])
        zero = low <= 0 or grown < unit(name)
        verdicts.append((name, samples[0][1][name], points[-1][1], slope, low, high, zero,
                         name.startswith(OF_THE_HOST)))
    return verdicts


def text_of(verdicts, about):
    lines = [about, "", "| figure | at first | at last | slope for 1000 cycles | 95 % interval | |",
             "|---|---|---|---|---|---|"]
    for name, first, last, slope, low, high, zero, host in verdicts:
        word = "zero within noise" if zero else "of the whole host" if host else "**grows**"
        lines.append(f"| {name} | {first} | {last} | {1000 * slope:+.2f} | {1000 * low:+.2f} to "
                     f"{1000 * high:+.2f} | {word} |")
    return "\n".join(lines) + "\n"


# ---- the whole ----

def run(args, soak, env):
    brig = str(soak.build / "brig")
    neighbours = None if args.no_neighbours else Neighbours(brig, env)
    boxes = 0 if args.no_neighbours else len(NEIGHBOURS)
    samples, failed, took, done = [], [], [], 0
    try:
        soak.settle(boxes)
        samples.append((0, soak.sample()))
        begun = time.monotonic()
        for i in range(args.samples):
            until = args.cycles * (i + 1) // args.samples
            share = [(until - done) // args.threads + (k < (until - done) % args.threads)
                     for k in range(args.threads)]
            workers = [Worker(soak, n) for n in share]
            for w in workers:
                w.start()
            for w in workers:
                w.join()
                failed += w.failed
                took += w.took
            done = until
            if neighbours:
                neighbours.look()
            soak.settle(boxes)
            samples.append((done, soak.sample()))
            say(f"{done} cycles, {time.monotonic() - begun:.0f} s, {len(failed)} failed")
            if args.minutes and time.monotonic() - begun > 60 * args.minutes:
                break
        return samples, failed, took, neighbours.restarts if neighbours else 0
    finally:
        if neighbours:
            neighbours.close()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--cycles", type=int, default=100000)
    p.add_argument("--samples", type=int, default=100, help="how often is measured")
    p.add_argument("--threads", type=int, default=4, help="clients at a time")
    p.add_argument("--minutes", type=float, help="end after so long, with the cycles done by then")
    p.add_argument("--no-neighbours", action="store_true")
    p.add_argument("--out", type=pathlib.Path, help="folder for soak.csv and soak.md")
    p.add_argument("--document", type=pathlib.Path, help="put the results between its marks")
    args = p.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it looks into every process of the server")
    build = pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="brig-soak-"))
    work.chmod(0o711)
    (work / "data").mkdir()
    try:
        with brigc.Server(build, work, "run", http="127.0.0.1:0") as server:
            env = dict(os.environ, BRIG_RUN=str(server.run), BRIG_SOCKET=server.socket)
            soak = Soak(server, build)
            before = soak.pids()
            samples, failed, took, restarts = run(args, soak, env)
            died = [name for name, pid in soak.pids().items() if before.get(name) != pid]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    verdicts = judge(samples)
    quarter = max(1, len(took) // 4)
    about = (f"{samples[-1][0]} cycles with {args.threads} clients, {len(samples)} samples, "
             f"{'no neighbours' if args.no_neighbours else 'five neighbours'}, {len(failed)} cycles failed"
             f"{', a neighbour was started again %d times' % restarts if restarts else ''}"
             f"{', died: ' + ', '.join(died) if died else ''}. A cycle took "
             f"{1000 * statistics.median(took[:quarter]):.1f} ms (p50) in the first quarter and "
             f"{1000 * statistics.median(took[-quarter:]):.1f} ms in the last, on kernel "
             f"{os.uname().release} with {os.cpu_count()} CPUs.")
    text = text_of(verdicts, about)
    print(text)
    for what in sorted(set(failed))[:10]:
        say(f"failed: {what}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "soak.md").write_text(text)
        with open(args.out / "soak.csv", "w", newline="") as f:
            out = csv.DictWriter(f, ["cycles", *samples[0][1]], restval="")
            out.writeheader()
            for n, row in samples:
                out.writerow({"cycles": n, **row})
    if args.document:
        report.document_fill(args.document, text, "soak")
    return int(bool(failed or died) or any(not zero and not host for *_, zero, host in verdicts))


if __name__ == "__main__":
    sys.exit(main())
