# SPDX-License-Identifier: Apache-2.0
"""Samples into figures and figures into Markdown. Percentiles are nearest-rank over all successful
operations; nothing is trimmed, and failures are counted beside them.

    bench/report.py RESULTS.md DOCUMENT.md      puts the results of a run into a document
"""

import csv
import math
import os
import pathlib
import platform
import re
import subprocess
import sys


class Sample:
    def __init__(self, row):
        self.form, self.round = row[0], int(row[1])
        self.ok, self.why = row[2] == "ok", row[2]
        self.first_us, self.done_us = float(row[3]), float(row[4])
        self.bytes, self.code = int(row[5]), int(row[6])


def parse(text):
    """(samples, {name: value} of the comment lines)"""
    samples, notes = [], {}
    for row in csv.reader(text.splitlines()):
        if row and row[0].startswith("# "):
            name, value = row[0][2:].split(" ", 1)
            notes[name] = float(value)
        elif row:
            samples.append(Sample(row))
    return samples, notes


def rank(values, percent):
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def figures(values):
    return {"n": len(values), "min": min(values), "p50": rank(values, 50), "p95": rank(values, 95),
            "p99": rank(values, 99), "max": max(values)} if values else {"n": 0}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(c) for c in r) + " |" for r in rows]
    return "\n".join(lines) + "\n"


def latency_table(samples, field, forms=None):
    by = {}
    for s in samples:
        by.setdefault(s.form, []).append(s)
    rows = []
    for form in forms or by:
        got = by.get(form, [])
        values = [getattr(s, field) / 1000 for s in got if s.ok and getattr(s, field)]
        f = figures(values)
        failed = sum(not s.ok for s in got)
        rows.append([form, f["n"]] + [f"{f[k]:.2f}" if f["n"] else "" for k in
                                      ("min", "p50", "p95", "p99", "max")] + [failed])
    return table(["form", "n", "min ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "failed"], rows)


def p(samples, form, field, percent):
    values = [getattr(s, field) / 1000 for s in samples if s.form == form and s.ok]
    return rank(values, percent) if values else None


def _read(path, default=""):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return default


def steal():
    fields = _read("/proc/stat").splitlines()[0].split()[1:]
    ticks = [int(x) for x in fields]
    return {"steal": ticks[7] if len(ticks) > 7 else 0, "all": sum(ticks[:8])}


def environment(source):
    cpu = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    config = subprocess.run("zcat /proc/config.gz 2>/dev/null || cat /boot/config-$(uname -r)",
                            shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True).stdout
    hz = re.search(r"^CONFIG_HZ=(\d+)", config, re.M)
    kinds = {l.split()[2] for l in _read("/proc/mounts").splitlines()
             if l.split()[2].startswith("cgroup")}
    commit = subprocess.run(["git", "-C", str(source), "describe", "--always", "--dirty"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    vulnerable = {}
    for f in sorted(pathlib.Path("/sys/devices/system/cpu/vulnerabilities").glob("*")):
        text = _read(f)
        if text.startswith("Mitigation"):
            vulnerable[f.name] = text
    return {
        "kernel": platform.release(), "machine": platform.machine(),
        "HZ": hz[1] if hz else "unknown", "CPU": cpu[1] if cpu else "unknown",
        "CPUs": os.cpu_count(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none (virtual)"),
        "hypervisor": "yes" if " hypervisor" in _read("/proc/cpuinfo") else "no",
        "memory MiB": int(re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))[1]) // 1024,
        "cgroups": {frozenset(["cgroup2"]): "v2", frozenset(["cgroup"]): "v1"}.get(
            frozenset(kinds), "hybrid" if kinds else "none"),
        "mitigations": ", ".join(vulnerable) or "none active",
        "load before": _read("/proc/loadavg").split()[0],
        "page cache": "warm",
        "brig": commit.strip() or "unknown",
    }


def document_fill(document, results, name="bench"):
    """Replaces what is between the two marks of a document by the results, two levels deeper."""
    path = pathlib.Path(document)
    marks = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    before, begin, rest = path.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{document}: the marks {marks[0].strip()} and {marks[1].strip()} are not in it")
    body = re.sub(r"^# .*\n+", "", results)
    body = re.sub(r"^## ", "### ", body, flags=re.M)
    path.write_text(before + begin + "\n" + body.strip() + "\n\n" + end + after)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: report.py RESULTS.md DOCUMENT.md")
    document_fill(sys.argv[2], pathlib.Path(sys.argv[1]).read_text())
