# SPDX-License-Identifier: Apache-2.0
"""Runs inside the emulated machine: one JSON object per line on standard output.

The first line is the plan, then each case as it ends. A probe (a program in probes/) passes by exit
code 0, is skipped by 77, and fails by anything else; what it wrote is its evidence.
"""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback

HOME = pathlib.Path("/opt/nested")
sys.path.insert(0, str(HOME))

from lib import Skip, case, cases, host_state, run  # noqa: E402


def probe(path):
    def body():
        done = subprocess.run([path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60,
                              cwd="/")
        text = done.stdout.strip()
        if done.returncode == 77:
            raise Skip(text)
        if done.returncode < 0:
            raise AssertionError(f"{text}\nkilled by {signal.Signals(-done.returncode).name}")
        if done.returncode:
            raise AssertionError(text or f"exit code {done.returncode}")
        return text

    return body


@case("platform: kernel and control groups")
def report():
    root = pathlib.Path("/sys/fs/cgroup")
    controllers = (root / "cgroup.controllers").read_text().split()
    down = (root / "cgroup.subtree_control").read_text().split()
    mounts = [l.split() for l in pathlib.Path("/proc/mounts").read_text().splitlines()]
    kinds = {m[2] for m in mounts if m[2].startswith("cgroup")}
    assert kinds == {"cgroup2"}, f"not a pure version 2 machine: {kinds}"
    for want in ("cpu", "memory", "pids", "io"):
        assert want in down, f"controller {want} is not handed down: {down}"
    return f"{os.uname().release}; controllers {' '.join(controllers)}; {os.cpu_count()} CPUs"


for p in sorted((HOME / "probes").iterdir()):
    case("platform: " + p.name.replace("_", " "))(probe(str(p)))

if (HOME / "bin/brig").exists():
    import brig_cases  # noqa: F401,E402
if (HOME / "bin/brig-vmm").exists():
    import microvm_cases  # noqa: F401,E402
    import microvm_brig  # noqa: F401,E402


@case("the machine is as it was: no process, cgroup, mount or namespace is left")
def nothing_left():
    deadline = time.monotonic() + 10
    while True:
        left = {k: sorted(v - BEFORE[k]) for k, v in host_state().items() if v - BEFORE[k]}
        if not left:
            return f"{sum(map(len, BEFORE.values()))} things compared"
        if time.monotonic() > deadline:
            raise AssertionError(json.dumps(left, indent=1))
        time.sleep(0.1)


@case("the kernel reported no fault")
def kernel_log():
    log = run("dmesg").stdout
    bad = [l for l in log.splitlines()
           if any(w in l for w in ("BUG:", "Oops", "WARNING:", "blocked for more than", "rcu_sched"))]
    assert not bad, "\n".join(bad)


def emit(obj):
    sys.stdout.write(json.dumps(obj) + "\n")
    sys.stdout.flush()


# A machine of KVM's for as long as the suite runs: with the first one and the last one the kernel patches
# the scheduler's code, which the emulator does not always survive (init).
try:
    machine = fcntl.ioctl(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC), 0xAE01, 0)  # KVM_CREATE_VM
except OSError:
    pass

BEFORE = host_state()
only = sys.argv[1] if len(sys.argv) > 1 else ""
chosen = [(n, f) for n, f in cases if only in n]
emit({"plan": [n for n, _ in chosen], "brig": (HOME / "bin/brig").exists()})
for name, body in chosen:
    start, result, detail = time.monotonic(), "ok", ""
    try:
        detail = body() or ""
    except Skip as e:
        result, detail = "skip", str(e)
    except AssertionError as e:
        frame = traceback.extract_tb(e.__traceback__)[-1]
        result, detail = "fail", f"{e}\nat {frame.name}:{frame.lineno}: {frame.line}"
    except Exception:
        result, detail = "fail", traceback.format_exc()
    emit({"case": name, "result": result, "detail": detail[-4000:],
          "ms": round((time.monotonic() - start) * 1000)})
