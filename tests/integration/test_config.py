# SPDX-License-Identifier: Apache-2.0
"""`brig serve --config`: every flag has a key, flags outweigh the file, and mistakes are told with
their place."""

import os
import re
import tomllib

import brigtest
from brigtest import Brig, PrivateCase, Server, SOURCE
from servecase import LOOPBACK, ServeCase

EXAMPLE = SOURCE / "examples" / "brig.toml"
# Of a run of the program, not of the server.
NO_KEY = {"config", "check", "help"}


class Config(PrivateCase):
    def setUp(self):
        super().setUp()
        # What the file says of sockets and data must not meet the variables of the test run.
        self.brig = Brig(XDG_CONFIG_HOME=self.tmp)
        self.brig.env.pop("BRIG_SOCKET")
        self.brig.env.pop("BRIG_DATA")

    def file(self, text, mode=0o644):
        path = self.tmp / "b.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    def check(self, *args, **kw):
        done = self.brig.call("serve", "--check", *args, **kw)
        self.assertOk(done)
        return tomllib.loads(done.text)

    def refused(self, text, *words, code=2):
        done = self.brig.call("serve", "--check", "--config", self.file(text))
        self.assertRefused(done, code, *words)

    # ---- the example ----

    def test_the_example_is_what_holds_without_a_file(self):
        brigtest.need_root()  # whose paths it has
        self.assertEqual(self.check("--config", EXAMPLE), self.check())
        self.assertEqual(tomllib.loads(EXAMPLE.read_text()), self.check())

    def full(self):
        """The example with everything that is commented out."""
        text = re.sub(r"(?m)^#(?=[a-z_]+ = |\[\[)", "", EXAMPLE.read_text())
        for name in ("cert", "key"):
            (self.tmp / name).touch(0o600)
            text = text.replace(f"/etc/brig/tls/{name}.pem", str(self.tmp / name))
        return text

    def test_the_example_has_every_flag(self):
        text = self.full()
        said = self.check("--config", self.file(text))
        self.assertEqual(said, tomllib.loads(text))
        flags = set(re.findall(r"(?m)^\s+(?:-\w, )?--([a-z-]+)",
                               self.brig.call("serve", "--help").text)) - NO_KEY
        pools = {key for table in said["pool"] for key in table}
        self.assertEqual(pools, {"image", "template", "size", "tier"})
        names = {"no-http", "no-net", "pool", "warm"}
        for key in (*said, *said["http"], *(f"{table}-{k}" for table in ("log", "audit")
                                            for k in said[table])):
            names.add("http" if key == "listen" else key.replace("_", "-"))
        self.assertEqual(flags - names, set(), "flags without a key in examples/brig.toml")

    def test_what_check_prints_is_a_configuration(self):
        first = self.check("--config", self.file(self.full()))
        text = self.brig.call("serve", "--check", "--config", self.tmp / "b.toml").text
        self.assertEqual(self.check("--config", self.file(text)), first)

    # ---- the order ----

    def test_flags_outweigh_the_file(self):
        path = self.file('socket = "/f/s"\nidle_exit = "1h"\n[http]\nlisten = ["127.0.0.1:1"]\n'
                         'enabled = false\n[[pool]]\nimage = "a"\nsize = 1\n')
        said = self.check("--config", path)
        self.assertEqual((said["socket"], said["idle_exit"], said["http"]["enabled"]),
                         ("/f/s", "1h", False))
        said = self.check("--config", path, "--socket", "/g/s", "--idle-exit", "2h", "--http", "3",
                          "--no-http=false", "--pool", "b=2")
        self.assertEqual((said["socket"], said["idle_exit"]), ("/g/s", "2h"))
        self.assertEqual(said["http"], {"enabled": True, "listen": ["3"]})
        self.assertEqual(said["pool"], [{"image": "b", "size": 2}])

    def test_the_file_outweighs_the_variables(self):
        env = {"BRIG_SOCKET": "/e/s", "BRIG_DATA": "/e/d"}
        self.assertEqual(self.check(env=env)["socket"], "/e/s")
        said = self.check("--config", self.file('socket = "/f/s"\n'), env=env)
        self.assertEqual((said["socket"], said["data"]), ("/f/s", "/e/d"))

    def test_brig_accept_adds_to_the_file(self):
        said = self.check("--config", self.file('accept = ["swap"]\n'),
                          env={"BRIG_ACCEPT": "memory,cpu"})
        self.assertEqual(said["accept"], ["swap", "memory,cpu"])

    def test_numbers_and_texts(self):
        said = self.check("--config", self.file('idle_exit = 90\nsocket = \'/a "b"\'\n'))
        self.assertEqual((said["idle_exit"], said["socket"]), ("1m30s", '/a "b"'))

    # ---- mistakes ----

    def test_unknown_keys_are_refused_with_the_nearest(self):
        for text, place, name, nearest in (
                ("\nidle-exit = 3\n", "2:1", "idle-exit", "idle_exit"),
                ("[htpp]\nlisten = []\n", "1:2", "htpp", "http"),
                ("[http]\nlisten = []\ntls_crt = ''\n", "3:1", "http.tls_crt", "http.tls_cert"),
                ("http.domian = ''\n", "1:6", "http.domian", "http.domain"),
                ("[[pool]]\nsize = 1\nimag = ''\n", "3:1", r"pool\[\].imag", r"pool\[\].image"),
                ("background = true\n", "1:1", "background", "")):
            self.refused(text, f"b.toml:{place}: unknown key '{name}'",
                         f"remedy: the nearest known key is '{nearest}")

    def test_wrong_kinds_are_refused(self):
        for text, words in (("data = 3", "1:1: 'data' is an integer here"),
                            ("http = 3", "1:1: 'http' is an integer here"),
                            ("[http]\nenabled = 'yes'", "2:1: 'http.enabled' is a string here"),
                            ("[http]\nlisten = 'x'", "2:1: 'http.listen' is a string here"),
                            ("[http]\nlisten = ['x', 3]", "2:16: 'http.listen' is an integer"),
                            ("idle_exit = 1.5", "1:1: 'idle_exit' is a float here"),
                            ("pool = 1", "1:1: 'pool' is an integer here"),
                            ("pool = [1]", "1:9: 'pool' is an integer here"),
                            ("[[pool]]\nimage = 'a'\nsize = '1'", "3:1: 'size' is a string here"),
                            ("[[data]]\n", "1:3: 'data' is an array here")):
            self.refused(text, "b.toml:" + words, "remedy: make it")

    def test_wrong_values_are_refused(self):
        for text, *words in (("[log]\nlevel = 'loud'", "2:1: log.level: .*not one of: error"),
                             ("idle_exit = '1parsec'", "1:1: idle_exit: .*not a duration"),
                             ("shutdown_grace = '2h'", "longer than an hour"),
                             ("[[pool]]\nimage = 'a'", r"1:3: \[\[pool\]\] needs size"),
                             ("[[pool]]\nsize = 1", r"1:3: \[\[pool\]\] needs what"),
                             ("[[pool]]\nimage = 'a'\ntemplate = 'b'\nsize = 1",
                              "3:1: 'image' and 'template' exclude each other"),
                             ("[[pool]]\nimage = 'a'\nsize = 0", "N from 1 to"),
                             ("[[pool]]\nimage = 'a'\nsize = -1", "N from 1 to"),
                             ("accept = ['nope']", "unknown name 'nope'", "remedy: names are"),
                             ("[http]\nlisten = ['example.com:80']", "no address and port"),
                             ("[http]\nlisten = ['10.0.0.1:80']", "without TLS"),
                             ("[http]\ndomain = 'A'", "no lower-case host name"),
                             ("[http]\ntls_cert = '/x'", "belong together")):
            self.refused(text, *words)

    def test_duplicates_and_what_is_no_toml(self):
        for text, words in (("data = 'a'\ndata = 'b'", "2:1: 'data' is there already, in line 1"),
                            ("[http]\n[log]\n[http]\n", "3:2: 'http' is there already, in line 1"),
                            ("data = 'a", "1:8: the string has no end"),
                            ("data = a", "1:8: 'a' is no number, boolean or string"),
                            ("data = 2020-01-01", "1:8: '2020-01-01' is a date or a time"),
                            ("data 'a'", "1:6: '=' is missing behind 'data'"),
                            ("data = 'a' x", "1:12: something follows"),
                            ("[http", "1:6: ']' is missing")):
            self.refused(text, "b.toml:" + words)

    # ---- the file itself ----

    def test_a_file_that_others_can_change_is_refused(self):
        for mode in (0o664, 0o646):
            done = self.brig.call("serve", "--check", "--config", self.file("", mode))
            self.assertRefused(done, 2, "can be changed by others", "remedy: chmod go-w it")
        brigtest.need_root()
        path = self.file("")
        os.chown(path, 12345, 0)
        done = self.brig.call("serve", "--check", "--config", path)
        self.assertRefused(done, 2, "belongs to user 12345", "remedy: give it to")

    def test_what_is_no_file_is_refused(self):
        os.mkfifo(self.tmp / "fifo")
        for path, words in ((self.tmp / "fifo", "no regular file"), ("/dev/null", "no regular file"),
                            (self.tmp, "no regular file"), (self.tmp / "none", "No such file")):
            self.assertRefused(self.brig.call("serve", "--check", "--config", path), 2, words)
        big = self.tmp / "big"
        big.write_text("#" * (256 * 1024 + 1))
        self.assertRefused(self.brig.call("serve", "--check", "--config", big), 2,
                           "longer than 256 KiB")

    def test_the_usual_place(self):
        if os.geteuid():
            (self.tmp / "brig").mkdir()
            (self.tmp / "brig" / "brig.toml").write_text('idle_exit = "5h"\n')
            self.assertEqual(self.check()["idle_exit"], "5h")
            return
        # In a mount namespace of its own: /etc is not ours to change.
        brigtest.need_program("unshare")
        (self.tmp / "brig.toml").write_text('idle_exit = "5h"\n')
        script = ("mount -t tmpfs none /etc && mkdir /etc/brig && "
                  f"cp {self.tmp}/brig.toml /etc/brig/ && exec \"$@\"")
        prefix = ("unshare", "-m", "sh", "-c", script, "sh")
        self.assertEqual(self.check(prefix=prefix)["idle_exit"], "5h")
        self.assertNotIn("idle_exit", self.check())
        done = self.brig.call("serve", "--check", prefix=(
            *prefix[:4], script.replace("&& exec", "&& chmod g+w /etc/brig/brig.toml && exec"), "sh"))
        self.assertRefused(done, 2, "/etc/brig/brig.toml.* can be changed by others")


class Served(ServeCase):
    def test_a_server_does_what_its_file_says(self):
        path = self.tmp / "b.toml"
        path.write_text(f'shutdown_grace = "0"\n[http]\nlisten = ["{LOOPBACK}"]\n'
                        '[log]\nlevel = "debug"\n[[pool]]\nimage = "host"\nsize = 1\n')
        self.server = Server(self.brig, "--config", path)
        self.addCleanup(self.server.stop)
        self.said("HTTP on .*\n")
        self.run_hello(self.first_key())
        self.assertEqual([p["image"] for p in self.brig.json("pool", "ls")], ["host"])
