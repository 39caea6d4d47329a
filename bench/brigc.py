# SPDX-License-Identifier: Apache-2.0
"""The untimed part of talking to a resident brigd (include/brig/client_proto.h): one connection is one
operation. What is timed goes through clock.c."""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

HEADER = struct.Struct("<IHHI")
STDOUT, STDERR, CREDIT = 19, 20, 6
REQ, REP, END = 0x101, 0x102, 0x103


class Refused(Exception):
    pass


class Server:
    """`brig serve` with a socket and a run directory of its own."""

    def __init__(self, build, work, name, *options, http=None):
        self.run = pathlib.Path(work, name)
        self.run.mkdir(mode=0o711)
        self.socket = str(self.run / "brigd.sock")
        self.log = open(self.run / "log", "wb")
        env = dict(os.environ, BRIG_RUN=str(self.run), BRIG_SOCKET=self.socket)
        self.process = subprocess.Popen(
            [str(build / "brig"), "serve", *(["--http", http] if http else ["--no-http"]),
             "--socket", self.socket, "--data", str(work / "data"), *options], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.version = self.ask({"op": "version"})
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError("brig serve does not answer: "
                                       + (self.run / "log").read_text(errors="replace")[-500:])
                time.sleep(0.02)

    def _receive(self, sock, n):
        data = b""
        while len(data) < n:
            more = sock.recv(n - len(data))
            if not more:
                raise ConnectionError("brigd closed the connection")
            data += more
        return data

    def frames(self, request, timeout=60):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(self.socket)
            text = json.dumps(request).encode()
            sock.sendall(HEADER.pack(len(text), REQ, 0, 0) + text)
            while True:
                n, kind, _, _ = HEADER.unpack(self._receive(sock, HEADER.size))
                yield kind, self._receive(sock, n)

    def ask(self, request):
        """The "ok" object of an operation that does not stream."""
        for kind, data in self.frames(request):
            if kind == REP:
                answer = json.loads(data)
                if "error" in answer:
                    raise Refused(answer["error"]["message"])
                return answer["ok"]
        raise ConnectionError("no answer")

    def complete(self, request):
        """Runs or executes something small: (STATUS, standard output)."""
        out = b""
        for kind, data in self.frames(request):
            if kind == REP and "error" in (answer := json.loads(data)):
                raise Refused(answer["error"]["message"])
            if kind == STDOUT:
                out += data[8:]
            if kind == END:
                return json.loads(data), out
        raise ConnectionError("no end")

    def processes(self):
        """Every process below the server, sandboxes included: pids."""
        children = {}
        for p in pathlib.Path("/proc").iterdir():
            if p.name.isdigit():
                try:
                    parent = int((p / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(p.name))
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
