// SPDX-License-Identifier: Apache-2.0
// Creating, finding, pausing and ending sandboxes through the published clients.
import assert from 'node:assert/strict'
import { api, client, create, load, prove, refused, Sandbox, unique, until } from './lib/brig.mjs'

const near = (date, ms, slack = 2500) =>
  assert.ok(Math.abs(date.getTime() - ms) < slack, `${date.toISOString()} is not near ${new Date(ms).toISOString()}`)

prove('a_sandbox_has_the_metadata_the_variables_and_the_end_it_was_given', 30, async (t) => {
  const metadata = { a: 'b c&=', 'k é=&': '100% ü' }
  const s = await create(t, 'base', { timeoutMs: 60_000, metadata, envs: { FOO: 'bar' } })
  assert.match(s.sandboxId, /^[a-z0-9]+$/)
  const info = await s.getInfo()
  const now = Date.now()
  assert.equal(info.sandboxId, s.sandboxId)
  assert.deepEqual(info.metadata, metadata)
  assert.equal(info.state, 'running')
  assert.ok([info.templateId, info.name].includes('base'), JSON.stringify(info))
  near(info.startedAt, now)
  near(info.endAt, now + 60_000)
  assert.ok(Number.isInteger(info.cpuCount) && info.cpuCount >= 1)
  assert.ok(Number.isInteger(info.memoryMB) && info.memoryMB >= 64)
  assert.equal((await s.commands.run('echo $FOO')).stdout, 'bar\n')
})

prove('a_create_without_options_takes_the_defaults_of_the_server', 30, async (t) => {
  const s = await Sandbox.create('base')
  t.after(() => s.kill())
  near((await s.getInfo()).endAt, Date.now() + 300_000)
})

prove('an_unknown_template_and_a_wrong_key_are_told_apart', 30, async () => {
  const e = await refused(Sandbox.create('no-such-template'), 'SandboxError', /^404: /)
  assert.equal(e.statusCode, 404)
  for (const apiKey of ['e2b_' + '0'.repeat(40), 'no key at all'])
    await refused(Sandbox.create('base', { apiKey }), 'AuthenticationError')
  await refused(Sandbox.list({ apiKey: 'e2b_00' }).nextItems(), 'AuthenticationError')
  await refused(Sandbox.kill('nonexisting', { apiKey: 'e2b_00' }), 'AuthenticationError')
})

prove('errors_have_the_shape_that_clients_read', 20, async () => {
  const headers = { 'X-API-KEY': process.env.E2B_API_KEY, 'Content-Type': 'application/json' }
  for (const [status, method, path, body, key] of [
    [404, 'GET', '/sandboxes/nonexisting', undefined, headers],
    [404, 'DELETE', '/sandboxes/nonexisting', undefined, headers],
    [401, 'GET', '/v2/sandboxes', undefined, {}],
    [400, 'POST', '/v2/sandboxes', '{"templateID":', headers],
    [400, 'POST', '/sandboxes', '{"templateID":7}', headers],
    [404, 'GET', '/no-such-path', undefined, headers],
  ]) {
    const r = await fetch(api + path, { method, body, headers: key })
    const said = await r.text()
    assert.equal(r.status, status, `${method} ${path}: ${said}`)
    assert.match(r.headers.get('content-type'), /^application\/json/)
    const error = JSON.parse(said)
    assert.equal(error.code, status, said)
    assert.equal(typeof error.message, 'string')
    assert.notEqual(error.message, '')
  }
})

prove('clients_of_the_older_paths_work', 40, async (t) => {
  const { Sandbox: Older } = await load('e2b-2.50')
  assert.notEqual(Older, Sandbox)
  const s = await create(t, 'base', { envs: { A: '1' }, metadata: { old: unique() } }, Older)
  assert.equal((await s.commands.run('echo $A')).stdout, '1\n')
  await s.files.write('old.txt', 'old')
  const again = await Older.connect(s.sandboxId)
  assert.equal(again.sandboxId, s.sandboxId)
  assert.equal(await again.files.read('old.txt'), 'old')
  assert.equal((await s.getInfo()).state, 'running')
  assert.equal(await s.kill(), true)
  assert.equal(await s.isRunning(), false)
})

prove('kill_says_whether_there_was_something_to_kill', 30, async (t) => {
  const s = await create(t)
  assert.equal(await s.isRunning(), true)
  assert.equal(await s.kill(), true)
  assert.equal(await s.isRunning(), false)
  assert.equal(await s.kill(), false)
  assert.equal(await Sandbox.kill('nonexisting'), false)
})

prove('a_list_is_filtered_by_metadata_ordered_and_paged', 40, async (t) => {
  const metadata = { a: 'b c&=', run: unique() }
  const first = await create(t, 'base', { metadata })
  const second = await create(t, 'base', { metadata: { ...metadata, more: 'é' } })
  const other = await create(t, 'base', { metadata: { a: 'b c&=' } })

  const pages = Sandbox.list({ query: { metadata }, limit: 1 })
  assert.equal(pages.hasNext, true)
  const one = await pages.nextItems()
  assert.deepEqual(one.map((s) => s.sandboxId), [second.sandboxId], 'the newest comes first')
  assert.equal(pages.hasNext, true)
  const two = await pages.nextItems()
  assert.deepEqual(two.map((s) => s.sandboxId), [first.sandboxId])
  assert.equal(pages.hasNext, false)
  assert.equal(pages.nextToken, undefined)
  assert.deepEqual(two[0].metadata, metadata)

  const ids = async (opts) => (await Sandbox.list(opts).nextItems()).map((s) => s.sandboxId)
  assert.deepEqual(await ids({ query: { metadata }, order: 'asc' }), [first.sandboxId, second.sandboxId])
  assert.deepEqual(await ids({ query: { metadata: { ...metadata, more: 'é' } } }), [second.sandboxId])
  assert.deepEqual(await ids({ query: { metadata: { run: metadata.run, a: 'another' } } }), [])
  assert.ok((await ids({})).includes(other.sandboxId))
  assert.deepEqual(await ids({ query: { metadata, startedAfter: new Date(Date.now() + 60_000) } }), [])
  assert.deepEqual(await ids({ query: { metadata, startedAfter: new Date(Date.now() - 60_000) } }),
    [second.sandboxId, first.sandboxId])
  assert.deepEqual(await ids({ query: { metadata, template: 'base' } }), [second.sandboxId, first.sandboxId])
  assert.deepEqual(await ids({ query: { metadata, template: 'another' } }), [])
})

prove('a_paused_sandbox_is_listed_as_such_and_cannot_be_paused_again', 40, async (t) => {
  const metadata = { run: unique() }
  const s = await create(t, 'base', { metadata })
  const paused = async () =>
    (await Sandbox.list({ query: { metadata, state: ['paused'] } }).nextItems()).map((i) => i.sandboxId)
  assert.deepEqual(await paused(), [])
  assert.equal(await s.pause(), true)
  assert.deepEqual(await paused(), [s.sandboxId])
  assert.deepEqual(await Sandbox.list({ query: { metadata, state: ['running'] } }).nextItems(), [])
  assert.deepEqual((await Sandbox.list({ query: { metadata } }).nextItems()).map((i) => i.state), ['paused'])
  assert.equal((await s.getInfo()).state, 'paused')
  assert.equal(await s.isRunning(), false)
  assert.equal(await s.pause(), false)
  assert.equal(await s.kill(), true, 'a paused one can be killed')
})

prove('connect_resumes_with_files_and_processes', 40, async (t) => {
  const s = await create(t)
  await s.files.write('kept.txt', 'kept')
  const sleeper = await s.commands.run('echo $$; exec sleep 1000', { background: true, timeoutMs: 0 })
  await s.pause()
  const again = await Sandbox.connect(s.sandboxId)
  assert.equal(again.sandboxId, s.sandboxId)
  assert.equal(await again.files.read('kept.txt'), 'kept')
  assert.ok((await again.commands.list()).some((p) => p.pid === sleeper.pid))
  assert.equal((await again.commands.run(`kill -0 ${sleeper.pid}; echo $?`)).stdout, '0\n')
  // The handle that paused it goes on working: ids and tokens have not changed.
  await s.connect()
  assert.equal((await s.commands.run('cat kept.txt')).stdout, 'kept')
})

prove('connect_extends_the_end_and_never_shortens_it', 30, async (t) => {
  const s = await create(t, 'base', { timeoutMs: 100_000 })
  const end = (await s.getInfo()).endAt.getTime()
  await Sandbox.connect(s.sandboxId, { timeoutMs: 10_000 })
  assert.equal((await s.getInfo()).endAt.getTime(), end)
  await Sandbox.connect(s.sandboxId, { timeoutMs: 200_000 })
  near((await s.getInfo()).endAt, Date.now() + 200_000)
})

prove('what_was_killed_cannot_be_found', 30, async (t) => {
  const s = await create(t)
  await s.kill()
  await refused(Sandbox.connect(s.sandboxId), 'SandboxNotFoundError')
  await refused(s.getInfo(), 'SandboxNotFoundError')
  await refused(s.setTimeout(10_000), 'SandboxNotFoundError')
  await refused(s.pause(), 'SandboxNotFoundError')
  await refused(s.commands.run('true'), 'SandboxNotFoundError')
  await refused(s.files.read('x'), 'TimeoutError')
})

prove('a_sandbox_ends_at_its_time_and_not_before', 30, async (t) => {
  const s = await create(t)
  await s.setTimeout(2000)
  const start = Date.now()
  await until('it has ended', async () => !(await s.isRunning()), 6)
  assert.ok(Date.now() - start > 1500, `it ended after ${Date.now() - start} ms`)
  await refused(s.getInfo(), 'SandboxNotFoundError')
})

prove('a_sandbox_may_be_paused_at_its_end_instead', 40, async (t) => {
  const s = await create(t, 'base', { timeoutMs: 3000, lifecycle: { onTimeout: 'pause' } })
  assert.deepEqual((await s.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: false })
  await s.files.write('f', 'there')
  await until('it is paused', async () => (await s.getInfo()).state === 'paused', 8)
  // Traffic does not wake it: that was not asked for.
  assert.equal(await s.isRunning(), false)
  await refused(s.files.read('f'), 'TimeoutError')
  await s.connect({ timeoutMs: 60_000 })
  assert.equal((await s.getInfo()).state, 'running')
  assert.equal(await s.files.read('f'), 'there')
})

prove('traffic_wakes_a_paused_sandbox_that_asked_for_it', 40, async (t) => {
  const lifecycle = { onTimeout: 'pause', autoResume: true }
  const s = await create(t, 'base', { timeoutMs: 60_000, lifecycle })
  assert.deepEqual((await s.getInfo()).lifecycle, lifecycle)
  await s.files.write('f', 'there')
  assert.equal(await s.pause(), true)
  assert.equal(await s.files.read('f'), 'there')
  assert.equal((await s.getInfo()).state, 'running')
  await s.pause()
  assert.equal((await s.commands.run('cat f')).stdout, 'there')
})

prove('metrics_are_gathered_and_asked_for_by_time', 40, async (t) => {
  const s = await create(t)
  const started = (await s.getInfo()).startedAt
  await s.commands.run('timeout 1 sh -c "while :; do :; done"; true')
  const got = await until('metrics are there', async () => {
    const m = await s.getMetrics()
    return m.length ? m : null
  }, 20)
  const m = got.at(-1)
  assert.ok(m.timestamp.getTime() >= started.getTime() - 1000 && m.timestamp.getTime() <= Date.now() + 1000)
  assert.ok(m.cpuCount >= 1 && m.cpuUsedPct >= 0)
  assert.ok(m.memUsed > 0 && m.memUsed < m.memTotal, JSON.stringify(m))
  assert.ok(m.memCache >= m.diskUsed && m.memCache <= m.memUsed, JSON.stringify(m))
  assert.ok(m.diskUsed >= 0 && m.diskUsed <= m.diskTotal && m.diskTotal > 0, JSON.stringify(m))
  const before = await s.getMetrics({ start: new Date(started.getTime() - 7200_000),
    end: new Date(started.getTime() - 3600_000) })
  assert.deepEqual(before, [])
})

prove('every_sandbox_has_a_token_of_its_own', 30, async (t) => {
  const [a, b] = [await create(t), await create(t)]
  const token = (s) => s.envdAccessToken
  assert.ok(token(a) && token(a) !== token(b))
  const thief = new Sandbox({ ...a.connectionConfig, sandboxId: b.sandboxId, envdVersion: '0.6.13',
    envdAccessToken: token(a) })
  await refused(thief.commands.run('true'), 'AuthenticationError')
  await refused(thief.files.read('/etc/passwd'), 'AuthenticationError')
  assert.ok(client.AuthenticationError)
})
