# SPDX-License-Identifier: Apache-2.0
"""One microVM under brig-vmm, and the agent's wire (include/brig/agent_proto.h) to it."""

import array
import os
import pathlib
import socket
import struct
import subprocess
import time

HOME = pathlib.Path("/opt/nested")
VMM = str(HOME / "bin/brig-vmm")
KERNEL = next((HOME / "microvm/kernel/boot").glob("vmlinuz-*"))
UID = 0x70000000 + 65536 * 7  # a slot of include/brig/ids.h that nobody leases here
CMDLINE = ("quiet loglevel=3 panic=-1 reboot=t pci=off mitigations=off nokaslr 8250.nr_uarts=0 "
           "random.trust_cpu=on")
MAGIC = 0x6b6e6174676972b7
ATTACH, ATTACHED, PING, PONG, SHUTDOWN, CREDIT = 1, 2, 3, 4, 5, 6
EXEC, STARTED, STDIN, STDOUT, STDERR, EXIT = 16, 17, 18, 19, 20, 23
DEADLINE = 120


class Ended(Exception):
    pass


class Vm:
    def __init__(self, memory=160, vcpus=1, layer=16 << 20, extra="", console=False, kernel=None, image=None,
                 cmdline=None, disk="", args=(), restore=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock = ours
        self.sock.settimeout(DEADLINE)
        self.streams = 1000 if restore else 0  # beyond those that the former host left open
        self.started = False
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE)
        self.console = pathlib.Path(f"/tmp/console.{id(self)}")
        fds = {"kvm": os.open("/dev/kvm", os.O_RDWR),
               "disk": os.open(image or HOME / "microvm/image", os.O_RDONLY), "chan": theirs.fileno(),
               "control": control.fileno()}
        if restore:
            fds["state"], fds["ram"] = (os.open(f, os.O_RDONLY) for f in restore)
            cmdline = ""
        else:
            fds["kernel"] = os.open(kernel or KERNEL, os.O_RDONLY)
        if cmdline is None:  # a real kernel
            fds["initrd"] = os.open(HOME / "microvm/initrd", os.O_RDONLY)
            cmdline = f"{CMDLINE} brig.root=ext4 brig.layer={layer} {extra}"
        if console:
            fds["console"] = os.open(self.console, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            cmdline = cmdline.replace("8250.nr_uarts=0", "")
        if console == "kernel":
            cmdline = cmdline.replace("quiet loglevel=3", "console=ttyS0")
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [VMM, *(f"{k}={v}{disk if k == 'disk' else ''}" for k, v in fds.items()), f"memory={memory}", f"vcpus={vcpus}", f"uid={UID}",
             f"gid={UID}", f"cmdline={cmdline}", *args], pass_fds=tuple(fds.values()),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        theirs.close()
        control.close()
        for name, fd in fds.items():
            if name not in ("chan", "control"):
                os.close(fd)

    def answer(self):
        """(verb, code, text) of the next message on the control socket (control.h)."""
        data = self.control.recv(4096)
        if not data:
            raise Ended(f"the VMM: {self.end()}")
        verb, code, msg, remedy = struct.unpack("<II384s256s", data)
        return verb, code, (msg.rstrip(b"\0") + b"; " + remedy.rstrip(b"\0")).decode()

    def snapshot(self, state, ram):
        if not self.started:
            assert self.answer()[:2] == (1, 0)
            self.started = True
        with open(state, "wb") as s, open(ram, "wb") as r:
            self.control.sendmsg([struct.pack("<II", 2, 0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                                              array.array("i", [s.fileno(), r.fileno()]))])
            return self.answer()

    def take_over(self):
        """What a host does that finds a channel of another one (protocol.md, Attach)."""
        self.sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.sock.fileno()]))])
        self.streams += 1000
        return self.attach()

    def send(self, kind, stream, payload=b"", flags=0):
        self.sock.sendall(struct.pack("<IHHI", len(payload), kind, flags, stream) + payload)

    def _exactly(self, n):
        parts = []
        while n:
            part = self.sock.recv(n)
            if not part:
                raise Ended(f"the channel ended; the VMM: {self.end()}")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def frame(self):
        n, kind, flags, stream = struct.unpack("<IHHI", self._exactly(12))
        return kind, flags, stream, self._exactly(n)

    def attach(self):
        """Waits for the agent; returns the seconds from the start of the VMM."""
        nonce = os.urandom(16)
        self.send(ATTACH, 0, struct.pack("<Q16sII", MAGIC, nonce, 1, 0))
        kind, _, stream, payload = self.frame()
        assert (kind, stream, payload[8:24]) == (ATTACHED, 0, nonce), (kind, stream, payload)
        return time.monotonic() - self.start

    def run(self, *argv, user="", stdin=None):
        """(exit code, standard output, standard error) of a command inside; -N for signal N."""
        self.streams += 1
        s, strings = self.streams, [user, "", *argv, "PATH=/bin"]
        head = struct.pack("<IHHIIIIII", 2 if stdin is not None else 0, 0, 0, 0, 1 << 20, 1 << 20, len(argv), 1, 0)
        self.send(EXEC, s, head + b"".join(t.encode() + b"\0" for t in strings))
        out, credit = {STDOUT: b"", STDERR: b""}, 0
        while True:
            kind, _, stream, payload = self.frame()
            if stream != s:
                continue
            if kind == STARTED:
                _, err, step, credit = struct.unpack("<IiII", payload)
                assert err == 0, f"{argv}: error {err} in step {step}"
            elif kind == CREDIT:
                credit += struct.unpack("<II", payload)[1]
            elif kind in out:
                out[kind] += payload[8:]
                self.send(CREDIT, s, struct.pack("<II", 1 if kind == STDOUT else 2, len(payload) - 8))
            elif kind == EXIT:
                flags, code = struct.unpack("<II", payload[:8])
                return (-code if flags & 1 else code, out[STDOUT].decode(errors="replace"),
                        out[STDERR].decode(errors="replace"))
            while stdin is not None and credit:
                part, stdin = stdin[:min(credit, 65536)], stdin[min(credit, 65536):]
                credit -= len(part)
                self.send(STDIN, s, part, flags=0 if stdin else 1)
                stdin = stdin or None

    def exits(self):
        """How often its virtual CPUs left the guest."""
        return sum(int(f.read_text()) for f in
                   pathlib.Path("/sys/kernel/debug/kvm").glob(f"{self.process.pid}-*/exits"))

    def end(self, timeout=30):
        """Waits for the VMM: (exit code, what it said)."""
        try:
            _, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the VMM did not end in {timeout} s; {self.where()}") from None
        return self.process.returncode, err.strip()

    def where(self):
        """What each thread of the VMM is at, for the report of one that hangs."""
        found = []
        for t in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*"):
            try:
                state = (t / "stat").read_text().rsplit(")", 1)[1].split()[0]
                found.append(f"{t.name} {state}: {' '.join((t / 'stack').read_text().split())}")
            except OSError:
                pass
        return "; ".join(found)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()
        self.control.close()
        if self.process.poll() is None:
            self.process.kill()
        self.console.unlink(missing_ok=True)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the VMM does not die; {self.where()}") from None
        self.process.stderr.close()
