# SPDX-License-Identifier: Apache-2.0
"""The microVM tier as a user meets it: brig, brigd and brig-jaild, and what they start."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from brig_cases import BRIG, Server, gone_soon, groups, sandbox_pids
from lib import case, run
from microvm import HOME, KERNEL

DATA = pathlib.Path("/tmp/brig-data")
ENV = dict(os.environ, BRIG_DATA=str(DATA), BRIG_GUEST_KERNEL=str(KERNEL), BRIG_TIER="microvm")
IMAGE = "small"


def brig(*args, timeout=110, env=None, **kw):
    return run(BRIG, *args, timeout=timeout, env=env or ENV, **kw)


def image():
    """The image of all cases, imported by the first."""
    if not DATA.exists():
        done = brig("image", "import", IMAGE, HOME / "microvm/root.tar")
        assert done.returncode == 0, done.stderr
    return IMAGE


def status_of(*args, expect):
    path = pathlib.Path("/tmp/status.json")
    path.unlink(missing_ok=True)
    done = brig("run", "--image", image(), "--memory", "160m", "--disk", "16m", "--status-json", path, *args)
    assert done.returncode == expect, f"exit {done.returncode}, not {expect}: {done.stderr}"
    return done, json.loads(path.read_text())


def vmms():
    return [p for p in sandbox_pids() if "brig-vmm" in p]


@case("microvm, brig: run prints, takes input, passes the exit code on, and says which tier it was")
def runs():
    start = time.monotonic()
    done, status = status_of("--", "sh", "-c", "uname -r; id -u; hostname; pwd", expect=0)
    first = time.monotonic() - start
    lines = done.stdout.split()
    assert lines[0].endswith("cloud-amd64") and lines[1] == "0", done.stdout
    assert status["tier"] == "microvm" and status["stop_reason"] == "exited", status
    assert done.stderr == "", done.stderr
    start = time.monotonic()
    done, status = status_of("-i", "--", "sh", "-c", "cat; echo err >&2; exit 7", expect=7)
    second = time.monotonic() - start
    assert (done.stdout, done.stderr) == ("", "err\n"), (done.stdout, done.stderr)
    gone_soon()
    (disk,) = DATA.glob("images/*/microvm-1.ext4")
    (initrd,) = DATA.glob("guest/initrd-*")
    return f"{first:.1f} s with disk ({disk.stat().st_blocks >> 1} KiB) and RAM disk made, {second:.1f} s with them"


@case("microvm, brig: what this tier or this host cannot give is refused with the reason, and starts nothing")
def refused():
    image()
    before = groups()
    for args, text, env in (
            (("--image", "host", "--", "true"), "image 'host'", {}),
            (("--image", IMAGE, "--net", "public", "--", "true"), "network", {}),
            (("--image", IMAGE, "-v", "/tmp:/mnt", "--", "true"), "no volumes", {}),
            (("--image", IMAGE, "--memory", "9999g", "--", "true"), "memory", {}),
            (("--image", IMAGE, "--memory", "40m", "--disk", "1m", "--", "true"), "MiB", {}),
            (("--image", IMAGE, "--memory", "64m", "--disk", "1m", "--", "true"), "memory", {}),
            (("--image", IMAGE, "--cpus", "33", "--", "true"), "CPUs", {}),
            (("--image", IMAGE, "--", "true"), "no guest kernel", {"BRIG_GUEST_KERNEL": ""}),
            (("--image", IMAGE, "--", "true"), "/boot/vmlinuz-RELEASE", {"BRIG_GUEST_KERNEL": "/etc/hostname"})):
        done = brig("run", *args, env=ENV | env)
        assert done.returncode == 125 and text in done.stderr, f"{args}: {done.returncode}: {done.stderr}"
        assert len(done.stderr.strip().splitlines()) >= 2, f"no remedy: {done.stderr}"
    # A file of that name which is no kernel.
    fake = pathlib.Path("/tmp/fake/boot") / KERNEL.name
    fake.parent.mkdir(parents=True)
    (fake.parent.parent / "lib").symlink_to(KERNEL.parent.parent / "lib")
    fake.write_bytes(b"x" * 4096)
    done = brig("run", "--image", IMAGE, "--", "true", env=ENV | {"BRIG_GUEST_KERNEL": str(fake)})
    assert done.returncode == 125 and "cannot be booted" in done.stderr, done.stderr
    assert not vmms() and groups() == before


def exec_status(*args, expect):
    """Runs `brig exec args` with a report, and returns (the finished process, the status)."""
    path = pathlib.Path("/tmp/status.json")
    path.unlink(missing_ok=True)
    done = brig("exec", "--status-json", path, *args)
    assert done.returncode == expect, f"exit {done.returncode}, not {expect}: {done.stderr}"
    return done, json.loads(path.read_text())


def limits_are_met(box):
    done, status = exec_status("--timeout", "2s", box, "sleep", "1000", expect=124)
    assert status["stop_reason"] == "wall_time", status
    done, status = exec_status("--max-output", "65536", box, "yes", expect=137)
    assert status["stop_reason"] == "output" and len(done.stdout) == 65536, (status, len(done.stdout))
    done, status = exec_status(box, "sh", "-c", "dd if=/dev/zero of=/tmp/f bs=64k; wc -c </tmp/f", expect=0)
    assert 8 << 20 < int(done.stdout) <= 16 << 20 and "No space" in done.stderr, (done.stdout, done.stderr)
    assert "disk" in status["limits_hit"], status
    script = ">/tmp/f; i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all"
    done, status = exec_status(box, "sh", "-c", script, expect=2)
    assert "all" not in done.stdout and "fork" in done.stderr, (done.stdout, done.stderr)
    brig("exec", box, "sh", "-c", "kill -9 -1")
    _, status = exec_status(box, "tail", "/dev/zero", expect=137)
    assert status["stop_reason"] == "out_of_memory" and "memory" in status["limits_hit"], status
    _, status = exec_status(box, "sh", "-c", "kill -9 $$", expect=137)
    assert status["stop_reason"] == "signaled", status


def files_pass(box):
    data = os.urandom(300000)
    pathlib.Path("/tmp/up").write_bytes(data)
    for args in (("/tmp/up", f"{box}:/tmp/data"), (f"{box}:/tmp/data", "/tmp/down")):
        done = brig("cp", *args)
        assert done.returncode == 0, done.stderr
    assert pathlib.Path("/tmp/down").read_bytes() == data


def group_fits(box):
    """The VMM is in the sandbox's group, which has room for the guest and some for the VMM."""
    (vmm,) = vmms()
    (group,) = [g for g in groups() if os.path.basename(g) == box]
    assert vmm.split()[0] in pathlib.Path(group, "cgroup.procs").read_text().split()
    limit = int(pathlib.Path(group, "memory.max").read_text())
    assert 160 << 20 < limit <= 200 << 20, limit
    stats = json.loads(brig("stats", "-o", "json", "--no-stream").stdout)
    assert [s["id"] for s in stats] == [box] and stats[0]["memory_bytes"] > 20 << 20, stats
    return limit


def pauses(box):
    done = brig("pause", box)
    assert done.returncode == 0, done.stderr
    (vmm,) = vmms()
    stat = pathlib.Path(f"/proc/{vmm.split()[0]}/stat")

    def used():
        return sum(map(int, stat.read_text().split()[13:15]))
    first = used()
    assert brig("exec", box, "true").returncode == 125
    assert stat.read_text().rsplit(")", 1)[1].split()[0] == "T" and used() == first
    assert brig("unpause", box).returncode == 0


def forks(box):
    """A copy has the files, and neither sees what the other does."""
    done = brig("fork", box)
    assert done.returncode == 0, done.stderr
    copy = done.stdout.strip()
    assert brig("exec", copy, "cat", "/tmp/n").stdout == "1\n"
    assert brig("exec", copy, "sh", "-c", "echo 2 >/tmp/n").returncode == 0
    assert brig("exec", box, "cat", "/tmp/n").stdout == "1\n"
    assert brig("rm", "--force", copy).returncode == 0


def outlives_brigd(box, server):
    os.kill(min(server.children("brigd")), signal.SIGKILL)
    end = time.monotonic() + 60
    while (done := brig("exec", box, "cat", "/tmp/n")).returncode:
        assert time.monotonic() < end, f"it is not taken over: {done.stderr}; {server.said()}"
        time.sleep(0.1)
    assert done.stdout == "1\n", done.stdout


@case("microvm, brig: a resident server: limits, files, stats, fork, pause, brigd's death, and nothing is left")
def resident():
    image()
    with Server(env=ENV) as server:
        done = brig("create", "--image", IMAGE, "--memory", "160m", "--disk", "16m", "--cpus", "2", "--pids", "20")
        assert done.returncode == 0, done.stderr
        box = done.stdout.strip()
        done = brig("exec", box, "sh", "-c", "nproc; echo 1 >/tmp/n")
        assert (done.returncode, done.stdout) == (0, "2\n"), (done.stdout, done.stderr)
        files_pass(box)
        limit = group_fits(box)
        limits_are_met(box)
        forks(box)
        pauses(box)
        outlives_brigd(box, server)
        assert brig("exec", box, "cat", "/tmp/n").stdout == "1\n"
        p = subprocess.Popen([BRIG, "exec", box, "sleep", "993"], stdin=subprocess.DEVNULL, env=ENV,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert brig("gc", "--prove").returncode == 0
        assert brig("rm", "--force", box).returncode == 0
        assert p.wait(60) != 0
        gone_soon()
        gone_soon(groups)
        # A guest that ends itself is told as that.
        done = brig("run", "--image", IMAGE, "--memory", "160m", "--disk", "16m", "--", "reboot", "-f")
        assert done.returncode == 125 and done.stderr, (done.returncode, done.stderr)
        assert brig("gc", "--prove").returncode == 0
    gone_soon()
    shutil.rmtree(DATA)
    return f"memory.max {limit >> 20} MiB for a guest of 160"
