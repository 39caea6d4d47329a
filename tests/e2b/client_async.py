# SPDX-License-Identifier: Apache-2.0
"""The published Python client, the asynchronous one: what differs from the synchronous one, which is all
that goes on at the same time."""

import asyncio
import os
import unittest

from e2b import AsyncSandbox, CommandExitException, TimeoutException
from e2b.sandbox.filesystem.watch_handle import FilesystemEventType

SLOW = float(os.environ.get("BRIG_TEST_SLOW", "1"))


class Async(unittest.IsolatedAsyncioTestCase):
    async def create(self, template="base", **opts):
        opts.setdefault("timeout", 120)
        s = await AsyncSandbox.create(template, **opts)
        self.addAsyncCleanup(AsyncSandbox.kill, s.sandbox_id)
        return s

    async def until(self, what, condition, seconds=10):
        async with asyncio.timeout(seconds * SLOW):
            while not condition():
                await asyncio.sleep(0.02)

    async def test_sandboxes_and_commands_go_on_at_once(self):
        boxes = await asyncio.gather(*(self.create(envs={"N": str(i)}) for i in range(5)))
        said = await asyncio.gather(*(s.commands.run("sleep 0.3; echo $N") for s in boxes for _ in range(4)))
        self.assertEqual([r.stdout for r in said], [f"{i}\n" for i in range(5) for _ in range(4)])

    async def test_output_comes_as_it_is_written(self):
        s = await self.create()
        seen = []
        c = await s.commands.run("cat", background=True, stdin=True, on_stdout=seen.append)
        await s.commands.send_stdin(c.pid, "one\n")
        await self.until("the first line", lambda: "".join(seen) == "one\n")
        await s.commands.send_stdin(c.pid, "two\n")
        await self.until("the second line", lambda: "".join(seen) == "one\ntwo\n")
        await s.commands.close_stdin(c.pid)
        self.assertEqual((await c.wait()).exit_code, 0)

    async def test_commands_are_killed_and_limited(self):
        s = await self.create()
        c = await s.commands.run("sleep 1000", background=True)
        self.assertIs(await c.kill(), True)
        with self.assertRaises(CommandExitException):
            await c.wait()
        with self.assertRaises(TimeoutException):
            await s.commands.run("sleep 1000", timeout=1)

    async def test_watching_by_a_stream(self):
        s = await self.create()
        await s.files.make_dir("w")
        seen = []
        watch = await s.files.watch_dir("w", on_event=lambda e: seen.append((e.type, e.name)), recursive=True)
        await s.files.write("w/a", "x")
        await self.until("create and write", lambda: (FilesystemEventType.CREATE, "a") in seen
                         and (FilesystemEventType.WRITE, "a") in seen)
        await s.files.write("w/new/b", "x")
        await self.until("a new folder", lambda: any(n == "new/b" for _, n in seen))
        await watch.stop()

    async def test_files(self):
        s = await self.create()
        data = os.urandom(1 << 20)
        await asyncio.gather(*(s.files.write(f"f{i}", data) for i in range(8)))
        got = await asyncio.gather(*(s.files.read(f"f{i}", format="bytes") for i in range(8)))
        self.assertTrue(all(bytes(g) == data for g in got))

    async def test_a_killed_sandbox_ends_what_goes_on(self):
        s = await self.create()
        c = await s.commands.run("sleep 60", background=True)
        self.assertIs(await s.kill(), True)
        with self.assertRaisesRegex(TimeoutException, "killed or reached its end of life"):
            await c.wait()
        self.assertFalse(await s.is_running())

    async def test_a_terminal(self):
        from e2b import PtySize
        s = await self.create()
        seen = []
        p = await s.pty.create(PtySize(rows=24, cols=80), on_data=seen.append)
        await s.pty.resize(p.pid, PtySize(rows=30, cols=100))
        await s.pty.send_stdin(p.pid, b'echo "size $(tput cols)"; exit\n')
        self.assertEqual((await p.wait()).exit_code, 0)
        self.assertIn(b"size 100", b"".join(bytes(d) for d in seen))
