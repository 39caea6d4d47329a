# SPDX-License-Identifier: Apache-2.0
"""What the microVM cases boot inside the emulated machine: the same kernel package again, an initial
RAM disk by brig-guest-pack, and a small image as an ext4 disk."""

import os
import pathlib
import shutil

import machine

BARE = pathlib.Path(__file__).parent / "bare"

PROGRAMS = ("brig-vmm", "brig-guest-init", "brig-guest-pack", "brig-agent")
# What brig-guest-pack looks for, with what that depends on: what a whole package has, in less memory.
DRIVERS = ("virtio_mmio", "virtio_blk", "virtio_rng", "virtio_balloon", "vmw_vsock_virtio_transport", "overlay")
DISK_MIB = 8


def initrd_make(path, kernel, build):
    (modules,) = (kernel / "lib/modules").iterdir()
    machine._run([str(build / "brig-guest-pack"), str(modules), str(build / "brig-guest-init"),
                  str(build / "brig-agent"), str(path)], "make the guest's initial RAM disk")


def image_make(path, tmp):
    """A root with nothing but busybox: what it can do is enough for the cases."""
    busybox = shutil.which("busybox")
    tree = tmp / "microvm-root"
    for d in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "run"):
        (tree / d).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    for name in ("sh", "cat", "echo", "id", "head", "wc", "ls", "dd", "sleep", "true", "uname", "mount",
                 "md5sum", "grep", "df", "nproc", "hostname", "tail", "yes", "reboot"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    machine._run([machine._need("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-O", "^has_journal",
                  "-E", "root_owner=0:0", "-d", str(tree), str(path), f"{DISK_MIB}m"], "make the guest's image")


def bare_make(path):
    """The guest without a kernel (bare/hostile.c), linked where a kernel would be."""
    cc = os.environ.get("CC", "cc").split()
    machine._run(cc + ["-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static",
                       "-no-pie", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only", "-fno-stack-protector",
                       "-fcf-protection=none", "-Wl,-N,-Ttext=0x1000000,--build-id=none",
                       "-o", str(path), str(BARE / "hostile.c")], "compile the hostile guest")


def payload(build, kernel, tmp):
    """{name below /opt/nested: path here}; empty if brig was built without the tier."""
    if not all((build / p).exists() for p in PROGRAMS):
        return {}
    (vmlinuz,) = (kernel / "boot").glob("vmlinuz-*")
    initrd_make(tmp / "microvm-initrd", kernel, build)
    image_make(tmp / "microvm-image", tmp)
    bare_make(tmp / "microvm-hostile")
    files = {f"bin/{p}": build / p for p in PROGRAMS}
    # For brig: a kernel as its package has it, and the same root as an archive.
    (modules,) = (kernel / "lib/modules").iterdir()
    home = "microvm/kernel"
    files[f"{home}/boot/{vmlinuz.name}"] = vmlinuz
    files[f"{home}/lib/modules/{modules.name}/modules.builtin"] = modules / "modules.builtin"
    for m in machine.modules_order(kernel, DRIVERS):
        files[f"{home}/lib/modules/{modules.name}/{m.name}"] = m
    machine._run(["tar", "-cf", str(tmp / "microvm-root.tar"), "--numeric-owner", "--owner=0", "--group=0",
                  "-C", str(tmp / "microvm-root"), "."], "pack the guest's root")
    return files | {"microvm/hostile": tmp / "microvm-hostile", "microvm/initrd": tmp / "microvm-initrd",
                    "microvm/image": tmp / "microvm-image", "microvm/root.tar": tmp / "microvm-root.tar"}
