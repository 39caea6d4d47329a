# SPDX-License-Identifier: Apache-2.0
"""kernel_node.py: keeps the node that executes JavaScript and TypeScript (kernel_node.js).

Theory of operation
-------------------
Node cannot move its own standard output out of the way, and while it waits for a subprocess it reads
nothing. So this process captures what is printed, as for Python, and node inherits the pipes.
Requests go to node on descriptor 63, its events come back on 62, one JSON object a line; they are
passed on after what was printed before them. SIGINT reaches node by itself (one process group).
"""
import os
import subprocess
import sys

NODE_BOOT = (
    "{const f=require('fs');let s='',b=Buffer.alloc(1);"
    "while(f.readSync(63,b,0,1)===1&&b[0]!==10)s+=b.toString();"
    "let n=Number(s),t=Buffer.alloc(n),a=0;while(a<n)a+=f.readSync(63,t,a,n-a);"
    "require('vm').runInThisContext(t.toString(),{filename:'brig:kernel'})(require,process)}")


class NodeKernel:
    def __init__(self, wire, language, source):
        self.wire, self.language, self.source = wire, language, source.encode()
        self.count = 0
        self.node = None

    def start(self):
        r, self.tx = os.pipe()
        rx, w = os.pipe()
        os.dup2(r, 63, inheritable=True)
        os.dup2(w, 62, inheritable=True)
        try:
            self.node = subprocess.Popen(
                ["node", "--expose-internals", "--experimental-vm-modules", "--no-warnings",
                 "-e", NODE_BOOT, "--", self.language], pass_fds=(62, 63))
        except FileNotFoundError:
            os.close(rx)
            os.close(self.tx)
            raise
        finally:
            for fd in (r, w, 62, 63):
                os.close(fd)
        self.rx = os.fdopen(rx, "rb")
        self.put(b"%d\n" % len(self.source) + self.source)

    def put(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.tx, view):]

    def stop(self):
        if self.node:
            os.close(self.tx)
            self.rx.close()
            self.node.kill()
            self.node.wait()
        self.node = None

    def env(self, env):
        if self.node:
            self.put(json_line({"op": "env", "env": env}))  # noqa: F821

    def warm(self, idle):
        try:
            if not self.node:
                self.start()
        except FileNotFoundError:
            pass
        self.wire.send("warm")

    def execute(self, code, env):
        wire = self.wire
        self.count += 1
        wire.send("count", execution_count=self.count)
        if self.node and self.node.poll() is not None:
            self.stop()
        try:
            if not self.node:
                self.start()
        except FileNotFoundError:
            wire.send("error", name="KernelError", value="node is not installed in this image",
                      traceback="node is not installed in this image (Debian package nodejs)")
            return
        try:
            self.put(json_line({"op": "execute", "n": self.count, "code": code,  # noqa: F821
                                "env": env}))
            for line in self.rx:
                event = json.loads(line)  # noqa: F821
                kind = event.pop("type")
                wire.settle()
                if kind == "done":
                    return
                wire.send(kind, **plain(event))  # noqa: F821
        except BrokenPipeError:
            pass
        status = self.node.wait()
        self.stop()
        wire.settle()
        if status:
            wire.send("error", name="ExitCode", value=str(status),
                      traceback="node ended with status %d; its variables are gone" % status)


def json_line(value):
    return json.dumps(value).encode("ascii") + b"\n"  # noqa: F821


def kernel_main(rx):
    wire = Wire(rx)  # noqa: F821 (kernel_io.py stands before this file)
    import signal
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    wire.serve(NodeKernel(wire, sys.argv[1], NODE_SOURCE))  # noqa: F821 (made at build time)
