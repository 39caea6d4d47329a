// SPDX-License-Identifier: Apache-2.0
// Snapshots and forks through the published clients.
import assert from 'node:assert/strict'
import { create, prove, refused, Sandbox } from './lib/brig.mjs'

// Files of all kinds, and a sum over what they are.
const MAKE = [
  'mkdir -p tree/deep; echo one > tree/a; echo two > tree/deep/b; ln -s deep/b tree/link; ln tree/a tree/hard',
  'chmod 600 tree/a; head -c 3000000 /dev/urandom > tree/big; sudo sh -c "echo root > /etc/made; chmod 640 /etc/made"',
  'sudo rm /etc/issue; rm -f .profile',
].join('; ')
const SUM = [
  'cd; find tree -printf "%p %y %m %u %s %l\\n" | sort; find tree -type f | sort | xargs sha256sum',
  'sudo stat -c "%U %a %s" /etc/made; ls /etc/issue .profile 2>&1',
].join('; ') + '; true'

prove('a_snapshot_carries_files_into_new_sandboxes', 90, async (t) => {
  const s = await create(t)
  await s.commands.run(MAKE)
  const sum = (await s.commands.run(SUM)).stdout
  assert.match(sum, /tree\/deep\/b f 644 user 4/)
  const snapshot = await s.createSnapshot()
  t.after(() => Sandbox.deleteSnapshot(snapshot.snapshotId))
  assert.equal(typeof snapshot.snapshotId, 'string')
  assert.ok(Array.isArray(snapshot.names))
  // The original goes on.
  await s.commands.run('echo changed > tree/a')
  const copy = await create(t, snapshot.snapshotId)
  assert.notEqual(copy.sandboxId, s.sandboxId)
  assert.equal((await copy.commands.run(SUM)).stdout, sum)
  // It outlives what it was made from.
  await s.kill()
  const second = await create(t, snapshot.snapshotId)
  assert.equal((await second.commands.run('cat tree/a')).stdout, 'one\n')
  await second.files.write('tree/a', 'of the second')
  assert.equal(await copy.files.read('tree/a'), 'one\n')
})

prove('snapshots_are_listed_and_deleted', 60, async (t) => {
  const s = await create(t)
  const one = await s.createSnapshot()
  const two = await s.createSnapshot({ name: 'named-by-a-test' })
  assert.ok(two.names.some((n) => n.includes('named-by-a-test')), JSON.stringify(two))
  const listed = (await s.listSnapshots().nextItems()).map((i) => i.snapshotId)
  assert.deepEqual(listed.toSorted(), [one.snapshotId, two.snapshotId].toSorted())
  const all = (await Sandbox.listSnapshots().nextItems()).map((i) => i.snapshotId)
  assert.ok(all.includes(one.snapshotId) && all.includes(two.snapshotId))
  const pages = s.listSnapshots({ limit: 1 })
  const first = await pages.nextItems()
  assert.equal(first.length, 1)
  assert.equal(pages.hasNext, true)
  const rest = await pages.nextItems()
  assert.deepEqual([...first, ...rest].map((i) => i.snapshotId).toSorted(), listed.toSorted())
  assert.equal(pages.hasNext, false)
  for (const id of listed) {
    assert.equal(await Sandbox.deleteSnapshot(id), true)
    assert.equal(await Sandbox.deleteSnapshot(id), false)
    await refused(Sandbox.create(id), 'SandboxError', /^404: /)
  }
  assert.deepEqual(await s.listSnapshots().nextItems(), [])
})

prove('forks_have_the_same_files_and_go_their_own_ways', 90, async (t) => {
  const s = await create(t, 'base', { envs: { FOO: 'bar' } })
  await s.commands.run(MAKE)
  const sum = (await s.commands.run(SUM)).stdout
  const forks = await s.fork({ count: 2, timeoutMs: 60_000 })
  assert.equal(forks.length, 2)
  for (const f of forks) {
    assert.ok(!(f instanceof Error), String(f))
    t.after(() => f.kill())
  }
  assert.equal(new Set([s, ...forks].map((f) => f.sandboxId)).size, 3)
  for (const f of forks) {
    assert.equal(await f.isRunning(), true)
    assert.equal((await f.commands.run(SUM)).stdout, sum)
    assert.equal((await f.commands.run('echo $FOO')).stdout, 'bar\n')
    await f.files.write('tree/a', f.sandboxId)
  }
  for (const f of forks) assert.equal(await f.files.read('tree/a'), f.sandboxId)
  assert.equal(await s.files.read('tree/a'), 'one\n')
  await forks[0].kill()
  assert.equal(await forks[1].isRunning(), true)
  assert.equal(await s.isRunning(), true)
})
