// SPDX-License-Identifier: Apache-2.0
// The published JavaScript client as api.py times it: one operation per line of standard input, its
// milliseconds per line of standard output. BRIG_E2B_CLIENTS is where the client is installed.
import { createRequire } from 'node:module'
import readline from 'node:readline'

const require = createRequire(process.env.BRIG_E2B_CLIENTS + '/')
const { Sandbox } = await import(require.resolve('e2b'))
const living = await Sandbox.create('base', { timeoutMs: 3600_000 })

const first = async (s) => {
  let stop
  const got = new Promise((done) => { stop = () => done(performance.now()) })
  const running = s.commands.run('echo hi', { onStdout: stop })
  const at = await got
  return [at, running]
}

const operations = {
  // From nothing to the first byte that a command has written.
  async create() {
    const start = performance.now()
    const s = await Sandbox.create('base')
    const [at, running] = await first(s)
    await running
    await s.kill()
    return at - start
  },
  async exec() {
    const start = performance.now()
    await living.commands.run('echo hi')
    return performance.now() - start
  },
}

console.log('ready')
for await (const line of readline.createInterface({ input: process.stdin })) {
  try {
    console.log((await operations[line]()).toFixed(3))
  } catch (e) {
    console.log(`failed ${String(e).replaceAll('\n', ' ')}`)
  }
}
await living.kill()
process.exit(0)
