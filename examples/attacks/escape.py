#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the kernel for everything that leads out of a container. Exits 1 if any of it is granted.

Run it as root of the sandbox (`--user root`), which may try the most.
"""
import guard  # noqa: F401  first of all

import ctypes
import errno
import os
import shutil
import socket
import stat
import struct
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
granted = 0


def report(name, error):
    global granted
    # The kernel looked at the arguments: then better ones may have been granted.
    if error and error not in (errno.EINVAL, errno.EFAULT, errno.EBADF):
        print(f"  refused  {name}: {errno.errorcode.get(error, error)}")
    else:
        print(f"  GRANTED  {name}{' (bad argument)' if error else ''}")
        granted += 1


def call(name, function, *args):
    """function is one of libc; -1 is its failure."""
    ctypes.set_errno(0)
    report(name, ctypes.get_errno() or errno.EPERM if function(*args) == -1 else 0)


def system_call(name, number, *args):
    call(name, libc.syscall, ctypes.c_long(number),
         *(a if isinstance(a, ctypes.Array) else ctypes.c_void_p(a) if a is None else ctypes.c_long(a)
           for a in args))


def attempt(name, function, *args):
    try:
        function(*args)
        report(name, 0)
    except OSError as e:
        report(name, e.errno)


def write_open(path):
    os.close(os.open(path, os.O_WRONLY))


def make_disk():
    os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))


def setuid_program():
    """A setuid-root copy of `id`, started by another user: who does the kernel take him for?"""
    shutil.copy(shutil.which("id"), "/tmp/rootid")
    os.chmod("/tmp/rootid", 0o4755)
    try:
        out = subprocess.run(["/tmp/rootid", "-u"], capture_output=True, user=1000, check=True).stdout
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        out = b"there is no second user in this sandbox"
    if out.strip() != b"0":
        raise OSError(errno.EPERM, "no change of user")


NEWUSER, NEWNS = 0x10000000, 0x00020000
PTRACE_ATTACH = 16

call("mount a file system", libc.mount, b"none", b"/mnt", b"tmpfs", 0, None)
call("mount /proc again, unmasked", libc.mount, b"proc", b"/mnt", b"proc", 0, None)
call("remount the root writable", libc.mount, None, b"/", None, 32 | 4096, None)
call("unmount /proc/sys", libc.umount2, b"/proc/sys", 2)
call("make a user namespace", libc.unshare, NEWUSER)
call("make a mount namespace", libc.unshare, NEWNS)
call("trace process 1", libc.ptrace, PTRACE_ATTACH, 1, 0, 0)
attempt("read the memory of process 1", lambda: open("/proc/1/mem", "rb").close())
attempt("make a node of the host's disk", make_disk)
attempt("become root by a setuid program", setuid_program)
attempt("open core_pattern for writing", write_open, "/proc/sys/kernel/core_pattern")
attempt("open sysrq-trigger for writing", write_open, "/proc/sysrq-trigger")
attempt("open the kernel's memory", lambda: open("/proc/kcore", "rb").close())
attempt("open an AF_ALG socket", lambda: socket.socket(38, socket.SOCK_SEQPACKET).close())
attempt("open a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
attempt("open a packet socket", lambda: socket.socket(17, socket.SOCK_RAW).close())
# Numbers of Linux 5.0 and later are the same on every architecture; the older ones are in the table.
OLD = {"x86_64": {"bpf": 321, "keyctl": 250, "userfaultfd": 323, "perf_event_open": 298},
       "aarch64": {"bpf": 280, "keyctl": 219, "userfaultfd": 282, "perf_event_open": 241}}
params = ctypes.create_string_buffer(256)
array_map = ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1), 128)
cpu_clock = ctypes.create_string_buffer(struct.pack("=II", 1, 0), 128)
slash = ctypes.create_string_buffer(b"/")
ARGS = {"bpf": (0, array_map, 128), "keyctl": (1, None, 0), "userfaultfd": (0,),
        "perf_event_open": (cpu_clock, 0, -1, -1, 0)}
system_call("set up io_uring", 425, 1, params)
system_call("open a tree of mounts", 428, -100, slash, 1)
for name, number in OLD.get(os.uname().machine, {}).items():
    system_call(f"call {name}", number, *ARGS[name])

raise SystemExit(granted != 0)
