# SPDX-License-Identifier: Apache-2.0
"""What a sandbox reaches, and what never leaves it.

The server runs in a network namespace that stands for the host, with one link to another that stands for
the world. What the world gets is seen by a packet socket on that link: it is the judge, and what a
program inside says is only compared with it. Forged frames are sent by this test itself, as root, from
the sandbox's own namespace: nothing inside could, and that it could not is not what is tested here."""

import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import hoststate
from brigtest import (Brig, ResidentCase, Server, TestCase, need_program, need_root, wait_until)

WORLD, HOST = "45.33.32.10", "45.33.32.1"  # public by their numbers; nobody leaves these namespaces
PRIVATE, METADATA = "10.9.9.9", "169.254.169.254"
LISTENER = r"""
import socket, threading
def serve(s):
    while True:
        c, a = s.accept()
        threading.Thread(target=talk, args=(c, a), daemon=True).start()
def talk(c, a):
    try:
        c.sendall(b"world\n")
        while c.recv(4096):
            c.sendall(b"more\n")
    except OSError:
        pass
    c.close()
for port in (80, 8080, 22):
    s = socket.create_server(("0.0.0.0", port), backlog=64)
    threading.Thread(target=serve, args=(s,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""
# Prints "IP:PORT answer" for every argument IP:PORT.
TRY = r"""
import socket, sys
for dest in sys.argv[1:]:
    host, port = dest.rsplit(":", 1)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as s:
            s.settimeout(10)
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            got = s.recv(100).decode().split("\n")[0].strip()
            print(dest, "refused" if got in ("", "HTTP/1.1 403 Forbidden") else got, flush=True)
    except OSError as e:
        print(dest, "refused", flush=True)
"""
# A name server that knows one address for every name: its own.
NAMES = r"""
import socket, sys
s = socket.socket(2, 2)
s.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    q, a = s.recvfrom(512)
    end = q.index(b"\0", 12) + 5
    is_a = q[end - 4:end - 2] == b"\0\1"
    s.sendto(q[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0" + q[12:end] +
             (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(sys.argv[1]) if is_a else b""), a)
"""
# What a program does that wants out by all means.
ESCAPE = r"""
import socket
for family, kind, dest in ((2, 1, ("%s", 80)), (2, 2, ("%s", 443)), (2, 2, ("%s", 53)),
                           (10, 1, ("2001:4860::8888", 443)), (10, 2, ("2001:4860::8888", 53))):
    try:
        s = socket.socket(family, kind)
        s.settimeout(3)
        s.connect(dest)
        s.send(b"x" * 30)
        s.recv(1)
    except OSError:
        pass
""" % (WORLD, WORLD, WORLD)


def inside(pid, *args, **kw):
    return subprocess.run(["nsenter", "-t", str(pid), "-n", "--", *args], check=True, **kw)


def in_netns(pid, fn):
    """Calls fn in a thread that has joined the namespace; its sockets stay there."""
    result = []

    def body():
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, 0x40000000) < 0:
                raise OSError(ctypes.get_errno(), "setns")
            result.append(fn())
        except BaseException as e:  # noqa: BLE001 - it is raised again by the caller
            result.append(e)
        finally:
            os.close(fd)
    t = threading.Thread(target=body)
    t.start()
    t.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


class World:
    """Two namespaces and the link between them."""

    def __init__(self):
        need_root()
        need_program("ip")
        need_program("nsenter")
        self.held = []
        self.host, self.world = self._hold(), self._hold()
        inside(self.host, "ip", "link", "add", "world", "type", "veth", "peer", "name", "host",
               "netns", str(self.world))
        for pid, name, addresses in ((self.host, "world", [HOST, "10.9.9.1"]),
                                     (self.world, "host", [WORLD, PRIVATE, METADATA])):
            inside(pid, "ip", "link", "set", "lo", "up")
            for address in addresses:
                inside(pid, "ip", "addr", "add", address + "/24", "dev", name)
            inside(pid, "ip", "link", "set", name, "up")
        inside(self.host, "ip", "route", "add", "default", "via", WORLD)
        self.listener = subprocess.Popen(["nsenter", "-t", str(self.world), "-n", "--", "/usr/bin/python3",
                                          "-c", LISTENER], stdout=subprocess.PIPE,
                                         start_new_session=True)
        self.held.append(self.listener)
        if self.listener.stdout.readline() != b"ready\n":
            raise AssertionError("the world does not listen")

    def _hold(self):
        p = subprocess.Popen(["unshare", "-n", "--", "sh", "-c", "echo; exec sleep 100000"],
                             stdout=subprocess.PIPE, start_new_session=True)
        self.held.append(p)
        p.stdout.readline()
        return p.pid

    def capture(self):
        return Capture(self.host, "world")

    @property
    def prefix(self):
        return ("nsenter", "-t", self.host, "-n", "--")

    def close(self):
        for p in reversed(self.held):
            p.kill()
            p.wait()
            p.stdout.close()


class Capture:
    """Frames on a link, from now on."""

    def __init__(self, pid, name):
        def make():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.bind((name, 3))
            return s
        self.socket = in_netns(pid, make)
        self.socket.setblocking(False)

    def frames(self, settle=0.2):
        """Without what the two kernels say to each other about themselves."""
        time.sleep(settle)  # for frames on their way: there is no event for "none comes"
        got = []
        while True:
            try:
                frame = self.socket.recv(65536)
            except BlockingIOError:
                return got
            kind = frame[12:14]
            if kind == b"\x08\x06" or (kind == b"\x86\xdd" and frame[20] in (0, 58)):
                continue
            got.append(frame)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class NetworkCase(ResidentCase):
    @classmethod
    def setUpClass(cls):
        TestCase.setUpClass.__func__(cls)
        cls.world = World()
        try:
            cls.class_before = hoststate.snapshot()
            cls.class_brig = Brig()
            cls.server = Server(cls.class_brig, prefix=cls.world.prefix)
        except BaseException:
            cls.world.close()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.world.close()

    def left(self, within):
        """Without the gateway process and brig-jaild, which are the server's and may be others by now."""
        left = super().left(within)
        others = [x for x in left.get("process", ()) if "brig-egress" not in str(x) and "brig-jaild" not in str(x)]
        left.pop("process", None)
        if others:
            left["process"] = others
        return left

    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def tried(self, box, *dests):
        """{destination: what came of it}"""
        done = self.brig.call("exec", box, "--", "/usr/bin/python3", "-S", "-c", TRY, *dests)
        return dict(line.split(" ", 1) for line in done.text.splitlines())

    def why(self, box):
        return self.brig.json("why", box)


class Reach(NetworkCase):
    def test_limits_of_what_it_takes(self):
        box = self.create("--net", "public", "--net-limit", "connections=2", "--net-limit", "rate_in=64K")
        done = self.brig.call("exec", box, "--", "/usr/bin/python3", "-S", "-c", r"""
import socket
held = []
try:
    for _ in range(5):
        s = socket.create_connection(("%s", 22))
        s.recv(10)
        held.append(s)
except OSError:
    pass
print(len(held))
""" % WORLD)
        self.assertEqual(done.text, "2\n", done)
        for text in ("connections=0", "rate_in=1", "rate=5", "connections", "rate_out=x", "connects=1000001"):
            self.assertRefused(self.brig.call("create", "--net-limit", text), 2, "--net-limit", "rate_out=1M")

    def test_none_is_loopback_and_nothing_leaves(self):
        with self.world.capture() as seen:
            done = self.brig.run("--", "sh", "-c", "ls /sys/class/net 2>/dev/null; cat /proc/net/dev "
                                 "/etc/resolv.conf; /usr/bin/python3 -S -c '" + ESCAPE + "'")
            self.assertOk(done)
            self.assertNotIn("eth0", done.text)
            self.assertNotIn("nameserver", done.text)
            self.assertEqual(seen.frames(), [])
            # The same with a network is seen, so the judge sees.
            done = self.brig.run("--net", "public", "--", "sh", "-c", "cat /proc/net/dev /etc/resolv.conf; "
                                 "/usr/bin/python3 -S -c '" + ESCAPE + "'")
            self.assertIn("eth0", done.text)
            self.assertIn("nameserver 198.18.0.1\n", done.text)
            self.assertTrue(seen.frames())

    def test_what_no_rule_allows_is_refused_told_and_can_be_allowed(self):
        box = self.create("--net", "deny")
        with self.world.capture() as seen:
            self.assertEqual(self.tried(box, f"{WORLD}:80"), {f"{WORLD}:80": "refused"})
            self.assertEqual(seen.frames(), [])
            last = wait_until("the journal has it", lambda: self.why(box)["denials"])[-1]
            self.assertEqual((last["kind"], last["reason"], last["address"], last["port"], last["rule"]),
                             ("egress", "not_allowed", WORLD, 80, "net deny"))
            # The line that it names is the one that allows it.
            words = last["command"].replace("'", "").split()
            self.assertEqual(words[:3], ["brig", "net", box])
            self.assertOk(self.brig.call(*words[1:]))
            got = self.tried(box, f"{WORLD}:80", f"{WORLD}:8080")
            self.assertEqual(got, {f"{WORLD}:80": "world", f"{WORLD}:8080": "refused"})
            self.assertTrue(seen.frames())

    def test_protected_addresses_are_refused_in_every_mode(self):
        box = self.create("--net", "public")
        other = self.create("--net", "public")
        neighbour = self.brig.call("exec", other, "--", "sh", "-c", "cat /proc/net/fib_trie").text
        neighbour = re.search(r"198\.18\.\d+\.\d+(?=\n\s+/32 host LOCAL)", neighbour).group()
        dests = [f"{METADATA}:80", f"{PRIVATE}:80", f"{HOST}:80", "10.9.9.1:80", f"{neighbour}:80",
                 "198.18.0.1:80", "[::ffff:10.9.9.9]:80", "[fd00:ec2::254]:80"]
        with self.world.capture() as seen:
            got = self.tried(box, *dests)
            self.assertEqual(got, {d: "refused" for d in dests})
            self.assertEqual(seen.frames(), [])
        reasons = {e["reason"] for e in self.why(box)["denials"]}
        self.assertEqual(reasons, {"protected_address", "other_sandbox"})
        # An operator's word lifts it, for what it names.
        granted = self.create("--net", "public", "--grant", PRIVATE)
        got = self.tried(granted, f"{PRIVATE}:80", f"{METADATA}:80")
        self.assertEqual(got, {f"{PRIVATE}:80": "world", f"{METADATA}:80": "refused"})

    def test_only_tcp_leaves_and_the_refusal_is_told_at_once(self):
        box = self.create("--net", "public")
        with self.world.capture() as seen:
            done = self.brig.call("exec", box, "--", "/usr/bin/python3", "-S", "-c", r"""
import socket
s = socket.socket(2, 2)
s.settimeout(20)
s.connect(("%s", 443))
s.send(b"quic?")
try:
    s.recv(1)
except OSError as e:
    print(e.errno)
""" % WORLD)
            self.assertEqual(done.text, "113\n")  # EHOSTUNREACH: it does not wait for its time
            self.assertEqual(seen.frames(), [])
        told = wait_until("the journal has it", lambda: self.why(box))
        self.assertEqual([(e["kind"], e["protocol"], e["address"], e["port"]) for e in told["denials"]],
                         [("packet", "udp", WORLD, 443)])
        self.assertEqual(told["packets"], {"refused": 1, "forged": 0})

    def test_a_change_is_enforced_when_it_is_answered(self):
        box = self.create("--net", "public")
        p = self.brig.popen("exec", box, "--", "/usr/bin/python3", "-u", "-S", "-c", r"""
import socket, sys
s = socket.create_connection(("%s", 80))
s.recv(10)
print("ready", flush=True)
sys.stdin.readline()
try:
    s.sendall(b"still there?")
    print(s.recv(10) or "cut")
except OSError:
    print("cut")
""" % WORLD, stdin=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        done = self.brig.json("net", box, "--net", "none", "--only")
        self.assertEqual(done["cut"], 1)
        out, _ = p.communicate(b"\n", timeout=60)
        self.assertEqual(out, b"cut\n")
        self.assertEqual(self.tried(box, f"{WORLD}:80"), {f"{WORLD}:80": "refused"})
        self.assertOk(self.brig.call("net", box, "--net", "deny", "--allow", f"{WORLD}:80"))
        self.assertEqual(self.tried(box, f"{WORLD}:80"), {f"{WORLD}:80": "world"})

    def test_a_rule_that_is_none_is_refused_and_changes_nothing(self):
        done = self.brig.run("--allow", "http://x/", "--", "true")
        self.assertRefused(done, 125, "http://x/")
        box = self.create("--net", "deny", "--allow", f"{WORLD}:80")
        self.assertEqual(self.brig.call("net", box, "--allow", "1.2.3.4/8").code, 125)
        self.assertEqual(self.brig.call("net", box).text, f"net deny\nallow {WORLD}:80\n")
        self.assertEqual(self.tried(box, f"{WORLD}:80"), {f"{WORLD}:80": "world"})
        without = self.create()
        self.assertRefused(self.brig.call("net", without, "--net", "public"), 125, "without a network")

    def test_a_budget_that_is_reached_ends_it(self):
        done, status = self.brig.status("--image", "host", "--net", "public", "--net-budget", "requests=2",
                                        "--", "/usr/bin/python3", "-S", "-c",
                                        TRY + "\nimport time\ntime.sleep(100)",
                                        *[f"{WORLD}:80"] * 3)
        self.assertEqual((done.code, status["stop_reason"]), (137, "egress_denied"), status)
        self.assertEqual((status["evidence"]["budget"], status["evidence"]["limit"]), ("requests", 2))
        self.assertIn("egress", status["limits_hit"])

    def test_another_gateway_process_knows_every_policy(self):
        box = self.create("--net", "deny", "--allow", f"{WORLD}:80")
        for _ in range(2):
            pid = next(p for p in hoststate.pids() if hoststate.comm_of(p) == "brig-egress" and
                       f"PPid:\t{self.server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
            os.kill(int(pid), signal.SIGKILL)
            wait_until("connections are decided again",
                       lambda: self.tried(box, f"{WORLD}:80").get(f"{WORLD}:80") == "world", 20)
            self.assertEqual(self.tried(box, f"{WORLD}:22"), {f"{WORLD}:22": "refused"})

    def test_links_outlive_their_brig_jaild(self):
        box = self.create("--net", "deny", "--allow", f"{WORLD}:80")
        p = self.brig.popen("exec", box, "--", "/usr/bin/python3", "-u", "-S", "-c", r"""
import socket, sys
s = socket.create_connection(("%s", 80))
s.recv(10)
for line in sys.stdin:
    s.sendall(b"more?")
    print(s.recv(10).decode(), end="")
""" % WORLD, stdin=subprocess.PIPE)
        self.addCleanup(p.stdout.close)
        before = self.class_brig.json("stats", "--no-stream")
        for _ in range(2):
            back = self.server.text().count("brig-jaild is there again")
            pid = next(p for p in hoststate.pids() if hoststate.comm_of(p) == "brig-jaild" and
                       f"PPid:\t{self.server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
            os.kill(int(pid), signal.SIGKILL)
            wait_until("there is another", lambda back=back: self.server.text().count(
                "brig-jaild is there again") > back, 20)
            # The connection that there was, and new ones, by the same rules and figures.
            p.stdin.write(b"x\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.readline(), b"more\n")
            self.assertEqual(self.tried(box, f"{WORLD}:80", f"{WORLD}:22"),
                             {f"{WORLD}:80": "world", f"{WORLD}:22": "refused"})
        self.assertEqual([(r["id"], r["init_pid"]) for r in self.brig.json("stats", "--no-stream")],
                         [(r["id"], r["init_pid"]) for r in before])
        other = self.create("--net", "deny", "--allow", f"{WORLD}:80")
        self.assertEqual(self.tried(other, f"{WORLD}:80"), {f"{WORLD}:80": "world"})
        p.stdin.close()
        self.assertEqual(p.wait(20), 0)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp_frame(to_mac, from_mac, src, dst, kind=b"\x08\x00", tag=b""):
    body = struct.pack("!HHHH", 1234, 999, 8, 0)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton(src),
                       socket.inet_aton(dst))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return to_mac + from_mac + tag + kind + head + body


class Forged(NetworkCase):
    def setUp(self):
        super().setUp()
        self.box, self.other = self.create("--net", "public"), self.create("--net", "public")
        self.pid, self.address, self.mac = self.link_of(self.box)
        self.other_pid, self.other_address, self.other_mac = self.link_of(self.other)
        self.gateway_mac = self.mac[:3] + b"\x01" + self.mac[4:]

    def link_of(self, box):
        stats = self.brig.json("stats", box)
        rows = stats if isinstance(stats, list) else stats["stats"]
        pid = rows[0]["init_pid"]
        text = inside(pid, "ip", "-4", "addr", "show", "dev", "eth0", capture_output=True).stdout.decode()
        mac = inside(pid, "ip", "link", "show", "dev", "eth0", capture_output=True).stdout.decode()
        return (pid, re.search(r"inet (\S+)/32", text).group(1),
                bytes.fromhex(re.search(r"ether (\S+)", mac).group(1).replace(":", "")))

    def send(self, *frames):
        def go():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
                s.bind(("eth0", 0))
                for frame in frames:
                    s.send(frame)
        in_netns(self.pid, go)

    def packets(self):
        return self.why(self.box)["packets"]

    def test_the_own_source_is_refused_and_no_forgery(self):
        # The control of the others: such frames are seen, judged and counted.
        self.send(udp_frame(self.gateway_mac, self.mac, self.address, WORLD))
        self.assertEqual(self.packets(), {"refused": 1, "forged": 0})

    def test_foreign_sources_reach_nobody(self):
        with self.world.capture() as seen, Capture(self.other_pid, "eth0") as neighbour:
            self.send(
                # another sandbox's address; its address and its MAC; one of the host's; the own with a
                # foreign MAC
                udp_frame(self.gateway_mac, self.mac, self.other_address, WORLD),
                udp_frame(self.gateway_mac, self.other_mac, self.other_address, WORLD),
                udp_frame(self.gateway_mac, self.mac, HOST, WORLD),
                udp_frame(self.gateway_mac, self.other_mac, self.address, WORLD))
            self.assertEqual(self.packets(), {"refused": 0, "forged": 4})
            self.assertEqual((seen.frames(), neighbour.frames()), ([], []))
        entry = wait_until("the journal has it", lambda: self.why(self.box)["denials"])[-1]
        self.assertEqual((entry["kind"], entry["reason"]), ("packet", "forged_source"))

    def test_neighbours_are_not_reached_on_the_link(self):
        with Capture(self.other_pid, "eth0") as neighbour:
            self.send(udp_frame(self.other_mac, self.mac, self.address, self.other_address),
                      udp_frame(b"\xff" * 6, self.mac, self.address, self.other_address),
                      udp_frame(self.gateway_mac, self.mac, self.address, self.other_address))
            self.assertEqual(neighbour.frames(), [])

    def test_arp_announcements_tags_and_router_advertisements_change_nothing(self):
        arp = b"\xff" * 6 + self.mac + b"\x08\x06" + struct.pack(
            "!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, self.mac, socket.inet_aton(self.other_address),
            b"\xff" * 6, socket.inet_aton("198.18.0.1"))
        tagged = udp_frame(self.gateway_mac, self.mac, self.address, WORLD,
                           tag=b"\x81\x00\x00\x07")
        ra = (b"\x33\x33\x00\x00\x00\x01" + self.mac + b"\x86\xdd" +
              struct.pack("!IHBB16s16s", 6 << 28, 16, 58, 255, socket.inet_pton(10, "fe80::1"),
                          socket.inet_pton(10, "ff02::1")) + struct.pack("!BBHBBHII", 134, 0, 0, 64, 0,
                                                                        1800, 0, 0))
        with self.world.capture() as seen, Capture(self.other_pid, "eth0") as neighbour:
            self.send(arp, tagged, ra)
            self.assertEqual((seen.frames(), neighbour.frames()), ([], []))
        self.assertEqual(self.tried(self.other, f"{WORLD}:80"), {f"{WORLD}:80": "world"})
        self.assertEqual(self.tried(self.box, f"{WORLD}:80"), {f"{WORLD}:80": "world"})


# Frames as fast as one thread makes them, until it is ended: sys.argv has the kind.
FLOOD = r"""
import os, socket, sys
kind, dest = sys.argv[1:]
print("ready", flush=True)
if kind == "packets":
    s = socket.socket(2, 2)
    s.setblocking(False)
    s.connect((dest, 443))
    while True:
        try:
            s.send(b"x" * 1000)
        except OSError:
            pass
elif kind == "names":
    s = socket.socket(2, 2)
    s.setblocking(False)
    s.connect(("198.18.0.1", 53))
    n = 0
    while True:
        n += 1
        q = b"%07d" % (n % 9999999)
        try:
            s.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\x07" + q + b"\4test\0\0\1\0\1")
        except OSError:
            pass
else:
    held = []
    while True:
        try:
            s = socket.socket(2, 1)
            s.setblocking(False)
            s.connect_ex((dest, 80))
            held.append(s)
            if len(held) > 800:
                held.pop(0).close()
        except OSError:
            pass
"""


class Floods(NetworkCase):
    """What a sandbox sends without end costs itself: the neighbour's request still works, the gateway stays as
    large as it is, and nothing is tracked that could fill up."""

    def gateway(self):
        return next(int(p) for p in hoststate.pids() if hoststate.comm_of(p) == "brig-egress" and
                    f"PPid:\t{self.server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))

    def rss_kb(self, pid):
        return int(re.search(r"VmRSS:\s+(\d+)", hoststate.read(f"/proc/{pid}/status")).group(1))

    def cpu_us(self, box):
        stats = self.brig.json("stats", "--no-stream", box)
        return (stats if isinstance(stats, list) else stats["stats"])[0]["cpu_us"]

    def flood(self, kind):
        box, neighbour = self.create("--net", "public"), self.create("--net", "public")
        pid = self.gateway()
        before, held = self.rss_kb(pid), len(os.listdir(f"/proc/{pid}/fd"))
        used = self.cpu_us(box)
        p = self.brig.popen("exec", box, "--", "/usr/bin/python3", "-u", "-S", "-c", FLOOD, kind, WORLD,
                            stdout=subprocess.PIPE)
        self.addCleanup(self._end, p)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        wait_until("the flood is on", lambda: self.cpu_us(box) > used + 500000, 60)
        for _ in range(10):
            self.assertEqual(self.tried(neighbour, f"{WORLD}:80"), {f"{WORLD}:80": "world"})
        self.assertIsNone(p.poll())
        # One sandbox gets a third of the connections at most (8000, with six descriptors each).
        self.assertLess(len(os.listdir(f"/proc/{pid}/fd")), held + 6 * 2700)
        self.assertLess(self.rss_kb(pid), before + 65536)
        tracked = in_netns(self.packets_pid(box), lambda: hoststate.read("/proc/thread-self/net/stat/nf_conntrack"))
        entries = [int(line.split()[0], 16) for line in (tracked or "").splitlines()[1:]]
        self.assertEqual(sum(entries[:1]), 0)
        self.assertOk(self.brig.call("rm", "-f", box))
        wait_until("what it had open is gone", lambda: len(os.listdir(f"/proc/{pid}/fd")) < held + 300, 30)
        return self.brig.json("why", neighbour)

    def packets_pid(self, box):
        stats = self.brig.json("stats", "--no-stream", box)
        return (stats if isinstance(stats, list) else stats["stats"])[0]["init_pid"]

    def test_packets_that_no_rule_lets_through(self):
        self.flood("packets")

    def test_connections_that_are_opened_and_left(self):
        self.flood("connections")

    def test_questions_for_names(self):
        self.flood("names")

    def test_halves_of_connections(self):
        box, neighbour = self.create("--net", "public"), self.create("--net", "public")
        pid, address, mac = Forged.link_of(self, box)
        gateway = mac[:3] + b"\x01" + mac[4:]
        stop = threading.Event()

        def half(n):
            tcp = struct.pack("!HHIIBBHHH", 1024 + n % 60000, 80, n, 0, 5 << 4, 2, 1000, 0, 0)
            pseudo = socket.inet_aton(address) + socket.inet_aton(WORLD) + struct.pack("!BBH", 0, 6, 20)
            tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, socket.inet_aton(address),
                               socket.inet_aton(WORLD))
            return gateway + mac + b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp

        def go():
            n = 0
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
                s.bind(("eth0", 0))
                while not stop.is_set():
                    n += 1
                    try:
                        s.send(half(n))
                    except OSError:
                        pass
            return n
        sent = []
        t = threading.Thread(target=lambda: sent.append(in_netns(pid, go)))
        t.start()
        try:
            wait_until("more than may be opened", lambda: self.why(box)["packets"]["refused"] > 1000, 60)
            for _ in range(10):
                self.assertEqual(self.tried(neighbour, f"{WORLD}:80"), {f"{WORLD}:80": "world"})
        finally:
            stop.set()
            t.join()
        self.assertGreater(sent[0], 2000)
        self.assertEqual(self.why(neighbour)["packets"], {"refused": 0, "forged": 0})
        # The own limit of what it opens comes back: it is not locked out.
        wait_until("it may open again", lambda: self.tried(box, f"{WORLD}:80") == {f"{WORLD}:80": "world"}, 30)


class Alone(TestCase):
    """A private server, and servers that die."""

    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.close)
        super().setUp()
        self.brig = Brig()

    def test_a_private_server_has_a_gateway_of_its_own(self):
        done = self.brig.run("--net", "public", "--", "/usr/bin/python3", "-S", "-c", TRY, f"{WORLD}:80",
                             f"{PRIVATE}:80", prefix=self.world.prefix)
        self.assertEqual(done.text, f"{WORLD}:80 world\n{PRIVATE}:80 refused\n", done)
        self.assertNothingLeft()

    def test_what_was_refused_is_told_with_what_would_allow_it(self):
        done = self.brig.run("--net", "deny", "--", "/usr/bin/python3", "-S", "-c",
                             TRY + "\nsys.exit(7)", f"{WORLD}:80", prefix=self.world.prefix)
        self.assertCode(done, 7)
        self.assertIn(f"--allow '{WORLD}:80'", done.errors)

    def test_nothing_stays_of_a_server_whose_processes_are_killed(self):
        for names in (["brigd"], ["brig-jaild"], ["brig-egress", "brigd"], ["brig"]):
            with self.subTest(killed=names):
                server = Server(self.brig, prefix=self.world.prefix)
                try:
                    done = self.brig.call("create", "--image", "host", "--net", "public")
                    self.assertOk(done)
                    for name in names:
                        pid = server.process.pid if name == "brig" else next(
                            int(p) for p in hoststate.pids() if hoststate.comm_of(p) == name and
                            f"PPid:\t{server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
                        os.kill(pid, signal.SIGKILL)
                    if names != ["brig"]:
                        wait_until("it serves again", lambda: self.brig.call(
                            "run", "--image", "host", "--net", "public", "--", "true").code == 0, 30)
                finally:
                    if names != ["brig"]:
                        server.stop()
                if names == ["brig"]:
                    # Its daemons go on; whoever serves in its place ends them.
                    server.process.wait()
                    Server(self.brig, prefix=self.world.prefix).stop()
                self.assertNothingLeft()

    def test_the_hosts_name_servers_are_followed(self):
        """Written in place, and renamed over; a text without any changes nothing."""
        etc = self.tmp / "etc"
        subprocess.run(["cp", "-a", "/etc", etc], check=True)
        conf = etc / "resolv.conf"
        conf.unlink()
        conf.write_text(f"nameserver {WORLD}\n")
        inside(self.world.world, "ip", "addr", "add", "45.33.32.11/24", "dev", "host")
        servers = [subprocess.Popen(["nsenter", "-t", str(self.world.world), "-n", "--", "/usr/bin/python3", "-u", "-c",
                                     NAMES, address], stdout=subprocess.PIPE) for address in (WORLD, "45.33.32.11")]
        for p in servers:
            self.addCleanup(lambda p=p: (p.kill(), p.wait(), p.stdout.close()))
            self.assertEqual(p.stdout.readline(), b"ready\n")
        bind = 'mount --make-rprivate / && mount --bind "$0" /etc && exec "$@"'
        server = Server(self.brig, "--log-level", "debug",
                        prefix=(*self.world.prefix, "unshare", "-m", "--", "sh", "-c", bind, str(etc)))
        self.addCleanup(server.stop)
        box = self.brig.call("create", "--image", "host", "--net", "public").text.strip()
        n = 0

        def answered():
            nonlocal n
            n += 1  # each is asked for anew
            return self.brig.call("exec", box, "--", "/usr/bin/python3", "-c",
                                  f"import socket; print(socket.gethostbyname('n{n}.test'))").text.strip()
        self.assertEqual(answered(), WORLD)
        conf.write_text("nameserver 45.33.32.11\n")
        wait_until("the other is asked", lambda: answered() == "45.33.32.11", 20)
        conf.write_text("# none\n")
        (etc / "new").write_text(f"search x\nnameserver {WORLD}\n")
        self.assertEqual(answered(), "45.33.32.11")
        (etc / "new").rename(conf)
        wait_until("the first is asked again", lambda: answered() == WORLD, 20)
        server.stop()

    def test_a_server_without_networks_says_so(self):
        server = Server(self.brig, "--no-net", prefix=self.world.prefix)
        self.addCleanup(server.stop)
        self.assertOk(self.brig.run("--", "true"))
        self.assertRefused(self.brig.run("--net", "public", "--", "true"), 125, "offers no networks")


if __name__ == "__main__":
    unittest.main()
