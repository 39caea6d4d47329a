#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a network costs: bytes and connections over a bare link, between two sandboxes of a private network
(packet rules), and through the gateway; and the making of sandboxes beside many others with policies.

    bench/net.py [--quick] [--seconds N] [--live N]

Run as root. $BRIG_BUILD (default build/) holds brig's programs. The server runs in a network namespace that
stands for the host, with one link to another that stands for the world. Prints JSON: each figure with the raw
samples' number; nothing here is a test.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()
WORLD, HOST = "45.33.32.10", "45.33.32.1"  # public by their numbers; nobody leaves these namespaces
PYTHON = "/usr/bin/python3"

# Gives zeros to who sends "s", and a byte for each byte to who sends "e".
GIVER = r"""
import socket, threading
def talk(c):
    with c:
        c.setsockopt(6, 1, 1)
        if c.recv(1) == b"s":
            try:
                while True:
                    c.sendall(bytes(1 << 20))
            except OSError:
                return
        c.sendall(b"e")
s = socket.create_server(("0.0.0.0", 5001), backlog=512)
print("ready", flush=True)
while True:
    threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()
"""
# Bytes a second for the time; then connections one after another: microseconds until the first byte is back.
TAKER = r"""
import json, socket, sys, time
dest, seconds, rounds = (sys.argv[1], 5001), float(sys.argv[2]), int(sys.argv[3])
buffer, n = bytearray(1 << 20), 0
with socket.create_connection(dest) as s:
    s.sendall(b"s")
    s.recv_into(buffer)
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        n += s.recv_into(buffer)
us = []
for _ in range(rounds):
    t = time.monotonic()
    with socket.create_connection(dest) as s:
        s.setsockopt(6, 1, 1)
        s.sendall(b"e")
        s.recv(1)
        us.append((time.monotonic() - t) * 1e6)
print(json.dumps({"bytes_per_second": n / (now - begin), "us": us}))
"""


class Bench:
    def __init__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="brig-bench-net-"))
        self.work.chmod(0o711)
        self.env = {**os.environ, "BRIG_SOCKET": str(self.work / "run/brig.sock"),
                    "BRIG_DATA": str(self.work / "data"), "BRIG_LIBEXEC": str(BUILD)}
        self.held = []

    def hold(self, *command):
        """A process that lives as long as this one, and has said a line."""
        p = subprocess.Popen([str(x) for x in command], stdout=subprocess.PIPE, env=self.env,
                             start_new_session=True)
        self.held.append(p)
        p.stdout.readline()
        return p

    def brig(self, *args):
        done = subprocess.run([BUILD / "brig", *args], env=self.env, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().strip()

    def begin(self):
        (self.work / "run").mkdir(mode=0o711)
        self.host, self.world = (self.hold("unshare", "-n", "--", "sh", "-c", "echo; exec sleep 100000").pid
                                 for _ in range(2))
        for pid in (self.host, self.world):
            self.inside(pid, "ip", "link", "set", "lo", "up")
        self.inside(self.host, "ip", "link", "add", "world", "type", "veth", "peer", "name", "host", "netns",
                    self.world)
        for pid, name, address in ((self.host, "world", HOST), (self.world, "host", WORLD)):
            self.inside(pid, "ip", "addr", "add", address + "/24", "dev", name)
            self.inside(pid, "ip", "link", "set", name, "up")
        self.inside(self.host, "ip", "route", "add", "default", "via", WORLD)
        self.hold("nsenter", "-t", self.world, "-n", "--", PYTHON, "-u", "-c", GIVER)
        self.server = subprocess.Popen(["nsenter", "-t", str(self.host), "-n", "--", BUILD / "brig", "serve", "--http",
                                        "127.0.0.1:0"], env=self.env, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while subprocess.run([BUILD / "brig", "network", "ls"], env=self.env, capture_output=True).returncode:
            if time.monotonic() > end:
                raise SystemExit("brig serve does not answer")
            time.sleep(0.05)

    def inside(self, pid, *args):
        return subprocess.run(["nsenter", "-t", str(pid), "-n", "--", *(str(a) for a in args)], check=True,
                              stdout=subprocess.PIPE).stdout.decode()

    def box(self, *args):
        return self.brig("create", "--image", "host", *args)

    def end(self):
        if getattr(self, "server", None):
            self.server.terminate()
            self.server.wait()
        for p in reversed(self.held):
            p.kill()
            p.wait()
            p.stdout.close()
        shutil.rmtree(self.work, ignore_errors=True)


def figures(text):
    o = json.loads(text)
    us = sorted(o["us"])
    return {"gbit_per_second": round(o["bytes_per_second"] * 8 / 1e9, 2),
            "connection_us": {"p50": round(statistics.median(us)), "p99": round(us[int(len(us) * 0.99)]),
                              "rounds": len(us)}}


def paths(b, seconds, rounds):
    say = (str(seconds), str(rounds))
    b.brig("network", "create", "bench")
    giver, taker = b.box("--network", "bench", "--alias", "giver"), b.box("--network", "bench")
    b.hold(BUILD / "brig", "exec", giver, "--", PYTHON, "-u", "-S", "-c", GIVER)
    out = b.box("--net", "deny", "--allow", f"{WORLD}:5001")
    result = {"bare link": figures(b.inside(b.host, PYTHON, "-c", TAKER, WORLD, *say)),
              "private network": figures(b.brig("exec", taker, "--", PYTHON, "-c", TAKER, "giver", *say)),
              "gateway": figures(b.brig("exec", out, "--", PYTHON, "-S", "-c", TAKER, WORLD, *say))}
    b.brig("rm", "-f", giver, taker, out)
    b.brig("network", "rm", "bench")
    return result


def timed(fn, n):
    samples = []
    for _ in range(n):
        t = time.monotonic()
        fn()
        samples.append((time.monotonic() - t) * 1000)
    return {"ms_p50": round(statistics.median(samples), 2), "ms_max": round(max(samples), 2), "rounds": n}


def beside(b, live, rounds):
    """Making one, and changing one, beside `live` others whose policies have ten rules each."""
    rules = [x for i in range(10) for x in ("--allow", f"host-{i}.example:443")]
    result = {}
    for count in (0, live):
        ids = [b.box("--memory", "32m", "--net", "deny", *rules) for _ in range(count)]
        made = []
        result[f"beside {count}"] = {
            "create": timed(lambda: made.append(b.box("--net", "deny", *rules)), rounds),
            "change": timed(lambda: b.brig("net", made[0], "--only", "--net", "deny", *rules), rounds)}
        ids += made
        for i in range(0, len(ids), 100):
            b.brig("rm", "-f", *ids[i:i + 100])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, few sandboxes")
    parser.add_argument("--seconds", type=float, help="of each stream")
    parser.add_argument("--live", type=int, help="sandboxes with policies")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("bench/net.py makes network namespaces: run it as root")
    seconds, live = args.seconds or (1 if args.quick else 10), args.live or (20 if args.quick else 1000)
    rounds = 50 if args.quick else 1000
    b = Bench()
    try:
        b.begin()
        result = {"paths": paths(b, seconds, rounds), "creation": beside(b, live, 5 if args.quick else 50)}
    finally:
        b.end()
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    result["host"] = {"kernel": os.uname().release, "cpu": model.group(1) if model else "?", "cpus": os.cpu_count()}
    print(json.dumps(result, indent=4))


if __name__ == "__main__":
    main()
