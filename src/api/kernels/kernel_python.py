# SPDX-License-Identifier: Apache-2.0
"""kernel_python.py: executes Python, one cell after the other in one namespace.

Theory of operation
-------------------
A cell is parsed, its last statement taken off if it is an expression, and both parts are run in a
module that stands as __main__. The value of that expression is the cell's main result; display()
and figures give further ones. `await` may stand at the top level. What IPython adds to the
language is known as far as it is common in cells written for notebooks: !command, %pip, %cd, %env,
%time, %%bash, %%writefile, display(), _ and Out; lines of that kind are looked for only in a cell
that is not Python as it stands.

Without IPython in the image, `from IPython.display import ...` finds the few classes below; with it,
its display() is replaced by the one here. Figures of pyplot that are open when a cell ends (or when
show() is called) become results: a PNG, and the figures behind it as data (kernel_chart.py).
"""
import ast
import base64
import builtins
import importlib.abc
import importlib.util
import io
import linecache
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import types

PyCF_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
FUTURE_FLAGS = 0x1FE0000  # CO_FUTURE_* of compile(), kept from cell to cell
CO_COROUTINE = 0x80
GIVE_WAY_S = 0.1

# (attribute, key of the result, of bytes)
REPRS = [("_repr_html_", "html"), ("_repr_markdown_", "markdown"), ("_repr_svg_", "svg"),
         ("_repr_png_", "png"), ("_repr_jpeg_", "jpeg"), ("_repr_pdf_", "pdf"),
         ("_repr_latex_", "latex"), ("_repr_json_", "json"), ("_repr_javascript_", "javascript")]
MIMES = {"text/plain": "text", "text/html": "html", "text/markdown": "markdown",
         "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpeg",
         "application/pdf": "pdf", "text/latex": "latex", "application/json": "json",
         "application/javascript": "javascript", "e2b/data": "data", "e2b/chart": "chart"}
TEXTS = {"text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript"}


def mime_value(key, value):
    if isinstance(value, (bytes, bytearray)):
        if key in ("png", "jpeg", "pdf") or key not in TEXTS:
            return base64.b64encode(value).decode("ascii")
        return value.decode("utf-8", "replace")
    if key in TEXTS:
        return clean(value if isinstance(value, str) else str(value))  # noqa: F821
    return plain(value)  # noqa: F821


def unquote(text):
    """The repr of a string without its quotes, as E2B's clients expect it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def bundle_fields(bundle):
    fields, extra = {}, {}
    for mime, value in bundle.items():
        key = MIMES.get(mime)
        if value is None:
            continue
        if key:
            fields[key] = mime_value(key, value)
        else:
            extra[str(mime)] = mime_value(None, value)
    if extra:
        fields["extra"] = extra
    return fields


def table_data(frame):
    """A pandas table as {column: [values]}."""
    return {str(name): plain(column.tolist())  # noqa: F821
            for name, column in ((n, frame.iloc[:, i]) for i, n in enumerate(frame.columns))}


def figure_fields(figure):
    buf = io.BytesIO()
    figure.savefig(buf, format="png", bbox_inches="tight")
    fields = {"png": base64.b64encode(buf.getvalue()).decode("ascii")}
    try:
        fields["chart"] = plain(chart_of(figure))  # noqa: F821
    except Exception:
        pass  # a plot of a kind that has no data to show
    return fields


def value_fields(value):
    """What is shown of a value: {key of a result: content}."""
    fields = {}
    pandas = sys.modules.get("pandas")
    figure = sys.modules.get("matplotlib.figure")
    if not isinstance(value, type):
        method = getattr(value, "_repr_mimebundle_", None)
        if callable(method):
            try:
                found = method()
                if isinstance(found, tuple):
                    found = found[0]
                fields.update(bundle_fields(found or {}))
            except Exception:
                pass
        for name, key in REPRS:
            method = getattr(value, name, None)
            if key in fields or not callable(method):
                continue
            try:
                found = method()
                if isinstance(found, tuple):
                    found = found[0]
                if found is not None:
                    fields[key] = mime_value(key, found)
            except Exception:
                continue
        if pandas and isinstance(value, getattr(pandas, "DataFrame", ())):
            try:
                fields["data"] = table_data(value)
            except Exception:
                pass
        if figure and isinstance(value, figure.Figure):
            try:
                fields.update(figure_fields(value))
            except Exception:
                pass
    if "text" not in fields:
        text = repr(value)
        fields["text"] = clean(unquote(text) if isinstance(value, str) else text)  # noqa: F821
    return fields


class Shown:
    """A value with one representation: what IPython.display offers."""

    key, mode, suffix = "text", "text", None

    def __init__(self, data=None, url=None, filename=None, **options):
        if data is None and filename is not None:
            with open(filename, "rb") as f:
                data = f.read()
        elif isinstance(data, (str, os.PathLike)) and self.mode == "file":
            with open(data, "rb") as f:
                data = f.read()
        if isinstance(data, bytes) and self.mode == "text":
            data = data.decode("utf-8", "replace")
        self.data, self.url, self.options = data, url, options

    def _repr_mimebundle_(self, **_):
        mime = next(m for m, k in MIMES.items() if k == self.key)
        return {mime: self.data, "text/plain": repr(self)}

    def __repr__(self):
        return "<IPython.core.display.%s object>" % type(self).__name__


class HTML(Shown):
    key = "html"


class Markdown(Shown):
    key = "markdown"


class SVG(Shown):
    key = "svg"


class Latex(Shown):
    key = "latex"


class Math(Latex):
    def __init__(self, data=None, **options):
        super().__init__("$\\displaystyle %s$" % data, **options)


class JSON(Shown):
    key, mode = "json", "json"


class Javascript(Shown):
    key = "javascript"


class Pretty(Shown):
    def __repr__(self):
        return str(self.data)


class Image(Shown):
    key, mode = "png", "file"

    def __init__(self, data=None, url=None, filename=None, format=None, **options):
        super().__init__(data, url, filename, **options)
        if isinstance(self.data, bytes) and self.data[:3] == b"\xff\xd8\xff":
            self.key = "jpeg"


def ipython_modules(kernel):
    """Stand-ins for an image without IPython."""
    display = types.ModuleType("IPython.display")
    for cls in (HTML, Markdown, SVG, Latex, Math, JSON, Javascript, Pretty, Image):
        setattr(display, cls.__name__, cls)
    display.display = kernel.display
    display.clear_output = lambda wait=False: None
    top = types.ModuleType("IPython")
    top.__path__ = []
    top.display = display
    top.get_ipython = lambda: None  # pyplot asks it for the events of a real one
    return {"IPython": top, "IPython.display": display}


class Hooks(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Adjusts the few modules that must know that they run here, when they are first imported."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.after = {"matplotlib.pyplot": self.pyplot, "IPython.display": self.ipython}
        self.busy = set()
        self.warming = None  # the thread that imports ahead

    def find_spec(self, name, path=None, target=None):
        if self.warming == threading.get_ident():
            self.give_way()
        if name not in ("matplotlib.pyplot", "IPython", "IPython.display") or name in self.busy:
            return None
        self.busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        finally:
            self.busy.discard(name)
        if spec is None and name.startswith("IPython"):
            return importlib.util.spec_from_loader(name, self, is_package=name == "IPython")
        if spec is None or name not in self.after or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            self.after[name](module)
        spec.loader.exec_module = exec_module
        return spec

    def give_way(self):
        """Imports ahead step back for a cell, but not for long: it may wait for these imports."""
        wire = self.kernel.wire
        while wire.id is not None and time.monotonic() - wire.since < GIVE_WAY_S:
            time.sleep(0.001)

    def create_module(self, spec):
        return ipython_modules(self.kernel)[spec.name]

    def exec_module(self, module):
        pass

    def pyplot(self, module):
        def show(*_args, **_kwargs):
            self.kernel.show_figures()
        module.show = show

    def ipython(self, module):
        module.display = self.kernel.display


class Shell:
    """What get_ipython() gives: the magics of this kernel."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.user_ns = kernel.ns

    def fill(self, command):
        def put(match):
            return str(self.user_ns[match[1]]) if match[1] in self.user_ns else match[0]
        return re.sub(r"\{([A-Za-z_]\w*)\}", put, command)

    def system(self, command):
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        code = subprocess.call([shell, "-c", self.fill(command)])
        self.user_ns["_exit_code"] = code

    def getoutput(self, command):
        done = subprocess.run(self.fill(command), shell=True, stdout=subprocess.PIPE, text=True,
                              errors="replace")
        return done.stdout.splitlines()

    def run_line_magic(self, name, line, _stack_depth=1):
        line = line.strip()
        if name in ("pip", "pip3"):
            return self.system(sys.executable + " -m pip " + line)
        if name in ("sx", "system"):
            return self.system(line)
        if name == "cd":
            os.chdir(os.path.expanduser(line or "~"))
            return None
        if name == "pwd":
            return os.getcwd()
        if name in ("env", "set_env"):
            if "=" in line:
                key, value = line.split("=", 1)
            elif " " in line:
                key, value = line.split(None, 1)
            else:
                return os.environ.get(line) if line else dict(os.environ)
            os.environ[key.strip()] = value.strip()
            return None
        if name in ("time", "timeit"):
            return self.time(line)
        if name in ("matplotlib", "load_ext", "autoreload", "config", "reload_ext", "precision"):
            return None
        if name in ("who", "whos"):
            print("\t".join(sorted(k for k in self.user_ns if not k.startswith("_"))))
            return None
        raise NameError("Line magic function `%%%s` not found." % name)

    def run_cell_magic(self, name, line, body):
        if name in ("bash", "sh", "script"):
            subprocess.run(["bash" if name != "sh" else "sh"], input=body.encode(), check=True)
        elif name == "writefile":
            append = line.strip().startswith("-a ")
            path = line.strip()[3:].strip() if append else line.strip()
            with open(os.path.expanduser(path), "a" if append else "w", encoding="utf-8") as f:
                f.write(body)
            print(("Appending to " if append else "Writing ") + path)
        elif name in ("time", "timeit", "capture"):
            self.time(body)
        elif name in ("html", "HTML"):
            self.kernel.display(HTML(body))
        else:
            raise NameError("Cell magic `%%%%%s` not found." % name)

    def time(self, source):
        wall, cpu = time.perf_counter(), time.process_time()
        value = self.kernel.run_source(source)
        print("CPU times: total: %.3g s\nWall time: %.3g s"
              % (time.process_time() - cpu, time.perf_counter() - wall))
        return value

    def magic(self, line):
        name, _, rest = line.lstrip("%").partition(" ")
        return self.run_line_magic(name, rest)


LINE = re.compile(r"^(\s*)(?:([A-Za-z_][\w.,\s]*?)\s*=\s*)?([!%])(?!%)\s*(.*)$")


def magics(source):
    """The cell with its magic lines as calls."""
    first, _, body = source.lstrip().partition("\n")
    if first.startswith("%%"):
        name, _, line = first[2:].partition(" ")
        return "get_ipython().run_cell_magic(%r, %r, %r)" % (name, line, body)
    out, lines, at = [], source.split("\n"), 0
    while at < len(lines):
        match = LINE.match(lines[at])
        if not match:
            out.append(lines[at])
            at += 1
            continue
        indent, target, kind, rest = match.groups()
        skipped = 0
        while rest.endswith("\\") and at + 1 < len(lines):
            at += 1
            skipped += 1
            rest = rest[:-1] + lines[at]
        if kind == "!" and target:
            call = "get_ipython().getoutput(%r)" % rest
        elif kind == "!":
            call = "get_ipython().system(%r)" % rest.lstrip("!")
        else:
            name, _, line = rest.partition(" ")
            call = "get_ipython().run_line_magic(%r, %r)" % (name, line)
        out.append(indent + (target + " = " if target else "") + call)
        out.extend([""] * skipped)
        at += 1
    return "\n".join(out)


class PythonKernel:
    def __init__(self, wire):
        self.wire = wire
        self.count = 0
        self.flags = 0
        self.loop = None
        self.files = set()
        self.shown = set()
        self.main = types.ModuleType("__main__")
        self.main.__builtins__ = builtins
        sys.modules["__main__"] = self.main
        self.ns = self.main.__dict__
        self.shell = Shell(self)
        self.outputs = {}
        builtins.display = self.display
        builtins.get_ipython = lambda: self.shell
        self.ns.update(In=[""], Out=self.outputs, _="", __="", ___="")
        os.environ.setdefault("MPLBACKEND", "Agg")
        self.hooks = Hooks(self)
        sys.meta_path.insert(0, self.hooks)
        sys.path.insert(0, "")
        sys.argv = [""]

    def env(self, env):
        pass

    def warm(self, idle):
        """Imports what most cells want: beside whatever runs meanwhile, or, if nothing is going to
        for a while, here and now and with a first figure, whose fonts take their time."""
        def imports():
            for name in ("numpy", "pandas", "matplotlib.pyplot"):
                try:
                    importlib.import_module(name)
                except Exception:
                    pass

        def run():
            self.hooks.warming = threading.get_ident()
            interval = sys.getswitchinterval()
            sys.setswitchinterval(0.0005)
            imports()
            sys.setswitchinterval(interval)
            self.hooks.warming = None
            self.wire.send("warm")
        if not idle:
            threading.Thread(target=run, daemon=True).start()
            return
        imports()
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            figure = Figure()
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            axes.plot([0, 1], label="a")
            axes.set_title("a")
            axes.legend()
            figure_fields(figure)
        except Exception:
            pass
        self.compile("1", "<warm>")
        self.wire.send("warm")

    # ---- results ----
    def result(self, value, main):
        with self.wire.guard:
            self.wire.settle()
            self.wire.send("result", is_main_result=main, **value)

    def display(self, *values, include=None, exclude=None, metadata=None, raw=False,
                display_id=None, transient=None, clear=False, **_):
        for value in values:
            fields = bundle_fields(value) if raw and isinstance(value, dict) else value_fields(value)
            if self.is_figure(value):
                self.shown.add(id(value))
            self.result(fields, False)

    def is_figure(self, value):
        figure = sys.modules.get("matplotlib.figure")
        return bool(figure) and isinstance(value, figure.Figure)

    def show_figures(self):
        plt = sys.modules.get("matplotlib.pyplot")
        if plt is None or not hasattr(plt, "get_fignums"):
            return
        try:
            for number in plt.get_fignums():
                figure = plt.figure(number)
                if id(figure) not in self.shown and (figure.axes or figure.lines or figure.texts):
                    self.result(dict(figure_fields(figure), text=clean(repr(figure))),  # noqa: F821
                                False)
        finally:
            self.shown.clear()
            plt.close("all")

    # ---- cells ----
    def compile(self, source, name):
        flags = self.flags | PyCF_AWAIT
        try:
            tree = compile(source, name, "exec", flags | ast.PyCF_ONLY_AST, True)
        except SyntaxError as first:
            changed = magics(source)
            if changed == source:
                raise
            try:
                tree = compile(changed, name, "exec", flags | ast.PyCF_ONLY_AST, True)
            except SyntaxError:
                raise first from None
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not silent(source):
            last = ast.Expression(tree.body.pop().value)
        parts = [compile(tree, name, "exec", flags, True)] if tree.body else []
        if parts:
            self.flags |= parts[0].co_flags & FUTURE_FLAGS
        return parts + ([compile(last, name, "eval", flags, True)] if last else []), bool(last)

    def run_code(self, code):
        if not code.co_flags & CO_COROUTINE:
            return eval(code, self.ns)
        import asyncio
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(eval(code, self.ns))
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task], timeout=1))
            raise

    def run_source(self, source, name="<magic>"):
        parts, has_value = self.compile(source, name)
        value = None
        for part in parts:
            value = self.run_code(part)
        return value if has_value else None

    def execute(self, code, env):
        self.count += 1
        wire, name = self.wire, "Cell In[%d]" % self.count
        wire.send("count", execution_count=self.count)
        lines = code.splitlines(True)
        linecache.cache[name] = (len(code), None, lines, name)
        self.files.add(name)
        self.ns["In"].append(code)
        sys.modules["__main__"] = self.main
        if self.loop is not None and not self.loop.is_closed():
            sys.modules["asyncio"].set_event_loop(self.loop)
        try:
            wire.running = True
            value = self.run_source(code, name)
            if value is not None:
                self.remember(value)
                fields = value_fields(value)
                if self.is_figure(value):
                    self.shown.add(id(value))
                self.result(fields, True)
            self.show_figures()
            wire.running = False
        except BaseException as exc:
            wire.running = False
            try:
                self.show_figures()
            except Exception:
                pass
            self.failed(exc)

    def remember(self, value):
        self.outputs[self.count] = value
        old = self.ns
        old["___"], old["__"], old["_"] = old.get("__"), old.get("_"), value
        old["_%d" % self.count] = value

    def failed(self, exc):
        wire = self.wire
        wire.settle()
        tb = exc.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename not in self.files:
            tb = tb.tb_next
        try:
            value = str(exc) if not isinstance(exc, SystemExit) or exc.code is not None else ""
        except BaseException:
            value = "<unprintable %s object>" % type(exc).__name__
        try:
            text = "".join(without_kernel(
                traceback.TracebackException(type(exc), exc, tb)).format())
        except BaseException:
            text = type(exc).__name__ + ": " + value
        wire.send("error", name=type(exc).__name__, value=clean(value),  # noqa: F821
                  traceback=clean(text))  # noqa: F821


def without_kernel(told):
    """A traceback without this program's own frames."""
    seen, todo = set(), [told]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        kept = [f for f in one.stack if f.filename != "<kernel>"]
        one.stack[:] = kept
        todo += [one.__cause__, one.__context__] + list(getattr(one, "exceptions", None) or ())
    return told


def silent(source):
    """A last statement with a semicolon behind it shows nothing."""
    line = source.rstrip().rsplit("\n", 1)[-1]
    return re.search(r";\s*(#[^'\"]*)?$", line) is not None


def kernel_main(rx):
    wire = Wire(rx)  # noqa: F821 (kernel_io.py stands before this file)
    wire.serve(PythonKernel(wire))
