# SPDX-License-Identifier: Apache-2.0
"""A service manager of a few lines: binds sockets, hands them over from descriptor 3 on, and hears what
the service says of itself."""

import os
import socket
import subprocess
import sys

# Becomes the service: LISTEN_PID is the pid of who reads it.
EXEC = """
import os, sys
fds = [int(n) for n in sys.argv[1].split(",") if n]
high = [os.dup2(fd, 200 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(3 + len(fds), 300)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
os.execv(sys.argv[3], sys.argv[3:])
"""


class Activator:
    def __init__(self, folder):
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = str(folder / "notify")
        self.notify.bind(self.path)
        self.sockets, self.names = [], []

    def add(self, name, sock):
        self.sockets.append(sock)
        self.names.append(name)
        return sock

    def tcp(self, name="http", host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self.add(name, socket.create_server((host, 0), family=family))

    def unix(self, path, name="brigd", listening=True):
        s = socket.socket(socket.AF_UNIX)
        s.bind(str(path))
        os.chmod(path, 0o600)
        if listening:
            s.listen()
        return self.add(name, s)

    def start(self, brig, *args, wrong_pid=0, env=None, count=None):
        """`brig serve` with what was added; count and wrong_pid tell a lie."""
        for s in self.sockets:
            s.set_inheritable(True)
        full = {**brig.env, "NOTIFY_SOCKET": self.path,
                "LISTEN_FDS": str(len(self.sockets) if count is None else count),
                "LISTEN_FDNAMES": ":".join(self.names), **(env or {})}
        fds = ",".join(str(s.fileno()) for s in self.sockets)
        return subprocess.Popen([sys.executable, "-c", EXEC, fds, str(wrong_pid), brig.program,
                                 "serve", *map(str, args)],
                                env={k: v for k, v in full.items() if v is not None},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, start_new_session=True,
                                pass_fds=[s.fileno() for s in self.sockets])

    def heard(self, timeout):
        self.notify.settimeout(timeout)
        return self.notify.recv(4096).decode()

    def close(self):
        for s in (*self.sockets, self.notify):
            s.close()
