# SPDX-License-Identifier: Apache-2.0
"""What the cases share: the list of cases, running a program, and what the machine holds."""

import os
import pathlib
import subprocess

cases = []


class Skip(Exception):
    pass


def case(name):
    def add(body):
        cases.append((name, body))
        return body

    return add


def run(*args, timeout=60, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=timeout, **kw)


def host_state():
    """Everything a sandbox could leave behind, as sets of texts. Kernel threads and the processes of
    this suite are not listed; a zombie is a process."""
    state = {"process": set(), "namespace": set(), "mount": set(), "cgroup": set(), "link": set()}
    for p in pathlib.Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        try:
            if os.path.exists(p / "exe") or (p / "status").read_text().find("State:\tZ") > 0:
                state["process"].add(f"{p.name} {(p / 'comm').read_text().strip()}")
            for n in (p / "ns").iterdir():
                state["namespace"].add(os.readlink(n))
        except OSError:
            pass
    state["mount"] = set(pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
    state["cgroup"] = {d for d, _, _ in os.walk("/sys/fs/cgroup")}
    state["link"] = set(os.listdir("/sys/class/net"))
    return state
