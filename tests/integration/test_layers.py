# SPDX-License-Identifier: Apache-2.0
"""Images of layers: how they are imported, shared, started and removed, and what hostile ones get."""

import json
import os
import pathlib
import shutil
import stat
import sys
import tarfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import brigtest  # noqa: E402
import ocilayout  # noqa: E402
import test_api  # noqa: E402
from brigtest import Brig, PrivateCase  # noqa: E402
from ocilayout import Image, directory, entry, hardlink, sha256, symlink  # noqa: E402

PASSWD = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"


def shell_layer():
    """The bottom of everything that runs: one static shell."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise unittest.SkipTest("'busybox' is not installed (package busybox-static)")
    tools = ("sh", "cat", "echo", "id", "ls", "stat", "true", "find", "env", "pwd", "sort", "touch", "rm", "mkdir",
             "ln", "chmod", "mv", "test", "seq")
    return [directory("bin"), directory("etc"), directory("tmp", 0o1777), directory("home/user", uid=1000, gid=1000),
            entry("bin/busybox", pathlib.Path(busybox).read_bytes(), mode=0o755),
            *(symlink(f"bin/{t}", "busybox") for t in tools),
            entry("etc/passwd", PASSWD), entry("etc/group", b"root:x:0:\nuser:x:1000:\nstaff:x:50:user\n"),
            entry("etc/brand", b"bottom\n")]


class LayersCase(PrivateCase):
    def setUp(self):
        super().setUp()
        self.data = self.tmp / "store"
        self.data.mkdir()
        self.tmp.chmod(0o755)
        self.brig = Brig(data=self.data)

    def add(self, name, image, *args, index=None):
        path = image.layout(self.tmp / f"layout-{name}", index)
        done = self.brig.call("image", "import", *args, name, f"oci:{path}")
        self.assertOk(done)
        return done.text.strip()

    def refused(self, image, *words, index=None, args=()):
        path = image.layout(self.tmp / "evil", index)
        done = self.brig.call("image", "import", *args, "evil", f"oci:{path}")
        self.assertRefused(done, 125, *words)
        self.assertEqual(list((self.data / "tmp").glob("*")), [])
        self.assertFalse((self.data / "names" / "evil").exists())
        shutil.rmtree(path)

    def sh(self, image, script, *args):
        done = self.brig.call("run", "--image", image, *args, "--", "/bin/sh", "-c", script)
        self.assertOk(done)
        return done.text

    def inspect(self, name):
        return self.brig.json("image", "inspect", name)[0]

    def trees(self):
        return {p.parent.name for p in (self.data / "images").glob("*/rootfs")}


class Content(LayersCase):
    def test_what_a_sandbox_sees_is_the_layers_on_each_other(self):
        top = [entry("etc/brand", b"top\n"), entry("etc/.wh.group"), directory("opt"), entry("opt/new", b"1"),
               entry("data/keep/.wh.gone"), directory("hidden"), entry("hidden/.wh..wh..opq"),
               entry("hidden/mine", b"m"), directory("hidden/both"), entry("hidden/both/mine", b"m"),
               entry("was-dir", b"file"), directory("was-file"), entry("was-file/f", b"f"),
               entry(".wh..wh.plnk"), entry("data/.wh.never-there")]
        middle = [directory("data", 0o700, uid=7, gid=8), directory("data/keep"), entry("data/keep/a", b"a"),
                  entry("data/keep/gone", b"g"), directory("hidden"), entry("hidden/theirs", b"t"),
                  directory("hidden/both"), entry("hidden/both/theirs", b"t"), directory("hidden/dir"),
                  entry("hidden/dir/deep", b"d"), directory("was-dir"), entry("was-dir/x", b"x"),
                  entry("was-file", b"w")]
        self.add("three", Image([shell_layer(), middle, top]))
        out = self.sh("three", "cat /etc/brand; find /data /hidden /was-dir /was-file /opt | sort;"
                      "stat -c %a.%u.%g /data", "--user", "root")
        self.assertEqual(out.split(), [
            "top", "/data", "/data/keep", "/data/keep/a", "/hidden", "/hidden/both", "/hidden/both/mine",
            "/hidden/mine", "/opt", "/opt/new", "/was-dir", "/was-file", "/was-file/f", "700.7.8"])
        self.assertEqual(self.sh("three", "test -e /etc/group || echo none"), "none\n")
        # Writing works where layers meet, and leaves them alone.
        before = {p: p.stat() for p in (self.data / "images").rglob("*") if not p.is_symlink()}
        self.assertEqual(self.sh("three", "rm -r /hidden && mkdir /hidden && ls -A /hidden; echo w >/data/keep/a;"
                                 "mv /opt /opt2; cat /data/keep/a /opt2/new", "--user", "root"), "w\n1")
        for path, st in before.items():
            self.assertEqual((path.stat().st_mtime_ns, path.stat().st_size), (st.st_mtime_ns, st.st_size), path)

    def test_hard_links_to_files_of_lower_layers(self):
        second = [entry("one", b"content", uid=3, gid=4, mode=0o640)]
        third = [hardlink("sub/two", "one"), hardlink("bin/chroot", "bin/busybox")]
        self.add("links", Image([shell_layer(), second, third]))
        out = self.sh("links", "cat /sub/two; stat -c ' %h %a %u %g' /one /sub/two; /bin/chroot / true && echo ran",
                      "--user", "root").split("\n")
        self.assertEqual(out, ["content 2 640 3 4", " 2 640 3 4", "ran", ""])

    def test_every_packing_and_container_is_the_same_image(self):
        layers = [shell_layer(), [entry("f", b"f"), entry("etc/.wh.brand")]]
        digests = set()
        for packed in ("plain", "gzip", "zstd"):
            digests.add(self.add(packed, Image(layers, packed=packed)))
        image = Image(layers)
        for name, data, source in (("docker", image.docker_tar(), "{}"),
                                   ("said", image.docker_tar("x/y:v1"), "docker-archive:{}:v1"),
                                   ("tar", image.layout_tar(None), "{}")):
            path = self.tmp / f"{name}.tar"
            path.write_bytes(data)
            done = self.brig.call("image", "import", name, source.format(path))
            self.assertOk(done)
            digests.add(done.text.strip())
        self.assertEqual(len(digests), 1)
        self.assertEqual(len(self.trees()), 2)
        # The same file as a tree is what it says.
        self.assertOk(self.brig.call("image", "import", "plain-tree", f"tar:{self.tmp}/docker.tar"))
        self.assertNotIn("layers", self.inspect("plain-tree"))

    def test_settings_are_the_defaults_of_a_command(self):
        config = {"Env": ["A=1", "B=x y", "PATH=/bin"], "WorkingDir": "/etc/", "User": "user:staff",
                  "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["pwd; id -u; id -g; echo $A $B"],
                  "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": {"a": "b"}}
        self.add("set", Image([shell_layer()], config))
        c = self.inspect("set")
        self.assertEqual((c["entrypoint"], c["cmd"], c["ports"], c["labels"]),
                         (["/bin/sh", "-c"], config["Cmd"], ["53/udp", "80/tcp"], {"a": "b"}))
        self.assertEqual(c["user"], {"name": "", "uid": 1000, "gid": 50, "home": "/home/user"})
        done = self.brig.call("run", "--image", "set")
        self.assertOk(done)
        self.assertEqual(done.text.split("\n"), ["/etc", "1000", "50", "1 x y", ""])
        done = self.brig.call("run", "--image", "set", "--env", "A=2", "--workdir", "/bin", "--user", "root")
        self.assertEqual(done.text.split("\n"), ["/bin", "0", "0", "2 x y", ""])
        # A command is run as it stands.
        self.assertEqual(self.brig.call("run", "--image", "set", "--", "echo", "hi").text, "hi\n")
        self.add("none", Image([shell_layer()]))
        self.assertRefused(self.brig.call("run", "--image", "none"), 125, "no command", "remedy:")
        # Settings are a part of the digest, layers are not stored twice for them.
        self.assertEqual(len(self.trees()), 1)
        self.assertNotEqual(self.inspect("none")["digest"], c["digest"])


class Served(test_api.Api):
    def test_a_receipt_names_the_image(self):
        brigtest.need_root()
        tmp = self.tmp / "layout"
        Image([shell_layer(), [entry("f", b"f")]]).layout(tmp)
        done = self.brig.call("image", "import", "layers-receipt", f"oci:{tmp}")
        self.assertOk(done)
        digest = done.text.strip()
        done = self.brig.call("create", "--image", "layers-receipt")
        self.assertOk(done)
        status, receipt = self.operator("GET", f"/v1/sandboxes/{done.text.strip()}/receipt")
        self.assertEqual(status, 200, receipt)
        self.assertIn(digest[7:], json.dumps(receipt["image"]))

    def test_images_over_http(self):
        layout = Image([shell_layer(), [entry("f", b"f")]], {"Env": ["A=1"], "Cmd": ["/bin/true"]}).layout(self.tmp / "layout")
        done = self.brig.call("image", "import", "layers-http", f"oci:{layout}")
        self.assertOk(done)
        digest = done.text.strip()
        status, all_of_them = self.operator("GET", "/v1/images")
        self.assertEqual(status, 200, all_of_them)
        (one,) = [i for i in all_of_them["images"] if i["name"] == "layers-http"]
        self.assertEqual((one["digest"], one.get("env"), one.get("layers")), (digest, None, None))
        for ref in ("layers-http", digest):
            status, image = self.operator("GET", f"/v1/images/{ref}")
            self.assertEqual((status, image["digest"], image["env"]["A"], image["cmd"], len(image["layers"])),
                             (200, digest, "1", ["/bin/true"], 2))
        status, error = self.operator("GET", "/v1/images/none-such")
        self.assertEqual((status, error["error"]["code"] if "error" in error else error["code"]), (404, "not_found"))


class Store(LayersCase):
    def test_layers_are_shared_and_go_with_their_last_image(self):
        base = shell_layer()
        self.add("a", Image([base, [entry("a", b"a")]]))
        self.add("b", Image([base, [entry("b", b"b")]]))
        self.add("c", Image([base]))
        self.assertEqual(len(self.trees()), 3 + (self.inspect("c")["layers"][0] not in self.inspect("a")["layers"]))
        shared = self.inspect("a")["layers"][0]["digest"].replace(":", "-")
        self.assertOk(self.brig.call("image", "rm", "a"))
        self.assertIn(shared, self.trees())
        self.assertEqual(self.sh("b", "cat /b"), "b")
        self.assertRefused(self.brig.call("image", "rm", shared), 125, "is a part of 1 images", "remedy:")
        self.assertOk(self.brig.call("image", "rm", "b"))
        self.assertOk(self.brig.call("image", "rm", "c"))
        self.assertEqual(self.trees(), set())
        self.assertEqual(list((self.data / "images").iterdir()), [])
        self.assertOk(self.brig.call("image", "gc", "--prove"))

    def test_an_image_that_is_a_layer_of_others_stays_as_their_layer(self):
        tree = self.tmp / "tree.tar"
        layer = [*shell_layer(), *(directory(d) for d in ("proc", "sys", "dev", "run"))]
        tree.write_bytes(ocilayout.tar_of(*layer))
        digest = self.brig.call("image", "import", "plain", tree).text.strip()
        self.add("layered", Image([layer, [entry("f", b"f")]]))
        self.assertEqual(self.inspect("layered")["layers"][0]["digest"], digest)
        self.assertOk(self.brig.call("image", "rm", "plain"))
        self.assertEqual(self.sh("layered", "cat /f /etc/brand"), "fbottom\n")
        names = {i["name"] for i in self.brig.json("image", "ls")}
        self.assertEqual(names, {"host", "layered"})
        # .. and can become an image again.
        self.assertEqual(self.brig.call("image", "import", "plain", tree).text.strip(), digest)
        self.assertOk(self.brig.call("image", "rm", "layered"))
        self.assertEqual(self.sh("plain", "cat /etc/brand"), "bottom\n")

    def test_what_an_import_that_died_left_is_found(self):
        self.add("a", Image([shell_layer(), [entry("a", b"a")]]))
        image = next((self.data / "images").glob("*/layers")).parent
        (self.data / "names" / "a").unlink()
        shutil.rmtree(image)

        def layers():
            lines = [json.loads(l) for l in self.brig.call("image", "gc", "--prove").text.splitlines()]
            return [(l["state"], "kept" in l["detail"]) for l in lines if l["kind"] == "image-layer"]
        # Of use to the next import, until nothing says what they were made of.
        self.assertEqual(layers(), [("live", True)] * 2)
        for step in (self.data / "steps").iterdir():
            step.unlink()
        self.assertEqual(layers(), [("stale", False)] * 2)
        self.assertOk(self.brig.call("image", "gc"))
        self.assertEqual(self.trees(), set())
        self.assertEqual(list((self.data / "steps").iterdir()), [])
        self.assertEqual(self.brig.call("image", "gc", "--prove").text, "")

    def test_many_layers(self):
        layers = [shell_layer(), *([entry(f"f{i}", b"x")] for i in range(1, 119)), [entry("etc/.wh.brand")]]
        self.add("many", Image(layers, packed="plain"))
        self.assertEqual(self.sh("many", "ls / | /bin/busybox grep -c ^f; test -e /etc/brand || echo gone"),
                         "118\ngone\n")
        self.refused(Image([*layers, [entry("one-more")]], packed="plain"), "more than 120 layers", "remedy:")

    def test_a_broken_layer_is_named(self):
        self.add("a", Image([shell_layer(), [entry("a", b"a")]]))
        shutil.rmtree(self.data / "images" / self.inspect("a")["layers"][0]["digest"].replace(":", "-"))
        self.assertRefused(self.brig.call("run", "--image", "a", "--", "/bin/true"), 125, "layer sha256:", "remedy:")


class Hostile(LayersCase):
    def test_digests_are_compared(self):
        for what in ("manifest", "config", "layer"):
            image = Image([shell_layer(), [entry("f", b"f")]])
            digest = {"manifest": image.descriptor["digest"], "config": image.manifest["config"]["digest"],
                      "layer": image.manifest["layers"][1]["digest"]}[what]
            data = image.blobs[digest]
            image.blobs[digest] = (ocilayout.pack(ocilayout.tar_of(entry("f", b"g")), "gzip") if what == "layer"
                                   else data.replace(b"sha256", b"sha257"))
            with self.subTest(what):
                self.refused(image, "has the digest sha256:", "remedy:")
        # What it unpacks to is another thing than what it is packed as.
        self.refused(Image([shell_layer()], diff_ids=[sha256(b"else")]), "the archive in the layer has the digest")
        # Bytes behind the end of the archive count, too.
        image = Image([ocilayout.tar_of(*shell_layer()) + bytes(10240)])
        self.add("padded", image)

    def test_what_is_no_image_for_this_machine(self):
        foreign = Image([shell_layer()], arch="s390x")
        self.refused(foreign, "linux/", "remedy:")
        good = Image([shell_layer()])
        both = good.index({**foreign.descriptor, "platform": {"os": "linux", "architecture": "s390x"}})
        good.blobs.update(foreign.blobs)
        self.add("both", good, index=both)
        loop = Image([shell_layer()])
        self.refused(loop, "no image|indexes|has the digest", index={
            "schemaVersion": 2, "manifests": [{**loop.descriptor, "mediaType": ocilayout.INDEX}]})
        self.refused(good, "several images", index={"schemaVersion": 2, "manifests": [
            good.descriptor, foreign.descriptor]})

    def test_layers_that_would_leave(self):
        canary = self.tmp / "canary"
        canary.mkdir()
        (canary / "secret").write_text("sings")
        up = "../" * 12 + str(canary).lstrip("/")
        base = [*shell_layer(), symlink("out", str(canary)), symlink("up", up)]
        before = [(p, p.stat().st_mtime_ns, p.stat().st_nlink) for p in (canary, canary / "secret")]
        for what, layer in {"..": [entry(f"{up}/new", b"x")], "whiteout ..": [entry(f"{up}/.wh.secret")],
                            "whiteout of ..": [entry(".wh...")], "opaque ..": [entry(f"{up}/.wh..wh..opq")],
                            "hard link": [hardlink("h", f"{up}/secret")], "hard link by a link": [hardlink("h", "out/secret")],
                            "hard link to a directory": [hardlink("h", "etc")],
                            "hard link to a hidden file": [hardlink("h", "nowhere")],
                            "id": [entry("f", uid=70000)]}.items():
            with self.subTest(what):
                self.refused(Image([base, layer]), "layer 2")
        # A name below a link of a lower layer: the layer's own directory covers it, nothing is followed.
        self.add("covers", Image([base, [entry("out/new", b"x"), entry("up/.wh.secret")]]))
        self.assertEqual(self.sh("covers", "ls /out"), "new\n")
        for path, mtime, links in before:
            self.assertEqual((path.stat().st_mtime_ns, path.stat().st_nlink), (mtime, links))
        # No device of a layer becomes one, and no whiteout can be smuggled in as one.
        self.add("devices", Image([base, [entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
                                          entry("etc/brand", type=tarfile.CHRTYPE)]]))
        nodes = [p for p in (self.data / "images").rglob("*") if stat.S_ISCHR(os.lstat(p).st_mode)]
        self.assertEqual(nodes, [])
        self.assertEqual(self.sh("devices", "cat /etc/brand"), "bottom\n")

    def test_mount_points_that_a_layer_takes_away(self):
        for layer, word in (([entry("tmp2"), symlink("proc", "/etc")], "/proc of the image is a symbolic link"),
                            ([entry("run", b"x")], "/run of the image is no directory")):
            self.refused(Image([shell_layer(), layer]), word, "remedy:")
        self.add("back", Image([shell_layer(), [entry(".wh.tmp")]]))
        self.assertEqual(self.sh("back", "touch /tmp/x && echo ok"), "ok\n")

    def test_limits_hold_for_all_layers_together(self):
        zeros = [entry("zeros", bytes(3 << 20))]
        image = Image([shell_layer(), zeros, [entry("more", bytes(3 << 20))]])
        self.refused(image, "--max-size", args=("--max-size", "7m"))
        bomb = Image([shell_layer(), [entry("bomb", bytes(100 << 20))]])
        self.refused(bomb, "unpacks to more than 250 times", "--max-ratio")

    def test_files_that_are_none(self):
        image = Image([shell_layer()])
        path = image.layout(self.tmp / "layout")
        blob = path / "blobs" / "sha256" / image.manifest["layers"][0]["digest"][7:]
        blob.rename(path / "moved")
        blob.symlink_to(path / "moved")
        self.assertRefused(self.brig.call("image", "import", "x", f"oci:{path}"), 125, "open 'blobs/")
        blob.unlink()
        os.mkfifo(blob)
        self.assertRefused(self.brig.call("image", "import", "x", f"oci:{path}"), 125, "open 'blobs/")
        for source in (f"oci:{path}/none", f"docker-archive:{path}", f"oci:{path}/index.json", "oci:", f"tar:{path}"):
            done = self.brig.call("image", "import", "x", source)
            self.assertRefused(done, 125, "import|open|directory")


if __name__ == "__main__":
    unittest.main()
