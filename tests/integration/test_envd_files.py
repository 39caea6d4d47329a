# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox through E2B's data plane: up and down, in every form, and watched."""

import base64
import gzip
import hashlib
import json
import os
import time
import urllib.parse

import brigtest
from e2bwire import GROWTH, Box, PlaneCase


def form(*files, name="file", boundary="----XyZ"):
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path}"\r\n'
             "Content-Type: application/octet-stream\r\n\r\n".encode() + data + b"\r\n"
             for path, data in files]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


FORM = "multipart/form-data; boundary=----XyZ"


class Files(PlaneCase):
    def setUp(self):
        super().setUp()
        self.box = Box(self)

    def post(self, body, query="", expect=200, kind=FORM, **more):
        status, _, answer = self.box.ask("POST", "/files" + query, body, Content_Type=kind, **more)
        answer = json.loads(answer)
        self.assertEqual(status, expect, answer)
        return answer

    def read(self, path, **more):
        status, _, data = self.box.get(path, **more)
        self.assertEqual(status, 200, data)
        return data

    def memory(self):
        with open(f"/proc/{self.api_pid()}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # ---- up ----

    def test_a_form_makes_files_and_their_folders(self):
        self.assertEqual(self.post(form(("d/e/a.txt", b"x"))),
                         [{"name": "a.txt", "type": "file", "path": "/home/user/d/e/a.txt"}])
        info = self.box.fs("Stat", path="d/e")["entry"]
        self.assertEqual((info["owner"], info["mode"], info["type"]),
                         ("user", 0o755, "FILE_TYPE_DIRECTORY"))
        answer = self.post(form(("\u00e4 %22q%22", b"one"), ("~/b", b""), ("/tmp/c", b"\r\n--")))
        self.assertEqual([a["path"] for a in answer],
                         ['/home/user/\u00e4 "q"', "/home/user/b", "/tmp/c"])
        self.assertEqual(self.read('\u00e4 "q"'), b"one")
        self.assertEqual(self.read("b"), b"")
        self.assertEqual(self.read("/tmp/c"), b"\r\n--")
        # The query's path is stronger, parts with other names are passed over.
        body = form(("zzz", b"no"), name="other", boundary="--XyZ")[:-len("----XyZ--\r\n")] + \
            form(("y", b"yes"), boundary="--XyZ")
        self.assertEqual(self.post(body, "?path=x", kind="multipart/form-data; boundary=--XyZ")[0]
                         ["path"], "/home/user/x")
        self.assertEqual(self.read("x"), b"yes")

    def test_refused_uploads_say_why(self):
        self.post(form(("same", b"1"), ("./same", b"2")), expect=400)
        self.post(form(("", b"1")), expect=400)
        self.post(form(("a", b"1"), name="other"), expect=400)
        self.post(form(("a", b"1"))[:-4], expect=400)
        self.post(b"nothing", expect=400)
        self.post(b"x", "?path=a", 400, "text/plain")
        self.post(b"x", "", 400, "application/octet-stream")
        self.post(b"x", "?path=/tmp", 400, "application/octet-stream")
        self.post(b"x", "?path=~root/a", 400, "application/octet-stream")
        self.post(b"x", "?path=/etc/shadow", 403, "application/octet-stream")
        self.post(b"x", "?path=a&username=nosuch", 401, "application/octet-stream")
        self.post(b"no gzip", "?path=a", 400, "application/octet-stream", Content_Encoding="gzip")
        self.post(gzip.compress(b"x" * 100)[:-9], "?path=a", 400, "application/octet-stream",
                  Content_Encoding="gzip")
        self.post(b"x", "?path=a", 400, "application/octet-stream", Content_Encoding="br")
        self.post(b"x", "?path=/etc/a&username=root", 200, "application/octet-stream")

    def test_a_gzip_body_is_inflated(self):
        data = os.urandom(300000) + b"y" * 3000000
        for body in (gzip.compress(data), gzip.compress(data[:7]) + gzip.compress(data[7:])):
            self.assertEqual(self.box.put("z", body, Content_Encoding="gzip")[0], 200)
            self.assertEqual(hashlib.sha256(self.read("z")).digest(), hashlib.sha256(data).digest())

    def test_metadata_stays_until_the_next_write(self):
        status, answer = self.box.put("m", b"x", X_Metadata_Author="me", X_Metadata_K="v 1")
        if status == 501:
            self.skipTest("the kernel's tmpfs holds no attributes of users: " + answer["message"])
        self.assertEqual(answer[0]["metadata"], {"author": "me", "k": "v 1"})
        self.assertEqual(self.box.fs("Stat", path="m")["entry"]["metadata"],
                         {"author": "me", "k": "v 1"})
        self.assertEqual(self.box.put("m", b"y")[0], 200)
        self.assertNotIn("metadata", self.box.fs("Stat", path="m")["entry"])
        self.assertEqual(self.box.put("m", b"y", X_Metadata_A="\u00e4")[0], 400)
        self.assertEqual(self.box.put("m", b"y", X_Metadata_A="x" * 5000)[0], 400)

    def test_large_files_are_streams(self):
        box = Box(self, metadata={"brig.limits.memory": "800m", "brig.limits.disk": "500m"})
        block, count = os.urandom(1 << 20), 300
        before, most = self.memory(), 0

        def body():
            nonlocal most
            for _ in range(count):
                most = max(most, self.memory())
                yield block
        self.assertEqual(box.put("large", body())[0], 200)
        c = self.connection()
        c.request("GET", "/files?path=large", None, box.headers())
        r = c.getresponse()
        got = 0
        while piece := r.read(1 << 20):
            self.assertEqual(piece, block[:len(piece)])
            got += len(piece)
            most = max(most, self.memory())
        self.assertEqual(got, count << 20)
        self.assertLess(most - before, GROWTH)
        # More than there is: told, not hung.
        status, answer = box.put("more", b"x" * (250 << 20))
        self.assertEqual((status, answer["code"]), (507, 507))

    # ---- down ----

    def test_a_download_has_its_headers(self):
        self.box.put("d.html", b"<p>0123456789")
        status, headers, data = self.box.get("d.html")
        self.assertEqual((status, data), (200, b"<p>0123456789"))
        self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(headers["Content-Disposition"], "inline; filename=d.html")
        self.assertEqual(headers["Content-Length"], "13")
        self.assertEqual(headers["Vary"], "Accept-Encoding")
        for asked, status, want in (("bytes=3-5", 206, b"012"), ("bytes=-2", 206, b"89"),
                                    ("bytes=13-", 416, None), ("bytes=0-1,3-4", 200, data)):
            got, _, part = self.box.get("d.html", Range=asked)
            self.assertEqual(got, status)
            self.assertTrue(want is None or part == want)
        when = headers["Last-Modified"]
        self.assertEqual(self.box.get("d.html", If_Modified_Since=when)[0], 304)
        self.assertEqual(self.box.get("d.html", Accept_Encoding="identity;q=0")[0], 406)

    def test_what_cannot_be_read_says_why(self):
        for path, status, text in (("missing", 404, "path '/home/user/missing' does not exist"),
                                   ("/tmp", 400, "path '/tmp' is a directory"),
                                   ("/dev/null", 400, "path '/dev/null' is not a regular file")):
            got, _, answer = self.box.get(path)
            self.assertEqual((got, json.loads(answer)["message"]), (status, text))
        self.assertEqual(self.box.get("/root/x")[0], 403)
        self.assertIn(b"Name:", self.read("/proc/self/status"))  # it tells no length

    # ---- signatures ----

    def signed(self, path, op, user="", expiry=None, token=None):
        raw = f"{path}:{op}:{user}:{token or self.box.token}" + \
            (f":{expiry}" if expiry is not None else "")
        sign = "v1_" + base64.b64encode(hashlib.sha256(raw.encode()).digest()).decode().rstrip("=")
        query = {"path": path, "signature": sign}
        if user:
            query["username"] = user
        if expiry is not None:
            query["signature_expiration"] = expiry
        return "/files?" + urllib.parse.urlencode(query)

    def test_a_signature_stands_for_the_token(self):
        # Neither token nor sandbox is named: the signature finds it.
        status, _, answer = self.ask("POST", self.signed("s", "write"), form(("a", b"signed")),
                                     {"Content-Type": FORM})
        self.assertEqual((status, json.loads(answer)[0]["path"]), (200, "/home/user/s"))
        self.assertEqual(self.ask("GET", self.signed("s", "read"))[2], b"signed")
        soon = int(time.time()) + 60
        self.assertEqual(self.ask("GET", self.signed("/home/user/s", "read", "root", soon))[0], 200)
        past = int(time.time()) - 100
        for url, text in ((self.signed("s", "read", expiry=past), "signature is already expired"),
                          (self.signed("s", "write"), "invalid signature"),
                          (self.signed("s", "read", token="0" * 40), "invalid signature"),
                          (self.signed("s", "read").replace("path=s", "path=t"),
                           "invalid signature")):
            status, _, answer = self.ask("GET", url)
            answer = json.loads(answer)
            self.assertEqual((status, answer["code"], answer["message"]), (401, 401, text))
        headers = self.box.headers()
        del headers["X-Access-Token"]
        status, _, answer = self.ask("GET", "/files?path=s", None, headers)
        self.assertEqual(json.loads(answer)["message"], "missing signature query parameter")
        headers["X-Access-Token"] = "wrong"
        self.assertEqual(self.ask("GET", self.signed("s", "read"), None, headers)[0], 401)

    # ---- folders ----

    def test_folders_are_made_listed_moved_and_removed(self):
        fs = self.box.fs
        self.assertEqual(fs("MakeDir", path="d/e")["entry"]["path"], "/home/user/d/e")
        self.assertEqual(fs("MakeDir", 409, path="d/e")["code"], "already_exists")
        self.box.sh("cd d; touch z e-a; ln -s /etc/passwd l; ln -s nowhere n; echo x > e/x")
        self.assertEqual(fs("MakeDir", 400, path="d/z")["code"], "invalid_argument")
        found = [(e["path"][len("/home/user/d/"):], e["type"][len("FILE_TYPE_"):])
                 for e in fs("ListDir", path="d", depth=2)["entries"]]
        self.assertEqual(found, [("e", "DIRECTORY"), ("e/x", "FILE"), ("e-a", "FILE"),
                                 ("l", "FILE"), ("n", "UNSPECIFIED"), ("z", "FILE")])
        self.assertEqual(len(fs("ListDir", path="d")["entries"]), 5)
        self.assertEqual(fs("ListDir", 400, path="d/z")["code"], "invalid_argument")
        self.assertEqual(fs("ListDir", 404, path="nope")["code"], "not_found")
        link = fs("Stat", path="d/l")["entry"]
        self.assertEqual((link["symlinkTarget"], link["permissions"], link["size"]),
                         ("/etc/passwd", "Lrwxrwxrwx", "11"))
        moved = fs("Move", source="d/z", destination="new/place/z")["entry"]
        self.assertEqual(moved["path"], "/home/user/new/place/z")
        self.assertEqual(fs("Move", 404, source="d/z", destination="q")["code"], "not_found")
        self.assertEqual(fs("Remove", path="d"), {})
        self.assertEqual(fs("Remove", path="d"), {})
        self.assertEqual(fs("Stat", 404, path="d")["code"], "not_found")
        self.assertEqual(fs("Stat", 403, path="/root/x")["code"], "permission_denied")
        self.assertEqual(fs("Stat", path="/root", user="root")["entry"]["owner"], "root")

    def test_a_folder_is_moved_to_another_file_system(self):
        # /dev/shm is one of its own: a rename out of it is refused (EXDEV).
        made = self.box.sh("mkdir -p /dev/shm/made/below && echo x > /dev/shm/made/below/f", user="root")
        self.assertEqual(made.end["exitCode"], 0, made.err)
        status, answer = self.box.rpc("filesystem.Filesystem/Move",
                                      {"source": "/dev/shm/made", "destination": "/opt/a/moved"},
                                      user="root")
        self.assertEqual((status, answer.get("entry", {}).get("path")), (200, "/opt/a/moved"), answer)
        self.box.fs("Stat", 404, path="/dev/shm/made")
        self.assertEqual(self.read("/opt/a/moved/below/f"), b"x\n")

    # ---- watches ----

    def test_a_watch_tells_what_happens_below(self):
        self.box.fs("MakeDir", path="w")
        stream = self.box.stream("filesystem.Filesystem/WatchDir",
                                 {"path": "w", "recursive": True, "includeEntry": True})
        self.assertEqual(stream.next(), {"start": {}})
        self.box.sh("cd w; mkdir s; echo x > s/f; echo y > t; mv t u; rm u")
        seen = []
        while ("u", "REMOVE") not in [s[:2] for s in seen]:
            e = stream.next()["filesystem"]
            seen.append((e["name"], e["type"][len("EVENT_TYPE_"):], "entry" in e))
        for event in (("s", "CREATE", True), ("s/f", "CREATE", True), ("s/f", "WRITE", True),
                      ("t", "RENAME", False), ("u", "REMOVE", False)):
            self.assertIn(event, seen)
        for path, code in (("nowhere", "not_found"), ("w/s/f", "invalid_argument")):
            failed = self.box.stream("filesystem.Filesystem/WatchDir", {"path": path})
            self.assertEqual(list(failed), [])
            self.assertEqual(failed.error["code"], code)
        stream.close()

    def test_a_watcher_collects_until_it_is_asked(self):
        self.box.fs("MakeDir", path="w")
        watcher = self.box.fs("CreateWatcher", path="w")["watcherId"]
        self.box.sh("touch w/a; rm w/a")
        events = []
        brigtest.wait_until("the events are there", lambda: events.extend(
            self.box.fs("GetWatcherEvents", watcherId=watcher)["events"]) or
            ("a", "EVENT_TYPE_REMOVE") in [(e["name"], e["type"]) for e in events])
        self.assertEqual((events[0]["name"], events[0]["type"]), ("a", "EVENT_TYPE_CREATE"))
        self.assertEqual(self.box.fs("RemoveWatcher", watcherId=watcher), {})
        self.assertEqual(self.box.fs("GetWatcherEvents", 404, watcherId=watcher)["code"], "not_found")
        self.assertEqual(self.box.fs("CreateWatcher", 404, path="none")["code"], "not_found")

    def test_more_events_than_fit_are_said_to_be_lost(self):
        self.box.fs("MakeDir", path="w")
        watcher = self.box.fs("CreateWatcher", path="w")["watcherId"]
        self.box.sh("cd w; seq 6000 | xargs touch")
        codes = []

        def lost():
            status, answer = self.box.rpc("filesystem.Filesystem/GetWatcherEvents",
                                          {"watcherId": watcher})
            codes.append(status if status == 200 else answer["code"])
            return "resource_exhausted" in codes
        brigtest.wait_until("the loss is told", lost)
        self.box.fs("RemoveWatcher", watcherId=watcher)

    def test_a_killed_sandbox_breaks_its_watches(self):
        stream = self.box.stream("filesystem.Filesystem/WatchDir", {"path": "/tmp"})
        stream.next()
        self.box.kill()
        with self.assertRaises(Exception):
            list(stream)
        self.assertFalse(stream.ended)
