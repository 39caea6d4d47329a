# SPDX-License-Identifier: Apache-2.0
"""Private networks: who is in one is reached by name by the others in it, and by nobody else.

The judge is a packet socket on the link of the one who is to be reached. Forged frames are sent by this test,
as root, from a sandbox's own namespace: nothing inside could."""

import os
import re
import signal
import socket
import struct
import subprocess

import hoststate
from brigtest import need_program, need_root, wait_until
from remotecase import RemoteCase
from test_network import Capture, in_netns, inside, udp_frame

# Says its name, and to whom, to everybody who connects or asks.
SERVER = r"""
import socket, sys, threading
t, u = socket.create_server(("0.0.0.0", 5432)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("0.0.0.0", 5432))
def udp():
    while True:
        _, a = u.recvfrom(100)
        u.sendto(f"{sys.argv[1]} {a[0]}".encode(), a)
def talk(c, a):
    c.sendall(f"{sys.argv[1]} {a[0]}\n".encode())
    while c.recv(100):
        c.sendall(b"more\n")
threading.Thread(target=udp, daemon=True).start()
print("ready", flush=True)
while True:
    threading.Thread(target=talk, args=t.accept(), daemon=True).start()
"""
# HOST: "name address", or why not.
ASK = r"""
import socket, sys
for host in sys.argv[1:]:
    for kind in (1, 2):
        try:
            s = socket.socket(2, kind)
            s.settimeout(8)
            s.connect((host, 5432))
            s.send(b"?\n\n")
            print(host, s.recv(100).decode().split("\n")[0] or "refused")
        except OSError as e:
            print(host, "timeout" if isinstance(e, TimeoutError) else "unknown" if isinstance(e, socket.gaierror)
                  else "refused")
"""
STAY = r"""
import socket, sys
s = socket.create_connection((sys.argv[1], 5432), timeout=30)
s.recv(100)
print("ready", flush=True)
for line in sys.stdin:
    s.settimeout(float(line))
    try:
        s.sendall(b"?")
        print("more" if s.recv(5) else "cut", flush=True)
    except OSError:
        print("cut", flush=True)
"""


class PrivateCase(RemoteCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        need_program("ip")
        need_program("nsenter")
        super().setUpClass()

    def setUp(self):
        super().setUp()
        for name in ("app", "other"):
            self.assertOk(self.near.call("network", "create", name))
            self.addCleanup(self.drop, name)

    def drop(self, name):
        ids = self.near.call("ls", "-q").text.split()
        if ids:
            self.near.call("rm", "-f", *ids)
        self.assertOk(self.near.call("network", "rm", name))

    def box(self, *args, brig=None, env=None):
        done = (brig or self.near).call("create", "--image", "host", *args, env=env or {})
        self.assertOk(done)
        return done.text.strip()

    def serve(self, box, name):
        p = self.near.popen("exec", box, "--", "/usr/bin/python3", "-u", "-S", "-c", SERVER, name,
                            stdout=subprocess.PIPE)
        self.addCleanup(self._end, p)
        self.assertEqual(p.stdout.readline(), b"ready\n", p)

    def asked(self, box, *hosts):
        """[(of TCP, of UDP)] for each host"""
        done = self.near.call("exec", box, "--", "/usr/bin/python3", "-c", ASK, *hosts, timeout=120)
        self.assertOk(done)
        said = [line.split(" ", 1)[1] for line in done.text.splitlines()]
        return list(zip(said[::2], said[1::2]))

    def link(self, box):
        """(pid, address, MAC)"""
        pid = self.near.json("stats", "--no-stream", box)
        pid = (pid if isinstance(pid, list) else pid["stats"])[0]["init_pid"]
        text = inside(pid, "ip", "addr", "show", "dev", "eth0", capture_output=True).stdout.decode()
        return (pid, re.search(r"inet (\S+)/32", text).group(1),
                bytes.fromhex(re.search(r"ether (\S+)", text).group(1).replace(":", "")))


class Private(PrivateCase):
    def test_members_reach_each_other_by_name_and_nothing_else(self):
        db = self.box("--name", "db1", "--network", "app", "--alias", "db", "--network", "other")
        web = self.box("--name", "web", "--network", "app")
        self.serve(db, "db")
        self.serve(web, "web")
        _, mine, _ = self.link(web)
        _, theirs, _ = self.link(db)
        self.assertEqual(self.asked(web, "db", "db.internal", "DB1.internal", "db1", theirs),
                         [(f"db {mine}",) * 2] * 5)
        self.assertEqual(self.asked(db, "web", "web.internal", "db"),
                         [(f"web {theirs}",) * 2] * 2 + [(f"db {theirs}",) * 2])
        self.assertEqual(self.asked(web, "nobody", "45.33.32.10"), [("unknown",) * 2, ("refused",) * 2])
        row = self.near.json("network", "inspect", "app")[0]
        self.assertEqual({(m["id"], m["name"], *m["aliases"], m["address"]) for m in row["members"]},
                         {(db, "db1", "db", theirs), (web, "web", mine)})
        self.assertEqual(self.near.call("net", web).text, "net deny\nnetwork app\n")
        self.assertEqual([(r["name"], len(r["members"])) for r in self.near.json("network", "ls")],
                         [("app", 2), ("other", 1)])
        self.assertRefused(self.near.call("network", "rm", "app"), 125, "has 2 sandboxes", "--network none")

    def test_nobody_else_does(self):
        db = self.box("--name", "db", "--network", "app")
        web = self.box("--name", "web", "--network", "app")
        self.serve(db, "db")
        pid, address, _ = self.link(db)
        strangers = [self.box("--network", "other"), self.box("--net", "public"), self.box("--net", "deny")]
        # The same name is another network to another tenant.
        self.assertOk(self.brig.call("network", "create", "app"))
        self.addCleanup(self.brig.call, "network", "rm", "app")
        strangers.append(self.box("--network", "app", brig=self.brig))
        self.addCleanup(self.brig.call, "rm", "-f", strangers[-1])
        with Capture(pid, "eth0") as seen:
            for box in strangers:
                self.assertEqual(self.asked(box, "db", "db.internal", address),
                                 [("unknown",) * 2, ("unknown",) * 2, ("refused",) * 2], box)
            self.assertEqual(seen.frames(), [])
            told = self.near.json("why", strangers[0])["denials"]
            self.assertIn("other_sandbox", {e["reason"] for e in told})
            # The control: the judge sees who may.
            self.assertEqual(self.asked(web, address)[0][0][:3], "db ")
            self.assertTrue(seen.frames())

    def test_forged_frames_reach_nobody(self):
        db, web = self.box("--name", "db", "--network", "app"), self.box("--name", "web", "--network", "app")
        stranger = self.box("--network", "other")
        pid, address, mac = self.link(db)
        web_pid, web_address, web_mac = self.link(web)
        own_pid, own_address, own_mac = self.link(stranger)
        gateway = own_mac[:3] + b"\x01" + own_mac[4:]

        def send(where, *frames):
            def go():
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
                    s.bind(("eth0", 0))
                    for frame in frames:
                        s.send(frame)
            in_netns(where, go)

        def six(source_mac, source, dest):
            return (gateway + source_mac + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 8, 17, 64) +
                    socket.inet_pton(10, source) + socket.inet_pton(10, dest) + struct.pack("!HHHH", 1, 5432, 8, 0))

        def six_of(v4):
            return "fd62:7269:6700:1::%x" % (int.from_bytes(socket.inet_aton(v4), "big") - 0xc6120100)
        with Capture(pid, "eth0") as seen:
            send(own_pid,
                 udp_frame(gateway, own_mac, web_address, address),  # as the member, from the own MAC
                 udp_frame(gateway, web_mac, web_address, address),  # .. and with his
                 udp_frame(mac, own_mac, own_address, address),  # to the link of the other
                 udp_frame(b"\xff" * 6, own_mac, own_address, address),
                 six(own_mac, six_of(own_address), six_of(address)),
                 six(web_mac, six_of(web_address), six_of(address)))
            # Members reach each other over IPv4 only, and with their own address only.
            send(web_pid, udp_frame(web_mac[:3] + b"\x01" + web_mac[4:], web_mac, own_address, address),
                 six(web_mac, six_of(web_address), six_of(address)))
            self.assertEqual(seen.frames(), [])
            self.assertEqual(self.near.json("why", stranger)["packets"]["forged"], 3)
            self.assertEqual(self.near.json("why", web)["packets"]["forged"], 1)
            send(web_pid, udp_frame(web_mac[:3] + b"\x01" + web_mac[4:], web_mac, web_address, address))
            self.assertEqual(len([f for f in seen.frames() if f[:6] == mac]), 1)

    def test_changes_are_enforced_when_they_are_answered(self):
        db = self.box("--name", "db", "--network", "app", "--alias", "first")
        web = self.box("--name", "web", "--net", "deny")
        self.serve(db, "db")
        self.assertEqual(self.asked(web, "db")[0], ("unknown",) * 2)
        self.assertOk(self.near.call("net", web, "--network", "app"))
        self.assertEqual(self.asked(web, "first")[0][0][:3], "db ")
        p = self.near.popen("exec", web, "--", "/usr/bin/python3", "-u", "-c", STAY, "db", stdin=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        p.stdin.write(b"20\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), b"more\n")
        self.assertOk(self.near.call("net", web, "--network", "none"))
        self.assertEqual(p.communicate(b"2\n", timeout=60)[0], b"cut\n")
        _, address, _ = self.link(db)
        self.assertEqual(self.asked(web, "db", address), [("unknown",) * 2, ("refused",) * 2])
        self.assertOk(self.near.call("net", db, "--only", "--net", "deny", "--network", "app", "--alias", "second"))
        self.assertOk(self.near.call("net", web, "--network", "app", "--allow", "x.example"))
        self.assertEqual([a[0][:3] for a in self.asked(web, "second", "first")], ["db ", "unk"])
        # What ends takes its place with it: whoever has the address next is nobody's peer.
        self.assertOk(self.near.call("rm", "-f", web))
        self.assertEqual(self.asked(self.box("--net", "deny"), address)[0], ("refused",) * 2)

    def test_what_is_wrong_is_refused_by_name(self):
        for args, words in ((("--network", "nope"), ("no network 'nope'", "network create nope")),
                            (("--network", "app", "--network", "app"), ("named twice",)),
                            (("--network", "A B"), ("no name of a network",)),
                            (("--network", "app", "--alias", "A"), ("alias 'A'", "a-z")),
                            (("--network", "app", "--alias", "1x"), ("alias '1x'",)),
                            (("--net", "none", "--network", "app"), ("no rules", "--network"))):
            self.assertRefused(self.near.call("create", "--image", "host", *args), 125, *words)
        self.assertRefused(self.near.call("create", "--alias", "x"), 2, "--network")
        self.assertRefused(self.near.call("network", "create", "app"), 125, "already")
        self.assertRefused(self.near.call("network", "rm", "nope"), 125, "no network 'nope'")
        self.assertRefused(self.near.call("network", "create", "none"), 125, "not none")
        self.assertRefused(self.near.call("tenant", "create", "local"), 125, "local")
        self.assertRefused(self.brig.call("create", "--image", "host", "--network", "app"), 125,
                           "no network 'app'", "network create app")
        self.assertRefused(self.near.call("network", "frob"), 2, "create, ls, inspect and rm")

    def test_over_http(self):
        self.assertEqual(self.ask("POST", "/v1/networks", {"name": "net"})[0], 201)
        self.assertEqual(self.ask("POST", "/v1/networks", {"name": "net"})[0], 409)
        self.assertEqual(self.ask("POST", "/v1/networks", {"name": "Net"})[0], 400)
        status, made = self.ask("POST", "/v2/sandboxes", {
            "templateID": "host", "networks": [{"name": "net", "aliases": ["api"]}]})[:2]
        self.assertEqual(status, 201, made)
        box = made["sandboxID"]
        status, got = self.ask("GET", "/v1/networks/net")[:2]
        self.assertEqual((status, [(m["id"], m["aliases"]) for m in got["members"]]), (200, [(box, ["api"])]))
        self.assertEqual(self.ask("DELETE", "/v1/networks/net")[0], 409)
        # A change of E2B's leaves it where it is.
        self.assertEqual(self.ask("PUT", f"/sandboxes/{box}/network", {"allowOut": ["a.example"]})[0], 204)
        self.assertEqual(len(self.ask("GET", "/v1/networks/net")[1]["members"]), 1)
        # A link cannot be had later: what to do instead is said.
        without = self.ask("POST", "/v2/sandboxes", {"templateID": "host"})[1]["sandboxID"]
        status, why = self.ask("PUT", f"/sandboxes/{without}/network", {"allowOut": ["a.example"]})[:2]
        self.assertEqual(status, 409, why)
        self.assertIn("private network", why["remediation"])
        self.assertEqual(self.ask("PUT", f"/sandboxes/{without}/network", {"denyOut": ["0.0.0.0/0"]})[0], 204)
        self.assertEqual(self.ask("DELETE", f"/sandboxes/{without}")[0], 204)
        for body in ({"networks": [{"name": "nope"}]}, {"networks": [{"name": "net", "aliases": ["-"]}]},
                     {"networks": "net"}, {"networks": [{"name": "net", "x": 1}]}):
            self.assertIn(self.ask("POST", "/v2/sandboxes", {"templateID": "host", **body})[0], (400, 404))
        self.assertEqual(self.ask("DELETE", f"/sandboxes/{box}")[0], 204)
        self.assertEqual(self.ask("DELETE", "/v1/networks/net")[0], 204)
        self.assertEqual(self.ask("GET", "/v1/networks/net")[0], 404)
        self.assertEqual(self.ask("GET", "/v1/networks")[1], {"networks": []})


class Restart(PrivateCase):
    def left(self, within):
        """Without the server's own processes, which are others by now."""
        left = super().left(within)
        own = ("brigd", "brig-api", "brig-egress", "brig-jaild")
        others = [x for x in left.pop("process", ()) if not any(f" {name} " in f"{x} " for name in own)]
        return {**left, "process": others} if others else left

    def test_another_brigd_knows_who_is_whose(self):
        db, web = self.box("--name", "db", "--network", "app"), self.box("--name", "web", "--network", "app")
        left = self.box("--name", "left", "--network", "app")
        self.serve(db, "db")
        self.assertOk(self.near.call("net", left, "--network", "none"))
        pid = next(p for p in hoststate.pids() if hoststate.comm_of(p) == "brigd" and
                   f"PPid:\t{self.server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
        os.kill(int(pid), signal.SIGKILL)
        wait_until("another serves", lambda: self.near.call("inspect", web).code == 0, 30)
        self.assertEqual(self.asked(web, "db")[0][0][:3], "db ")
        self.assertEqual(self.asked(left, "db")[0], ("unknown",) * 2)
        wait_until("brig-api serves again", lambda: self.near.call("network", "ls").code == 0, 30)
        self.assertEqual(len(self.near.json("network", "inspect", "app")[0]["members"]), 2)

    def test_another_brig_jaild_is_told_who_is_whose(self):
        db, web = self.box("--name", "db", "--network", "app"), self.box("--name", "web", "--network", "app")
        left = self.box("--name", "left", "--network", "app")
        self.serve(db, "db")
        self.assertOk(self.near.call("net", left, "--network", "none"))
        pid = next(p for p in hoststate.pids() if hoststate.comm_of(p) == "brig-jaild" and
                   f"PPid:\t{self.server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
        os.kill(int(pid), signal.SIGKILL)
        wait_until("another serves", lambda: "brig-jaild is there again" in self.server.text(), 30)
        wait_until("it reaches its peer", lambda: self.asked(web, "db")[0][0][:3] == "db ", 20)
        self.assertEqual(self.asked(left, "db")[0], ("unknown",) * 2)
        # What it is told from now on holds, too.
        self.assertOk(self.near.call("net", left, "--network", "app"))
        self.assertEqual(self.asked(left, "db")[0][0][:3], "db ")
        self.assertOk(self.near.call("net", left, "--network", "none"))
        self.assertEqual(self.asked(left, "db")[0], ("unknown",) * 2)
