#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Side by side: brig and other runtimes on the same host, the same root, the same payload.

    bench/run.py [--quick] [--only SECTION,..] [--peers NAME,..] [--out DIR] [--document FILE]

Run as root. $BRIG_BUILD (default build/) holds brig's programs; without them only the peers are
timed. clock and hi are taken from $BRIG_BUILD/bench or compiled. Everything goes to the output
directory: a CSV with every operation per section, environment.json, results.md; --document also puts
the results between the marks of a document, as docs/performance.md has them. Nothing here is a
test: a slow machine is no failure, and the exit code is 0 unless the benchmark itself could not run.

Sections: latency rate exec stream density leaks gvisor
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import brigc
import peers
import report
import state

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent
SECTIONS = ("latency", "rate", "exec", "stream", "density", "leaks", "gvisor")
FULL = {"rounds": 1000, "warm": 30, "seconds": 10, "live": 1000, "cycles": 2000,
        "out_mib": 4096, "in_mib": 1024, "streams": 3, "pool": 32}
QUICK = {"rounds": 150, "warm": 10, "seconds": 2, "live": 300, "cycles": 200,
         "out_mib": 512, "in_mib": 256, "streams": 2, "pool": 8}
SCRIPT = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; ls -l / >/tmp/list; echo $i"
# Between two operations of the latency sections: clock.c tells why.
PAUSE_MS = 10
LIMITS = {"memory_bytes": 64 << 20, "disk_bytes": 16 << 20}


def say(text):
    print(text, file=sys.stderr, flush=True)


def tool(build, work, name):
    """A program of this directory: built by the project, or compiled here."""
    ready = build / "bench" / name
    if ready.exists():
        return ready
    out = work / name
    if name == "hi":
        args = ["musl-gcc", "-static", "-O2", "-o", str(out), str(HERE / "hi.c")]
    else:
        base = [SOURCE / f"src/base/{n}.c" for n in ("fd", "buf", "frame")]
        args = [os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2",
                f"-I{SOURCE}/include", f"-I{SOURCE}/src", f"-I{HERE}", "-o", str(out),
                *map(str, sorted(HERE.glob(f"{name}*.c")) + base), "-ljansson"]
    subprocess.run(args, check=True)
    return out


def root_make(work, hi):
    """The root file system of every runtime: busybox, the payload, and mount points."""
    root = work / "root"
    for d in ("bin", "proc", "dev", "sys", "tmp", "etc", "root", "run", "var"):
        (root / d).mkdir(parents=True, mode=0o755)
    (root / "tmp").chmod(0o1777)
    shutil.copy(hi, root / "bin/hi")
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    for applet in ("sh", "true", "cat", "dd", "ls", "wc", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return root


class Bench:
    def __init__(self, args, work):
        self.size = QUICK if args.quick else FULL
        self.build = pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()
        self.work, self.out = work, pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.clock = tool(self.build, work, "clock")
        self.root = root_make(work, tool(self.build, work, "hi"))
        self.holder = peers.Holder()
        wanted = args.peers.split(",") if args.peers else None
        self.peers = peers.all_peers(self.root, work, wanted, self.holder)
        self.have_brig = all((self.build / p).exists() for p in ("brig", "brigd", "brig-jaild",
                                                                 "brig-agent", "brig-image"))
        self.parts = []
        self.promises = []
        self.servers = {}
        # A private server for whoever does not name a socket, and a data directory of our own.
        self.env = dict(os.environ, BRIG_SOCKET=str(work / "nobody.sock"), BRIG_DATA=str(work / "data"))

    def close(self):
        for s in self.servers.values():
            s.close()
        self.holder.close()

    # ---- forms ----

    def image_import(self):
        done = subprocess.run([self.build / "brig", "image", "import", "bench", self.root],
                              env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"brig image import: {done.stdout}")

    def server(self, name):
        if name not in self.servers:
            options = ["--pool", f"bench={self.size['pool']}"] if name == "pool" else \
                ["--pool", f"bench={self.size['pool']}:gvisor"] if name == "gvisor pool" else []
            self.servers[name] = brigc.Server(self.build, self.work, name, *options)
        return self.servers[name]

    def brig_line(self, form, *command, flags=()):
        return "\t".join([form, "1", "spawn", str(self.build / "brig"), "run", "-q", "--image",
                          "bench", *flags, "--", *command])

    def request_line(self, form, server, request):
        return "\t".join([form, "1", "brig", self.server(server).socket, json.dumps(request)])

    @staticmethod
    def run_request(*command, tier=None):
        return {"op": "run", "spec": {"image": "bench", **({"tier": tier} if tier else {})},
                "cmd": list(command)}

    def plan(self, lines):
        path = self.work / "plan"
        path.write_text("".join(line + "\n" for line in lines))
        return path

    def measure(self, section, *args):
        with open(self.out / f"{section}.stderr", "ab") as err:
            done = subprocess.run([self.clock, *map(str, args)], env=self.env, cwd="/", stderr=err,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"clock exited {done.returncode}")
        with open(self.out / f"{section}.csv", "a") as out:
            out.write(done.stdout)
        return report.parse(done.stdout)

    def peers_ready(self):
        """Those that really print "hi" here; the others get their reason."""
        for peer in self.peers:
            peer.try_out()
            if peer.broken:
                continue
            samples, _ = self.measure("trial", "-n", 1, "-w", 0, "-d", 30,
                                      self.plan([peer.line(peer.name, "/bin/hi")]))
            if not samples[0].ok or samples[0].bytes != 3:
                said = (self.out / "trial.stderr").read_text(errors="replace").strip().splitlines()
                peer.broken = f"{samples[0].why}: {said[-1] if said else 'no message'}"
        return [p for p in self.peers if not p.broken]

    def promise(self, what, target, unit, value, below=True):
        met = value is not None and (value <= target if below else value >= target)
        self.promises.append([what, f"{'at most' if below else 'at least'} {target} {unit}",
                              "not measured" if value is None else f"{value:.2f} {unit}",
                              "yes" if met else "no"])

    def part(self, title, text):
        self.parts.append(f"## {title}\n\n{text}")
        say(f"\n{title}\n{text}")

    # ---- sections ----

    def latency(self):
        ready = [p for p in self.peers if not p.broken]
        lines = [p.line(p.name, "/bin/hi") for p in ready]
        if self.have_brig:
            self.server("pool")
            lines[1:1] = [self.brig_line("brig run (private server)", "/bin/hi"),
                          self.request_line("brigd no pool", "plain", self.run_request("/bin/hi")),
                          self.request_line("brigd pool", "pool", self.run_request("/bin/hi"))]
        samples, _ = self.measure("latency", "-n", self.size["rounds"], "-w", self.size["warm"],
                                  "-p", PAUSE_MS, self.plan(lines))
        self.part("First byte of a static program", report.latency_table(samples, "first_us"))
        self.part("Whole run", report.latency_table(samples, "done_us"))
        if self.have_brig:
            exec_ms = report.p(samples, "bare", "first_us", 50) or 0
            for form, limit, percent in (("brigd no pool", 1.5, 50), ("brigd no pool", 4.0, 99)):
                self.promise(f"{form}: request to first byte, p{percent}", limit, "ms",
                             report.p(samples, form, "first_us", percent))
            self.promise("brigd, pool: request to first byte, p50 (0.3 ms and the exec)",
                         round(0.3 + exec_ms, 2), "ms",
                         report.p(samples, "brigd pool", "first_us", 50))
            bwrap = report.p(samples, "bwrap", "done_us", 50)
            if bwrap:
                self.promise("brig run, private server, whole process, p50 (below bwrap)",
                             round(bwrap, 2), "ms",
                             report.p(samples, "brig run (private server)", "done_us", 50))

    def gvisor(self):
        """The gVisor tier beside `runsc run` of the same root: both set up the same sentry and gofer."""
        peer = peers.Runsc(self.root, self.work)
        peer.try_out()
        self.peers.append(peer)
        if peer.broken or not self.have_brig:
            self.part("The gVisor tier", f"not measured: {peer.broken or 'brig is not built'}")
            return
        tier = ("--tier", "gvisor")
        lines = [peer.line("runsc run", "/bin/hi"),
                 self.brig_line("brig run --tier gvisor (private server)", "/bin/hi", flags=tier),
                 self.request_line("brigd gvisor no pool", "plain", self.run_request("/bin/hi", tier="gvisor")),
                 self.request_line("brigd gvisor pool", "gvisor pool",
                                   self.run_request("/bin/hi", tier="gvisor"))]
        samples, _ = self.measure("gvisor", "-n", max(self.size["rounds"] // 10, 3), "-w", 1, "-p", PAUSE_MS,
                                  self.plan(lines))
        self.part("The gVisor tier: first byte of a static program",
                  report.latency_table(samples, "first_us"))
        self.part("The gVisor tier: whole run", report.latency_table(samples, "done_us"))

    def rate(self):
        lines = [p.line(p.name, "/bin/true") for p in self.peers
                 if not p.broken and p.name in ("bare", "bwrap", "crun", "runc")]
        forms = [line.split("\t")[0] for line in lines]
        if self.have_brig:
            lines += [self.request_line("brigd no pool", "plain", self.run_request("/bin/true")),
                      self.request_line("brigd pool", "pool", self.run_request("/bin/true"))]
            forms += ["brigd no pool", "brigd pool"]
        plan, rows, best = self.plan(lines), [], None
        for inflight in (1, 2, 4):
            for form in forms:
                samples, notes = self.measure("rate", "-r", form, "-k", inflight, "-t",
                                              self.size["seconds"], plan)
                good = [s for s in samples if s.ok]
                per_s = len(good) / (notes["elapsed_us"] / 1e6)
                f = report.figures([s.done_us / 1000 for s in good])
                rows.append([form, inflight, f"{per_s:.0f}", f"{f.get('p50', 0):.2f}",
                             f"{f.get('p99', 0):.2f}", len(samples) - len(good)])
                if form == "brigd no pool":
                    best = max(best or 0, per_s)
        self.part("Create, run, destroy: cycles a second",
                  report.table(["form", "in flight", "cycles/s", "p50 ms", "p99 ms", "failed"], rows))
        if self.have_brig:
            self.promise("create-run-destroy cycles a second, no pool", 400, "/s", best, below=False)

    def exec(self):
        lines, stop = [], []
        for peer in self.peers:
            if peer.broken or peer.name not in ("runc", "crun"):
                continue
            enter = ["nsenter", f"--mount={peer.mntns}"] if peer.mntns else []
            name = f"live-{peer.name}-{os.getpid()}"
            subprocess.run([*enter, peer.name, *peer.options, "run", "-d", "-b",
                            str(peer.bundle("/bin/sleep", "100000")), name], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stop.append([*enter, peer.name, *peer.options, "delete", "-f", name])
            kind = "spawn" + (f":{peer.mntns}" if peer.mntns else "")
            lines.append("\t".join([f"{peer.name} exec", str(peer.every), kind, peer.name,
                                    *peer.options, "exec", name, "/bin/hi"]))
        try:
            if self.have_brig:
                server = self.server("plain")
                box = server.ask({"op": "create", "spec": {"image": "bench", "limits": LIMITS}})["id"]
                request = {"op": "exec", "id": box, "cmd": ["/bin/hi"], "user": "0"}
                lines.insert(0, self.request_line("brigd exec", "plain", request))
            if not lines:
                return
            samples, _ = self.measure("exec", "-n", self.size["rounds"], "-w", self.size["warm"],
                                      "-p", PAUSE_MS, self.plan(lines))
            if self.have_brig:
                server.ask({"op": "rm", "id": box, "force": True})
        finally:
            for command in stop:
                subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.part("Command in a living sandbox: request to first byte",
                  report.latency_table(samples, "first_us"))
        self.part("Command in a living sandbox: round trip", report.latency_table(samples, "done_us"))

    def stream(self):
        n = self.size["out_mib"]
        zero = ["/bin/dd", "if=/dev/zero", "bs=1M", f"count={n}"]
        light = [p for p in self.peers if not p.broken and p.name in ("bare", "bwrap")]
        lines = [p.line(p.name, *zero) for p in light]
        if self.have_brig:
            lines += [self.brig_line("brig run", *zero),
                      self.request_line("brigd", "plain", self.run_request(*zero))]
        samples, _ = self.measure("stream", "-n", self.size["streams"], "-w", 1, "-d", 300,
                                  self.plan(lines))
        rows = self.stream_rows(samples, n)
        head = ["form", "n", "best GB/s", "p50 GB/s", "failed"]
        self.part(f"Standard output, {n} MiB", report.table(head, rows))
        if self.have_brig:
            for form in ("brig run", "brigd"):
                value = next((float(r[3]) for r in rows if r[0] == form and r[3]), None)
                self.promise(f"standard output, {form}", 1.5, "GB/s", value, below=False)

        n = self.size["in_mib"]
        feed = f"dd if=/dev/zero bs=1M count={n} 2>/dev/null | "
        sink = ["/bin/dd", "of=/dev/null", "bs=1M"]
        into = {p.name: p.command(*sink) for p in light}
        if self.have_brig:
            into["brig run"] = self.brig_line("", *sink).split("\t")[3:]
        lines = ["\t".join([name, "1", "spawn", "sh", "-c", f"{feed}{' '.join(command)} 2>/dev/null"])
                 for name, command in into.items()]
        samples, _ = self.measure("stream", "-n", self.size["streams"], "-w", 1, "-d", 300,
                                  self.plan(lines))
        self.part(f"Standard input, {n} MiB",
                  report.table(head, self.stream_rows(samples, n, out=False)))

    @staticmethod
    def stream_rows(samples, mib, out=True):
        rows, whole = [], mib << 20
        for form in dict.fromkeys(s.form for s in samples):
            got = [s for s in samples if s.form == form]
            good = [s for s in got if s.ok and (not out or s.bytes == whole)]
            speeds = [whole / s.done_us / 1000 for s in good]
            rows.append([form, len(good), f"{max(speeds):.2f}" if speeds else "",
                         f"{report.rank(speeds, 50):.2f}" if speeds else "", len(got) - len(good)])
        return rows

    def density(self):
        if not self.have_brig:
            return
        server, live = self.server("density"), self.size["live"]
        spec = {"image": "bench", "limits": LIMITS}
        # The first of each does what is done once: loads pages of programs, grows tables.
        self.script_run(server, server.ask({"op": "create", "spec": spec})["id"], remove=True)
        state.memory_settle()
        own = server.processes()
        ids, t0, step = [], time.monotonic(), max(1, live // 50)
        try:
            born, done = [(0, state.memory_available())], []
            for i in range(live):
                ids.append(server.ask({"op": "create", "spec": spec})["id"])
                if (i + 1) % step == 0:
                    born.append((i + 1, state.memory_available()))
            created = time.monotonic() - t0
            done.append((0, state.memory_available()))
            for i, box in enumerate(ids):
                self.script_run(server, box)
                if (i + 1) % step == 0:
                    done.append((i + 1, state.memory_available()))
            took = time.monotonic() - t0
            time.sleep(2)
            ends = (born[0][1] - state.memory_available()) / live
            charged = state.memory_charged(ids)
            servers = state.pss(own)
        finally:
            for box in ids:
                server.ask({"op": "rm", "id": box, "force": True})
        mib = 1 << 20
        birth, script = state.slope(born) / mib, state.slope(done) / mib
        self.part(f"{live} live idle sandboxes", report.table(["figure", "value"], [
            ["memory of the host for each, at birth", f"{birth:.2f} MiB"],
            ["what its script adds", f"{script:.2f} MiB"],
            ["the same by the difference of before and after", f"{ends / mib:.2f} MiB"],
            ["charged to the cgroups of each", f"{charged / live / mib:.2f} MiB"],
            ["the server's own processes (PSS)", f"{servers / mib:.1f} MiB"],
            ["time to create all", f"{created:.1f} s"],
            ["time to run the script in each", f"{took - created:.1f} s"]]))
        # Less than what the kernel itself charges to them cannot be true.
        each = max(birth + script, charged / live / mib)
        self.promise("memory of an idle sandbox after its script", 1.0, "MiB", each)

    @staticmethod
    def script_run(server, box, remove=False):
        status, out = server.complete({"op": "exec", "id": box, "user": "0",
                                       "cmd": ["/bin/sh", "-c", SCRIPT]})
        if out != b"1000\n":
            raise RuntimeError(f"the script failed in {box}: {status}")
        if remove:
            server.ask({"op": "rm", "id": box, "force": True})

    def leaks(self):
        if not self.have_brig:
            return
        cycles, server = self.size["cycles"], self.server("plain")
        plan = self.plan([self.request_line("cycle", "plain", self.run_request("/bin/true"))])
        self.measure("leaks", "-n", 50, "-w", 0, plan)
        time.sleep(2)
        before = state.host(server)
        samples, _ = self.measure("leaks", "-n", cycles, "-w", 0, plan)
        deadline = time.monotonic() + 5
        while (left := state.difference(before, state.host(server))) and time.monotonic() < deadline:
            time.sleep(0.1)
        failed = sum(not s.ok for s in samples)
        rows = [[kind, ", ".join(map(str, v))[:200]] for kind, v in left.items()] or [["nothing", ""]]
        self.part(f"Left after {cycles} cycles ({failed} failed)", report.table(["kind", "what"], rows))
        self.promise(f"things left 5 s after {cycles} cycles", 0, "", sum(map(len, left.values())))


def main():
    parser = argparse.ArgumentParser(description="Compare brig with other runtimes on this host.")
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of half an hour")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="SECTION,..")
    parser.add_argument("--peers", default="", metavar="NAME,..")
    parser.add_argument("--out", default=str(SOURCE / "build/bench-results"), metavar="DIR")
    parser.add_argument("--document", metavar="FILE", help="put the results into this document, too")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(unknown)}")
    if os.geteuid() != 0:
        parser.error("run it as root: cgroups, runc and the namespaces of the peers need it")
    shutil.rmtree(args.out, ignore_errors=True)
    environment, ticks = report.environment(SOURCE), report.steal()
    with tempfile.TemporaryDirectory(prefix="brig-bench-") as tmp:
        os.chmod(tmp, 0o755)
        bench = Bench(args, pathlib.Path(tmp))
        try:
            bench.peers_ready()
            if bench.have_brig:
                bench.image_import()
            else:
                say(f"brig is not in {bench.build}: only the peers are timed")
            for section in SECTIONS:
                if section in chosen:
                    say(f"-- {section}")
                    getattr(bench, section)()
        finally:
            bench.close()
    end = report.steal()
    passed = end["all"] - ticks["all"]
    environment["steal"] = f"{100 * (end['steal'] - ticks['steal']) / max(passed, 1):.2f} %"
    environment["form"] = "quick" if args.quick else "full"
    environment["load after"] = f"{os.getloadavg()[0]:.2f}"
    (bench.out / "environment.json").write_text(json.dumps(environment, indent=1) + "\n")
    text = results(bench, environment)
    (bench.out / "results.md").write_text(text)
    print(text)
    if args.document:
        report.document_fill(args.document, text)
    return 0


def results(bench, environment):
    text = ["# Results\n", report.table(["machine", ""], environment.items())]
    if bench.promises:
        text.append("## Promises\n\n" + report.table(["promise", "target", "measured", "met"],
                                                     bench.promises))
    text += bench.parts
    rows = [[p.name, p.version, p.note, p.broken or "yes"] for p in bench.peers]
    text.append("## Peers\n\n" + report.table(["peer", "version", "how", "ran"], rows))
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
