# SPDX-License-Identifier: Apache-2.0
"""An emulated machine with Debian 12's own kernel and nothing but control groups version 2.

Theory of operation
-------------------
Three things make the machine, all from Debian packages, none of them installed:

  kernel   the image package behind linux-image-cloud-amd64, fetched by `apt-get download`, unpacked
           by `dpkg-deb -x`
  disk     a small Debian 12 made by mmdebstrap, laid into an ext4 image by mke2fs; mounted writable,
           but QEMU throws the writes away (snapshot=on)
  initrd   made anew for every run: busybox, the modules that the disk needs, guest/init, and the
           payload (brig's programs, probes, suite), which init copies to /opt/nested

Kernel and disk are kept in a cache directory under names that contain what they were made from, so a
newer kernel or another list of packages makes a new one. A half-made file never gets its final name.

The emulator runs as the calling user with TCG, never with this host's /dev/kvm: where the host is
itself a virtual machine a nested guest may hang it. The first serial port is the kernel's console and
goes to a file; the second carries the results. Nothing else leaves the machine: it has no network.
"""

import hashlib
import os
import pathlib
import re
import select
import shutil
import subprocess
import tempfile
import time

RELEASE = "bookworm"
META_PACKAGE = "linux-image-cloud-amd64"
# python3: the suite. uidmap: newuidmap for rootless runs. util-linux has setpriv. procps: what a
# user would look at processes with.
PACKAGES = ("python3", "uidmap", "procps")
# kvm_amd: the emulated CPU has SVM, so that microVMs run inside as on real hardware.
MODULES = ("virtio_pci", "virtio_blk", "overlay", "kvm_amd")
DISK_MIB = 700
MEMORY_MIB = 1500
KERNEL_ARGS = "console=ttyS0 quiet loglevel=3 reboot=t panic=-1 mitigations=off nokaslr"


class Missing(Exception):
    """Something that the machine is made of cannot be had here; the text says what and the remedy."""


def _need(program, package):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return path


def _run(args, what, **kw):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **kw)
    if done.returncode:
        tail = done.stdout.strip().splitlines()[-1:] or ["no output"]
        raise Missing(f"{what}: {args[0]} exited {done.returncode}: {tail[0]}")
    return done.stdout


# ---- kernel ----

def _image_package():
    """(name, version) of the package with the current cloud kernel, None if apt does not know."""
    depends = subprocess.run(["apt-cache", "depends", META_PACKAGE], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = re.search(r"Depends: (linux-image-[\w.+-]+-cloud-amd64)$", depends, re.M)
    if not found:
        return None
    policy = subprocess.run(["apt-cache", "policy", found[1]], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    version = re.search(r"Candidate: (\S+)", policy)
    return (found[1], version[1]) if version and version[1] != "(none)" else None


def kernel_fetch(cache):
    """The directory of an unpacked kernel package; Missing if there is none and none can be had."""
    _need("apt-get", "apt")
    _need("dpkg-deb", "dpkg")
    package = _image_package()
    if not package:
        kept = sorted(cache.glob("kernel-*"), key=lambda p: p.stat().st_mtime)
        kept = [p for p in kept if not p.name.endswith(".new")]
        if kept:
            return kept[-1]
        raise Missing(f"apt knows no {META_PACKAGE}: apt-get update")
    name, version = package
    out = cache / f"kernel-{name}_{version}".replace(":", "_")
    if out.is_dir():
        return out
    fresh = cache / (out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _run(["apt-get", "download", f"{name}={version}"], "fetch the kernel", cwd=fresh)
    (deb,) = fresh.glob("*.deb")
    _run(["dpkg-deb", "-x", str(deb), str(fresh)], "unpack the kernel")
    deb.unlink()
    fresh.rename(out)
    return out


def modules_order(kernel, wanted):
    """Paths of the wanted modules and what they depend on, dependencies first. What is built into
    the kernel is left out; a module that the kernel does not have at all is an error.

    The package holds no modules.dep (depmod makes it on installation), so each module is asked for
    the "depends=" entry of its .modinfo section."""
    (base,) = (kernel / "lib/modules").iterdir()

    def key(path):
        return pathlib.Path(path).name.split(".ko")[0].replace("-", "_")

    have = {key(p): p for p in base.rglob("*.ko")}
    builtin = {key(line) for line in (base / "modules.builtin").read_text().splitlines()}
    order = []

    def add(name):
        if name in builtin:
            return
        if name not in have:
            raise Missing(f"the kernel {base.name} has no module {name}")
        entry = re.search(rb"\0depends=([^\0]*)\0", have[name].read_bytes())
        for below in filter(None, entry[1].decode().split(",") if entry else ()):
            add(below.replace("-", "_"))
        if have[name] not in order:
            order.append(have[name])

    for name in wanted:
        add(name)
    return order


# ---- disk ----

def disk_make(cache):
    """The ext4 image of the root file system; made once per list of packages."""
    made_of = " ".join((RELEASE, str(DISK_MIB)) + PACKAGES)
    out = cache / f"disk-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}.ext4"
    if out.exists():
        return out
    mmdebstrap = _need("mmdebstrap", "mmdebstrap")
    mke2fs = _need("mke2fs", "e2fsprogs")
    if os.geteuid() != 0:
        raise Missing("the root disk is made once as root, for the owners of its files: sudo "
                      + os.path.relpath(pathlib.Path(__file__).with_name("run.py")))
    mirror = os.environ.get("BRIG_DEBIAN_MIRROR")
    fresh = out.with_suffix(".new")
    with tempfile.TemporaryDirectory(dir=cache, prefix="root-") as tmp:
        # By way of a tar: while mmdebstrap's hooks run, /proc is mounted in the tree.
        tree = pathlib.Path(tmp, "tree")
        tree.mkdir(mode=0o755)
        _run([mmdebstrap, "--quiet", "--variant=minbase", "--include=" + ",".join(PACKAGES),
              '--aptopt=Apt::Install-Recommends "false"',
              "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
              "--dpkgopt=path-exclude=/usr/share/locale/*", RELEASE, f"{tmp}/root.tar"]
             + ([mirror] if mirror else []), "make the root disk")
        _run(["tar", "-xpf", f"{tmp}/root.tar", "--numeric-owner", "-C", str(tree)],
             "unpack the root disk")
        fresh.unlink(missing_ok=True)
        _run([mke2fs, "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-L", "nested",
              "-d", str(tree), str(fresh), f"{DISK_MIB}m"], "make the root disk")
    fresh.rename(out)
    return out


# ---- initrd ----

class Cpio:
    """An archive in the "newc" form that the kernel unpacks (Documentation/driver-api/early-userspace)."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.ino = 0
        self.dirs = set()

    def _entry(self, name, mode, data=b""):
        self.ino += 1
        raw = name.encode() + b"\0"
        fields = (self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields)
        for part in (head + raw, data):
            self.file.write(part + b"\0" * (-len(part) % 4))

    def dir(self, name):
        name = name.strip("/")
        if not name or name in self.dirs:
            return
        self.dir(os.path.dirname(name))
        self.dirs.add(name)
        self._entry(name, 0o040755)

    def data(self, name, data, mode=0o644):
        self.dir(os.path.dirname(name))
        self._entry(name.strip("/"), 0o100000 | mode, data)

    def copy(self, name, path, mode=0o644):
        self.data(name, pathlib.Path(path).read_bytes(), mode)

    def close(self):
        self._entry("TRAILER!!!", 0)
        self.file.close()


def libraries(program):
    """What the dynamic loader would load for a program: {path in the guest: path here}."""
    done = subprocess.run(["ldd", str(program)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    return set(re.findall(r"(/\S+) \(0x", done.stdout))


def initrd_make(path, kernel, payload):
    """payload: {name below /opt/nested: path here}. Programs bring their libraries along."""
    busybox = _need("busybox", "busybox-static")
    if libraries(busybox):
        raise Missing("busybox is not static: apt-get install busybox-static")
    here = pathlib.Path(__file__).parent
    cpio = Cpio(path)
    try:
        for d in ("proc", "sys", "dev", "root"):
            cpio.dir(d)
        cpio.copy("bin/busybox", busybox, 0o755)
        cpio.copy("init", here / "guest/init", 0o755)
        order = modules_order(kernel, MODULES)
        for m in order:
            cpio.copy(f"modules/{m.name}", m)
        cpio.data("modules/order", "".join(m.name + "\n" for m in order).encode())
        libs = set()
        for name, source in sorted(payload.items()):
            executable = os.access(source, os.X_OK)
            cpio.copy(f"payload/nested/{name}", source, 0o755 if executable else 0o644)
            if executable:
                libs |= libraries(source)
        for lib in sorted(libs):
            # Next to the disk's own; init copies only what the disk lacks.
            cpio.copy(f"payload/lib{os.path.normpath(lib)}", lib, 0o755)
    finally:
        cpio.close()


# ---- the machine ----

class Machine:
    """One run of the emulator. lines() yields the lines of the second serial port until the machine
    ends or the deadline (seconds from the start) passes; ended tells which."""

    def __init__(self, kernel, initrd, disk, console, deadline_s, cpus=2):
        qemu = _need("qemu-system-x86_64", "qemu-system-x86")
        (vmlinuz,) = (kernel / "boot").glob("vmlinuz-*")
        self.deadline = time.monotonic() + deadline_s
        self.ended = "running"
        self.process = subprocess.Popen(
            [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
             "-smp", str(cpus), "-m", str(MEMORY_MIB),
             "-serial", f"file:{console}", "-serial", "stdio",
             "-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", KERNEL_ARGS,
             "-drive", f"file={disk},format=raw,if=none,id=d,snapshot=on",
             "-device", "virtio-blk-pci,drive=d"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def lines(self):
        fd, held = self.process.stdout.fileno(), b""
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                self.ended = "deadline"
                return
            if not select.select([fd], [], [], left)[0]:
                continue
            data = os.read(fd, 65536)
            if not data:
                self.ended = f"emulator exited with {self.process.wait()}"
                return
            *whole, held = (held + data).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace").rstrip("\r")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
