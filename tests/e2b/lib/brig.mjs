// SPDX-License-Identifier: Apache-2.0
// What the tests of the JavaScript clients share: the clients themselves, a test that can be chosen by
// its name, sandboxes that end with their test.
//
// The clients lie outside of the source tree (BRIG_E2B_CLIENTS, installed by run.py), where a bare
// import from here would not look for them.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import path from 'node:path'
import test from 'node:test'

const require = createRequire(process.env.BRIG_E2B_CLIENTS + '/')
export const load = (name) => import(require.resolve(name))

export const client = await load('@e2b/code-interpreter')
export const { Sandbox } = client

export const suite = `e2b/${path.basename(process.argv[1], '.mjs')}`
const pattern = process.env.BRIG_TEST_PATTERN ?? ''
// For deadlines, never for sizes or counts.
export const SLOW = Number(process.env.BRIG_TEST_SLOW ?? '1')

function wanted(name) {
  if (!pattern || name.includes(pattern)) return true
  const glob = pattern.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.')
  return new RegExp(`^${glob}$`, 's').test(name)
}

// A property, named by what holds; seconds: how long it may take.
export function prove(name, seconds, body) {
  const full = `${suite}.${name}`
  if (wanted(full)) test(full, { timeout: seconds * 1000 * SLOW }, body)
}

// A sandbox that ends with the test t.
export async function create(t, template = 'base', opts = {}, make = Sandbox) {
  const s = await make.create(template, { timeoutMs: 120_000, ...opts })
  t.after(() => make.kill(s.sandboxId).catch(() => {}))
  return s
}

// The error of a promise that must be rejected, of exactly this kind (a subclass is another kind).
export async function refused(promise, kind, ...words) {
  let value
  try {
    value = await promise
  } catch (e) {
    assert.equal(e.constructor.name, kind, `${e.stack}`)
    for (const word of words) assert.match(e.message, word instanceof RegExp ? word : new RegExp(word))
    return e
  }
  assert.fail(`it was not refused; it gave ${JSON.stringify(value)}`)
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

// Waits until condition() gives something true, and returns that.
export async function until(what, condition, seconds = 10) {
  const end = Date.now() + seconds * 1000 * SLOW
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) assert.fail(`not within ${seconds * SLOW} s: ${what}`)
    await sleep(20)
  }
}

// Waits for a promise that must end in time, one way or the other.
export async function within(seconds, what, promise) {
  let timer
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`not within ${seconds * SLOW} s: ${what}`)), seconds * 1000 * SLOW)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

// The headers by which the single URL names a sandbox and one of its ports.
export const to = (s, port, more = {}) => ({
  'E2b-Sandbox-Id': s.sandboxId,
  'E2b-Sandbox-Port': String(port),
  ...more,
})

// E2B's fields of an answer are these; brig's own (error_code, remediation, ..) may stand beside them.
export async function answers(response, fields) {
  const all = await response.json()
  assert.deepEqual(Object.fromEntries(Object.keys(fields).map((k) => [k, all[k]])), fields)
  assert.ok(all.remediation, 'an error says what to do')
}
export const api = process.env.E2B_API_URL
export const unique = () => Math.random().toString(36).slice(2) + Date.now().toString(36)
// crypto gives 64 KiB at a time.
export function noise(size) {
  const data = new Uint8Array(size)
  for (let i = 0; i < size; i += 65536) crypto.getRandomValues(data.subarray(i, Math.min(size, i + 65536)))
  return data
}
export const sha256 = async (data) =>
  Buffer.from(await crypto.subtle.digest('SHA-256', data)).toString('hex')
