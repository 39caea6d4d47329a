#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks for the host: its files by every detour, its environment, its container engines.

usage: read-host.py FILE...

Prints what it finds, files as "HASH PATH"; whoever runs it compares with the real ones. Exits 1 if it
could open a directory or a socket that no sandbox may have. Harmless wherever it runs.
"""
import glob
import hashlib
import os
import socket
import sys

ENGINES = ["/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
           "/run/podman/podman.sock", "/run/brig/brigd.sock"]


def detours(path):
    yield path
    yield "/proc/self/cwd" + "/.." * 20 + path
    for root in glob.glob("/proc/[0-9]*/root"):
        yield root + path
        yield root + "/.." * 20 + path
    for fd in glob.glob("/proc/[0-9]*/fd/*"):
        yield fd + "/.." * 20 + path


def main():
    reached = False
    for path in sys.argv[1:]:
        for way in detours(path):
            try:
                with open(way, "rb") as f:
                    print(hashlib.sha256(f.read(1 << 20)).hexdigest(), path)
            except OSError:
                pass
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                print(path, f.read(1 << 20).replace(b"\0", b" "))
        except OSError:
            pass
    for path in ENGINES:
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(path)
                print("connected to", path)
                reached = True
            except OSError:
                pass
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            continue
        if int(fd) > 2 and not target.startswith("/proc/"):
            print("inherited descriptor", fd, target)
            reached = True
    sys.exit(reached)


main()
