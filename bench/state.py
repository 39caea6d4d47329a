# SPDX-License-Identifier: Apache-2.0
"""What a host holds: memory, and everything that a sandbox could leave behind."""

import os
import pathlib
import re
import statistics
import time

FIRST_ID, LAST_ID = 0x70010000, 0x7FFEFFFF  # include/brig/ids.h, slot 0 is brig's own daemons


def memory_available():
    return int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024


def memory_settle(deadline_s=20):
    """Waits until the host's memory moves by less than 1 MiB in a second: what earlier sections left
    to be freed (groups, network namespaces) would count as a gain."""
    deadline, last = time.monotonic() + deadline_s, memory_available()
    while time.monotonic() < deadline:
        time.sleep(1)
        now = memory_available()
        if abs(now - last) < 1 << 20:
            return
        last = now


def slope(samples):
    """What one more costs, of (how many, bytes available) pairs: the median of the slopes between
    all pairs (Theil-Sen), so that another program that starts or ends meanwhile moves it little."""
    slopes = [(a - b) / (m - n)
              for i, (n, a) in enumerate(samples) for m, b in samples[i + 1:] if m > n]
    return statistics.median(slopes) if slopes else 0.0


def pss(pids):
    """Bytes of memory of some processes, shared pages counted once."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
        except (OSError, TypeError):
            pass
    return total


def _brig_groups():
    """Directories of brig in every mounted hierarchy: <mount>/brig, or below a delegated group."""
    for mount in {l.split()[1] for l in pathlib.Path("/proc/mounts").read_text().splitlines()
                  if l.split()[2].startswith("cgroup")}:
        for where, dirs, _ in os.walk(mount):
            if "/brig/" in where + "/":
                yield where


def memory_charged(ids):
    wanted, total = set(ids), 0
    for where in _brig_groups():
        if os.path.basename(where) in wanted:
            for name in ("memory.current", "memory.usage_in_bytes"):
                try:
                    total += int(pathlib.Path(where, name).read_text())
                except OSError:
                    pass
    return total


def host(server):
    """Sets of texts by kind. Descriptors of the server's own processes are counted by their number."""
    kinds = {"process": set(), "network namespace": set(), "descriptor": set()}
    own = set(server.processes())
    for p in pathlib.Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        try:
            if FIRST_ID <= p.stat().st_uid <= LAST_ID:
                kinds["process"].add(f"{p.name} {(p / 'comm').read_text().strip()}")
            kinds["network namespace"].add(os.readlink(p / "ns/net"))
            if int(p.name) in own:
                comm = (p / "comm").read_text().strip()
                kinds["descriptor"].update(f"{comm} {i}" for i in range(len(os.listdir(p / "fd"))))
        except OSError:
            pass
    kinds["cgroup"] = set(_brig_groups())
    kinds["mount"] = {l.split(" - ")[0].split()[4] for l in
                      pathlib.Path("/proc/self/mountinfo").read_text().splitlines()}
    kinds["link"] = set(os.listdir("/sys/class/net"))
    return kinds


def difference(before, after):
    """What is more than before, and how many of those that come and go. Sandboxes that the server
    keeps ready have new names each time, so these kinds are compared by number."""
    left = {}
    for kind, now in after.items():
        if kind in ("process", "network namespace", "cgroup"):
            more = sorted(now - before[kind])[:max(0, len(now) - len(before[kind]))]
        else:
            more = sorted(now - before[kind])
        if more:
            left[kind] = more
    return left
