# SPDX-License-Identifier: Apache-2.0
"""The other runtimes: how each one runs a command in the same root file system, and whether it can do
so here. A peer that cannot is reported with its own words, never left out silently.

All of them get the same root, read-only where they offer it, no network beyond loopback, a private
/proc, /dev and /tmp. None is given fewer namespaces than it makes by default for an untrusted command.
"""

import json
import pathlib
import shutil
import subprocess


class Peer:
    def __init__(self, name, package, note=""):
        self.name, self.package, self.note = name, package, note
        self.every = 1
        self.mntns = ""
        self.broken = None if shutil.which(name) else f"not installed (Debian package {package})"
        self.version = ""

    def command(self, *args):
        raise NotImplementedError

    def line(self, form, *args):
        kind = "spawn" + (f":{self.mntns}" if self.mntns else "")
        return "\t".join([form, str(self.every), kind, *self.command(*args)])

    def try_out(self):
        if self.broken:
            return
        try:
            first = subprocess.run([self.name, "--version"], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, timeout=20).stdout
            self.version = first.strip().splitlines()[0] if first.strip() else ""
        except (OSError, subprocess.TimeoutExpired) as e:
            self.broken = str(e)


class Bwrap(Peer):
    def __init__(self, root):
        super().__init__("bwrap", "bubblewrap", "--unshare-all; no cgroup, no seccomp filter")
        self.root = root

    def command(self, *args):
        return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", str(self.root), "/",
                "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", *args]


class Oci(Peer):
    """crun and runc: `run` of a bundle. The bundle is the runtime's own `spec`, changed only in root,
    arguments and terminal."""

    def __init__(self, name, root, work, options=(), note="", cgroup=True):
        super().__init__(name, name, note)
        self.options = list(options)
        self.work, self.root, self.cgroup = pathlib.Path(work), root, cgroup

    def bundle(self, *args):
        """The directory of a bundle for these arguments."""
        where = self.work / f"{self.name}-{abs(hash(args)):x}"
        if where.exists():
            return where
        where.mkdir()
        subprocess.run([self.name, "spec"], cwd=where, check=True, stdout=subprocess.DEVNULL)
        spec = json.loads((where / "config.json").read_text())
        spec["process"]["terminal"] = False
        spec["process"]["args"] = list(args)
        spec["root"] = {"path": str(self.root), "readonly": True}
        if not self.cgroup:
            spec["linux"].pop("resources", None)
            spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "cgroup"]
        (where / "config.json").write_text(json.dumps(spec))
        return where

    def command(self, *args):
        return [self.name, *self.options, "run", "-b", str(self.bundle(*args)), f"b-{self.name}-%i"]


class Runsc(Oci):
    """`runsc run` of the same kind of bundle: what the gVisor tier is compared with. It has a section of its
    own, because it is another kernel and another boundary than those of the other peers."""

    def __init__(self, root, work):
        super().__init__("runsc", root, work, ["--network=none", "--ignore-cgroups", "--overlay2=none",
                                               f"--root={pathlib.Path(work) / 'runsc-state'}"],
                         note="--network=none --ignore-cgroups, runsc's own platform", cgroup=False)

    def bundle(self, *args):
        where = self.work / f"runsc-{abs(hash(args)):x}"
        if where.exists():
            return where
        where.mkdir()
        (where / "config.json").write_text(json.dumps({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": list(args), "env": [], "cwd": "/",
                        "capabilities": {}},
            "root": {"path": str(self.root), "readonly": True},
            "mounts": [{"type": "proc", "destination": "/proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]}}))
        return where

    def command(self, *args):
        return ["runsc", *self.options, "run", f"--bundle={self.bundle(*args)}", "b-runsc-%i"]


class Podman(Peer):
    def __init__(self, root):
        super().__init__("podman", "podman", "--network=none, runc below it")
        self.root = root
        self.every = 3

    def command(self, *args):
        # The ulimits are those that a container may have on a host without CAP_SYS_RESOURCE.
        return ["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", "run", "--rm",
                "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                "--rootfs", str(self.root), *args]


class Firejail(Peer):
    """Debian's firejail has --chroot switched off, so it runs the same program on the host's root; its
    --private-tmp would hide the program."""

    def __init__(self, root):
        super().__init__("firejail", "firejail", "--net=none on the host's root: its --chroot is "
                         "disabled in Debian's configuration")
        self.root = root
        self.every = 3

    def command(self, *args):
        program, *rest = args
        return ["firejail", "--quiet", "--noprofile", "--net=none", str(self.root) + program,
                *rest]


class Bare(Peer):
    def __init__(self, root):
        super().__init__("bare", "", "vfork and exec, no sandbox")
        self.broken = None
        self.root = root

    def try_out(self):
        pass

    def command(self, *args):
        program, *rest = args
        return [str(self.root) + program, *rest]


class Holder:
    """A process in a mount namespace where /sys/fs/cgroup is the version 2 tree of a hybrid host. crun
    refuses hybrid hosts before it looks at its options; in this view it runs, without cgroups."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c",
             "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && echo up && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.ok = self.process.stdout.readline() == b"up\n"
        self.ns = f"/proc/{self.process.pid}/ns/mnt"

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def all_peers(root, work, wanted, holder):
    hybrid = pathlib.Path("/sys/fs/cgroup/unified").is_dir()
    crun = Oci("crun", root, work)
    if hybrid:
        crun = Oci("crun", root, work, ["--cgroup-manager=disabled"], cgroup=False,
                   note="refuses hybrid cgroups: --cgroup-manager=disabled, and a mount namespace in "
                        "which only the v2 tree shows; no cgroup work at all")
        crun.mntns = holder.ns
        if not holder.ok:
            crun.broken = "refuses hybrid cgroups"
    peers = [Bare(root), Bwrap(root), crun, Oci("runc", root, work, note="cgroup on"), Podman(root),
             Firejail(root)]
    peers[3].every = 2
    return [p for p in peers if not wanted or p.name in wanted]
