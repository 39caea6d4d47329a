# SPDX-License-Identifier: Apache-2.0
"""`brig image pull` against a registry on loopback: tokens, redirections, digests, breaks, hostility."""

import json
import os
import pathlib
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import test_layers  # noqa: E402
from ocilayout import Image, INDEX, entry  # noqa: E402
from registry import TOKEN, Registry, reply  # noqa: E402


class PullCase(test_layers.LayersCase):
    def registry(self, **kw):
        r = Registry(**kw)
        self.addCleanup(r.stop)
        return r

    def image(self):
        return Image([test_layers.shell_layer(), [entry("pulled", b"yes\n")]],
                     {"Cmd": ["/bin/sh", "-c", "/bin/cat /pulled"]})

    def pull(self, *args, env=None):
        return self.brig.call("image", "pull", "--plain-http", *args, env=env or {})

    def assertNothing(self):
        self.assertEqual(list((self.data / "tmp").glob("*")), [])
        self.assertEqual(list((self.data / "names").glob("*")), [])

    def refused(self, registry, *words, args=(), ref="a/b"):
        done = self.pull(*args, f"{registry.host}/{ref}")
        self.assertRefused(done, 125, *words)
        self.assertNothing()
        return done


class Pull(PullCase):
    def test_an_image_comes_and_runs(self):
        r, image = self.registry(), self.image()
        r.add("some/image", image, "v1")
        done = self.pull(f"{r.host}/some/image:v1")
        self.assertOk(done)
        self.assertEqual(self.brig.call("run", "--image", "image-v1").text, "yes\n")
        # The same image from a layout is the same.
        self.assertEqual(self.add("local", image), done.text.strip())
        # By digest, under another name; a name without a host is looked for where the operator says.
        self.assertOk(self.pull("--name", "mine", "image@" + image.descriptor["digest"],
                                env={"BRIG_REGISTRY": r.host + "/some"}))
        self.assertEqual({i["name"] for i in self.brig.json("image", "ls")}, {"host", "image-v1", "local", "mine"})
        self.assertEqual(len(self.trees()), 2)

    def test_a_token_is_got_and_stays_with_the_registry(self):
        r, image = self.registry(auth=True, user=("me", "pass:word")), self.image()
        r.add("p/q", image)
        layer = image.manifest["layers"][1]["digest"]

        def away(h, digest, data):
            if digest != layer:
                return False
            reply(h, 307, Location=f"http://{r.elsewhere.host}/x/{digest}")
            return True
        r.blob = away
        env = {"BRIG_REGISTRY_USER": "me", "BRIG_REGISTRY_PASSWORD": "pass:word"}
        self.assertOk(self.pull(f"{r.host}/p/q", env=env))
        self.assertEqual(r.scopes, [["repository:p/q:pull"]])
        self.assertEqual([(path, auth) for path, auth, _ in r.elsewhere.seen], [(f"/x/{layer}", None)])
        tokens = [auth for path, auth, _ in r.server.seen if path.startswith("/v2/")]
        self.assertEqual(set(tokens), {None, f"Bearer {TOKEN}"})
        self.assertEqual(tokens.count(None), 1)
        # Neither without a password nor with a wrong one.
        self.assertOk(self.brig.call("image", "rm", "q"))
        self.assertRefused(self.pull(f"{r.host}/p/q"), 125, "does not let everybody", "BRIG_REGISTRY_USER")
        done = self.pull(f"{r.host}/p/q", env={**env, "BRIG_REGISTRY_PASSWORD": "secret-word"})
        self.assertRefused(done, 125, "does not let this user", "remedy:")
        self.assertNotIn("secret-word", done.errors)

    def test_the_image_of_this_machine_is_chosen(self):
        r, image, other = self.registry(), self.image(), Image([[entry("x")]], arch="s390x")
        foreign = {**other.descriptor, "platform": {"os": "linux", "architecture": "s390x"}}
        r.add("multi", other)
        r.add("multi", image, index=image.index(foreign))
        self.assertOk(self.pull(f"{r.host}/multi"))
        self.assertEqual(self.sh("multi", "/bin/cat /pulled"), "yes\n")
        self.assertOk(self.brig.call("image", "rm", "multi"))
        r.add("multi", image, "only", index={"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign]})
        self.refused(r, "there is no image for linux/", "remedy:", ref="multi:only")

    def test_what_breaks_off_goes_on(self):
        r, image = self.registry(), Image([test_layers.shell_layer(), [entry("big", os.urandom(1 << 20))]], packed="plain")
        r.add("a/b", image)
        big = image.manifest["layers"][1]["digest"]
        tries = []

        def broken(h, digest, data):
            if digest != big:
                return False
            start = int((h.headers.get("Range") or "bytes=0-")[6:-1])
            tries.append(start)
            part = data[start:]
            h.send_response(206 if start else 200)
            h.send_header("Content-Length", str(len(part)))
            h.end_headers()
            h.wfile.write(part[:400000] if len(tries) < 3 else part)
            h.close_connection = True
            return True
        r.blob = broken
        self.assertOk(self.pull(f"{r.host}/a/b"))
        self.assertEqual(tries, [0, 400000, 800000])
        # A registry that does not give parts begins again.
        self.assertOk(self.brig.call("image", "rm", "b"))
        tries.clear()

        def whole(h, digest, data):
            if digest != big:
                return False
            tries.append(h.headers.get("Range"))
            h.send_response(200)
            h.send_header("Content-Length", str(len(data)))
            h.end_headers()
            h.wfile.write(data[:300000] if len(tries) < 2 else data)
            h.close_connection = True
            return True
        r.blob = whole
        self.assertOk(self.pull(f"{r.host}/a/b"))
        self.assertEqual(tries, [None, "bytes=300000-"])

    def test_nobody_is_left(self):
        r = self.registry()
        r.blob = lambda h, digest, data: h.server.shutdown_request(h.request) or True
        r.add("a/b", self.image())
        self.refused(r, "remedy:|answer|recv|empty|server", "blob sha256:")


class Hostile(PullCase):
    def test_what_came_is_not_what_was_asked_for(self):
        image = self.image()
        for digest, word in ((image.descriptor["digest"], "manifest"), (image.manifest["config"]["digest"], "blob"),
                             (image.manifest["layers"][0]["digest"], "blob")):
            with self.subTest(word):
                r = self.registry()
                r.add("a/b", image)
                if word == "manifest":
                    kind, data = r.manifests[("a/b", digest)]
                    r.manifests[("a/b", digest)] = (kind, data + b" ")
                    self.refused(r, "the manifest that came has the digest", "remedy:", ref=f"a/b@{digest}")
                else:
                    data = bytearray(r.blobs[digest])
                    data[len(data) // 2] ^= 1
                    r.blobs[digest] = bytes(data)
                    self.refused(r, "a blob that came has the digest", "remedy:")

    def test_too_much_and_too_slow(self):
        r, image = self.registry(), self.image()
        r.add("a/b", image)
        layer = image.manifest["layers"][1]["digest"]
        sent = []

        def endless(h, digest, data):
            if digest != layer:
                return False
            h.send_response(200)
            h.end_headers()
            for _ in range(1000):
                h.wfile.write(bytes(65536))
                sent.append(65536)
            return True
        r.blob = endless
        self.refused(r, "more than the [0-9]+ bytes that it should have")
        self.assertLess(sum(sent), 32 << 20)
        wait = threading.Event()
        self.addCleanup(wait.set)

        def stalls(h, digest, data):
            if digest != layer:
                return False
            h.send_response(200)
            h.send_header("Content-Length", str(len(data)))
            h.end_headers()
            wait.wait(30)
            return True
        r.blob = stalls
        done = self.refused(r, "blob sha256:", "--stall-timeout", args=("--stall-timeout", "1"))
        self.assertLess(done.seconds, 20)
        r.blob = None
        self.refused(r, "has more than 1000 bytes", "--max-size", args=("--max-size", "1000"))
        r.manifests[("a/b", "latest")] = (image.descriptor["mediaType"], b"[" * (5 << 20))
        self.refused(r, "more than 4194304 bytes")

    def test_redirections_and_challenges_that_lead_astray(self):
        r, image = self.registry(), self.image()
        r.add("a/b", image)

        def loop(h, digest, data):
            reply(h, 302, Location=h.path)
            return True
        r.blob = loop
        self.refused(r, "redirects without end")
        for where in ("file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x"):
            r.blob = lambda h, d, data, where=where: reply(h, 302, Location=where) or True
            self.refused(r, "blob sha256:")
        r.blob = None
        r.auth = True
        for say in ("Negotiate", 'Bearer realm="file:///etc/passwd"', "Bearer", 'Bearer realm="', "Basic realm=x"):
            r.challenge = say
            self.refused(r, "wants to know who asks|does not let")
        r.challenge = f'Bearer realm="http://{r.host}/nowhere"'
        self.refused(r, "gave none|answered|get a token")

    def test_manifests_that_are_none(self):
        r, image = self.registry(), self.image()
        r.add("a/b", image)
        for data in (b"", b"{}", b"null", b"\x1b[31m", json.dumps({**image.manifest, "layers": []}).encode(),
                     json.dumps({**image.manifest, "config": {"digest": "sha256:../../../x", "size": 1}}).encode()):
            r.manifests[("a/b", "latest")] = (image.descriptor["mediaType"], data)
            done = self.refused(r, "pull 127.0.0.1")
            self.assertNotIn(b"\x1b", done.err)

    def test_names(self):
        for ref, word in (("image", "does not say which registry"), ("host.x/UPPER", "other characters"),
                          ("host.x/a@sha256:12", "digest"), ("host.x/a:", "tag"), ("-x.y/a", "host"),
                          ("h.x/../a", "other characters"), ("h.x/a//b", "other characters"), ("h.x/", "other characters")):
            self.assertRefused(self.pull("--", ref), 125, word, "remedy:")
        self.assertCode(self.pull(), 2)
        # Without --plain-http nothing is sent in the clear.
        r = self.registry()
        r.add("a/b", self.image())
        self.assertRefused(self.brig.call("image", "pull", f"{r.host}/a/b"), 125, "remedy:")
        self.assertEqual(r.server.seen, [])


if __name__ == "__main__":
    unittest.main()
