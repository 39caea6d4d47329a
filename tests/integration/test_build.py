# SPDX-License-Identifier: Apache-2.0
"""`brig image build -f`: what each instruction does, what is known already, and what bad files get."""

import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import brigtest  # noqa: E402
from ocilayout import Image, directory, entry, symlink  # noqa: E402
from test_layers import shell_layer  # noqa: E402


class BuildCase(brigtest.ResidentCase):
    """One server, which uses the same store as the builds."""

    def setUp(self):
        super().setUp()
        brigtest.need_root()
        self.context = self.tmp / "context"
        self.context.mkdir()
        self.data = pathlib.Path(self.brig.env["BRIG_DATA"])
        if "build-test" not in {i["name"] for i in self.brig.json("image", "ls")}:
            image = Image([[*shell_layer(), directory("usr/local/bin"), symlink("sbin", "usr/local/bin")]],
                          {"Env": ["PATH=/bin"], "Cmd": ["/bin/echo", "base's"]})
            image.layout(self.tmp / "layout")
            self.assertOk(self.brig.call("image", "import", "build-test", f"oci:{self.tmp}/layout"))
        self.addCleanup(self.forget)

    def forget(self):
        names = [i["name"] for i in self.brig.json("image", "ls") if (i["name"] or "").startswith("built")]
        if names:
            self.brig.call("image", "rm", *names)
        lost = [i["digest"] for i in self.brig.json("image", "ls") if not i["name"]]
        # Images that lost their name to another build, and none that was made in passing.
        self.assertNotIn("unnamed", [i["name"] for i in self.brig.json("image", "inspect", *lost)] if lost else [])
        if lost:
            self.assertOk(self.brig.call("image", "rm", *lost))
        self.assertEqual(self.brig.call("ls", "-q").text, "")

    def write(self, **files):
        for name, text in files.items():
            (self.context / name).write_text(text)

    def build(self, text, *args, name="built"):
        (self.tmp / "Buildfile").write_text(text)
        return self.brig.call("image", "build", "-f", self.tmp / "Buildfile", "-t", name, *args, self.context)

    def built(self, text, *args, name="built"):
        done = self.build("FROM build-test\n" + text, *args, name=name)
        self.assertOk(done)
        return done

    def sh(self, script, *args, name="built"):
        done = self.brig.call("run", "--image", name, *args, "--", "/bin/sh", "-c", script)
        self.assertOk(done)
        return done.text


class Build(BuildCase):
    def test_run_changes_what_the_next_step_sees(self):
        self.built("""
            RUN echo one > /data && ln -s data /link && mkdir /dir && touch /dir/f && ln /dir/f /dir/g
            RUN ["/bin/sh", "-c", "test -e /link && echo two >> /data; rm /etc/brand; rm -r /home; mkdir /home"]
            # Nothing is left of a directory that was made anew.
            RUN chmod 700 /dir && mkdir /home/x \\
                # in between
                && echo three >> /data
        """)
        self.assertEqual(self.sh("cat /data; ls -A /home; stat -c %a /dir; stat -c '%a %h' /dir/f; test -e /etc/brand || echo gone").split(),
                         ["one", "two", "three", "x", "700", "644", "2", "gone"])

    def test_settings(self):
        self.built("""
            ARG WHO=user
            ENV A=1 B="two words" C=${A:-no}x
            ENV D  old form of it
            LABEL what.is="a \\"test\\""
            WORKDIR /made/here
            WORKDIR below
            USER $WHO
            EXPOSE 80 53/udp
            ENTRYPOINT ["/bin/sh", "-c"]
            CMD ["pwd; id -u; echo $A $B $C $D"]
        """)
        self.assertEqual(self.brig.call("run", "--image", "built").text.split("\n"),
                         ["/made/here/below", "1000", "1 two words 1x old form of it", ""])
        c = self.brig.json("image", "inspect", "built")[0]
        self.assertEqual((c["ports"], c["labels"]), (["53/udp", "80/tcp"], {"what.is": 'a "test"'}))
        # The command of the image below is no argument of a new entrypoint.
        self.built("ENTRYPOINT [\"/bin/echo\", \"mine\"]")
        self.assertEqual(self.brig.call("run", "--image", "built").text, "mine\n")
        self.built("ENV X=1")
        self.assertEqual(self.brig.call("run", "--image", "built").text, "base's\n")

    def test_copy(self):
        self.write(a="a", b="b")
        (self.context / "sub" / "deep").mkdir(parents=True)
        (self.context / "sub" / "deep" / "x.log").write_text("log")
        (self.context / "sub" / "y").write_text("y")
        os.symlink("/etc/hostname", self.context / "sub" / "link")
        (self.context / ".dockerignore").write_text("**/*.log\nb\n!b\n")
        self.built("""
            COPY a /
            COPY a /new/name
            COPY a b /two/
            COPY sub /sub
            COPY --chown=user:staff s*b/[xy] a? /many/
            COPY a /sbin/tool
            WORKDIR /w
            COPY ["a", "./json name"]
        """.replace(" a? ", " "))
        self.assertEqual(self.sh("/bin/find /a /new /two /sub /many /usr/local/bin /w | /bin/sort; stat -c %u:%g /many /many/y /a;"
                                 "/bin/busybox readlink /sub/link; /bin/busybox readlink /sbin").split("\n"),
                         ["/a", "/many", "/many/y", "/new", "/new/name", "/sub", "/sub/deep", "/sub/link", "/sub/y",
                          "/two", "/two/a", "/two/b", "/usr/local/bin", "/usr/local/bin/tool", "/w", "/w/json name",
                          "1000:50", "1000:50", "0:0", "/etc/hostname", "usr/local/bin", ""])

    def test_what_was_run_is_not_run_again(self):
        self.write(input="1")
        text = "COPY input /in\nRUN cat /in /proc/sys/kernel/random/uuid > /out\nRUN cat /out > /again\n"
        self.built(text, name="built1")
        done = self.built(text, name="built2")
        self.assertEqual(done.errors.count("nothing was run"), 2)
        first = self.sh("cat /out", name="built1")
        self.assertEqual(self.sh("cat /out /again", name="built2"), first + first)
        # Another time of a file is none, another content is.
        os.utime(self.context / "input", (1, 1))
        self.assertEqual(self.built(text, name="built2").errors.count("nothing was run"), 2)
        self.write(input="2")
        self.assertEqual(self.built(text, name="built2").errors.count("nothing was run"), 0)
        self.assertNotEqual(self.sh("cat /out", name="built2"), first)
        self.assertEqual(self.built(text, "--no-cache", name="built2").errors.count("nothing was run"), 0)
        # What it runs with is a part of it.
        env = "ARG V\nRUN echo $V > /v\n"
        for value in ("x", "y"):
            self.built(env, "--build-arg", f"V={value}")
            self.assertEqual(self.sh("cat /v"), value + "\n")

    def test_from_scratch(self):
        (self.context / "busybox").write_bytes(pathlib.Path(brigtest.shutil.which("busybox")).read_bytes())
        (self.context / "busybox").chmod(0o755)
        self.assertOk(self.build('FROM scratch\nCOPY busybox /busybox\nENTRYPOINT ["/busybox", "echo"]\nCMD ["hi"]'))
        self.assertEqual(self.brig.call("run", "--image", "built").text, "hi\n")
        self.assertRefused(self.build("FROM scratch\nRUN x"), 125, "line 2: RUN: there is nothing", "remedy:")
        self.assertRefused(self.build("FROM scratch\nENV A=1"), 125, "no files", "remedy:")


class Example(BuildCase):
    def test_the_example_builds_and_runs(self):
        brigtest.need_base()
        examples = pathlib.Path(__file__).resolve().parents[2] / "examples"
        done = self.brig.call("image", "build", "-f", examples / "report.build", "-t", "built", examples)
        self.assertOk(done)
        out = self.brig.call("run", "--image", "built")
        self.assertOk(out)
        self.assertRegex(out.text, r"^rider +bike +trips.*\n(.*\n)*all +497 ")


class Contained(BuildCase):
    def test_a_run_is_a_sandbox(self):
        canary = self.tmp / "canary"
        canary.write_text("sings")
        done = self.built(f"RUN cat {canary} /etc/shadow || echo none; id -u; cat /proc/self/uid_map; touch {canary}.new || true")
        self.assertNotIn("sings", done.errors)
        self.assertNotRegex(done.errors, r"^\s+0\s+0\s", "it is root of the host")
        self.assertEqual(sorted(p.name for p in self.tmp.glob("canary*")), ["canary"])
        # No network unless it is asked for.
        done = self.build("FROM build-test\nRUN /bin/busybox wget -T 2 http://127.0.0.1:1/ || ls /sys/class/net /proc/net/dev; /bin/busybox ip link | /bin/busybox grep -c '^[0-9]'")
        self.assertIn("\n1\n", done.errors)

    def test_what_copy_may_take(self):
        outside = self.tmp / "outside"
        outside.mkdir()
        (outside / "secret").write_text("sings")
        os.symlink("../outside", self.context / "out")
        os.symlink(str(outside / "secret"), self.context / "file")
        os.mkfifo(self.context / "pipe")
        for source in ("../outside", "../outside/secret", "sub/../../outside", "out/secret", "out/*", "none", "no*"):
            with self.subTest(source):
                self.assertRefused(self.build(f"FROM build-test\nCOPY {source} /x/"), 125, "line 2: COPY", "remedy:|no name of|has")
        # Absolute names are those of the context; links stay what they are, pipes are left out.
        self.built("COPY / /all/\nCOPY file /f")
        self.assertEqual(self.sh("ls /all; /bin/busybox readlink /f"), f"file\nout\n{outside}/secret\n")
        store = self.brig.call("image", "build", "-f", self.tmp / "Buildfile", "-t", "built", self.data)
        self.assertRefused(store, 125, "COPY", "image store")

    def test_links_of_the_image_lead_within_it(self):
        self.write(a="a")
        self.built(f"RUN ln -s {self.tmp} /out && ln -s ../../../../../.. /up && ln -s loop /loop\nCOPY a /out/a\nCOPY a /up/b")
        self.assertEqual(self.sh(f"cat {self.tmp}/a /b"), "aa")
        self.assertFalse((self.tmp / "a").exists())
        self.assertRefused(self.build("FROM build-test\nRUN ln -s l /l\nCOPY a /l/a"), 125, "line 3: COPY")

    def test_a_step_that_fails_leaves_nothing(self):
        self.assertOk(self.brig.call("image", "gc"))
        before = set(os.listdir(self.data / "images"))
        done = self.build("FROM build-test\nRUN echo before\nRUN echo out; echo err >&2; exit 7")
        self.assertRefused(done, 125, "line 3: RUN: the command ended with 7", "remedy:", "out\n", "err\n")
        self.assertEqual(self.brig.call("ls", "-q").text, "")
        self.assertEqual(self.brig.call("snapshot", "ls").text.count("\n"), 1)
        # The step that worked is known to the next build; nobody else has it.
        done = self.built("RUN echo before")
        self.assertIn("nothing was run", done.errors)
        self.assertOk(self.brig.call("image", "rm", "built"))
        self.assertOk(self.brig.call("image", "gc"))
        self.assertEqual(set(os.listdir(self.data / "images")), before)

    def test_a_build_that_is_killed(self):
        before = set(os.listdir(self.data / "images"))
        (self.tmp / "Buildfile").write_text("FROM build-test\nENV KILLED=1\nRUN echo started >&2; /bin/busybox sleep 994")
        p = self.brig.popen("image", "build", "-f", self.tmp / "Buildfile", "-t", "built", self.context)
        seen = b""
        while b"started\n" not in seen.split(b"RUN", 1)[-1].split(b"\n", 1)[-1]:
            byte = p.stderr.read(1)
            self.assertTrue(byte, seen)
            seen += byte
        p.kill()
        p.communicate()
        self.assertNotEqual(self.brig.call("ls", "-q").text, "")
        self.assertOk(self.brig.call("image", "gc"))
        self.assertEqual(self.brig.call("ls", "-q").text, "")
        self.assertEqual(list((self.data / "tmp").iterdir()), [])
        # The image that was made in passing has no name and is told of.
        for line in self.brig.call("image", "gc", "--prove").text.splitlines():
            self.assertNotIn("unexplained", line)
        lost = set(os.listdir(self.data / "images")) - before
        self.assertEqual(len(lost), 1)
        self.assertOk(self.brig.call("image", "rm", *lost))

    def test_limits(self):
        done = self.build("FROM build-test\nRUN /bin/busybox dd if=/dev/zero of=/big bs=1M count=64", "--disk", "8m")
        self.assertRefused(done, 125, "line 2: RUN: the command ended", "--disk")
        done = self.build("FROM build-test\nRUN /bin/busybox dd if=/dev/zero of=/big bs=1M count=8", "--max-size", "4m")
        self.assertRefused(done, 125, "line 2: RUN", "--max-size")
        done = self.build("FROM build-test\nRUN true", "--memory", "1")
        self.assertRefused(done, 125, "line 2: RUN", "remedy:")


class Files(BuildCase):
    def test_what_is_refused(self):
        self.write(a="a")
        for text, words in {
            "": ("there is no FROM",), "RUN x": ("line 1: RUN stands before FROM",),
            "FROM none-such": ("line 1: FROM: there is no image 'none-such'", "brig image"),
            "FROM host": ("line 1: FROM: the image `host`", "FROM base"),
            "FROM build-test\nFROM build-test": ("line 2: there is a second FROM",),
            "FROM build-test AS x": ("line 1: FROM takes one image", "no stages"),
            "FROM build-test\n\nADD x y": ("line 3: there is no instruction 'ADD'", "use COPY"),
            "FROM build-test\nVOLUME /x": ("line 2", "--volume"), "FROM build-test\nFROBNICATE": ("line 2", "known are"),
            "FROM build-test\nRUN --mount=type=cache x": ("line 2: RUN has no flags",),
            "FROM build-test\nCOPY --from=x a b": ("line 2: COPY has no flag '--from=x'", "--chown"),
            "FROM build-test\nRUN cat <<EOF\nx\nEOF": ("line 2: here-documents", "COPY it"),
            "FROM build-test\nRUN x \\": ("line 2: the file ends",), "FROM build-test\nENV A": ("line 2: ENV takes NAME=VALUE",),
            "FROM build-test\nENV A=${B": ("line 2: ENV", "${NAME}"), "FROM build-test\nENV 1A=x": ("line 2: ENV: '1A'",),
            "FROM build-test\nUSER nobody-here": ("line 2: USER: the image has no user",),
            "FROM build-test\nEXPOSE x": ("line 2: EXPOSE: it takes PORT",), "FROM build-test\nEXPOSE 70000": ("line 2: EXPOSE",),
            "FROM build-test\nCOPY a": ("line 2: COPY takes SOURCE",), "FROM build-test\nRUN\x00": ("no text",),
            "FROM build-test\nCOPY --chown=who a /": ("line 2: COPY: the image has no user 'who'",),
            "FROM build-test\nCOPY a /etc/brand/x": ("line 2: COPY",), "FROM build-test\nWORKDIR /etc/brand": ("line 2: WORKDIR",),
            "FROM build-test\n\x1b[31m": ("line 2",)}.items():
            with self.subTest(text):
                done = self.build(text)
                self.assertRefused(done, 125, *(__import__("re").escape(w) for w in words), r"remedy:|line \d|no text")
                self.assertNotIn(b"\x1b", done.err)
        self.assertRefused(self.build("FROM build-test", "--build-arg", "X=1"), 125, "no ARG of the build file is called 'X'")
        done = self.brig.call("image", "build", "-f", self.tmp / "none")
        self.assertRefused(done, 125, "none")
        self.assertCode(self.brig.call("image", "build", "base", "--no-cache"), 2)
        self.assertCode(self.brig.call("image", "build", "-f", "x", "a", "b"), 2)

    def test_without_a_name_and_from_stdin(self):
        done = self.brig.call("image", "build", "-f", "-", self.context, input=b"FROM build-test\nENV A=1\n")
        self.assertOk(done)
        digest = done.text.strip()
        self.assertEqual(self.sh("echo $A", name=digest), "1\n")
        self.assertOk(self.brig.call("image", "rm", digest))


if __name__ == "__main__":
    unittest.main()
