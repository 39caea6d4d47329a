# SPDX-License-Identifier: Apache-2.0
"""Many clients at once, and hostile ones: a thousand streams, a hundred requests that mean the same, slow
readers and writers, and requests that no honest client sends."""

import collections
import json
import os
import re
import resource
import selectors
import socket
import sys
import threading
import time
import unittest

import brigtest
from brigtest import KIB, MIB, wait_until
from e2bwire import CONNECT, Box, PlaneCase, Ran, message

STREAMS = 1000
# Of a stream that is open and quiet, and of what load may leave behind in the allocator.
STREAM_MAX = 96 * KIB  # a connection's buffer is 64 KiB, used as it fills
FLAT = 24 * MIB
# One way into a sandbox holds 256 connections (BRIG_TCP_MAX).
BOXES = 5

# Answers every connection when its whole request has come and the file exists.
HOLDER = """
import asyncio, os
async def one(r, w):
    await r.readuntil(b"\\r\\n\\r\\n")
    with open("/tmp/held", "a") as f:
        f.write(".")
    while not os.path.exists("/tmp/go"):
        await asyncio.sleep(0.2)
    w.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\nheld")
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(one, "127.0.0.1", 8000, backlog=512)
    print("ready", flush=True)
    await s.serve_forever()
asyncio.run(main())
"""


def need_descriptors(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < n:
        raise unittest.SkipTest(f"the hard limit of descriptors is {hard}, and this needs {n}")
    if soft != resource.RLIM_INFINITY and soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


class LoadCase(PlaneCase):
    def rss(self, peak=False):
        with open(f"/proc/{self.api_pid()}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmHWM:" if peak else "VmRSS:"):
                    return int(line.split()[1]) * KIB
        raise AssertionError("brig-api has no memory")

    def own(self, method, path, body=None):
        """(status, JSON) of brig's own routes."""
        status, _, data = self.ask(method, path, None if body is None else json.dumps(body).encode(),
                                   {"X-API-Key": self.key, "Content-Type": "application/json"})
        return status, json.loads(data) if data else None

    def others_are_served(self):
        status, answer = self.own("POST", "/v1/run", {"image": "host", "cmd": ["echo", "hello"]})
        self.assertEqual((status, answer["stdout"]), (200, "hello\n"), answer)

    def at_once(self, n, ask):
        """Results of n threads that begin together."""
        results, gate = [None] * n, threading.Barrier(n)

        def one(i):
            try:
                gate.wait(60)
                results[i] = ask(i)
            except Exception as e:  # told as the result
                results[i] = e
        threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return results

    def state_memory(self, what, n, before, now):
        per = max(0, now - before) // n
        print(f"{what}: {n} open, brig-api {before // KIB} -> {now // KIB} KiB, {per // KIB} KiB each",
              file=sys.stderr)
        self.assertLess(per, STREAM_MAX)


class Streams(LoadCase):
    def setUp(self):
        super().setUp()
        need_descriptors(STREAMS + 512)

    def request(self, head, body=b""):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=60 * brigtest.SLOW)
        self.addCleanup(s.close)
        s.sendall(head + body)
        return s

    def read_all(self, sockets, until):
        """What each got, read side by side until `until` says that it is complete."""
        got = {s: bytearray() for s in sockets}
        with selectors.DefaultSelector() as waiting:
            for s in sockets:
                s.setblocking(False)
                waiting.register(s, selectors.EVENT_READ)
            end = time.monotonic() + 120 * brigtest.SLOW
            while waiting.get_map():
                self.assertLess(time.monotonic(), end, f"{len(waiting.get_map())} are not complete")
                for key, _ in waiting.select(5):
                    data = key.fileobj.recv(65536)
                    got[key.fileobj] += data
                    if not data or until(got[key.fileobj]):
                        waiting.unregister(key.fileobj)
        return got

    def head(self, method, path, headers, length=None):
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{k}: {v}" for k, v in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def test_a_thousand_listeners_of_one_command(self):
        box = Box(self)
        pid, first = box.started("/bin/sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.2; done; "
                                 "echo all; exit 7", stdin=False)
        before = self.rss()
        body = message({"process": {"pid": pid}})
        head = self.head("POST", "/" + CONNECT, box.headers(Content_Type="application/connect+json"),
                         len(body))
        streams = [self.request(head, body) for _ in range(STREAMS)]
        self.read_all(streams, lambda got: b'"start"' in got)
        self.state_memory("listeners", STREAMS, before, self.rss())
        self.others_are_served()
        self.assertEqual(box.put("/tmp/go", b"")[0], 200)
        got = self.read_all(streams, lambda g: b'"end"' in g and g.endswith(b"0\r\n\r\n"))
        for data in got.values():
            self.assertIn(b'"YWxsCg=="', data)  # all\n
            self.assertIn(b'"exitCode":7', data)
        self.assertEqual(Ran(first).end["exitCode"], 7)

    def test_a_thousand_requests_to_servers_inside(self):
        boxes = [Box(self) for _ in range(BOXES)]
        for box in boxes:
            self.assertEqual(box.put("/tmp/holder.py", HOLDER.encode())[0], 200)
            _, stream = box.started("/usr/bin/python3", "/tmp/holder.py", stdin=False)
            self.assertIn("data", stream.next()["event"])
            self.addCleanup(stream.close)
        before = self.rss()
        held = [self.request(self.head("GET", "/", boxes[i % BOXES].headers(port=8000)))
                for i in range(STREAMS)]
        for box in boxes:
            wait_until("all have reached their server",
                       lambda b=box: len(b.get("/tmp/held")[2]) == STREAMS // BOXES, timeout=60,
                       explain=lambda b=box: str(len(b.get("/tmp/held")[2])))
        self.state_memory("proxied", STREAMS, before, self.rss())
        self.others_are_served()
        for box in boxes:
            self.assertEqual(box.put("/tmp/go", b"")[0], 200)
        got = self.read_all(held, lambda g: g.endswith(b"held"))
        for data in got.values():
            self.assertTrue(data.startswith(b"HTTP/1.1 200"), data[:200])
            self.assertTrue(data.endswith(b"held"), data[-100:])

    def test_a_thousand_clients_that_vanish_leave_nothing(self):
        box = Box(self)
        pid, first = box.started("/bin/sleep", "1000", stdin=False)
        body = message({"process": {"pid": pid}})
        head = self.head("POST", "/" + CONNECT, box.headers(Content_Type="application/connect+json"),
                         len(body))
        descriptors = f"/proc/{self.api_pid()}/fd"
        before = len(os.listdir(descriptors))
        for _ in range(2):
            streams = [self.request(head, body) for _ in range(STREAMS)]
            self.read_all(streams, lambda got: b'"start"' in got)
            for s in streams:
                s.close()
            wait_until("their descriptors are closed",
                       lambda: len(os.listdir(descriptors)) <= before + 8, timeout=30)
            memory = self.rss()
            # They were listeners: the command lives.
            self.assertEqual(box.rpc("process.Process/List", {})[1]["processes"][0]["pid"], pid)
        self.assertLess(self.rss() - memory, FLAT)
        first.close()
        self.others_are_served()


class Parallel(LoadCase):
    N = 100

    def count(self, results):
        for r in results:
            if isinstance(r, Exception):
                raise r
        return collections.Counter(r[0] for r in results)

    def test_of_a_hundred_deletes_one_removes(self):
        box = Box(self)
        results = self.at_once(self.N, lambda i: self.own("DELETE", f"/sandboxes/{box.id}"))
        self.assertEqual(self.count(results), {204: 1, 404: self.N - 1})
        for status, answer in results:
            if status == 404:
                self.assertEqual(answer["error_code"], "not_found", answer)
        self.assertEqual(self.own("GET", f"/sandboxes/{box.id}")[0], 404)

    def test_of_a_hundred_pauses_one_pauses(self):
        box = Box(self)
        results = self.at_once(self.N, lambda i: self.own("POST", f"/sandboxes/{box.id}/pause"))
        self.assertEqual(self.count(results), {204: 1, 409: self.N - 1})
        self.assertEqual(self.own("GET", f"/sandboxes/{box.id}")[1]["state"], "paused")
        self.assertEqual(self.own("POST", f"/sandboxes/{box.id}/connect", {"timeout": 60})[0], 201)
        self.assertEqual(box.sh("echo alive").out, b"alive\n")

    def test_a_hundred_commands_run_once_each(self):
        box = Box(self)
        results = self.at_once(self.N, lambda i: box.start(
            "/bin/sh", "-c", f"echo {i} >>/tmp/all; echo {i}; exit {i}", stdin=False))
        for i, stream in enumerate(results):
            if isinstance(stream, Exception):
                raise stream
            ran = Ran(stream)
            self.assertEqual((ran.out, ran.end["exitCode"]), (b"%d\n" % i, i))
        numbers = sorted(map(int, box.get("/tmp/all")[2].split()))
        self.assertEqual(numbers, list(range(self.N)))

    def test_a_hundred_runs_with_one_idempotency_key_run_once(self):
        body = json.dumps({"image": "host", "cmd": ["cat", "/proc/sys/kernel/random/uuid"]}).encode()
        headers = {"X-API-Key": self.key, "Idempotency-Key": f"load-{os.getpid()}"}
        results = self.at_once(self.N, lambda i: self.ask("POST", "/v1/run", body, headers))
        self.assertEqual(self.count(results), {200: self.N})
        self.assertEqual(len({json.loads(r[2])["stdout"] for r in results}), 1)


class Slow(LoadCase):
    def test_a_reader_of_events_that_does_not_read_holds_the_command(self):
        writer = ("import os\nn = 0\nblock = b'x' * 65535 + b'\\n'\n"
                  "while n < 4096:\n    os.write(1, block)\n    n += 1\n"
                  "    open('/tmp/n', 'w').write(str(n))\n")
        c = self.connection()
        c.request("POST", "/v1/run",
                  json.dumps({"image": "host", "cmd": ["python3", "-c", writer],
                              "limits": {"max-output": "none"}}),
                  {"X-API-Key": self.key, "Accept": "application/x-ndjson"})
        answer = c.getresponse()
        box = json.loads(answer.readline())["id"]
        brig = self.server.brig
        before = self.rss()

        def written():
            done = brig.call("exec", box, "--", "cat", "/tmp/n")
            return int(done.text or 0) if done.code == 0 else 0
        last = wait_until("it has written", written)
        # It stops: three looks in a row see the same.
        same = 0
        end = time.monotonic() + 60 * brigtest.SLOW
        while same < 3:
            self.assertLess(time.monotonic(), end, f"it goes on, and is at {last}")
            time.sleep(0.5)
            now = written()
            same, last = (same + 1 if now == last else 0), now
        self.assertLess(last, 4096 // 4, "a quarter of what it wants to write")
        self.assertLess(self.rss() - before, FLAT)
        total = 0
        for line in answer:
            event = json.loads(line)
            total += len(event.get("data", "")) if event["type"] == "stdout" else 0
        self.assertEqual(event["type"], "exit")
        self.assertEqual(event["exit_code"], 0)
        self.assertEqual(total, 4096 * 65536)
        self.assertLess(self.rss() - before, FLAT)

    def test_slow_clients_hold_nobody_up(self):
        need_descriptors(1024)
        before = self.rss()
        slow = []
        for i in range(400):
            s = self.socket()
            s.sendall((b"POST /v1/run HTTP/1.1\r\nHost: a\r\nX-A", b"P",
                       b"POST /v1/run HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")[i % 3])
            slow.append(s)
        for _ in range(3):
            self.others_are_served()
        self.assertLess(self.rss() - before, 400 * STREAM_MAX)
        for s in slow:
            s.close()
        self.others_are_served()


class Hostile(LoadCase):
    def exchange(self, data):
        """(status or None, everything that came) of a connection on which that was sent and that the
        server then closes."""
        s = self.socket()
        got = b""
        try:
            s.sendall(data)
            while piece := s.recv(65536):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        finally:
            s.close()
        return int(got.split(b" ")[1]) if got.startswith(b"HTTP/1.") else None, got

    def run_head(self, *lines):
        return "\r\n".join(("POST /v1/run HTTP/1.1", "Host: a", f"X-API-Key: {self.key}", *lines,
                            "", "")).encode()

    def test_requests_that_mean_two_things_are_refused_and_the_connection_closed(self):
        inner = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        shapes = {
            "both lengths": self.run_head("Content-Length: 3", "Transfer-Encoding: chunked") +
            b"0\r\n\r\n" + inner,
            "two lengths": self.run_head("Content-Length: 2", "Content-Length: 40") + b"{}" + inner,
            "a list of lengths": self.run_head("Content-Length: 2, 40") + b"{}" + inner,
            "a signed length": self.run_head("Content-Length: +2") + b"{}" + inner,
            "a negative length": self.run_head("Content-Length: -2") + b"{}" + inner,
            "a length in hex": self.run_head("Content-Length: 0x2") + b"{}" + inner,
            "a huge length": self.run_head("Content-Length: 99999999999999999999") + inner,
            "chunked twice": self.run_head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n" + inner,
            "chunked, spelled otherwise": self.run_head("Transfer-Encoding: xchunked") +
            b"0\r\n\r\n" + inner,
            "a blank before the colon": self.run_head("Transfer-Encoding : chunked") +
            b"0\r\n\r\n" + inner,
            "a folded header": self.run_head("X-A: b", " Transfer-Encoding: chunked") + inner,
            "a bad chunk size": self.run_head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
            "a huge chunk size": self.run_head("Transfer-Encoding: chunked") +
            b"ffffffffffffffffff\r\n{}",
            "a chunk without end": self.run_head("Transfer-Encoding: chunked") + b"2\r\n{}xx" + inner,
        }
        for name, data in shapes.items():
            with self.subTest(name):
                status, got = self.exchange(data)
                self.assertIn(status, (None, 400, 413, 431, 501), got[:300])
                # libmicrohttpd 0.9.75 may say its refusal twice; what follows is never answered.
                said = {int(n) for n in re.findall(rb"HTTP/1\.1 (\d+)", got)}
                self.assertLessEqual(said, {status}, got[:600])
        self.others_are_served()

    def test_floods_are_refused_and_memory_stays(self):
        self.others_are_served()
        before = self.rss()
        floods = {
            "headers": ((431, 400, None), self.run_head(*(f"X-{i}: {'a' * 100}" for i in range(5000)))),
            "one header": ((431, 400, None), self.run_head("X-A: " + "a" * 1000000)),
            "a target": ((414, 431, 400, None), b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\n\r\n"),
            "a line that never ends": ((431, 414, 400, None), b"G" * 1000000 + b"\r\n\r\n"),
            "a body": ((413,), self.run_head(f"Content-Length: {64 * MIB}") + b"x" * MIB),
        }
        for name, (wanted, data) in floods.items():
            with self.subTest(name):
                for result in self.at_once(20, lambda i, d=data: self.exchange(d)):
                    if isinstance(result, Exception):
                        raise result
                    self.assertIn(result[0], wanted, result[1][:300])
        self.others_are_served()
        self.assertLess(self.rss() - before, FLAT)

    def test_json_without_end_is_refused_and_memory_stays(self):
        self.others_are_served()
        before = self.rss()
        for body in (b"[" * 1000000, b'{"a":' * 500000, b'{"a":' * 500000 + b"1" + b"}" * 500000,
                     b'{"image":"host","cmd":' + b"[" * 100000 + b"]" * 100000 + b"}",
                     b'{"cmd":["' + b"\\u0041" * 1000000 + b'"', b'{"n":' + b"9" * 1000000 + b"}",
                     b'{"a":1,"a":2}', b"\xff" * 1000, b'{"cmd":["a\\u0000b"]}',
                     json.dumps({f"k{i}": i for i in range(100000)}).encode()):
            status, _, data = self.ask("POST", "/v1/run", body, {"X-API-Key": self.key})
            self.assertEqual(status, 400, (body[:40], data[:300]))
            answer = json.loads(data)
            self.assertTrue(answer["message"] and answer["request_id"], answer)
            self.assertLess(len(data), 2000)
        self.others_are_served()
        self.assertLess(self.rss() - before, 2 * FLAT)
        # And what was refused does not add up.
        after = self.rss()
        for _ in range(20):
            self.ask("POST", "/v1/run", b"[" * 1000000, {"X-API-Key": self.key})
        self.assertLess(self.rss() - after, FLAT)

    def test_a_body_above_the_bound_is_413(self):
        body = b'{"templateID":"' + b"a" * (8 * MIB) + b'"}'
        self.assertEqual(self.ask("POST", "/v2/sandboxes", body, {"X-API-Key": self.key})[0], 413)
