# SPDX-License-Identifier: Apache-2.0
"""A client of brigd's socket that speaks the wire itself (docs/protocol.md): for what the command line
has no verb for. One object of Op is one operation, hence one connection."""

import json
import os
import socket
import struct

REQ, REP, END = 0x101, 0x102, 0x103
CREDIT, CLOSE = 6, 7
FS_STAT, FS_LIST, FS_READ, FS_WRITE, FS_MKDIR = 32, 33, 34, 35, 36
FS_SYMLINK, FS_EXPORT, FS_IMPORT = 39, 41, 42
FS_DATA, FS_ENTRY, FS_DONE = 48, 49, 51
TCP_DATA = 66
EOF = 1
CHAN_FS, CHAN_TCP = 3, 4
XATTRS, META, RESOLVE, NOFOLLOW = 0x20, 0x40, 0x80, 0x10
FRAME_MAX = 256 * 1024
CLIENT_CREDIT = 4 * 1024 * 1024
DEADLINE = 60


class Refused(Exception):
    """brigd answered with an error object."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.error = error


def _strings(data):
    return [s.decode(errors="surrogateescape") for s in data.split(b"\0")[:-1]]


class Op:
    def __init__(self, path, op, **request):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(path))
        self.send(REQ, 0, 0, json.dumps({"op": op, **request}).encode())
        kind, _, _, payload = self.frame()
        assert kind == REP, kind
        reply = json.loads(payload)
        if "error" in reply:
            self.close()
            raise Refused(reply["error"])
        self.ok = reply["ok"]

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, kind, flags, stream, payload=b""):
        self.sock.sendall(struct.pack("<IHHI", len(payload), kind, flags, stream) + payload)

    def _exactly(self, n):
        parts = []
        while n:
            part = self.sock.recv(n)
            if not part:
                raise EOFError("brigd closed the connection")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def frame(self):
        n, kind, flags, stream = struct.unpack("<IHHI", self._exactly(12))
        return kind, flags, stream, self._exactly(n)


class Tcp(Op):
    """A connection to a port inside, with the few calls of a socket that tests need."""

    def __init__(self, path, id, port):
        self.credit = CLIENT_CREDIT  # what we may send
        self.left = bytearray()
        self.ended = False
        self.last = None  # END
        super().__init__(path, "connect", id=id, port=port)

    def _take(self):
        kind, flags, stream, payload = self.frame()
        if kind == CREDIT:
            chan, n = struct.unpack("<II", payload)
            assert (chan, stream) == (CHAN_TCP, 1)
            self.credit += n
        elif kind == TCP_DATA:
            self.left += payload
            self.ended = self.ended or bool(flags & EOF)
            if payload:
                self.send(CREDIT, 0, 1, struct.pack("<II", CHAN_TCP, len(payload)))
        elif kind == END:
            self.last = json.loads(payload)
            self.ended = True
        else:
            raise AssertionError(f"frame {kind}")

    def write(self, data):
        while data:
            n = min(len(data), FRAME_MAX, self.credit)
            if n:
                self.send(TCP_DATA, 0, 1, data[:n])
                self.credit -= n
                data = data[n:]
            else:
                self._take()

    def shut(self):
        self.send(TCP_DATA, EOF, 1)

    def read(self, n=None):
        """n bytes, or all up to the other side's end."""
        while not self.ended and (n is None or len(self.left) < n):
            self._take()
        n = len(self.left) if n is None else n
        got = bytes(self.left[:n])
        del self.left[:n]
        return got

    def end(self):
        while self.last is None:
            self._take()
        return self.last


class Fs(Op):
    def __init__(self, path, id, **kw):
        super().__init__(path, "fs", id=id, **kw)
        self.next = 0

    def begin(self, kind, *strings, flags=0, mode=0, arg=0, arg2=0):
        self.next += 1
        self.send(kind, 0, self.next, struct.pack("<IIIIQQ", flags, mode, CLIENT_CREDIT, 0, arg,
                                                  arg2) + b"".join(
            s.encode() + b"\0" for s in ("",) + strings))

    def finish(self, data=None):
        """(errno, text, entries, bytes) of the request that was begun; data is sent as is granted."""
        entries, out, credit = [], [], 0
        data = None if data is None else memoryview(data)
        while True:
            kind, flags, _, payload = self.frame()
            if kind == CREDIT:
                credit += struct.unpack("<II", payload)[1]
                while data is not None and credit:
                    piece = data[:min(credit, FRAME_MAX)]
                    data = data[len(piece):]
                    credit -= len(piece)
                    self.send(FS_DATA, 0 if data else EOF, self.next, piece)
                    data = data or None
            elif kind == FS_DATA:
                out.append(payload)
                if payload and not flags & EOF:
                    self.send(CREDIT, 0, self.next, struct.pack("<II", CHAN_FS, len(payload)))
            elif kind == FS_ENTRY:
                entries.append(Entry(payload))
                self.send(CREDIT, 0, self.next, struct.pack("<II", CHAN_FS, len(payload)))
            elif kind == FS_DONE:
                err = struct.unpack("<i", payload[:4])[0]
                return err, _strings(payload[16:])[0], entries, b"".join(out)
            else:
                raise AssertionError(f"frame {kind}")

    def do(self, kind, *strings, data=None, **kw):
        self.begin(kind, *strings, **kw)
        err, text, entries, out = self.finish(data)
        if err:
            raise OSError(err, os.strerror(err), text)
        return entries if kind in (FS_STAT, FS_LIST) else out

    def stat(self, path, flags=META | RESOLVE):
        return self.do(FS_STAT, path, flags=flags)[0]

    def write(self, path, data, pairs=None):
        words = [w for pair in (pairs or {}).items() for w in pair]
        self.do(FS_WRITE, path, *words, flags=0 if pairs is None else XATTRS,
                arg2=len(pairs or {}), data=data)


class Entry:
    def __init__(self, payload):
        (self.size, self.mtime, _, self.mode, self.uid, self.gid, _, self.nlink,
         _) = struct.unpack("<QqIIIIQII", payload[:48])
        self.path, self.target, self.owner, self.group, *rest = _strings(payload[48:])
        self.meta = dict(zip(rest[::2], rest[1::2]))
