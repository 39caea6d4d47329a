# SPDX-License-Identifier: Apache-2.0
"""A registry on loopback, as obliging or as hostile as a test wants it; and another host that it may lead to."""

import base64
import http.server
import json
import re
import threading
import urllib.parse

TOKEN = "a.token-of_the~registry"


class Server:
    """One HTTP server; `seen` is what came: (path, Authorization, Range)."""

    def __init__(self, answer):
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.seen.append((self.path, self.headers.get("Authorization"), self.headers.get("Range")))
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None  # a client that leaves is what some tests are about
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def reply(h, status, body=b"", **fields):
    h.send_response(status)
    for name, value in fields.items():
        h.send_header(name.replace("_", "-"), value)
    h.send_header("Content-Length", str(len(body)))
    h.end_headers()
    h.wfile.write(body)


class Registry:
    """repositories: {repo: {tag: (media type, bytes)}}, blobs: {digest: bytes}."""

    def __init__(self, auth=False, user=None):
        self.manifests, self.blobs = {}, {}
        self.auth, self.user = auth, user  # user: (name, password) that the token server wants
        self.challenge = None  # another WWW-Authenticate
        self.blob = None  # fn(handler, digest, data) -> True if it answered
        self.scopes = []
        self.server = Server(self.answer)
        self.host = self.server.host
        self.elsewhere = Server(self.other)

    def stop(self):
        self.server.stop()
        self.elsewhere.stop()

    def add(self, repo, image, tag="latest", index=None):
        self.blobs.update(image.blobs)
        data = json.dumps(index).encode() if index else image.blobs[image.descriptor["digest"]]
        kind = (index or image.descriptor)["mediaType"]
        self.manifests[(repo, tag)] = (kind, data)
        d = image.descriptor
        self.manifests[(repo, d["digest"])] = (d["mediaType"], image.blobs[d["digest"]])

    def other(self, h):
        """The host that blobs are kept at."""
        digest = h.path.rsplit("/", 1)[-1]
        reply(h, 200, self.blobs[digest])

    def token(self, h):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(h.path).query)
        self.scopes.append(query.get("scope"))
        if self.user:
            want = "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
            if h.headers.get("Authorization") != want:
                return reply(h, 401)
        return reply(h, 200, json.dumps({"token": TOKEN, "expires_in": 60}).encode())

    def answer(self, h):
        if h.path.startswith("/token"):
            return self.token(h)
        if self.auth and h.headers.get("Authorization") != f"Bearer {TOKEN}":
            say = self.challenge or f'Bearer realm="http://{self.host}/token",service="reg, the \\"one\\"",scope="x"'
            return reply(h, 401, b"{}", WWW_Authenticate=say)
        m = re.match(r"/v2/(.+)/(manifests|blobs)/([^/]+)$", h.path)
        if not m:
            return reply(h, 404)
        repo, kind, what = m.groups()
        if kind == "manifests":
            found = self.manifests.get((repo, what))
            return reply(h, 200, found[1], Content_Type=found[0]) if found else reply(h, 404, b"{}")
        data = self.blobs.get(what)
        if data is None:
            return reply(h, 404)
        if self.blob and self.blob(h, what, data):
            return None
        return reply(h, 200, data)
