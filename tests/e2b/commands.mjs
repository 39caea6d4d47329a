// SPDX-License-Identifier: Apache-2.0
// Commands and terminals through the published clients.
import assert from 'node:assert/strict'
import { create, prove, refused, Sandbox, sha256, until, within } from './lib/brig.mjs'

prove('output_streams_and_the_exit_code_arrive_apart', 30, async (t) => {
  const s = await create(t)
  const r = await s.commands.run('echo hi; echo e >&2')
  assert.deepEqual([r.exitCode, r.stdout, r.stderr, r.error], [0, 'hi\n', 'e\n', undefined])
  // The same through callbacks, as it comes.
  const seen = []
  const live = await s.commands.run('echo a; read x; echo b', {
    background: true, stdin: true, onStdout: (d) => seen.push(d),
  })
  await until('the first line', () => seen.join('') === 'a\n')
  assert.equal(live.exitCode, undefined)
  await live.sendStdin('go\n')
  assert.equal((await live.wait()).stdout, 'a\nb\n')
})

prove('a_failing_command_is_an_error_with_its_code_and_output', 30, async (t) => {
  const s = await create(t)
  const e = await refused(s.commands.run('echo out; echo err >&2; exit 3'), 'CommandExitError', /^exit status 3$/)
  assert.deepEqual([e.exitCode, e.stdout, e.stderr], [3, 'out\n', 'err\n'])
  const missing = await refused(s.commands.run('no-such-program'), 'CommandExitError')
  assert.equal(missing.exitCode, 127)
  const killed = await refused(s.commands.run('kill -9 $$'), 'CommandExitError', /signal: killed/)
  assert.equal(killed.exitCode, -1)
})

prove('variables_of_a_command_last_as_long_as_it', 30, async (t) => {
  const s = await create(t, 'base', { envs: { FOO: 'bar', BOTH: 'sandbox' } })
  const r = await s.commands.run('echo $FOO $BAR $BOTH', { envs: { BAR: 'x', BOTH: 'command' } })
  assert.equal(r.stdout, 'bar x command\n')
  assert.equal((await s.commands.run('echo $FOO $BAR $BOTH')).stdout, 'bar sandbox\n')
  const known = await s.commands.run('echo $E2B_SANDBOX $E2B_SANDBOX_ID $HOME $USER $LOGNAME')
  assert.equal(known.stdout, `true ${s.sandboxId} /home/user user user\n`)
})

prove('user_and_folder_can_be_chosen_and_have_defaults', 30, async (t) => {
  const s = await create(t)
  assert.equal((await s.commands.run('pwd; id -un')).stdout, '/home/user\nuser\n')
  assert.equal((await s.commands.run('pwd; id -un', { cwd: '/tmp', user: 'root' })).stdout, '/tmp\nroot\n')
  assert.equal((await s.commands.run('mkdir sub; cd; sudo id -un')).stdout, 'root\n')
  assert.equal((await s.commands.run('pwd', { cwd: 'sub' })).stdout, '/home/user/sub\n')
})

prove('a_command_that_cannot_start_says_why', 30, async (t) => {
  const s = await create(t)
  await refused(s.commands.run('true', { cwd: '/nope' }), 'InvalidArgumentError', "cwd '/nope' does not exist")
  await refused(s.commands.run('true', { user: 'nobody-here' }), 'AuthenticationError', 'nobody-here')
  assert.equal((await s.commands.run('echo still')).stdout, 'still\n')
})

prove('a_command_ends_at_its_time_limit', 40, async (t) => {
  const s = await create(t)
  const start = Date.now()
  await refused(s.commands.run('exec sleep 1000', { timeoutMs: 1000 }), 'TimeoutError')
  const took = Date.now() - start
  assert.ok(took >= 900 && took < 4000, `it took ${took} ms`)
  await until('the process is gone', async () =>
    (await s.commands.run('pgrep -x sleep || true')).stdout === '')
  assert.deepEqual(await s.commands.list(), [])
  // 0 is no limit; what a client asks for is then in no header at all.
  assert.equal((await s.commands.run('sleep 1.5; echo ok', { timeoutMs: 0 })).stdout, 'ok\n')
})

prove('standard_input_is_written_and_closed', 30, async (t) => {
  const s = await create(t)
  const cat = await s.commands.run('cat', { background: true, stdin: true })
  await cat.sendStdin('abc')
  await cat.sendStdin(new Uint8Array([0xc3, 0xa9]))
  await s.commands.closeStdin(cat.pid)
  const r = await cat.wait()
  assert.deepEqual([r.stdout, r.exitCode], ['abcé', 0])
  // Without stdin there is an end of file at once.
  assert.equal((await s.commands.run('cat; echo end')).stdout, 'end\n')
})

prove('commands_are_listed_and_killed_by_their_pid', 30, async (t) => {
  const s = await create(t)
  const c = await s.commands.run('sleep 1000', { background: true, cwd: '/tmp', envs: { A: 'b' } })
  const found = (await s.commands.list()).filter((p) => p.pid === c.pid)
  assert.equal(found.length, 1)
  assert.equal(found[0].cmd, '/bin/bash')
  assert.deepEqual(found[0].args, ['-l', '-c', 'sleep 1000'])
  assert.equal(found[0].cwd, '/tmp')
  assert.equal(found[0].envs.A, 'b')
  // It is the pid that the sandbox itself sees.
  const comm = (await s.commands.run(`cat /proc/${c.pid}/comm`)).stdout
  assert.ok(['bash\n', 'sleep\n'].includes(comm), comm)
  const waiting = refused(c.wait(), 'CommandExitError', /signal: killed/)
  assert.equal(await s.commands.kill(c.pid), true)
  await refused(s.commands.run(`kill -0 ${c.pid}`), 'CommandExitError')
  const e = await waiting
  assert.equal(e.exitCode, -1)
  assert.equal(await s.commands.kill(c.pid), false)
  assert.equal(await s.commands.kill(999999), false)
  assert.deepEqual(await s.commands.list(), [])
})

prove('a_command_that_left_children_ends_when_it_is_killed', 30, async (t) => {
  const s = await create(t)
  // The grandchild keeps the pipe; nobody may wait for it.
  const c = await s.commands.run('(trap "" TERM; exec sleep 1000) & echo up; wait', { background: true })
  await until('it is up', () => c.stdout === 'up\n')
  assert.equal(await c.kill(), true)
  await within(5, 'the command has ended', refused(c.wait(), 'CommandExitError'))
})

prove('another_client_attaches_to_a_running_command', 40, async (t) => {
  const s = await create(t)
  const cat = await s.commands.run('cat', { background: true, stdin: true })
  await cat.sendStdin('before\n')
  await until('the first reader has it', () => cat.stdout === 'before\n')

  const other = await Sandbox.connect(s.sandboxId)
  const seen = []
  const second = await other.commands.connect(cat.pid, { onStdout: (d) => seen.push(d) })
  assert.equal(second.pid, cat.pid)
  await other.commands.sendStdin(cat.pid, 'after\n')
  await until('both have it', () => seen.join('') === 'after\n' && cat.stdout === 'before\nafter\n')

  // Who goes away takes nothing along.
  await cat.disconnect()
  await second.disconnect()
  assert.ok((await s.commands.list()).some((p) => p.pid === cat.pid))
  const third = await s.commands.connect(cat.pid)
  await s.commands.closeStdin(cat.pid)
  assert.equal((await third.wait()).exitCode, 0)
  await refused(s.commands.connect(999999), 'NotFoundError', '999999')
})

prove('a_mebibyte_of_output_and_its_characters_arrive_whole', 60, async (t) => {
  const s = await create(t)
  const zeros = await s.commands.run('head -c 1048576 /dev/zero | base64')
  assert.equal(zeros.stdout, Buffer.alloc(1048576).toString('base64').replace(/.{1,76}/g, '$&\n'))
  const random = await s.commands.run('head -c 1048576 /dev/urandom | tee /tmp/r | base64 -w0')
  const bytes = await s.files.read('/tmp/r', { format: 'bytes' })
  assert.equal(random.stdout, Buffer.from(bytes).toString('base64'))
  const text = await s.commands.run(`python3 -c "print('aé€😀' * 50000, end='')"`)
  assert.equal(text.stdout, 'aé€😀'.repeat(50000))
  const err = await s.commands.run('head -c 300000 /dev/zero | tr "\\0" e >&2')
  assert.equal(err.stderr, 'e'.repeat(300000))
  assert.equal((await sha256(bytes)),
    (await s.commands.run('sha256sum < /tmp/r')).stdout.split(' ')[0])
})

prove('a_reader_that_is_slow_loses_nothing', 60, async (t) => {
  const s = await create(t)
  let total = 0
  let last = ''
  await s.commands.run('seq 1 300000', {
    onStdout: async (d) => {
      total += d.length
      last = d
      await new Promise((done) => setTimeout(done, 1))
    },
  })
  assert.equal(total, Array.from({ length: 300000 }, (_, i) => String(i + 1).length + 1).reduce((a, b) => a + b))
  assert.match(last, /300000\n$/)
})

prove('a_killed_sandbox_ends_its_commands_with_the_reason', 40, async (t) => {
  const s = await create(t)
  const c = await s.commands.run('sleep 60', { background: true })
  const waiting = refused(c.wait(), 'TimeoutError', 'killed or reached its end of life')
  assert.equal(await s.kill(), true)
  await within(15, 'wait() has ended', waiting)
})

prove('a_terminal_has_a_size_and_passes_input_and_output', 60, async (t) => {
  const s = await create(t)
  const decode = new TextDecoder()
  const encode = new TextEncoder()
  let text = ''
  const p = await s.pty.create({ cols: 80, rows: 24, onData: (d) => { text += decode.decode(d, { stream: true }) } })
  const type = (line) => s.pty.sendInput(p.pid, encode.encode(line + '\n'))
  // What is typed is echoed, so the answers are spelt otherwise than the questions.
  await type('echo "size $(tput cols)x$(tput lines)" $TERM $(tty >/dev/null && echo terminal)')
  await until('the first size', () => /size 80x24 xterm\S* terminal/.test(text))
  await s.pty.resize(p.pid, { cols: 100, rows: 30 })
  await type('echo "size $(tput cols)x$(tput lines)"')
  await until('the second size', () => text.includes('size 100x30'))
  await type('exit')
  assert.equal((await p.wait()).exitCode, 0)
  assert.equal(await s.pty.kill(999999), false)
})

prove('a_terminal_interrupts_and_is_killed', 60, async (t) => {
  const s = await create(t)
  let text = ''
  const p = await s.pty.create({ cols: 80, rows: 24, cwd: '/tmp', envs: { MARK: 'here' },
    onData: (d) => { text += Buffer.from(d).toString() } })
  const type = (line) => s.pty.sendInput(p.pid, new TextEncoder().encode(line))
  await type('echo $MARK-$PWD; sleep 1000\n')
  await until('it sleeps', () => text.includes('here-/tmp'))
  await type('\x03')
  await type('echo st""atus $?\n')
  await until('the prompt is back', () => text.includes('status 130'))
  assert.ok((await s.commands.list()).some((c) => c.pid === p.pid))
  assert.equal(await s.pty.kill(p.pid), true)
  await refused(p.wait(), 'CommandExitError')
  assert.equal(await s.pty.kill(p.pid), false)
})
