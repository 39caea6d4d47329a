# SPDX-License-Identifier: Apache-2.0
"""The microVM tier for real: Debian's cloud kernel under brig-vmm, on the KVM of the emulated machine.
Here a processor is 20 to 50 times slower than a real one, so most cases share one virtual machine."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import time

from lib import case, run
from microvm import HOME, KERNEL, UID, VMM, Ended, Vm

# Bytes a second; a boot reads less than that.
DISK_RATE = 2 << 20
shared = []


def vm_shared():
    """The machine that the cases without a need for their own share; booted by the first."""
    if not shared:
        vm = Vm(vcpus=2, layer=8 << 20, disk=f",bytes={DISK_RATE}", console=True)
        try:
            vm.took, vm.exited = vm.attach(), vm.exits()
        except BaseException:
            vm.__exit__()
            raise
        shared.append(vm)
    return shared[0]


def inside(*argv, **kw):
    code, out, err = vm_shared().run(*argv, **kw)
    assert code == 0, f"{argv}: exit {code}: {err}"
    return out.strip()


@case("microvm: a stock kernel boots, the agent answers by vsock, commands run")
def boots():
    vm = vm_shared()
    assert inside("uname", "-r").endswith("cloud-amd64")
    assert inside("cat", stdin=b"over and back") == "over and back"
    assert inside("sh", "-c", "id -u; id -u >&2") == "0"
    assert inside("id", "-un", user="user") == "user"
    assert vm.run("sh", "-c", "exit 7")[0] == 7
    assert vm.run("sh", "-c", "kill -9 $$")[0] == -9
    return f"{inside('uname', '-r')}, {inside('nproc')} CPUs, agent after {vm.took:.1f} s and {vm.exited} exits"


@case("microvm: a megabyte each way is what was sent")
def bulk():
    data = os.urandom(1 << 20)
    code, out, _ = vm_shared().run("md5sum", stdin=data)
    assert (code, out.split()[0]) == (0, hashlib.md5(data).hexdigest()), out
    assert inside("sh", "-c", "dd if=/dev/zero bs=64k count=32 2>/dev/null | wc -c") == str(2 << 20)
    code, out, _ = vm_shared().run("head", "-c", "1500000", "/dev/zero")
    assert (code, len(out)) == (0, 1500000), len(out)


@case("microvm: the image is read-only, the layer above it has its limit")
def layer():
    assert inside("sh", "-c", "echo new >/etc/passwd2; cat /etc/passwd2") == "new"
    code, _, err = vm_shared().run("sh", "-c", "dd if=/dev/zero of=/tmp/full bs=64k")
    assert code != 0 and "No space" in err, (code, err)
    assert 4 << 20 < int(inside("wc", "-c", "/tmp/full").split()[0]) <= 8 << 20
    inside("sh", "-c", ">/tmp/full")
    # Also not by way of the disk itself.
    code, _, err = vm_shared().run("sh", "-c", "dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync")
    assert code != 0, "the image's disk was written"


@case("microvm: the serial port takes what a process inside writes, if there is one")
def serial():
    inside("sh", "-c", "echo seen by the host >/dev/ttyS0")
    end = time.monotonic() + 30
    while "seen by the host" not in (text := vm_shared().console.read_text(errors="replace")):
        assert time.monotonic() < end, text
        time.sleep(0.1)


@case("microvm: the limit of a disk holds")
def disk_limit():
    inside("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches")
    start = time.monotonic()
    size = int(inside("sh", "-c", "cat /dev/vda | wc -c"))
    took = time.monotonic() - start
    # A second's worth may go at once, and a part of the disk may be in the page cache.
    assert took >= (size * 3 / 4 / DISK_RATE - 1), f"{size} bytes in {took:.1f} s"
    return f"{size >> 20} MiB in {took:.1f} s at {DISK_RATE >> 20} MiB/s"


@case("microvm: two CPUs run, entropy comes from the host, VMX and SVM are hidden")
def processors():
    assert inside("nproc") == "2"
    flags = inside("grep", "-m1", "^flags", "/proc/cpuinfo").split()
    assert "hypervisor" in flags and not {"vmx", "svm"} & set(flags), flags
    assert inside("cat", "/sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    assert len(inside("sh", "-c", "head -c 64 /dev/hwrng | md5sum")) > 32


@case("microvm: another host takes the channel over, and commands go on")
def taken_over():
    inside("sh", "-c", "(while :; do sleep 1; done) >/dev/null 2>&1 & echo $! >/tmp/pid")
    vm_shared().take_over()
    assert inside("sh", "-c", "ls -d /proc/$(cat /tmp/pid)").startswith("/proc/")
    inside("sh", "-c", "kill $(cat /tmp/pid)")


SNAP = [pathlib.Path("/tmp/snap.state"), pathlib.Path("/tmp/snap.ram")]


def count_of(vm):
    while True:
        code, text, err = vm.run("cat", "/tmp/n")
        assert code == 0, err
        if text:  # it is empty while it is being written
            return int(text)


def snap_taken():
    """A snapshot of a machine in which a process counts; taken once, and kept for the cases below."""
    if not SNAP[0].exists():
        with Vm(vcpus=2, layer=8 << 20) as vm:
            vm.attach()
            vm.run("sh", "-c", "(i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.05; done) >/dev/null 2>&1 &")
            start = time.monotonic()
            verb, code, text = vm.snapshot(*SNAP)
            snap_taken.took = time.monotonic() - start
            assert (verb, code) == (2, 0), text
            # The one of which it was taken goes on.
            before = count_of(vm)
            end = time.monotonic() + 20
            while count_of(vm) <= before:
                assert time.monotonic() < end, "the machine stands still after its snapshot"
            snap_taken.count = before
    return SNAP


@case("microvm: a snapshot is restored twice: processes go on, randomness differs, writes are not shared")
def restored():
    files = snap_taken()
    draws, took = [], []
    with Vm(vcpus=2, restore=files) as a, Vm(vcpus=2, restore=files) as b:
        for i, vm in enumerate((a, b)):
            took.append((vm.attach(), vm.exits()))
            first = count_of(vm)
            assert 0 < first <= snap_taken.count + 200, first
            end = time.monotonic() + 30
            while count_of(vm) <= first:
                assert time.monotonic() < end, "its process does not go on"
            assert vm.run("sh", "-c", f"echo {i} >/tmp/mine")[0] == 0
            draws.append(vm.run("sh", "-c", "head -c 32 /dev/urandom | md5sum")[1])
            draws.append(vm.run("sh", "-c", "cat /proc/sys/kernel/random/uuid")[1])
        assert len(set(draws)) == 4, draws
        for i, vm in enumerate((a, b)):
            assert vm.run("cat", "/tmp/mine")[1].strip() == str(i)
        status = pathlib.Path(f"/proc/{b.process.pid}/status").read_text()
        own = {k: int(re.search(rf"Rss{k}:\s+(\d+)", status)[1]) for k in ("Anon", "File")}
    size = files[1].stat()
    return (f"taken in {snap_taken.took:.2f} s, {size.st_blocks >> 11} of {size.st_size >> 20} MiB; answered after "
            f"{took[0][0]:.2f} s and {took[0][1]} exits; own {own['Anon']} KiB, shared {own['File']} KiB")


@case("microvm: a snapshot that is damaged, cut or of another machine is refused with the reason")
def snapshot_refused():
    state, ram = snap_taken()
    data, bad = state.read_bytes(), pathlib.Path("/tmp/snap.bad")
    said = []

    def refuse(text, content=None, ram=ram, **kw):
        bad.write_bytes(data if content is None else content)
        with Vm(**{"vcpus": 2, **kw}, restore=(bad, ram)) as vm:
            code, out = vm.end()
            verb, told, _ = vm.answer()
        assert code == 1 and text in out and "remedy: " in out, (text, code, out)
        assert verb == 1 and told != 0
        said.append(out)

    refuse("checksum", data[:-1] + bytes([data[-1] ^ 1]))
    refuse("cut", data[:-8])
    refuse("not the state", b"hello, world" * 10)
    refuse("has format 2", data[:8] + b"\x02" + data[9:])
    refuse("number of virtual CPUs", vcpus=1)
    refuse("size of memory", memory=176)
    refuse("console", console=True)
    refuse("not that of its state", ram=KERNEL)
    refuse("another size", image=ram)
    for f in (state, ram, bad):
        f.unlink()
    return said[0]


def vmm_anon_kib():
    status = pathlib.Path(f"/proc/{vm_shared().process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1])


@case("microvm: memory that the guest frees goes back to the host")
def memory_returns():
    inside("true")
    before = vmm_anon_kib()
    # 40 MiB of a process's own memory, touched and freed by its end.
    inside("sh", "-c", "dd if=/dev/zero of=/dev/null bs=40M count=1 2>/dev/null")
    peak = vmm_anon_kib()
    end = time.monotonic() + 60
    while (now := vmm_anon_kib()) > peak - 20 * 1024:
        assert time.monotonic() < end, f"{before} KiB before, {peak} at the peak, {now} a minute later"
        time.sleep(0.5)
    return f"{before} KiB before, {peak} at the peak, {now} after"


@case("microvm: the VMM is jailed: own uid, empty root, no network, no capability, filters on all threads")
def jailed():
    vm_shared()
    pid = shared[0].process.pid
    threads = sorted(pathlib.Path(f"/proc/{pid}/task").iterdir())
    for t in threads:
        status = dict(re.findall(r"^(\w+):\t(.*)$", (t / "status").read_text(), re.M))
        assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4, status["Uid"]
        assert status["Groups"].strip() == "" and status["Seccomp"] == "2", status
        assert status["NoNewPrivs"] == "1", status
        for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[cap], 16) == 0, f"{cap} {status[cap]}"
    assert os.listdir(f"/proc/{pid}/root") == [], os.listdir(f"/proc/{pid}/root")
    mounts = pathlib.Path(f"/proc/{pid}/mounts").read_text().splitlines()
    assert len(mounts) == 1 and re.search(r" / tmpfs ro,", mounts[0]), mounts
    for ns in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns
    fds = [os.readlink(f) for f in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    assert not [f for f in fds if "vmlinuz" in f or f == "/dev/kvm" or os.path.isdir(f)], fds
    rss = int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
    return f"{len(threads)} threads, {len(fds)} descriptors, {rss} KiB with the guest's memory"


@case("microvm: a VMM that is killed leaves nothing behind")
def killed():
    vm = vm_shared()
    shared.clear()
    vm.process.kill()
    vm.__exit__()
    left = [p.name for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and p.stat().st_uid == UID]
    assert not left, left


@case("microvm: a guest that switches itself off ends the VMM")
def ends():
    with Vm() as vm:
        vm.attach()
        try:
            vm.run("reboot", "-f")
        except Ended:
            pass
        code, said = vm.end()
    # Linux resets its devices on the way, and the agent channel with them.
    assert code == 0 and ("switched itself off" in said or "channel" in said), (code, said)


@case("microvm: the end of the channel ends the VM")
def channel_ends():
    with Vm() as vm:
        vm.sock.close()
        code, said = vm.end()
    assert code == 0 and "channel" in said, (code, said)


def refused(text, remedy, **kw):
    start = time.monotonic()
    with Vm(**kw) as vm:
        code, said = vm.end()
    assert code == 1 and text in said and (not remedy or "remedy: " in said), (code, said)
    return f"{said} ({time.monotonic() - start:.1f} s)"


@case("microvm: what cannot be booted is refused with the reason before anything runs")
def bad_input():
    said = [refused("too short", True, kernel="/etc/hostname"),
            refused("neither", True, kernel=HOME / "microvm/image"),
            refused("to unpack itself", True, memory=64),
            refused("disk", False, image="/dev/null"),
            refused("command line", False, extra="x" * 3000),
            refused("map", False, memory=32),
            refused("the host has", True, memory=1 << 20)]
    for args in (["uid=0"], ["vcpus=99"], ["memory=x"], ["nonsense=1"], []):
        assert subprocess.run([VMM, *args], stderr=subprocess.DEVNULL).returncode == 2, args
    return said[0]


@case("microvm: brig doctor finds that guests run on the processor here")
def doctor():
    done = run(HOME / "bin/brig", "doctor", "-o", "json")
    rows = {c["check"]: c for c in json.loads(done.stdout)["checks"] if c["tier"] == "microvm"}
    assert rows["/dev/kvm"]["ok"], rows
    assert rows["guests run on the processor"]["ok"], rows
    return rows["guests run on the processor"]["detail"]


# ---- a guest without a kernel, which attacks the VMM (bare/hostile.c) ----

def hostile(mode, expect=(), codes=(0,)):
    """Runs one mode to its end; what it said."""
    with Vm(kernel=HOME / "microvm/hostile", cmdline=mode, memory=64, console=True) as vm:
        code, said = vm.end(timeout=60)
        text = vm.console.read_text(errors="replace")
    # A negative code is a signal: the VMM crashed, or its filter or watchdog killed it.
    assert code in codes, f"mode {mode}: exit {code}: {said}; the guest: {text}"
    for line in expect:
        assert line in text.splitlines(), f"mode {mode}: no '{line}': {text}; {said}"
    return text


@case("microvm, hostile guest: as an ordinary driver it gets what a driver gets (control)")
def hostile_control():
    return hostile("g", ("driver ok", "disk ok", "write refused", "entropy ok", "end")).replace("\n", ", ")


@case("microvm, hostile guest: broken rings give NEEDS_RESET, queues are frozen, and nothing else happens")
def hostile_rings():
    hostile("r", ("all refused", "not ready", "end"))
    hostile("t", ("frozen", "end"))


@case("microvm, hostile guest: storms of notifications and resets in the middle of requests")
def hostile_storm():
    hostile("s", ("stormed", "end"))
    hostile("x", ("still works", "end"))


@case("microvm, hostile guest: registers, ports and rings at random")
def hostile_random():
    for seed in range(3):
        hostile(f"w{seed}", codes=(0, 3))


@case("microvm, hostile guest: a flood to a host that does not read is held, not stored")
def hostile_flood():
    with Vm(kernel=HOME / "microvm/hostile", cmdline="f", memory=64, console=True) as vm:
        code, said = vm.end(timeout=60)
        text = vm.console.read_text(errors="replace")
        got = 0
        while part := vm.sock.recv(1 << 16):
            got += len(part)
    assert code == 0 and "connected" in text and "flooded" in text, (code, said, text)
    assert 0 < got <= 63 * 4096, got
    return f"{got} bytes were in the channel"


@case("microvm, hostile guest: one that sleeps for ever costs no CPU and ends with its channel")
def hostile_sleep():
    with Vm(kernel=HOME / "microvm/hostile", cmdline="h", memory=64, console=True) as vm:
        end = time.monotonic() + 30
        while "sleeping" not in vm.console.read_text(errors="replace"):
            assert time.monotonic() < end and vm.process.poll() is None
            time.sleep(0.05)
        used = [sum(map(int, pathlib.Path(f"/proc/{vm.process.pid}/stat").read_text().split()[13:15]))]
        time.sleep(0.5)
        used.append(sum(map(int, pathlib.Path(f"/proc/{vm.process.pid}/stat").read_text().split()[13:15])))
        vm.sock.close()
        code, said = vm.end()
    assert code == 0 and "channel" in said, (code, said)
    assert used[1] - used[0] <= 10, f"{used[1] - used[0]} ticks in half a second"
