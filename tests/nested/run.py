#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of guest/ in an emulated machine (see machine.py) and reports them.

    tests/nested/run.py [--only TEXT] [--console FILE]

$BRIG_BUILD (default: build/ beside the sources) holds the programs under test; without a brig in it
only the platform cases run. $CC compiles the probes. $BRIG_MUST_RUN=nested makes a machine that
cannot be had a failure instead of a skip. Exit code: 0 all passed or skipped, 1 otherwise, 77 if
nothing could run.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import machine
import microvm

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
PROGRAMS = ("brig", "brigd", "brig-jaild", "brig-agent")
PROGRAMS_EXTRA = ("brig-image",)
DEADLINE_S = 900


def probes_build(out):
    """Compiles every probe, linked statically: {name in the guest: path}."""
    cc = os.environ.get("CC", "cc").split()
    if not shutil.which(cc[0]):
        raise machine.Missing(f"{cc[0]} is not installed: apt-get install gcc libc6-dev")
    built = {}
    for source in sorted((HERE / "probes").glob("*.c")):
        target = out / source.stem
        done = subprocess.run(cc + ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra",
                                    "-Werror", "-static", "-o", str(target), str(source)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"{source.name} does not compile:\n{done.stdout}")
        built[f"probes/{source.stem}"] = target
    return built


def payload(build, out, only, kernel):
    files = probes_build(out)
    if any(only in n for n in names_known() if n.startswith("microvm")):
        files.update(microvm.payload(build, kernel, out))
    for f in (HERE / "guest").glob("*.py"):
        files[f.name] = f
    missing = [p for p in PROGRAMS if not (build / p).exists()]
    if missing:
        print(f"# brig's own cases are left out: {build} has no {', '.join(missing)}")
    else:
        files.update({f"bin/{p}": build / p for p in PROGRAMS + PROGRAMS_EXTRA
                      if (build / p).exists()})
    (out / "only").write_text(only)
    files["only"] = out / "only"
    return files


def names_known():
    """The names of all cases, as far as they can be told without the machine: what --only is held
    against before one is started."""
    names = ["platform: " + p.stem.replace("_", " ") for p in (HERE / "probes").glob("*.c")]
    for f in (HERE / "guest").glob("*.py"):
        names += re.findall(r'^@case\("(.+)"\)$', f.read_text(), re.M)
    return names


class Report:
    """Prints each case as it comes and remembers what the last line needs."""

    def __init__(self):
        self.count = {"ok": 0, "skip": 0, "fail": 0}
        self.failed = []

    def add(self, name, result, detail, ms=None):
        self.count[result] += 1
        first, _, rest = detail.partition("\n")
        took = f" ({ms / 1000:.1f} s)" if ms is not None else ""
        if result == "fail":
            self.failed.append((name, detail))
            print(f"{name} ... FAIL{took}", flush=True)
        elif result == "skip":
            print(f"{name} ... skipped: {first}{took}", flush=True)
        else:
            print(f"{name} ... ok{took}{': ' + first if first else ''}", flush=True)

    def end(self, seconds):
        for name, detail in self.failed:
            print(f"{'=' * 70}\nFAIL: {name}\n{'-' * 70}\n{detail.rstrip()}")
        print(f"{'-' * 70}\nRan {sum(self.count.values())} cases in {seconds:.1f} s\n")
        notes = [f"{k}={v}" for k, v in (("failures", self.count["fail"]),
                                        ("skipped", self.count["skip"])) if v]
        if not any(self.count.values()):
            print("FAILED: no case has such a name")
            return 1
        verdict = "FAILED" if self.failed else "OK"
        print(verdict + (f" ({', '.join(notes)})" if notes else ""))
        return 1 if self.failed else 0


def watch(box, report, console):
    """Reads the results; a case of the plan that never came is a failure."""
    pending = None
    for line in box.lines():
        try:
            obj = json.loads(line)
        except ValueError:
            print(f"# {line}")
            continue
        if "plan" in obj:
            pending = obj["plan"]
        else:
            report.add(obj["case"], obj["result"], obj["detail"], obj["ms"])
            pending.remove(obj["case"])
    if pending is None or pending:
        text = console.read_text(errors="replace").splitlines()[-40:]
        why = "the deadline passed" if box.ended == "deadline" else box.ended
        report.add(pending[0] if pending else "the machine starts", "fail",
                   f"no result: {why}; last words of the console:\n" + "\n".join(text))
        for name in (pending or [])[1:]:
            report.add(name, "fail", "not reached")


def main():
    parser = argparse.ArgumentParser(description="Run brig's cases in an emulated machine.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose name contains TEXT")
    parser.add_argument("--console", metavar="FILE", help="keep the kernel's console in FILE")
    args = parser.parse_args()

    build = pathlib.Path(os.environ.get("BRIG_BUILD", SOURCE / "build")).resolve()
    cache = SOURCE / "build" / "nested-cache"
    cache.mkdir(parents=True, exist_ok=True)
    report = Report()
    start = time.monotonic()
    if not any(args.only in name for name in names_known()):
        return report.end(0)
    with tempfile.TemporaryDirectory(prefix="brig-nested-") as tmp:
        tmp = pathlib.Path(tmp)
        console = pathlib.Path(args.console) if args.console else tmp / "console"
        try:
            kernel = machine.kernel_fetch(cache)
            disk = machine.disk_make(cache)
            machine.initrd_make(tmp / "initrd", kernel, payload(build, tmp, args.only, kernel))
            box = machine.Machine(kernel, tmp / "initrd", disk, console, DEADLINE_S)
        except machine.Missing as e:
            must = "nested" in os.environ.get("BRIG_MUST_RUN", "").split(",")
            print(f"{'FAILED' if must else 'skipped'}: {e}")
            return 1 if must else 77
        with box:
            watch(box, report, console)
    return report.end(time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
