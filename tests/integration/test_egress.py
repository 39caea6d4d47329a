# SPDX-License-Identifier: Apache-2.0
"""The gateway of sandboxes: what a policy allows passes, and everything else ends as its rule says.

The real brig-egress between namespaces (egresshosts.py); this test plays brigd and brig-jaild. What did
not arrive is told by the servers, not by what a sandbox saw.
"""

import contextlib
import itertools
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import egresshosts
from egresshosts import APPLIED, DEADLINE, ERROR, Hosts, echo, head_of, web

WEB, OTHER, THIRD, WEB6, OTHER6 = Hosts.PUBLIC
PRIVATE, METADATA, METADATA6 = Hosts.PRIVATE
_numbers = itertools.count(1)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hosts = Hosts()
        cls.addClassCleanup(cls.hosts.close)
        h = cls.hosts
        cls.web = h.server(WEB, 80, web("web"))
        cls.other = h.server(OTHER, 80, web("other"))
        cls.webs = h.server(WEB, 443, web("webs"), tls=True)
        cls.others = h.server(OTHER, 443, web("others"), tls=True)
        cls.web6 = h.server(WEB6, 80, web("web6"))
        cls.echo = h.server(WEB, 2222, echo(b"hello\r\n"))
        cls.meta = h.server(METADATA, 80, web("meta"))
        cls.meta6 = h.server(METADATA6, 80, web("meta6"))
        cls.private = h.server(PRIVATE, 80, web("private"))
        cls.all = (cls.web, cls.other, cls.webs, cls.others, cls.web6, cls.meta, cls.meta6, cls.private)
        h.resolver.names = {
            "web.test": [WEB, WEB6], "other.test": [OTHER], "www.web.test": "web.test", "a.b.web.test": [WEB],
            "six.test": [WEB6], "evil.test": [OTHER], "rebind.test": [METADATA], "inner.test": [PRIVATE],
            "both.test": [PRIVATE, WEB], "toevil.test": "evil.test", "dead.test": [THIRD],
            "loop.test": ["127.0.0.1"], "host.test": [Hosts.HOST[0]], "rebind6.test": [METADATA6],
            "mapped.test": ["::ffff:10.9.0.5"], "neighbour.test": ["100.80.0.250"],
            "shared.test": [WEB], "nat64.test": ["64:ff9b::a9fe:a9fe"]}

    def setUp(self):
        for s in self.all:
            s.got.clear()
        self.hosts.resolver.asked.clear()
        self.control = self.hosts.control
        self.control.denials.clear()

    def box(self, text, **kw):
        """A sandbox with a lease of this policy."""
        s = self.hosts.sandbox(next(_numbers))
        self.policy(s, text, **kw)
        self.addCleanup(self.control.remove, s.id)
        return s

    def policy(self, s, text, **kw):
        verb, got = self.control.lease(s.id, text.replace("; ", "\n") + "\n", s.v4, s.v6, **kw)
        self.assertEqual(verb, APPLIED, got)
        return got

    def nothing_arrived(self):
        for s in self.all:
            self.assertEqual(s.got, [])


class Http(Case):
    def test_a_name_that_is_allowed_passes_and_goes_where_our_resolver_says(self):
        s = self.box("net deny; allow web.test")
        got = s.http(WEB, "web.test", "/x")
        self.assertIn("web GET /x HTTP/1.1 web.test", got)
        # The address that the sandbox chose does not count.
        self.assertIn("web GET / HTTP/1.1 WEB.test.", s.http(OTHER, "WEB.test."))
        self.assertIn("web GET / ", s.http("8.8.8.8", "web.test"))
        self.assertEqual(self.other.got, [])

    def test_another_name_is_refused_and_told_how_to_allow_it(self):
        s = self.box("net deny; allow web.test")
        got = s.http(OTHER, "other.test")
        self.assertIn("403 Forbidden", got)
        self.assertIn("X-Brig-Allow: allow other.test:80", got)
        self.assertIn("--allow other.test:80", got)
        d = self.control.denial(name="other.test")
        self.assertEqual((d["reason"], d["proto"], d["port"], d["allow"], d["id"], d["addr"]),
                         ("not_allowed", "http", 80, "allow other.test:80", s.id, OTHER))
        self.assertLess(abs(d["time_ms"] / 1000 - time.time()), 60)
        self.assertGreater(d["source_port"], 0)
        self.nothing_arrived()
        # What it says is true.
        self.policy(s, "net deny; allow web.test; " + d["allow"], generation=2)
        self.assertIn("other GET", s.http(OTHER, "other.test"))

    def test_every_request_of_a_connection_is_judged(self):
        s = self.box("net deny; allow web.test; allow other.test")
        two = (b"GET /1 HTTP/1.1\r\nHost: web.test\r\n\r\n"
               b"GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        s.talk(WEB, 80, two)
        self.assertNotIn("GET /2 HTTP/1.1 evil.test", self.web.got)
        self.control.denial(reason="names_differ")
        # Of the same host they pass, with bodies of both kinds between them.
        many = (b"POST /1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000 +
                b"GET /2 HTTP/1.1\r\nHost: web.test\r\n\r\n")
        self.web.got.clear()
        self.assertEqual(s.talk(WEB, 80, many).count(b"200 OK"), 2)
        self.assertEqual(self.web.got, ["POST /1 HTTP/1.1 web.test", "GET /2 HTTP/1.1 web.test"])

    def test_requests_that_servers_read_differently_are_refused(self):
        s = self.box("net deny; allow web.test")
        for head in (b"GET / HTTP/1.1\r\nHost: web.test\r\nHost: evil.test\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost : web.test\r\n\r\n",
                     b"\r\nGET / HTTP/1.1\r\nHost: web.test\r\n\r\n",
                     b"GET / HTTP/1.1\nHost: web.test\n\n",
                     b"GET / HTTP/1.1\r\nHost: web.test\r\n folded\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
                     b"GET / HTTP/1.1\r\n\r\n",
                     b"GET http://evil.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
                     b"GET http://web.test@evil.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: host\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: web.test\r\nUpgrade: h2c\r\n\r\n",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            self.assertNotIn(b"200 OK", s.talk(WEB, 80, head), head)
        self.nothing_arrived()

    def test_addresses_in_odd_forms_are_nobodys_names(self):
        s = self.box("net deny; allow *.test")
        for host in ("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xa9.254.169.254",
                     "169.254.169.254.", "[::ffff:169.254.169.254]", "[fe80::1%25eth0]", "[::1]", "127.1"):
            got = s.http(METADATA, host)
            self.assertIn("403", got, host)
        self.nothing_arrived()

    def test_connect_and_absolute_form_match_what_they_say(self):
        s = self.box("net deny; allow web.test")
        proxy = "100.79.0.1"
        got = s.talk(proxy, 3128, b"GET http://web.test/p HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")
        self.assertIn(b"web GET http://web.test/p", got)
        got = s.talk(proxy, 3128, b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        self.assertIn(b"403", got)
        got = s.talk(proxy, 3128, b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
        self.assertIn(b"403", got)
        self.assertEqual(self.tunnel(s, proxy, "web.test", "web.test")[:4], "HTTP")
        # Inside the tunnel another name is another name, allowed or not.
        with self.assertRaises((ssl.SSLError, OSError)):
            self.tunnel(s, proxy, "web.test", "evil.test")
        self.control.denial(reason="names_differ", name="evil.test")

    def tunnel(self, s, proxy, name, sni):
        ctx = ssl.create_default_context()
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        with s.connect(proxy, 3128) as c:
            c.sendall(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode())
            head, rest = head_of(c)
            self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
            self.assertEqual(rest, b"")
            with ctx.wrap_socket(c, server_hostname=sni) as t:
                t.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                return t.recv(4096).decode()

    def test_a_websocket_passes_after_its_answer_only(self):
        def handle(server, conn):
            head, rest = head_of(conn)
            server.got.append(head)
            if b"/no" in head:
                conn.sendall(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
            else:
                conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
            while True:
                data = rest or conn.recv(4096)
                if not data:
                    return
                rest = b""
                server.got.append(data)
                conn.sendall(data)
        srv = self.hosts.server(THIRD, 8000, handle)
        self.hosts.resolver.names["ws.test"] = [THIRD]
        s = self.box("net deny; allow ws.test")
        ask = "GET {} HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        with s.connect(THIRD, 8000) as c:
            c.sendall(ask.format("/yes").encode())
            head, rest = head_of(c)
            self.assertIn(b"101", head)
            c.sendall(b"\x81\x05hello")
            while len(rest) < 7:
                rest += c.recv(100)
            self.assertEqual(rest, b"\x81\x05hello")
        with s.connect(THIRD, 8000) as c:
            c.sendall(ask.format("/no").encode() + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
            with contextlib.suppress(OSError):
                while c.recv(4096):
                    pass
        self.control.denial(reason="names_differ")
        self.assertFalse([x for x in srv.got if b"evil" in x], srv.got)

    def test_an_address_that_does_not_answer_is_not_the_last(self):
        self.hosts.resolver.names["dual.test"] = ["2600:5::77", WEB]
        s = self.box("net deny; allow dual.test")
        self.assertEqual(s.ask("dual.test", 28)[:2], (0, ["2600:5::77"]))
        self.assertIn("web GET", s.http("2600:5::77", "dual.test"))
        self.hosts.resolver.names["dual2.test"] = ["2600:5::77"]
        self.policy(s, "net deny; allow dual2.test", generation=2)
        self.assertIn("502", s.http("2600:5::77", "dual2.test"))

    def test_a_destination_that_does_not_answer_is_told_as_that(self):
        s = self.box("net deny; allow dead.test; allow nowhere.test")
        self.assertIn("502", s.http(THIRD, "dead.test"))
        self.assertIn("403", s.http(THIRD, "nowhere.test"))
        self.control.denial(reason="name_not_found", name="nowhere.test")


class Tls(Case):
    def test_names_in_tls_are_judged_like_others(self):
        s = self.box("net deny; allow web.test:443")
        self.assertIn("webs GET", s.tls(OTHER, "web.test"))
        with self.assertRaises(ssl.SSLError) as e:
            s.tls(OTHER, "other.test")
        self.assertIn("ACCESS_DENIED", str(e.exception))
        d = self.control.denial(name="other.test")
        self.assertEqual((d["proto"], d["reason"], d["allow"]), ("tls", "not_allowed", "allow other.test:443"))
        with self.assertRaises((ssl.SSLError, OSError)):
            s.tls(WEB, None)
        self.control.denial(reason="no_name", proto="tls")
        with self.assertRaises((ssl.SSLError, OSError)):
            s.tls(WEB, "web.test", port=80)
        self.assertEqual(self.others.got, [])

    @staticmethod
    def hello(name, more=b""):
        ctx = ssl.create_default_context()
        out = ssl.MemoryBIO()
        obj = ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
        with contextlib.suppress(ssl.SSLWantReadError):
            obj.do_handshake()
        raw = out.read()
        if more:
            body = raw[9:]
            at = 2 + 32
            at += 1 + body[at]
            at += 2 + struct.unpack_from("!H", body, at)[0]
            at += 1 + body[at]
            n = struct.unpack_from("!H", body, at)[0]
            body = body[:at] + struct.pack("!H", n + len(more)) + body[at + 2:] + more
            raw = (raw[:3] + struct.pack("!H", len(body) + 4) + b"\x01" + struct.pack("!I", len(body))[1:] + body)
        return raw

    def test_a_hello_in_pieces_and_in_many_records(self):
        s = self.box("net deny; allow web.test")
        raw = self.hello("web.test")
        body = raw[5:]
        records = b"".join(raw[:3] + struct.pack("!H", len(body[i:i + 7])) + body[i:i + 7]
                           for i in range(0, len(body), 7))
        with s.connect(OTHER, 443) as c:
            for i in range(0, len(raw), 40):
                c.sendall(raw[i:i + 40])
            self.assertEqual(c.recv(1), b"\x16")
        # The server may or may not like so many records; here only who was chosen matters.
        before = len(self.hosts.resolver.asked)
        with s.connect(OTHER, 443) as c:
            c.sendall(records)
            self.assertIn(c.recv(1), (b"\x16", b"\x15"))
        self.assertEqual(len(self.hosts.resolver.asked), before)
        evil = self.hello("evil.test")[5:]
        got = s.talk(OTHER, 443, b"".join(raw[:3] + struct.pack("!H", 1) + evil[i:i + 1]
                                          for i in range(0, len(evil))), end=False)
        self.assertEqual(got[:1], b"\x15")
        self.control.denial(name="evil.test")

    def test_an_encrypted_hello_says_no_name(self):
        ech = struct.pack("!HH", 0xfe0d, 10) + bytes(10)
        s = self.box("net deny; allow web.test")
        self.assertEqual(s.talk(WEB, 443, self.hello("web.test", ech), end=False)[:1], b"\x15")
        d = self.control.denial(reason="encrypted_name")
        self.assertEqual(d["allow"], f"allow {WEB}:443")
        self.policy(s, f"net deny; allow {WEB}:443", generation=2)
        self.assertEqual(s.talk(WEB, 443, self.hello("web.test", ech), end=True)[:1], b"\x16")

    def test_tls_that_is_broken_is_refused(self):
        s = self.box("net deny; allow web.test")
        raw = self.hello("web.test")
        two = self.hello("web.test", struct.pack("!HHHBH", 0, 14, 12, 0, 9) + b"evil.test")
        for data in (raw[:40], two, b"\x16\x03\x01\x00\x01\x02", b"\x16\x03\x01\xff\xff" + bytes(100),
                     b"\x80\x2e\x01\x03\x01" + bytes(60)):
            self.assertNotEqual(s.talk(WEB, 443, data)[:1], b"\x16", data[:12])
        self.assertEqual(self.webs.got, [])


class Addresses(Case):
    def test_protected_addresses_are_refused_in_every_mode(self):
        for text in ("net public", "net public; allow 0.0.0.0/0; allow ::/0; allow *", "net deny; allow *",
                     "net public; prefer allow; allow 169.254.169.254; allow 10.0.0.0/8; allow fd00:ec2::254"):
            s = self.box(text)
            for a, as_ in ((METADATA, "metadata"), (PRIVATE, "private"), (METADATA6, "metadata"),
                           (Hosts.HOST[0], "host"), (Hosts.HOST[1], "host"), ("127.0.0.1", None),
                           ("100.80.0.250", "sandbox"), ("0.0.0.0", None), ("255.255.255.255", None),
                           ("64:ff9b::a9fe:a9fe", "metadata"), ("fd77::99", "sandbox"), ("ff02::1", None)):
                try:
                    got = s.http(a, f"[{a}]" if ":" in a else a)
                except OSError:
                    continue  # the sandbox's own kernel kept it
                self.assertNotIn("200 OK", got, (text, a))
                if as_:
                    self.assertIn("403", got, (text, a))
                    d = self.control.denial(addr=a)
                    self.assertEqual((d["reason"], d["protects"]), ("protected_address", as_))
                    self.assertTrue(d["allow"].startswith("grant "), d)
        self.nothing_arrived()

    def test_a_grant_of_the_operator_lifts_it_and_allows_nothing_by_itself(self):
        s = self.box(f"net deny; grant {PRIVATE}:80")
        self.assertIn("403", s.http(PRIVATE, PRIVATE))
        self.policy(s, f"net deny; allow {PRIVATE}; grant {PRIVATE}:80", generation=2)
        self.assertIn("private GET", s.http(PRIVATE, PRIVATE))
        # By name: the private address, and not the metadata service.
        self.policy(s, "net deny; allow *.test; grant *.test", generation=3)
        self.assertIn("private GET", s.http("8.8.8.8", "inner.test"))
        for name in ("rebind.test", "loop.test", "host.test", "neighbour.test"):
            self.assertIn("403", s.http("8.8.8.8", name), name)
        self.assertEqual(self.meta.got, [])

    def test_a_name_that_leads_inside_is_refused(self):
        s = self.box("net public; allow *.test")
        for name in ("rebind.test", "inner.test", "loop.test", "host.test", "neighbour.test"):
            rcode, found, _ = s.ask(name)
            self.assertEqual((rcode, found), (3, []), name)
            d = self.control.denial(name=name, proto="dns")
            self.assertEqual(d["reason"], "protected_address")
        for name in ("rebind6.test", "mapped.test", "nat64.test"):
            self.assertEqual(s.ask(name, 28)[:2], (3, []), name)
        # Of several addresses the public ones are told and used.
        self.assertEqual(s.ask("both.test")[:2], (0, [WEB]))
        t = self.box("net deny; allow *.test")
        self.assertIn("web GET", t.http(PRIVATE, "both.test"))
        for name in ("rebind.test", "inner.test", "host.test"):
            self.assertIn("403", t.http(WEB, name), name)
        self.assertEqual(self.meta.got + self.private.got, [])

    def test_a_name_that_is_rebound_after_it_was_allowed(self):
        s = self.box("net deny; allow moving.test")
        names = self.hosts.resolver.names
        names["moving.test"] = [WEB]
        self.assertEqual(s.ask("moving.test")[:2], (0, [WEB]))
        names["moving.test"] = [METADATA]
        # The answer is pinned as long as it is fresh; a new policy asks again.
        self.assertIn("web GET", s.http(METADATA, "moving.test"))
        self.policy(s, "net deny; allow moving.test; allow moved.test", generation=2)
        self.assertIn("403", s.http(WEB, "moving.test"))
        self.assertEqual(self.meta.got, [])

    def test_addresses_of_the_host_that_come_later_are_known(self):
        s = self.box("net public")
        self.hosts.host.run("ip", "addr", "add", "77.7.7.7/32", "dev", "lo")
        self.addCleanup(self.hosts.host.run, "ip", "addr", "del", "77.7.7.7/32", "dev", "lo")
        self.assertIn("403", s.http("77.7.7.7", "77.7.7.7"))
        self.assertEqual(self.control.denial(addr="77.7.7.7")["protects"], "host")

    def test_rules_of_addresses(self):
        s = self.box(f"net deny; allow {WEB}:80; allow 2600:5::/64; deny {WEB}:2222")
        self.assertIn("web GET", s.http(WEB, WEB))
        self.assertIn("web6 GET", s.http(WEB6, "anything"))
        self.assertIn("403", s.http(OTHER, OTHER))
        self.assertEqual(s.talk(WEB, 2222, b"x"), b"reset")
        self.assertEqual(self.control.denial(port=2222)["rule"], f"deny {WEB}:2222")
        t = self.box(f"net public; deny {OTHER}")
        self.assertIn("web GET", t.http(WEB, "whatever"))
        self.assertIn("403", t.http(OTHER, "other.test"))
        # E2B: what is allowed wins over what is denied.
        u = self.box("net deny; prefer allow; deny 0.0.0.0/0; allow web.test")
        self.assertIn("web GET", u.http(WEB, "web.test"))
        v = self.box("net deny; deny 0.0.0.0/0; deny ::/0; allow web.test")
        self.assertIn("403", v.http(WEB, "web.test"))

    def test_protocols_without_names(self):
        s = self.box("net deny; allow web.test:2222")
        # The address alone says nothing until our resolver told it.
        self.assertEqual(s.talk(WEB, 2222, b"SSH-2.0-x\r\n"), b"reset")
        self.control.denial(port=2222, reason="no_name")
        self.assertEqual(s.ask("web.test")[:2], (0, [WEB]))
        self.assertEqual(s.talk(WEB, 2222, b"SSH-2.0-x\r\n"), b"hello\r\nSSH-2.0-x\r\n")
        # The server speaks first.
        with s.connect(WEB, 2222) as c:
            self.assertEqual(c.recv(100), b"hello\r\n")
            c.sendall(b"ehlo\r\n")
            self.assertEqual(c.recv(100), b"ehlo\r\n")
        # And what then turns out to be a request for somebody else is not passed.
        with s.connect(WEB, 2222) as c:
            self.assertEqual(c.recv(100), b"hello\r\n")
            c.sendall(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
            with contextlib.suppress(OSError):
                self.assertNotIn(b"GET", c.recv(1000))
        self.control.denial(name="evil.test")
        # Ports of the web are for names only, and a rule without a port names none.
        t = self.box("net deny; allow web.test; allow web.test:80")
        t.ask("web.test")
        self.assertEqual(t.talk(WEB, 80, b"SSH-2.0-x\r\n"), b"reset")
        self.assertEqual(t.talk(WEB, 2222, b"SSH-2.0-x\r\n"), b"reset")

    def test_denied_names_in_a_public_network(self):
        s = self.box("net public; deny evil.test; deny *.evil.test")
        self.assertIn("web GET", s.http(WEB, "web.test"))
        self.assertIn("403", s.http(OTHER, "evil.test"))
        self.assertEqual(self.control.denial(name="evil.test")["rule"], "deny evil.test")
        # A lie about the name leads to who was named.
        self.assertIn("web GET", s.http(OTHER, "web.test"))
        self.assertEqual(s.ask("evil.test")[0], 3)
        self.assertEqual(s.ask("x.EVIL.test")[0], 3)
        self.assertEqual(s.ask("toevil.test")[0], 3)
        self.assertIn("403", s.http(OTHER, "toevil.test"))
        self.assertEqual(self.other.got, [])


class Dns(Case):
    def test_only_allowed_names_are_ever_asked_for(self):
        s = self.box("net deny; allow web.test; allow *.web.test:443")
        self.assertEqual(s.ask("web.test")[:2], (0, [WEB]))
        self.assertEqual(s.ask("WwW.WEB.test", server="1.2.3.4")[:2], (0, [WEB]))
        self.assertEqual(s.ask("web.test", 28, server="2600::1")[:2], (0, [WEB6]))
        self.assertEqual(s.ask("a.b.web.test", tcp=True)[:2], (0, [WEB]))
        self.hosts.resolver.asked.clear()
        for name in ("evil.test", "web.test.evil.test", "xweb.test", "c2VjcmV0.evil.test", "test"):
            rcode, found, raw = s.ask(name, edns=True)
            self.assertEqual((rcode, found), (3, []), name)
            self.assertIn(f"allow {name.lower()}".encode(), raw)
            self.assertEqual(self.control.denial(name=name.lower())["proto"], "dns")
        self.assertEqual(self.hosts.resolver.asked, [])

    def test_no_other_type_leaves_and_none_comes_back(self):
        s = self.box("net deny; allow web.test")
        for qtype in (16, 65, 64, 15, 255, 5, 2, 12, 33):
            self.assertEqual(s.ask("web.test", qtype)[:2], (0, []), qtype)
        self.assertEqual(self.hosts.resolver.asked, [])

    def test_a_host_without_ipv6_tells_no_addresses_of_it(self):
        s = self.box("net public")
        self.assertEqual(s.ask("web.test", 28)[:2], (0, [WEB6]))
        self.hosts.host.run("ip", "-6", "route", "del", "default")
        try:
            end = time.monotonic() + DEADLINE
            while s.ask("web.test", 28)[:2] != (0, []):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)
            self.assertEqual(s.ask("web.test")[:2], (0, [WEB]))
        finally:
            self.hosts.host.run("ip", "-6", "route", "add", "default", "via", WEB6)
        while s.ask("web.test", 28)[:2] != (0, [WEB6]):
            self.assertLess(time.monotonic(), end + DEADLINE)
            time.sleep(0.1)

    def test_a_chain_of_names_is_flattened(self):
        s = self.box("net deny; allow www.web.test")
        rcode, found, raw = s.ask("www.web.test")
        self.assertEqual((rcode, found), (0, [WEB]))
        self.assertEqual(struct.unpack_from("!H", raw, 6)[0], 1)

    def test_names_are_no_tunnel(self):
        s = self.box("net deny; allow *.web.test")
        for name in ("a" * 60 + ".web.test", ".".join(["abcdefgh"] * 8) + ".web.test",
                     "a9x4k2m8q7w1z5v3b6n0c9d8f.7g6h5j4k3l2p1o0r9t8y7u6i5.q2w4e6r8t0.web.test"):
            self.assertEqual(s.ask(name)[0], 3, name)
            self.assertEqual(self.control.denial(name=name)["reason"], "looks_like_a_tunnel")
        self.assertEqual(self.hosts.resolver.asked, [])
        for i in range(150):
            s.ask(f"n{i}.web.test")
        self.assertLess(len(self.hosts.resolver.asked), 140)
        t = self.box("net deny; allow *.web.test", budget={"names": 3})
        self.assertEqual([t.ask(f"m{i}.web.test", edns=True)[0] for i in range(3)], [3, 3, 3])
        self.hosts.resolver.asked.clear()
        t.ask("m9.web.test")
        d = self.control.denial(reason="budget")
        self.assertEqual((d["amount"], d["figure"], d["scope"]), ("names", 3, 1))
        self.assertEqual(self.hosts.resolver.asked, [])

    def test_messages_that_are_no_questions(self):
        s = self.box("net deny; allow web.test")
        with s.ns.inside():
            u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with u:
            u.connect(("9.9.9.9", 53))
            for m in (b"", b"x", bytes(12), b"\x12\x34\x81\x80" + bytes(8), os.urandom(600),
                      b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x3fab", b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01"):
                u.send(m)
        self.assertEqual(s.ask("web.test")[:2], (0, [WEB]))
        self.assertIsNone(self.hosts.egress.poll())

    def test_a_source_without_a_lease_gets_nothing(self):
        s = self.box("net public")
        self.control.remove(s.id)
        self.assertEqual(s.talk(WEB, 80, b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"), b"reset")
        self.control.denial(reason="no_lease", id="")
        self.nothing_arrived()


class Changes(Case):
    def test_applied_means_enforced(self):
        s = self.box("net deny; allow web.test:2222; allow other.test")
        s.ask("web.test")
        with s.connect(WEB, 2222) as keep, s.connect(OTHER, 80) as cut:
            self.assertEqual(keep.recv(100), b"hello\r\n")
            keep.sendall(b"x\n")
            self.assertEqual(keep.recv(100), b"x\n")
            cut.sendall(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
            self.assertIn(b"200", cut.recv(4096))
            n = self.policy(s, "net deny; allow web.test:2222", generation=2)
            self.assertEqual(n, 1)
            with self.assertRaises(ConnectionResetError):
                if not cut.recv(100):
                    raise AssertionError("an end, not a reset")
            keep.sendall(b"y")
            self.assertEqual(keep.recv(100), b"y")
            self.assertIn("403", s.http(OTHER, "other.test"))
            verb, text = self.control.lease(s.id, "net public\n", s.v4, s.v6, generation=1)
            self.assertEqual(verb, ERROR)
            self.assertIn("later policy", text)
            self.assertEqual(self.policy(s, "net none", generation=3), 1)

    def test_remove_cuts_everything(self):
        s = self.box("net public")
        with s.connect(WEB, 2222) as c:
            self.assertEqual(c.recv(100), b"hello\r\n")
            self.assertEqual(self.control.figures(s.id)["connections"], 1)
            self.control.remove(s.id)
            with self.assertRaises(ConnectionResetError):
                c.recv(100)

    def test_what_is_wrong_is_told(self):
        s = self.hosts.sandbox(next(_numbers))
        for text in ("", "net all\n", "net deny", "net deny\nallow\n", "net deny\nallow 10.0.0.1/8\n",
                     "net deny\nallow bad..name\n", "net deny\nallow 0x7f.1\n", "net deny\nallow x:0\n",
                     "net deny\nprefer both\n", "net deny\nallow x\nprefer allow\n", "net deny\nallow \xe4.test\n"):
            verb, why = self.control.lease(s.id, text, s.v4, s.v6)
            self.assertEqual(verb, ERROR, text)
            self.assertTrue(why, text)
        self.assertEqual(self.control.lease(s.id, "net deny\n")[0], ERROR)
        self.assertEqual(self.control.lease(s.id, "net deny\n", s.v4, s.v6)[0], APPLIED)
        self.addCleanup(self.control.remove, s.id)
        self.assertEqual(self.control.lease("x", "net deny\n", s.v4)[0], ERROR)
        # Made ahead of whoever gets it: until it has spent something it may become another tenant's.
        self.assertEqual(self.control.lease(s.id, "net deny\n", s.v4, s.v6, tenant="t2", generation=9)[0],
                         APPLIED)


class Budgets(Case):
    def test_bytes_out(self):
        s = self.box("net public", budget={"bytes_out": 100000})
        with s.connect(WEB, 2222) as c:
            with self.assertRaises(OSError):
                for _ in range(100):
                    c.sendall(b"x" * 10000)
                    while c.recv(65536)[-1:] != b"x":
                        pass
        d = self.control.denial(reason="budget")
        self.assertEqual((d["amount"], d["figure"], d["scope"]), ("bytes_out", 100000, 1))
        self.assertEqual(self.control.figures(s.id)["bytes_out"], 100000)

    def test_a_flood_of_refusals_does_not_hide_it(self):
        s = self.box(f"net deny; allow {WEB}:80", budget={"requests": 1})
        self.assertIn("200 OK", s.http(WEB, "x"))
        for i in range(200):
            with s.connect(OTHER, 1000 + i):
                pass
        self.assertEqual(s.talk(WEB, 80, b"x"), b"reset")
        while self.control.figures(s.id)["denied"] < 201:  # a connection that only opened is seen a moment later
            time.sleep(0.01)
        told = self.control.denials
        self.assertEqual([d["figure"] for d in told if d["reason"] == "budget"], [1])
        self.assertLess(len(told), 180)
        # What was not told was counted, and is told with the next.
        end = time.monotonic() + DEADLINE
        while sum(1 + d["lost"] + d["repeats"] for d in told) < 202 and time.monotonic() < end:
            with s.connect(OTHER, 2000):
                pass
            self.control.figures(s.id)
            time.sleep(0.05)
        self.assertGreaterEqual(sum(1 + d["lost"] + d["repeats"] for d in told), 202)

    def test_requests_for_one_destination_and_of_a_tenant(self):
        s = self.box("net deny; allow web.test; allow other.test", dest={"requests": 2}, tenant="few",
                     tenant_budget={"requests": 5})
        for _ in range(2):
            self.assertIn("200 OK", s.http(WEB, "web.test"))
        got = s.http(WEB, "web.test")
        self.assertIn("403", got)
        self.assertIn("The budget of 2 requests is used up", got)
        self.assertEqual(self.control.denial(reason="budget")["scope"], 2)
        self.assertIn("200 OK", s.http(OTHER, "other.test"))
        t = self.box("net deny; allow web.test", tenant="few", tenant_budget={"requests": 5})
        self.assertIn("200 OK", t.http(WEB, "web.test"))
        self.assertIn("200 OK", t.http(WEB, "web.test"))
        self.assertIn("403", t.http(WEB, "web.test"))
        self.assertEqual(self.control.denial(reason="budget")["scope"], 3)
        self.assertEqual(len(self.web.got), 4)
        self.assertEqual(self.control.lease(t.id, "net public\n", t.v4, t.v6, tenant="t2", generation=9)[0], ERROR)

    def test_connections_at_a_time_and_per_second(self):
        s = self.box("net public", connections=3)
        with contextlib.ExitStack() as stack:
            some = [stack.enter_context(s.connect(WEB, 2222)) for _ in range(3)]
            for c in some:
                self.assertEqual(c.recv(100), b"hello\r\n")
            self.assertEqual(s.talk(WEB, 2222, b"x"), b"reset")
            self.control.denial(reason="rate")
        t = self.box("net public", connects=5)
        ends = [t.talk(WEB, 80, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[:8] for _ in range(40)]
        self.assertIn(b"reset", [e[:5] for e in ends])
        self.assertIn(b"HTTP/1.1", ends)

    def test_bandwidth(self):
        s = self.box("net public", rate_out=2_000_000)
        sink = self.hosts.server(THIRD, 9000, lambda server, conn: [None for _ in iter(lambda: conn.recv(65536), b"")])
        self.addCleanup(sink.got.clear)
        with s.connect(THIRD, 9000) as c:
            begin = time.monotonic()
            c.sendall(b"x" * 6_000_000)
            c.shutdown(socket.SHUT_WR)
            self.assertEqual(c.recv(1), b"")
            took = time.monotonic() - begin
        self.assertGreater(took, 2.0)
        self.assertEqual(self.control.figures(s.id)["bytes_out"], 6_000_000)


class Tproxy(unittest.TestCase):
    """The same with packet rules that track no connection."""

    def test_everything_comes_and_goes(self):
        h = Hosts(tproxy=True)
        self.addCleanup(h.close)
        servers = [h.server(WEB, 80, web("web")), h.server(WEB6, 80, web("web6")), h.server(OTHER, 80, web("other"))]
        h.resolver.names = {"web.test": [WEB, WEB6]}
        s = h.sandbox(1)
        self.assertEqual(h.control.lease(s.id, f"net deny\nallow web.test\nallow {OTHER}\n", s.v4, s.v6)[0], APPLIED)
        for server in ("9.9.9.9", "2600:5::53", "100.79.0.1"):
            self.assertEqual(s.ask("web.test", server=server)[:2], (0, [WEB]))
            self.assertEqual(s.ask("web.test", 28, server=server, tcp=True)[:2], (0, [WEB6]))
            self.assertEqual(s.ask("evil.test", server=server)[0], 3)
        self.assertIn("web GET", s.http("8.8.8.8", "web.test"))
        self.assertIn("web6 GET", s.http("2600::8", "web.test"))
        self.assertIn("other GET", s.http(OTHER, "x"))
        self.assertIn("403", s.http(WEB, "evil.test"))
        self.assertIn("403", s.http(METADATA6, "[fd00:ec2::254]"))
        d = h.control.denial(addr=METADATA6)
        self.assertEqual((d["protects"], d["allow"]), ("metadata", f"grant [{METADATA6}]:80"))
        self.assertEqual(len(servers[0].got), 1)


class Process(Case):
    def test_what_it_may(self):
        status = pathlib.Path(f"/proc/{self.hosts.egress.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        uid = str(0x70000002)
        self.assertEqual(set(fields["Uid"].split()) | set(fields["Gid"].split()), {uid})
        self.assertEqual(fields["Groups"].strip(), "")
        for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(fields[caps], 16), 0)
        self.assertEqual((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"))

    def test_large_transfers_are_whole_in_both_directions_and_half_closed(self):
        s = self.box("net deny; allow web.test:2222")
        s.ask("web.test")
        data = os.urandom(1 << 20) * 8
        with s.connect(WEB, 2222) as c:
            self.assertEqual(c.recv(7), b"hello\r\n")
            t = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
            t.start()
            got = bytearray()
            while True:
                more = c.recv(1 << 18)
                if not more:
                    break
                got += more
            t.join()
        self.assertEqual(len(got), len(data))
        self.assertTrue(bytes(got) == data)

    def test_nothing_is_left_of_two_thousand_connections_that_were_refused(self):
        s = self.box("net deny", connections=100)
        fds = f"/proc/{self.hosts.egress.pid}/fd"
        before = len(os.listdir(fds))
        for i in range(2000):
            with s.connect(WEB, 1 + i % 50):
                pass
        end = time.monotonic() + DEADLINE
        while len(os.listdir(fds)) > before + 2 and time.monotonic() < end:
            time.sleep(0.05)
        self.assertLessEqual(len(os.listdir(fds)), before + 2)
        self.assertEqual(self.control.figures(s.id)["connections"], 0)


class End(unittest.TestCase):
    def test_it_ends_with_its_channel(self):
        h = Hosts()
        self.addCleanup(h.close)
        s = h.sandbox(250)
        h.control.lease(s.id, "net public\n", s.v4, s.v6)
        h.control.sock.close()
        self.assertEqual(h.egress.wait(DEADLINE), 0)

    def test_usage(self):
        egress = str(egresshosts.brigtest.build_dir() / "brig-egress")
        for args in ((), ("--control-fd", "0"), ("--control-fd", "9"), ("--resolver", "nope"), ("--sandbox-net", "1.2.3.4/8")):
            done = subprocess.run([egress, *args], capture_output=True, check=False)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(b"usage: brig-egress", done.stderr)


if __name__ == "__main__":
    unittest.main()
