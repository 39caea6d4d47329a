# SPDX-License-Identifier: Apache-2.0
"""An agent in a tenant's hands: it may send brigd any bytes at any time. Each kind ends its own sandbox
with a fault that names the violation; the server, its other sandboxes and its memory stay as they are.

The real agent is stopped and its end of the channel borrowed (pidfd_getfd), so what brigd reads comes over
the very socket that a tenant would have taken over. The frames are those of include/brig/agent_proto.h."""

import ctypes
import hashlib
import json
import os
import random
import re
import signal
import socket
import struct
import threading
import time

import brigtest
import hoststate
from brigtest import MIB, MemoryWatch, ResidentCase, wait_until

SYS_pidfd_open, SYS_pidfd_getfd = 434, 438
FRAME_MAX = 256 * 1024
ATTACH_MAGIC = 0x6b6e6174676972b7


def numbers():
    """{frame name: number} from the header."""
    text = brigtest.SOURCE.joinpath("include/brig/agent_proto.h").read_text()
    found = {name: int(n) for name, n in re.findall(r"^\s*X\((\w+), (\d+), [HAB]\)", text, re.M)}
    assert found["STDOUT"] and found["EXIT"], found
    return found


TYPE = numbers()


def frame(kind, stream, payload=b"", flags=0, length=None):
    number = TYPE[kind] if isinstance(kind, str) else kind
    return struct.pack("<IHHI", len(payload) if length is None else length, number, flags,
                       stream) + payload


def started(stream):
    return frame("STARTED", stream, struct.pack("<IiII", 2, 0, 0, 65536))


def ended(stream, out, code=0):
    """out: bytes of standard output in all; "ready\\n" is six of them."""
    return frame("EXIT", stream, struct.pack("<IIQQQQQ", 0, code, out, 0, 0, 0, 0))


def data(stream, offset, payload, kind="STDOUT"):
    return frame(kind, stream, struct.pack("<Q", offset) + payload)


class Hostile(ResidentCase):
    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        cls.libc = ctypes.CDLL(None, use_errno=True)
        super().setUpClass()
        done = cls.class_brig.call("create", "--image", "host", "--name", "other")
        if done.code:
            raise AssertionError(str(done))

    def _remove_all(self):
        """The bystander stays."""

    def setUp(self):
        super().setUp()
        self.server_pid = hoststate.brig_pids("brigd")[0]
        self.path = self.tmp / "status"

    def take_over(self, *args):
        """A sandbox whose command runs and whose agent is stopped: (client, agent's socket, stream)."""
        p = self.start(self.brig, "--name", "taken", "--status-json", self.path, *args, "--", "sh", "-c",
                       "echo ready; exec sleep 988")
        rows = self.brig.json("stats", "--no-stream")
        rows = rows if isinstance(rows, list) else rows["stats"]
        agent = next(r["init_pid"] for r in rows if r["name"] == "taken")
        os.kill(agent, signal.SIGSTOP)
        sock = self.channel(agent)
        self.addCleanup(sock.close)
        return p, sock, self.stream(p, sock)

    def channel(self, agent):
        """The agent's end of its channel: of its sockets, the connected stream one."""
        pidfd = self.libc.syscall(SYS_pidfd_open, agent, 0)
        self.assertGreaterEqual(pidfd, 0, os.strerror(ctypes.get_errno()))
        try:
            for name in sorted(os.listdir(f"/proc/{agent}/fd"), key=int):
                if not os.readlink(f"/proc/{agent}/fd/{name}").startswith("socket:"):
                    continue
                fd = self.libc.syscall(SYS_pidfd_getfd, pidfd, int(name), 0)
                if fd < 0:
                    raise brigtest.unittest.SkipTest("descriptors cannot be borrowed: "
                                                     + os.strerror(ctypes.get_errno()))
                sock = socket.socket(fileno=fd)
                try:
                    sock.getpeername()
                    if sock.type == socket.SOCK_STREAM:
                        return sock
                except OSError:
                    pass
                sock.close()
        finally:
            os.close(pidfd)
        self.fail("the agent has no channel")

    def stream(self, p, sock):
        """The stream of the command, from a frame that brigd sends when its client is signalled."""
        p.send_signal(signal.SIGUSR1)
        sock.settimeout(5 * brigtest.SLOW)
        while True:
            head = b""
            while len(head) < 12:
                head += sock.recv(12 - len(head))
            length, kind, _, stream = struct.unpack("<IHHI", head)
            rest = length
            while rest:
                rest -= len(sock.recv(rest))
            if kind == TYPE["SIGNAL"]:
                return stream

    def send(self, sock, pieces):
        """Sends until it is refused: brigd hangs up on a liar."""
        try:
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass

    def check(self, pieces, reason="host_fault", *args):
        p, sock, stream = self.take_over(*args)
        with MemoryWatch() as watch:
            self.send(sock, pieces(stream) if callable(pieces) else pieces)
            out, err = p.communicate(timeout=20 * brigtest.SLOW)
        if not brigtest.SANITIZED:
            self.assertLess(watch.peak.get("brigd", 0), 48 * MIB)
        status = json.loads(self.path.read_text())
        self.assertEqual(status["stop_reason"], reason, f"{status} {err[:500]}")
        if reason == "host_fault":
            self.assertEqual(p.returncode, 125)
            self.assertGreater(len(status["evidence"]["fault"]), 5, status)
        self.bystanders()
        return status, out

    def bystanders(self):
        self.assertEqual(hoststate.brig_pids("brigd"), [self.server_pid], "the server was replaced")
        done = self.brig.call("exec", "other", "echo", "alive")
        self.assertEqual((done.code, done.out), (0, b"alive\n"), str(done))
        wait_until("the hostile sandbox is gone",
                   lambda: len(self.brig.call("ls", "-q").out.split()) == 1, 3)

    # ---- frames that no agent sends ----

    def test_garbage(self):
        for seed in range(4):
            self.check([random.Random(seed).randbytes(100000)])

    def test_an_oversized_frame(self):
        for length in (FRAME_MAX + 1, 1 << 31, 0xffffffff):
            self.check(lambda s, n=length: [frame("STDOUT", s, b"x" * 1000, length=n)])

    def test_an_unknown_type(self):
        for number in (0, 7777, 0xffff):
            self.check(lambda s, n=number: [frame(n, s, b"x")])

    def test_frames_of_the_other_direction(self):
        for kind in ("ATTACH", "EXEC", "STDIN", "SIGNAL", "SHUTDOWN", "CLOSE", "FS_READ", "PING"):
            with self.subTest(kind):
                self.check(lambda s, k=kind: [frame(k, s, b"\0" * 64)])

    def test_an_unknown_stream(self):
        for stream in (0, 0x7fffffff, 0xffffffff):
            with self.subTest(stream):
                self.check([data(stream, 0, b"x")])

    def test_short_payloads(self):
        for kind in ("STDOUT", "STDERR", "EXIT", "STARTED", "CREDIT", "ATTACHED", "FS_ENTRY", "FS_DONE"):
            with self.subTest(kind):
                self.check(lambda s, k=kind: [frame(k, s, b"xyz")])

    # ---- the right frames at the wrong time ----

    def test_a_second_start(self):
        self.check(lambda s: [started(s)])

    def test_a_jump_of_offsets(self):
        for offset in (0, 7, 1 << 40, (1 << 64) - 1):
            with self.subTest(offset):
                self.check(lambda s, o=offset: [data(s, o, b"x" * 10)])

    def test_more_data_than_was_granted(self):
        def pieces(stream):
            at, block = 6, b"x" * (FRAME_MAX - 8)  # "ready\n" came before
            for _ in range(400):
                yield data(stream, at, block)
                at += len(block)
        # Nobody grants any more, so what is sent beyond the credit is a violation, or it waits in the
        # channel until the time is up; in neither case does brigd keep it.
        p, sock, stream = self.take_over("--timeout", "3s")
        p.send_signal(signal.SIGSTOP)
        sock.settimeout(1)
        with MemoryWatch() as watch:
            self.send(sock, pieces(stream))
        p.send_signal(signal.SIGCONT)
        p.communicate(timeout=20 * brigtest.SLOW)
        self.assertIn(json.loads(self.path.read_text())["stop_reason"], ("host_fault", "wall_time"))
        if not brigtest.SANITIZED:
            self.assertLess(watch.peak.get("brigd", 0), 48 * MIB, "what nobody asked for was kept")
        self.bystanders()

    def test_an_end_twice_and_data_after_the_end(self):
        self.check(lambda s: [ended(s, 6) + ended(s, 6)], "exited")
        self.check(lambda s: [ended(s, 6) + data(s, 6, b"more")], "exited")

    def test_credit_beyond_the_maximum(self):
        self.check(lambda s: [frame("CREDIT", s, struct.pack("<II", 0, 0xffffffff))] * 3)
        self.check(lambda s: [frame("CREDIT", s, struct.pack("<II", 99, 1))])

    def test_a_false_attachment(self):
        self.check([frame("ATTACHED", 0, struct.pack("<Q16sII", ATTACH_MAGIC, b"n" * 16, 1, 0))])

    def test_answers_to_questions_that_were_not_asked(self):
        self.check([frame("PONG", 0, b"x")])
        self.check([frame("FS_DONE", 5, b"\0" * 16)])

    # ---- floods and silence ----

    def test_an_endless_flood_of_empty_frames(self):
        def pieces(stream):
            empty = data(stream, 6, b"") * 5000
            while True:
                yield empty
        self.check(pieces)

    def test_half_a_frame_and_silence(self):
        self.check(lambda s: [data(s, 6, b"x" * 1000)[:500]], "wall_time", "--timeout", "2s")

    def test_silence_and_a_closed_channel(self):
        p, sock, _ = self.take_over()
        sock.shutdown(socket.SHUT_RDWR)
        p.communicate(timeout=20 * brigtest.SLOW)
        self.assertEqual(json.loads(self.path.read_text())["stop_reason"], "host_fault")
        self.bystanders()

    def test_frames_in_single_bytes_are_still_frames(self):
        p, sock, stream = self.take_over()
        for byte in data(stream, 6, b"slow") + ended(stream, 10, 9):
            sock.sendall(bytes([byte]))
        out, err = p.communicate(timeout=20 * brigtest.SLOW)
        self.assertEqual((p.returncode, out), (9, b"slow"), err)
        self.bystanders()

    def test_a_hostile_agent_beside_a_busy_neighbour(self):
        done = []

        def busy():
            done.append(self.brig.call("exec", "other", "sh", "-c", "head -c 60000000 /dev/zero | sha256sum"))
        t = threading.Thread(target=busy)
        t.start()
        self.check([random.Random(9).randbytes(1000000)])
        t.join()
        self.assertEqual(done[0].text.split()[0], hashlib.sha256(bytes(60000000)).hexdigest())

    def test_many_hostile_agents_leave_the_server_as_it_was(self):
        def descriptors():
            return len(os.listdir(f"/proc/{self.server_pid}/fd"))
        self.check([b"\xff" * 64])
        before = descriptors()
        for _ in range(10):
            self.check([b"\xff" * 64])
        time.sleep(0.2)
        self.assertLessEqual(descriptors(), before + 2)
