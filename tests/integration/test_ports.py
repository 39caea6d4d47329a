# SPDX-License-Identifier: Apache-2.0
"""Connections to servers inside, by the operation `connect`."""

import hashlib
import subprocess

import brigtest
import wire
from brigtest import MIB, ResidentCase

# Says on its output when it listens; serves connections one after another.
SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6
                         if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    %s
    c.close()
"""
ECHO = "[c.sendall(d) for d in iter(lambda: c.recv(65536), b'')]"
EARLY = "c.recv(10); c.sendall(b'no more'); c.shutdown(1); c.recv(1)"
RESET = "import struct; c.recv(4); c.setsockopt(1, 13, struct.pack('ii', 1, 0))"
COUNT = "import hashlib; h = hashlib.sha256(); [h.update(d) for d in iter(lambda: c.recv(65536), " \
        "b'')]; c.sendall(h.hexdigest().encode())"


class Ports(ResidentCase):
    def serve(self, what, address="127.0.0.1", port=8000, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        id_ = done.text.strip()
        p = self.brig.popen("exec", id_, "python3", "-c", SERVER % what, address, port,
                            stdout=subprocess.PIPE)
        self.addCleanup(self._end, p)
        self.assertEqual(p.stdout.readline(), b"ready\n", p)
        return id_

    def connect(self, id_, port=8000):
        c = wire.Tcp(self.brig.socket, id_, port)
        self.addCleanup(c.close)
        return c

    def test_bytes_go_both_ways_and_each_way_ends_on_its_own(self):
        id_ = self.serve(ECHO)
        c = self.connect(id_)
        c.write(b"hello")
        self.assertEqual(c.read(5), b"hello")
        c.write(b"bye")
        c.shut()
        self.assertEqual(c.read(), b"bye")
        self.assertEqual(c.end(), {})

    def test_ipv6_only_server_is_found(self):
        c = self.connect(self.serve(ECHO, "::1"))
        c.write(b"six")
        c.shut()
        self.assertEqual(c.read(), b"six")

    def test_nobody_listens(self):
        id_ = self.serve(ECHO)
        with self.assertRaises(wire.Refused) as e:
            self.connect(id_, 8001)
        self.assertEqual(e.exception.error["code"], "unavailable")
        self.assertIn("refused", e.exception.error["message"] + e.exception.error["cause"])
        for port in (0, 65536, "80"):
            with self.assertRaises(wire.Refused) as e:
                self.connect(id_, port)
            self.assertIn(e.exception.error["code"], ("invalid_argument", "limit_out_of_range"))

    def test_much_data_passes_unharmed(self):
        id_ = self.serve(ECHO)
        data = hashlib.shake_256(b"seed").digest(24 * MIB)
        c = self.connect(id_)
        # An echo of more than all windows together would stand still if nobody read meanwhile.
        got, sent = [], 0
        while sent < len(data):
            c.write(data[sent:sent + MIB])
            sent += MIB
            got.append(c.read(MIB))
        c.shut()
        got.append(c.read())
        self.assertEqual(hashlib.sha256(b"".join(got)).digest(), hashlib.sha256(data).digest())
        self.assertEqual(c.end(), {})

    def test_upload_longer_than_every_window(self):
        c = self.connect(self.serve(COUNT))
        data = hashlib.shake_256(b"up").digest(20 * MIB)
        c.write(data)
        c.shut()
        self.assertEqual(c.read().decode(), hashlib.sha256(data).hexdigest())

    def test_an_answer_before_the_server_hangs_up_is_read(self):
        c = self.connect(self.serve(EARLY))
        c.write(b"x" * 10)
        self.assertEqual(c.read(), b"no more")
        c.shut()
        self.assertEqual(c.end(), {})

    def test_a_reset_is_told(self):
        c = self.connect(self.serve(RESET))
        c.write(b"boom")
        self.assertEqual(c.end()["error"]["code"], "unavailable")

    def test_a_reader_that_stands_still_holds_back_itself_only(self):
        id_ = self.serve("[c.sendall(bytes(65536)) for _ in range(1000)]")
        slow = self.connect(id_)
        done = self.brig.call("exec", id_, "head", "-c", "30000000", "/dev/zero", timeout=30)
        self.assertEqual(len(done.out), 30000000)
        self.assertEqual(len(slow.read()), 65536000)

    def test_connections_end_with_their_sandbox(self):
        id_ = self.serve(ECHO)
        c = self.connect(id_)
        c.write(b"x")
        self.assertEqual(c.read(1), b"x")
        self.assertOk(self.brig.call("rm", "-f", id_))
        self.assertIn("error", c.end())

    def test_many_at_once(self):
        id_ = self.serve("import os; n = os.fork()\n    if n == 0:\n        " + ECHO
                         + "\n        os._exit(0)")
        all_ = [self.connect(id_) for _ in range(60)]
        for n, c in enumerate(all_):
            c.write(b"%d" % n)
        for n, c in enumerate(all_):
            c.shut()
            self.assertEqual(c.read(), b"%d" % n)

    def test_pid_is_the_one_inside(self):
        id_ = self.serve(ECHO)
        with wire.Op(self.brig.socket, "exec", id=id_, cmd=["sleep", "60"]) as op:
            done = self.brig.call("exec", id_, "cat", f"/proc/{op.ok['pid']}/cmdline")
            self.assertEqual(done.out, b"sleep\x0060\x00")
