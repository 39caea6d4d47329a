# SPDX-License-Identifier: Apache-2.0
"""A small internet made of network namespaces, and brig-egress in the middle of it.

    sandbox n --veth-- gateway (packet rules, the sockets that brig-egress is given)
                                        brig-egress, in `host`
                       host ----veth-- net (a resolver, web servers, a metadata service, ..)

There is no way for a packet from the gateway to the host. The namespaces have no names: they are gone
with the last descriptor. The test plays brigd (struct Control) and brig-jaild (class Hosts). Servers
are threads of the test whose sockets were opened in `net`.
"""

import contextlib
import ctypes
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import brigtest

CLONE_NEWNET = 0x40000000
NO_LIMIT = (1 << 64) - 1
libc = ctypes.CDLL(None, use_errno=True)
DEADLINE = 20 * brigtest.SLOW


def _call(fn, *args):
    if fn(*args) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Netns:
    def __init__(self):
        found = []

        def make():
            try:
                _call(libc.unshare, CLONE_NEWNET)
                found.append(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net",
                                     os.O_RDONLY | os.O_CLOEXEC))
            except OSError as e:
                found.append(e)
        t = threading.Thread(target=make)
        t.start()
        t.join()
        if isinstance(found[0], OSError):
            raise unittest.SkipTest(f"no network namespaces: {found[0]}")
        self.fd = found[0]
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace."""
        own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _call(libc.setns, self.fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _call(libc.setns, own, CLONE_NEWNET)
            os.close(own)

    def popen(self, *args, **kw):
        return subprocess.Popen(args, preexec_fn=lambda: _call(libc.setns, self.fd, CLONE_NEWNET), **kw)

    def run(self, *args, text=None):
        p = self.popen(*args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = p.communicate(text)
        if p.returncode:
            raise AssertionError(f"{args}: {out}")
        return out

    def close(self):
        os.close(self.fd)


# ---- include/brig/egress_proto.h ----
LEASE, REMOVE, ASK = 1, 2, 3
READY, APPLIED, ERROR, FIGURES, GONE, DENIAL = range(64, 70)
AMOUNTS = ("bytes_out", "bytes_in", "requests", "names")
REASONS = ("not_allowed", "denied_by_rule", "protected_address", "no_name", "encrypted_name", "names_differ",
           "malformed", "name_not_found", "looks_like_a_tunnel", "rate", "budget", "no_lease", "upgrade")
PROTOS = ("tcp", "tls", "http", "dns")
LEASE_F = struct.Struct("=II24s64sQ4s16sIQQQQ4Q4Q4Q4Q4QII")
REF_F = struct.Struct("=II24s")
APPLIED_F = struct.Struct("=II24sQQ")
ERROR_F = struct.Struct("=II24sII384s256s")
FIGURES_F = struct.Struct("=II24sQ4Q4QQQ")
DENIAL_F = struct.Struct("=II24s64sQQIIII16sIIQQQ16s24s256s288s288s")


def _text(b):
    return b.split(b"\0")[0].decode()


def _addr(b):
    if b[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, b[12:])
    return socket.inet_ntop(socket.AF_INET6, b)


class Control:
    """brigd's end of the channel."""

    def __init__(self):
        self.sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.seq = 0
        self.denials = []
        self.why = lambda: "" # what is known about an end of brig-egress

    def recv(self, timeout=DEADLINE):
        """(verb, seq, fields); records of refusals are put aside."""
        end = time.monotonic() + timeout
        while True:
            if not select.select([self.sock], [], [], max(0, end - time.monotonic()))[0]:
                return None
            m = self.sock.recv(1 << 17)
            if not m:
                raise AssertionError("brig-egress has ended: " + self.why())
            verb, seq = struct.unpack_from("=II", m)
            if verb != DENIAL:
                return verb, seq, m
            f = DENIAL_F.unpack(m)
            self.denials.append({
                "id": _text(f[2]), "tenant": _text(f[3]), "time_ms": f[4], "generation": f[5],
                "reason": REASONS[f[6]], "proto": PROTOS[f[7]], "scope": f[8], "qtype": f[9], "addr": _addr(f[10]),
                "port": f[11], "source_port": f[12], "figure": f[13], "repeats": f[14], "lost": f[15],
                "amount": _text(f[16]), "protects": _text(f[17]), "name": _text(f[18]), "rule": _text(f[19]),
                "allow": _text(f[20])})

    def ask(self, message):
        try:
            self.sock.send(message)
        except BrokenPipeError as e:
            raise AssertionError("brig-egress has ended: " + self.why()) from e
        while True:
            got = self.recv()
            if got is None:
                raise AssertionError("brig-egress does not answer")
            if got[1] == self.seq:
                return got

    def lease(self, sid, text, v4="", v6="", tenant="t1", generation=1, connections=1000, connects=NO_LIMIT,
              rate_out=NO_LIMIT, rate_in=NO_LIMIT, budget=None, dest=None, tenant_budget=None):
        """(verb, answer): APPLIED with the number of connections cut, or ERROR with its text."""
        self.seq += 1
        amounts = []
        for one in (budget, dest, tenant_budget):
            amounts += [(one or {}).get(a, NO_LIMIT) for a in AMOUNTS]
        raw = text.encode()
        v, _, m = self.ask(LEASE_F.pack(
            LEASE, self.seq, sid.encode(), tenant.encode(), generation,
            socket.inet_pton(socket.AF_INET, v4) if v4 else bytes(4),
            socket.inet_pton(socket.AF_INET6, v6) if v6 else bytes(16), 0, connections, connects, rate_out,
            rate_in, *amounts, *([0] * 8), len(raw), 0) + raw)
        if v == ERROR:
            return v, _text(ERROR_F.unpack(m)[5])
        return v, APPLIED_F.unpack(m)[4]

    def figures(self, sid):
        self.seq += 1
        v, _, m = self.ask(REF_F.pack(ASK, self.seq, sid.encode()))
        if v != FIGURES:
            raise AssertionError(ERROR_F.unpack(m))
        f = FIGURES_F.unpack(m)
        return dict(zip(AMOUNTS, f[4:8])) | {"connections": f[12], "denied": f[13]}

    def remove(self, sid):
        self.seq += 1
        v, _, _ = self.ask(REF_F.pack(REMOVE, self.seq, sid.encode()))
        while v != GONE:
            v, _, _ = self.recv()

    def denial(self, **want):
        """The next record that has these fields; what came before it is dropped."""
        end = time.monotonic() + DEADLINE
        seen = []
        while time.monotonic() < end:
            while self.denials:
                d = self.denials.pop(0)
                seen.append(d)
                if all(d[k] == v for k, v in want.items()):
                    return d
            if self.recv(0.2) is not None:
                raise AssertionError("an answer that nobody asked for")
        raise AssertionError(f"no record with {want}; there were {seen}")


# ---- servers ----
class Server:
    """A thread per connection; handle(conn) may raise."""

    def __init__(self, ns, address, port, handle, tls=None):
        self.got = []
        v6 = ":" in address
        with ns.inside():
            self.sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((address, port))
            self.sock.listen(64)
        self.handle, self.tls = handle, tls
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn):
        with contextlib.suppress(OSError), conn:
            conn.settimeout(60)
            if self.tls:
                with self.tls.wrap_socket(conn, server_side=True) as c:
                    self.handle(self, c)
            else:
                self.handle(self, conn)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def head_of(conn, data=b""):
    while b"\r\n\r\n" not in data:
        more = conn.recv(65536)
        if not more:
            return None, data
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def web(label):
    """Answers each request with the label, the request line and the host; keeps the connection."""
    def handle(server, conn):
        rest = b""
        while True:
            head, rest = head_of(conn, rest)
            if head is None:
                return
            lines = head.decode().split("\r\n")
            fields = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}
            server.got.append(lines[0] + " " + fields.get("host", ""))
            length = int(fields.get("content-length", 0))
            while len(rest) < length:
                rest += conn.recv(65536)
            rest = rest[length:]
            body = f"{label} {lines[0]} {fields.get('host', '')} {length}".encode()
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return handle


def echo(greeting=b""):
    def handle(server, conn):
        if greeting:
            conn.sendall(greeting)
        while True:
            data = conn.recv(65536)
            if not data:
                return
            server.got.append(data)
            conn.sendall(data)
    return handle


class Resolver:
    """Authoritative for what `names` says: {name: [addresses]} or {name: "cname"}."""

    def __init__(self, ns, address):
        self.names, self.asked = {}, []
        with ns.inside():
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.sock.close()

    def _serve(self):
        while True:
            try:
                q, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            with contextlib.suppress(IndexError, struct.error):
                self.sock.sendto(self.answer(q), peer)

    @staticmethod
    def pack(name):
        return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"

    def answer(self, q):
        at, labels = 12, []
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode())
            at += 1 + q[at]
        name = ".".join(labels)
        qtype = struct.unpack_from("!H", q, at + 1)[0]
        self.asked.append((name, qtype))
        records, count, rcode = b"", 0, 0
        while isinstance(self.names.get(name), str):
            target = self.names[name]
            rdata = self.pack(target)
            records += self.pack(name) + struct.pack("!HHIH", 5, 1, 60, len(rdata)) + rdata
            count += 1
            name = target
        if name not in self.names and not count:
            rcode = 3
        for a in self.names.get(name, []):
            v6 = ":" in a
            if qtype == (28 if v6 else 1):
                rdata = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, a)
                records += self.pack(name) + struct.pack("!HHIH", qtype, 1, 60, len(rdata)) + rdata
                count += 1
        return q[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, count, 0, 0) + q[12:at + 5] + records


# ---- the whole ----
RULES = """
table inet gw {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "g*" meta l4proto tcp redirect to :15001
    iifname "g*" udp dport 53 redirect to :53
  }
  chain in {
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    meta l4proto ipv6-icmp accept
    ct status dnat accept
  }
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""
# The other way to bring everything here: no connection tracking, and every address is the gateway's own.
TPROXY = """
table inet gw {
  chain pre {
    type filter hook prerouting priority mangle; policy accept;
    iifname "g*" meta nfproto ipv4 meta l4proto tcp tproxy ip to :15001 accept
    iifname "g*" meta nfproto ipv4 udp dport 53 tproxy ip to :53 accept
    iifname "g*" meta nfproto ipv6 meta l4proto tcp tproxy ip6 to :15001 accept
    iifname "g*" meta nfproto ipv6 udp dport 53 tproxy ip6 to :53 accept
    iifname "g*" meta l4proto != ipv6-icmp drop
  }
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""
SANDBOX4, SANDBOX6 = "100.80.0.", "fd77::"


class Sandbox:
    def __init__(self, hosts, n):
        self.ns = Netns()
        self.v4, self.v6 = f"{SANDBOX4}{n}", f"{SANDBOX6}{n}"
        self.id = f"{n:0>16}"
        gw = hosts.gateway
        gw.run("ip", "link", "add", f"g{n}", "type", "veth", "peer", "name", "eth0", "netns", self.ns.path)
        gw.run("ip", "addr", "add", "100.79.0.1/32", "dev", f"g{n}")
        gw.run("ip", "-6", "addr", "add", "fd76::1/128", "dev", f"g{n}", "nodad")
        gw.run("ip", "link", "set", f"g{n}", "up")
        gw.run("ip", "route", "add", f"{self.v4}/32", "dev", f"g{n}")
        gw.run("ip", "-6", "route", "add", f"{self.v6}/128", "dev", f"g{n}")
        s = self.ns
        s.run("ip", "addr", "add", f"{self.v4}/32", "dev", "eth0")
        s.run("ip", "-6", "addr", "add", f"{self.v6}/128", "dev", "eth0", "nodad")
        s.run("ip", "link", "set", "eth0", "up")
        s.run("ip", "route", "add", "100.79.0.1", "dev", "eth0")
        s.run("ip", "route", "add", "default", "via", "100.79.0.1")
        s.run("ip", "-6", "route", "add", "fd76::1", "dev", "eth0")
        s.run("ip", "-6", "route", "add", "default", "via", "fd76::1")

    def connect(self, address, port):
        with self.ns.inside():
            c = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        c.settimeout(DEADLINE)
        try:
            c.connect((address, port))
        except OSError:
            c.close()
            raise
        return c

    def talk(self, address, port, data, end=True):
        """Everything that comes back; b"reset" behind it where that is how it ended."""
        try:
            c = self.connect(address, port)
        except ConnectionResetError:
            return b"reset"
        with c:
            got = b""
            try:
                c.sendall(data)
                if end:
                    with contextlib.suppress(OSError):  # it may be gone already: that shows below
                        c.shutdown(socket.SHUT_WR)
                while True:
                    more = c.recv(65536)
                    if not more:
                        return got
                    got += more
            except (ConnectionResetError, BrokenPipeError):
                return got + b"reset"

    def http(self, address, host, path="/", port=80, extra=""):
        return self.talk(address, port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n"
                         .encode()).decode()

    def tls(self, address, name, port=443, data=b""):
        """What the other side says behind TLS; an SSLError or ConnectionError otherwise."""
        ctx = ssl.create_default_context()
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        with self.connect(address, port) as c, ctx.wrap_socket(c, server_hostname=name) as t:
            t.sendall(data or f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            return t.recv(65536).decode()

    def ask(self, name, qtype=1, server="9.9.9.9", edns=False, tcp=False):
        """(rcode, addresses, everything), as a resolver library sees it."""
        q = (b"\x12\x34\x01\0\0\x01\0\0\0\0\0" + (b"\x01" if edns else b"\0") + Resolver.pack(name) +
             struct.pack("!HH", qtype, 1) + (b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if edns else b""))
        if tcp:
            with self.connect(server, 53) as c:
                c.sendall(struct.pack("!H", len(q)) + q)
                m = c.recv(4096)[2:]
        else:
            with self.ns.inside():
                s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
            with s:
                s.settimeout(DEADLINE)
                s.connect((server, 53))
                s.send(q)
                m = s.recv(4096)
        rcode, count = m[3] & 15, struct.unpack_from("!H", m, 6)[0]
        at, found = 12 + len(Resolver.pack(name)) + 4, []
        for _ in range(count):
            kind, _, _, n = struct.unpack_from("!HHIH", m, at + 2)
            raw = m[at + 12:at + 12 + n]
            found.append(socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, raw))
            at += 12 + n
        return rcode, found, m

    def close(self):
        self.ns.close()


class Hosts:
    """Everything, for a class of tests."""

    PUBLIC = ("45.0.0.10", "45.0.0.11", "45.0.0.12", "2600:5::10", "2600:5::11")
    PRIVATE = ("10.9.0.5", "169.254.169.254", "fd00:ec2::254")
    RESOLVER = "45.0.0.53"
    HOST = ("45.0.0.1", "2600:5::1")

    def __init__(self, tproxy=False):
        self.tproxy = tproxy
        brigtest.need_root()
        for program in ("ip", "nft", "openssl"):
            brigtest.need_program(program)
        self.undo = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self.undo.close()
            raise

    def _ns(self):
        ns = Netns()
        self.undo.callback(ns.close)
        return ns

    def _build(self):
        self.gateway, self.host, self.net = self._ns(), self._ns(), self._ns()
        h, n = self.host, self.net
        h.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", n.path)
        h.run("ip", "addr", "add", "45.0.0.1/24", "dev", "up0")
        h.run("ip", "-6", "addr", "add", "2600:5::1/64", "dev", "up0", "nodad")
        h.run("ip", "link", "set", "up0", "up")
        for a in (*self.PUBLIC, *self.PRIVATE, self.RESOLVER):
            v6 = ":" in a
            where = a + ("/64" if a.startswith("2600") else "/128" if v6 else "/24" if a.startswith("45.") else "/32")
            n.run("ip", "-6" if v6 else "-4", "addr", "add", where, "dev", "eth0", *(["nodad"] if v6 else []))
        n.run("ip", "link", "set", "eth0", "up")
        h.run("ip", "route", "add", "default", "via", "45.0.0.10")
        h.run("ip", "-6", "route", "add", "default", "via", "2600:5::10")
        if self.tproxy:
            self.gateway.run("ip", "route", "add", "local", "default", "dev", "lo", "table", "main")
            self.gateway.run("ip", "-6", "route", "add", "local", "default", "dev", "lo", "table", "main")
        try:
            self.gateway.run("nft", "-f", "-", text=TPROXY if self.tproxy else RULES)
        except AssertionError as e:
            raise unittest.SkipTest(f"no packet rules here: {e}") from e
        self.cert = brigtest.SCRATCH / "egress.pem"
        if not self.cert.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-subj", "/CN=test", "-days", "2", "-keyout", str(self.cert), "-out",
                            str(self.cert) + ".crt"], check=True, capture_output=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(str(self.cert) + ".crt", str(self.cert))
        self.resolver = Resolver(n, self.RESOLVER)
        self.undo.callback(self.resolver.close)
        self.control = Control()
        self.start()

    def start(self, *more):
        fds = {}
        with self.gateway.inside():
            for family, digit, any_ in ((socket.AF_INET, 4, "0.0.0.0"), (socket.AF_INET6, 6, "::")):
                t, u = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    for s in (t, u):
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                for s in (t, u):
                    if self.tproxy:  # IP_TRANSPARENT, IPV6_TRANSPARENT
                        s.setsockopt(*((socket.IPPROTO_IPV6, 75) if family == socket.AF_INET6
                                       else (socket.IPPROTO_IP, 19)), 1)
                t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                t.bind((any_, 15001))
                t.listen(512)
                u.bind((any_, 53))
                fds[f"--tcp{digit}-fd"], fds[f"--udp{digit}-fd"] = t, u
        fds["--control-fd"] = self.control.theirs
        args = [str(brigtest.build_dir() / "brig-egress"), "--resolver", self.RESOLVER, "--sandbox-net",
                "100.80.0.0/16", "--sandbox-net", "fd77::/64", *more]
        for k, s in fds.items():
            args += [k, str(s.fileno())]
        self.log = open(brigtest.SCRATCH / f"egress-{id(self)}.log", "w+b")
        self.egress = self.host.popen(*args, pass_fds=[s.fileno() for s in fds.values()], stderr=self.log)
        for s in fds.values():
            s.close()
        self.control.why = lambda: f"{self.egress.wait(DEADLINE)} {self.log_text()}"
        self.undo.callback(self.stop)
        got = self.control.recv()
        if not got or got[0] != READY:
            raise AssertionError("brig-egress does not start: " + self.log_text())

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode()

    def stop(self):
        """The end of the channel ends it; its exit code."""
        self.control.sock.close()
        try:
            return self.egress.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.egress.kill()
            self.egress.wait()
            raise
        finally:
            self.log.close()

    def sandbox(self, n):
        s = Sandbox(self, n)
        self.undo.callback(s.close)
        return s

    def server(self, address, port, handle, tls=False):
        s = Server(self.net, address, port, handle, self.tls if tls else None)
        self.undo.callback(s.close)
        return s

    def close(self):
        self.undo.close()


