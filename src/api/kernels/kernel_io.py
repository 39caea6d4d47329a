# SPDX-License-Identifier: Apache-2.0
"""kernel_io.py: what the kernels in Python share: the wire to brig-api and the capture of output.

Theory of operation
-------------------
A kernel runs inside the sandbox as its user and is trusted by nobody. brig-api writes its program
text into its standard input, then requests, one JSON object a line; answers go to the standard
output that the process was born with, one ASCII JSON object a line. Nothing is written to a file.

Before any code of the user runs, descriptor 1 and 2 become pipes that are read here, and 0 becomes
/dev/null. So what a subprocess prints is captured as well. sys.stdout and sys.stderr do not take
that way: their text is queued directly, after what the pipes hold at that moment, which keeps the
order of print() and of subprocesses. Text leaves at once when nothing left within FLUSH_S, else
together with what follows, so that a loop of prints costs few events.

Requests:  {"op":"execute","id","code","env":{}}  {"op":"env","env":{}}  {"op":"warm","idle"}
           SIGINT interrupts the execution under way and is ignored otherwise.
Events:    {"type":"ready"}  {"type":"warm"}, and with the "id" of the execution: count (with
           execution_count), stdout, stderr (text), result, error (name, value, traceback), done; or
           fatal (text) before the kernel ends by itself.
"""
import codecs
import json
import os
import select
import signal
import sys
import threading
import time
import traceback

FLUSH_S = 0.02
DRAIN_S = 0.00005
TEXT_MAX = 64 * 1024  # characters of one stdout or stderr event
LINE_MAX = 7 * 1024 * 1024  # bytes of one event; INTERP_LINE_MAX of brig-api is 8 MiB
PLAIN_DEPTH = 24
PLAIN_ITEMS = 250000  # of one field; INTERP_VALUES_MAX of brig-api is 1000000


def clean(text):
    """Text that UTF-8 can carry: lone surrogates become U+FFFD."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Budget:
    def __init__(self, items):
        self.items = items


def plain(value, depth=PLAIN_DEPTH, budget=None):
    """The value as JSON can say it: no NaN, no integer beyond 64 bits, no foreign type."""
    budget = budget or _Budget(PLAIN_ITEMS)
    budget.items -= 1
    if depth <= 0 or budget.items < 0:
        return None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < (1 << 63) else str(value)
    if isinstance(value, float):
        value = float(value)
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {clean(str(k)): plain(v, depth - 1, budget) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, depth - 1, budget) for v in value]
    for name in ("isoformat", "tolist", "item"):
        method = getattr(value, name, None)
        if callable(method):
            try:
                return plain(method(), depth - 1, budget)
            except Exception:
                continue
    return clean(str(value))


class Guard:
    """Holds the wire; an interrupt that comes meanwhile is raised when it is let go."""

    def __init__(self, wire):
        self.wire = wire

    def __enter__(self):
        if threading.get_ident() == self.wire.main:
            self.wire.shield += 1
        self.wire.lock.acquire()

    def __exit__(self, *_):
        wire = self.wire
        wire.lock.release()
        if threading.get_ident() != wire.main:
            return
        wire.shield -= 1
        if wire.shield == 0 and wire.interrupted:
            wire.interrupted = False
            if wire.running:
                raise KeyboardInterrupt


class Stream:
    """sys.stdout and sys.stderr."""

    encoding, errors, newlines, closed, line_buffering = "utf-8", "replace", None, False, True
    mode = "w"

    class Bytes:
        def __init__(self, stream):
            self.stream = stream
            self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def write(self, data):
            data = bytes(data)
            self.stream.write(self.decoder.decode(data))
            return len(data)

        def flush(self):
            pass

        def writable(self):
            return True

    def __init__(self, wire, name, fd):
        self.wire, self.kind, self.fd = wire, name, fd
        self.name = "<" + name + ">"
        self.buffer = self.Bytes(self)

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        if self.wire.child:
            os.write(self.fd, text.encode("utf-8", "replace"))
        elif text:
            self.wire.text(self.kind, text)
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        if not self.wire.child:
            self.wire.flush()

    def fileno(self):
        return self.fd

    def isatty(self):
        return False

    def readable(self):
        return False

    def writable(self):
        return True

    def seekable(self):
        return False

    def close(self):
        pass

    def reconfigure(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Wire:
    def __init__(self, rx):
        self.rx = rx
        self.child = False  # set in what user code forks: the wire is not its own
        self.main = threading.get_ident()
        self.lock = threading.RLock()
        self.guard = Guard(self)
        self.shield = 0
        self.interrupted = False
        self.running = False
        self.since = 0.0  # begin of the execution
        self.id = None
        self.parts, self.size, self.flushed, self.asked = [], 0, 0.0, 0.0
        self.due = threading.Event()
        self.out = os.dup(1)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.pipes = {}
        self.poll, self.wait = select.poll(), select.poll()  # one for each thread that waits
        for fd, kind in ((1, "stdout"), (2, "stderr")):
            r, w = os.pipe()
            os.dup2(w, fd)
            os.close(w)
            os.set_blocking(r, False)
            self.pipes[r] = (kind, codecs.getincrementaldecoder("utf-8")("replace"))
            self.poll.register(r, select.POLLIN)
            self.wait.register(r, select.POLLIN)
        sys.stdin = open(0, "r", encoding="utf-8", closefd=False)
        sys.stdout = sys.__stdout__ = Stream(self, "stdout", 1)
        sys.stderr = sys.__stderr__ = Stream(self, "stderr", 2)
        signal.signal(signal.SIGINT, self.on_sigint)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.register_at_fork(after_in_child=self.after_fork)
        for target in (self.pump_main, self.flush_main):
            threading.Thread(target=target, daemon=True).start()

    def after_fork(self):
        self.child = True

    def on_sigint(self, _signum, _frame):
        if self.child:
            raise KeyboardInterrupt
        if not self.running:
            return
        if self.shield:
            self.interrupted = True
            return
        raise KeyboardInterrupt

    # ---- output of the user ----
    def append(self, kind, text):
        if not text:
            return
        if self.parts and self.parts[-1][0] == kind:
            self.parts[-1][1].append(text)
        else:
            self.parts.append((kind, [text]))
        self.size += len(text)

    def drain(self):
        """What the pipes hold, into the queue. The lock is held."""
        for fd, _ in self.poll.poll(0):
            kind, decoder = self.pipes[fd]
            self.append(kind, decoder.decode(os.read(fd, 65536)))

    def text(self, kind, text):
        with self.guard:
            # What another program printed took longer than this; a loop of prints asks seldom.
            now = time.monotonic()
            if now - self.asked > DRAIN_S:
                self.drain()
            self.asked = now
            self.append(kind, text)
            # print() writes its newline by itself: only whole lines leave at once.
            if self.size > TEXT_MAX or (text[-1] == "\n" and
                                        now - self.flushed > FLUSH_S):
                self.flush()
            else:
                self.due.set()

    def flush(self):
        with self.guard:
            parts, self.parts, self.size = self.parts, [], 0
            for kind, texts in parts:
                text = "".join(texts)
                for at in range(0, len(text), TEXT_MAX):
                    self.send(kind, text=clean(text[at:at + TEXT_MAX]))
            self.flushed = time.monotonic()

    def settle(self):
        """All that was printed by now is sent."""
        with self.guard:
            while self.poll.poll(0):
                self.drain()
                if self.size > TEXT_MAX:
                    self.flush()
            self.flush()

    def pump_main(self):
        while True:
            self.wait.poll()
            with self.guard:
                self.drain()
                if self.size > TEXT_MAX:
                    self.flush()
            self.due.set()

    def flush_main(self):
        while True:
            self.due.wait()
            time.sleep(FLUSH_S)
            self.due.clear()
            self.flush()

    # ---- events ----
    def send(self, kind, **fields):
        if self.child:
            return
        fields["type"] = kind
        if self.id is not None:
            fields["id"] = self.id
        line = json.dumps(fields, ensure_ascii=True, allow_nan=False,
                          separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) > LINE_MAX:
            line = self.shorten(fields)
        with self.guard:
            view = memoryview(line)
            while view:
                view = view[os.write(self.out, view):]

    def shorten(self, fields):
        """The same event without its largest parts."""
        lost = []
        while True:
            sizes = {k: len(json.dumps(v)) for k, v in fields.items() if k not in ("type", "id")}
            key = max(sizes, key=sizes.get)
            value = fields[key]
            if key in ("text", "value", "traceback") and isinstance(value, str):
                fields[key] = value[:TEXT_MAX] + "\n... cut, %d characters in all" % len(value)
            else:
                lost.append(key)
                del fields[key]
            line = json.dumps(fields, ensure_ascii=True).encode("ascii") + b"\n"
            if len(line) <= LINE_MAX:
                break
        if lost and not fields.get("text"):
            fields["text"] = "(%s left out: larger than %d MiB)" % (", ".join(lost), LINE_MAX >> 20)
            line = json.dumps(fields, ensure_ascii=True).encode("ascii") + b"\n"
        return line

    # ---- requests ----
    def serve(self, kernel):
        self.send("ready")
        for line in self.rx:
            req = json.loads(line)
            op = req.get("op")
            if op == "execute":
                try:
                    self.execute(kernel, req)
                except Exception:
                    # A mistake of the kernel's own, or its world broken by the user's code.
                    self.send("fatal", text=traceback.format_exc())
                    os._exit(70)
            elif op == "env":
                os.environ.update(req.get("env") or {})
                kernel.env(req.get("env") or {})
            elif op == "warm":
                kernel.warm(bool(req.get("idle")))
        self.settle()

    def execute(self, kernel, req):
        env = req.get("env") or {}
        before = {name: os.environ.get(name) for name in env}
        os.environ.update(env)
        self.id = req.get("id")
        try:
            self.interrupted = False
            self.since = time.monotonic()
            kernel.execute(req.get("code") or "", env)
        finally:
            self.running = False
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        self.settle()
        self.send("done")
        self.id = None
