// SPDX-License-Identifier: Apache-2.0
// Many at a time from one client.
import assert from 'node:assert/strict'
import { create, prove } from './lib/brig.mjs'

prove('fifty_commands_run_in_one_sandbox_at_once', 90, async (t) => {
  const s = await create(t)
  const start = Date.now()
  const all = await Promise.all(Array.from({ length: 50 }, (_, i) => s.commands.run(`sleep 1; echo ok ${i}`)))
  assert.deepEqual(all.map((r) => r.stdout), all.map((_, i) => `ok ${i}\n`))
  assert.ok(Date.now() - start < 40_000, `not at once: ${Date.now() - start} ms`)
  assert.deepEqual(await s.commands.list(), [])
})

prove('twenty_sandboxes_live_at_once', 90, async (t) => {
  const all = await Promise.all(Array.from({ length: 20 }, () => create(t)))
  assert.equal(new Set(all.map((s) => s.sandboxId)).size, 20)
  const said = await Promise.all(all.map(async (s, i) => {
    await s.files.write('mine', String(i))
    return (await s.commands.run('cat mine; hostname >/dev/null')).stdout
  }))
  assert.deepEqual(said, all.map((_, i) => String(i)))
  assert.deepEqual(await Promise.all(all.map((s) => s.kill())), all.map(() => true))
})
