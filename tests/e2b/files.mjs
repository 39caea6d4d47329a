// SPDX-License-Identifier: Apache-2.0
// Files, their metadata, watchers and signed URLs through the published clients.
import assert from 'node:assert/strict'
import { api, create, noise, prove, refused, sha256, sleep, to, until } from './lib/brig.mjs'

prove('a_file_is_written_and_read_in_every_form', 40, async (t) => {
  const s = await create(t)
  const said = await s.files.write('d/e/a.txt', 'x')
  assert.deepEqual({ ...said }, { name: 'a.txt', type: 'file', path: '/home/user/d/e/a.txt', metadata: undefined })
  const text = 'é€\n\0 end'
  await s.files.write('/home/user/t', text)
  assert.equal(await s.files.read('t'), text)
  assert.deepEqual(await s.files.read('t', { format: 'bytes' }), new TextEncoder().encode(text))
  assert.equal(await (await s.files.read('t', { format: 'blob' })).text(), text)
  const pieces = []
  for await (const piece of await s.files.read('t', { format: 'stream' })) pieces.push(piece)
  assert.equal(Buffer.concat(pieces).toString(), text)
  assert.equal(await s.files.read('t', { gzip: true }), text)
  await s.files.write('t', 'short')
  assert.equal(await s.files.read('t'), 'short', 'what was there before is gone')
})

prove('an_empty_file_is_empty', 30, async (t) => {
  const s = await create(t)
  await s.files.write('empty', '')
  assert.equal(await s.files.read('empty'), '')
  assert.equal((await s.files.read('empty', { format: 'bytes' })).length, 0)
  assert.equal((await s.files.read('empty', { format: 'blob' })).size, 0)
  assert.equal((await s.files.getInfo('empty')).size, 0)
})

prove('several_files_are_written_at_once', 40, async (t) => {
  const s = await create(t)
  const files = Array.from({ length: 20 }, (_, i) => ({ path: `many/${i}/f ü${i}.txt`, data: `data ${i}` }))
  const said = await s.files.write(files)
  assert.deepEqual(said.map((w) => w.path), files.map((f) => `/home/user/${f.path}`))
  for (const f of files) assert.equal(await s.files.read(f.path), f.data)
  const octets = await s.files.write(files.map((f) => ({ ...f, path: 'octets/' + f.path })), { useOctetStream: true })
  assert.equal(octets.length, files.length)
  assert.equal(await s.files.read('octets/many/7/f ü7.txt'), 'data 7')
  assert.deepEqual(await s.files.write([]), [])
})

prove('every_way_of_sending_a_file_gives_the_same_file', 60, async (t) => {
  const s = await create(t)
  const data = noise(65536)
  const blob = new Blob([data])
  for (const opts of [{}, { useOctetStream: true }, { gzip: true }]) {
    await s.files.write('b', data.buffer, opts)
    assert.deepEqual(await s.files.read('b', { format: 'bytes' }), data, JSON.stringify(opts))
    await s.files.write('b', blob, opts)
    assert.deepEqual(await s.files.read('b', { format: 'bytes' }), data, JSON.stringify(opts))
  }
})

prove('a_stream_of_twenty_mebibytes_arrives_whole', 90, async (t) => {
  const s = await create(t, 'base')
  const piece = noise(65536)
  const count = 20 * 16
  let sent = 0
  const stream = new ReadableStream({
    pull(c) {
      if (sent++ === count) c.close()
      else c.enqueue(piece)
    },
  })
  await s.files.write('big', stream)
  assert.equal((await s.files.getInfo('big')).size, 20 << 20)
  const whole = Buffer.concat(Array(count).fill(Buffer.from(piece)))
  const sum = await sha256(whole)
  assert.equal((await s.commands.run('sha256sum < big')).stdout, `${sum}  -\n`)
  assert.equal(await sha256(await s.files.read('big', { format: 'bytes' })), sum)
})

prove('metadata_of_a_file_is_kept_and_replaced_by_the_next_write', 30, async (t) => {
  const s = await create(t)
  const said = await s.files.write('m', 'x', { metadata: { author: 'me', kind: 'a b' } })
  assert.deepEqual(said.metadata, { author: 'me', kind: 'a b' })
  assert.deepEqual((await s.files.getInfo('m')).metadata, { author: 'me', kind: 'a b' })
  const listed = (await s.files.list('.')).find((e) => e.name === 'm')
  assert.deepEqual(listed.metadata, { author: 'me', kind: 'a b' })
  await s.files.write('m', 'y', { metadata: { author: 'you' } })
  assert.deepEqual((await s.files.getInfo('m')).metadata, { author: 'you' })
  await s.files.write('m', 'z')
  assert.equal((await s.files.getInfo('m')).metadata, undefined)
})

prove('what_is_missing_is_an_error_of_its_own', 30, async (t) => {
  const s = await create(t)
  await refused(s.files.read('missing'), 'FileNotFoundError', "path '/home/user/missing' does not exist")
  await refused(s.files.getInfo('missing'), 'FileNotFoundError')
  await refused(s.files.list('missing'), 'FileNotFoundError')
  await refused(s.files.rename('missing', 'other'), 'FileNotFoundError')
  assert.equal(await s.files.exists('missing'), false)
  assert.equal(await s.files.exists('/etc/passwd'), true)
  assert.equal(await s.files.remove('missing'), undefined)
  await s.files.makeDir('dir')
  await refused(s.files.read('dir'), 'InvalidArgumentError', "path '/home/user/dir' is a directory")
  await s.files.write('file', '')
  await refused(s.files.list('file'), 'InvalidArgumentError')
  await refused(s.files.read('x', { user: 'nobody-here' }), 'AuthenticationError')
})

prove('a_file_of_another_user_is_not_writable', 30, async (t) => {
  const s = await create(t)
  await s.files.write('/root/secret', 'hidden', { user: 'root' })
  assert.equal(await s.files.read('/root/secret', { user: 'root' }), 'hidden')
  assert.equal((await s.files.getInfo('/root/secret', { user: 'root' })).owner, 'root')
  assert.equal((await s.commands.run('cat /root/secret', { user: 'root' })).stdout, 'hidden')
  await refused(s.commands.run('cat /root/secret'), 'CommandExitError')
})

prove('folders_are_made_renamed_and_removed', 30, async (t) => {
  const s = await create(t)
  assert.equal(await s.files.makeDir('a/b/c'), true)
  assert.equal(await s.files.makeDir('a/b/c'), false)
  await s.files.write('a/f', 'x')
  const e = await s.files.rename('a/f', 'new/place/g')
  assert.deepEqual([e.name, e.type, e.path, e.size], ['g', 'file', '/home/user/new/place/g', 1])
  assert.equal(await s.files.exists('a/f'), false)
  assert.equal(await s.files.read('new/place/g'), 'x')
  await s.files.remove('new')
  assert.equal(await s.files.exists('new'), false)
  assert.equal((await s.commands.run('stat -c %U:%a a/b')).stdout, 'user:755\n')
})

prove('lists_are_sorted_and_as_deep_as_asked', 30, async (t) => {
  const s = await create(t)
  await s.files.write([
    { path: 'l/b.txt', data: '1' }, { path: 'l/a/z', data: '22' }, { path: 'l/a/deep/er', data: '' },
    { path: 'l/a.b', data: '' }, { path: 'l/B', data: '' },
  ])
  const names = async (depth) => (await s.files.list('l', depth && { depth })).map((e) => `${e.type} ${e.path.slice(13)}`)
  assert.deepEqual(await names(), ['file B', 'dir a', 'file a.b', 'file b.txt'])
  assert.deepEqual(await names(2), ['file B', 'dir a', 'dir a/deep', 'file a/z', 'file a.b', 'file b.txt'])
  assert.deepEqual(await names(3),
    ['file B', 'dir a', 'dir a/deep', 'file a/deep/er', 'file a/z', 'file a.b', 'file b.txt'])
})

prove('an_entry_tells_type_size_mode_owner_time_and_target', 30, async (t) => {
  const s = await create(t)
  await s.files.write('f', 'hello')
  const f = await s.files.getInfo('f')
  assert.deepEqual([f.name, f.type, f.path, f.size, f.mode, f.permissions, f.owner, f.group, f.symlinkTarget],
    ['f', 'file', '/home/user/f', 5, 0o644, '-rw-r--r--', 'user', 'user', undefined])
  assert.ok(Math.abs(f.modifiedTime.getTime() - Date.now()) < 10_000, String(f.modifiedTime))
  await s.commands.run('mkdir d; chmod 1777 d; ln -s f link; ln -s d dirlink; ln -s nowhere gone')
  const d = await s.files.getInfo('d')
  assert.deepEqual([d.type, d.mode & 0o777, d.permissions.at(-1), d.permissions.length > 9], ['dir', 0o777, 'x', true])
  const link = await s.files.getInfo('link')
  assert.deepEqual([link.type, link.symlinkTarget, link.size], ['file', '/home/user/f', 1])
  assert.equal(link.permissions[0], 'L')
  const dirlink = await s.files.getInfo('dirlink')
  assert.deepEqual([dirlink.type, dirlink.symlinkTarget], ['dir', '/home/user/d'])
  assert.equal(await s.files.exists('gone'), true)
  const home = await s.files.getInfo('~')
  assert.deepEqual([home.path, home.type], ['/home/user', 'dir'])
})

prove('a_watcher_tells_what_happens_below_its_folder', 60, async (t) => {
  const s = await create(t)
  await s.files.makeDir('w')
  const seen = []
  const handle = await s.files.watchDir('w', (e) => { seen.push(e) }, { recursive: true, includeEntry: true })
  const has = (type, name) => seen.some((e) => e.type === type && e.name === name)
  await s.files.write('w/a', 'x')
  await until('create and write of a', () => has('create', 'a') && has('write', 'a'))
  const made = seen.find((e) => e.type === 'create' && e.name === 'a')
  assert.equal(made.entry?.path, '/home/user/w/a')
  assert.equal(made.entry?.type, 'file')
  // A folder that comes later is watched, too, and what was in it at once is told.
  await s.files.write('w/new/sub/b', 'y')
  await until('the new folders', () => has('create', 'new'))
  await until('what is in them', () => has('create', 'new/sub/b') || has('write', 'new/sub/b'))
  await s.files.write('w/new/sub/c', 'z')
  await until('a later file', () => has('create', 'new/sub/c') && has('write', 'new/sub/c'))
  await s.commands.run('chmod 600 w/a; mv w/a w/b; rm w/b')
  await until('chmod, rename, remove', () => has('chmod', 'a') && has('rename', 'a') && has('remove', 'b'))
  await handle.stop()
  const before = seen.length
  await s.files.write('w/later', 'x')
  await sleep(300) // an event would have come by then; that none comes cannot be waited for
  assert.equal(seen.length, before, JSON.stringify(seen.slice(before)))
})

prove('a_watcher_that_is_not_recursive_stays_on_top', 40, async (t) => {
  const s = await create(t)
  await s.files.makeDir('w/sub')
  const seen = []
  await s.files.watchDir('w', (e) => { seen.push(e) })
  await s.files.write('w/sub/hidden', 'x')
  await s.files.write('w/top', 'x')
  await until('the file on top', () => seen.some((e) => e.name === 'top' && e.type === 'write'))
  assert.deepEqual(seen.filter((e) => e.name.includes('hidden')), [])
  assert.equal(seen[0].entry, undefined)
})

prove('what_cannot_be_watched_is_refused', 30, async (t) => {
  const s = await create(t)
  await refused(s.files.watchDir('missing', () => {}), 'FileNotFoundError')
  await s.files.write('file', 'x')
  await refused(s.files.watchDir('file', () => {}), 'InvalidArgumentError')
})

prove('a_watcher_ends_with_its_sandbox', 40, async (t) => {
  const s = await create(t)
  await s.files.makeDir('w')
  const end = new Promise((done) => {
    s.files.watchDir('w', () => {}, { onExit: done }).then(() => s.kill())
  })
  const error = await end
  assert.ok(error instanceof Error, 'it ended without an error')
})

prove('a_signed_url_needs_no_other_right', 40, async (t) => {
  const s = await create(t)
  await s.files.write('a b.txt', 'signed')
  const url = await s.downloadUrl('a b.txt')
  const got = await fetch(url)
  assert.equal(got.status, 200)
  assert.equal(await got.text(), 'signed')
  const limited = await fetch(await s.downloadUrl('a b.txt', { useSignatureExpiration: 60, user: 'root' }))
  assert.equal(limited.status, 404, 'the home of root is another one')
  const late = await fetch(await s.downloadUrl('a b.txt', { useSignatureExpiration: -100 }))
  assert.equal(late.status, 401)
  const why = await late.json()
  assert.deepEqual([why.code, why.message], [401, 'signature is already expired'])
})

prove('an_upload_url_takes_a_form', 40, async (t) => {
  const s = await create(t)
  const form = new FormData()
  form.append('file', new Blob(['from a form']), 'form.txt')
  const put = await fetch(await s.uploadUrl('up/loaded.txt'), { method: 'POST', body: form })
  assert.equal(put.status, 200)
  assert.deepEqual(await put.json(), [{ name: 'loaded.txt', type: 'file', path: '/home/user/up/loaded.txt' }])
  assert.equal(await s.files.read('up/loaded.txt'), 'from a form')
  const named = new FormData()
  named.append('file', new Blob(['named by the form']), 'by-name.txt')
  assert.equal((await fetch(await s.uploadUrl(), { method: 'POST', body: named })).status, 200)
  assert.equal(await s.files.read('by-name.txt'), 'named by the form')
})

prove('a_changed_signature_opens_nothing', 40, async (t) => {
  const s = await create(t)
  const other = await create(t)
  await s.files.write('a', 'mine')
  await other.files.write('a', 'theirs')
  const url = await s.downloadUrl('a')
  assert.equal(await (await fetch(url)).text(), 'mine', 'each signature finds its own sandbox')
  assert.equal(await (await fetch(await other.downloadUrl('a'))).text(), 'theirs')
  const change = (name, value) => {
    const u = new URL(url)
    u.searchParams.set(name, value)
    return u
  }
  const good = new URL(url).searchParams.get('signature')
  const last = good.at(-1) === 'A' ? 'B' : 'A'
  for (const u of [change('signature', good.slice(0, -1) + last), change('signature', 'v1_'), change('path', 'b'),
    change('path', '/etc/passwd'), change('username', 'root')]) {
    const r = await fetch(u)
    assert.equal(r.status, 401, `${u}`)
    assert.equal((await r.json()).code, 401)
  }
  // One for reading does not write.
  const form = new FormData()
  form.append('file', new Blob(['x']), 'a')
  assert.equal((await fetch(url, { method: 'POST', body: form })).status, 401)
  assert.equal(await s.files.read('a'), 'mine')
})

prove('without_the_token_nothing_is_served', 30, async (t) => {
  const s = await create(t)
  const call = (more) => fetch(`${api}/filesystem.Filesystem/Stat`, {
    method: 'POST', body: '{"path":"/"}', headers: to(s, 49983, { 'Content-Type': 'application/json', ...more }),
  })
  assert.equal((await call({ 'X-Access-Token': s.envdAccessToken })).status, 200)
  for (const more of [{}, { 'X-Access-Token': '' }, { 'X-Access-Token': s.envdAccessToken + 'x' },
    { 'X-API-KEY': process.env.E2B_API_KEY }])
    assert.equal((await call(more)).status, 401, JSON.stringify(more))
  const files = await fetch(`${api}/files?path=/etc/passwd`, { headers: to(s, 49983) })
  assert.equal(files.status, 401)
  assert.equal((await files.json()).message, 'missing signature query parameter')
  assert.equal((await fetch(`${api}/health`, { headers: to(s, 49983) })).status, 204)
  for (const inner of ['/init', '/freeze', '/upgrade'])
    assert.equal((await fetch(api + inner, {
      method: 'POST', body: '{}', headers: to(s, 49983, { 'X-Access-Token': s.envdAccessToken }),
    })).status, 404, inner)
  const half = await fetch(`${api}/health`, { headers: { 'E2b-Sandbox-Id': s.sandboxId } })
  assert.equal(half.status, 400)
})
