// SPDX-License-Identifier: Apache-2.0
// What node:test found, for run.py: one JSON object per line on the descriptor BRIG_TEST_FD, as
// tests/lib/pymod.py writes them. {"begin"} when a test starts, {"name", "result", "detail", "ms"} when it ends.
import { writeSync } from 'node:fs'

const put = (o) => writeSync(Number(process.env.BRIG_TEST_FD), JSON.stringify(o) + '\n')

// What the test itself threw; node wraps it.
function explain(error) {
  const cause = error?.cause ?? error
  const text = cause?.stack ?? String(cause)
  const why = cause?.cause ? `\ncaused by ${cause.cause.stack ?? cause.cause}` : ''
  return (text + why).split('\n').filter((line) => !/\(?node:(internal|async_hooks)/.test(line)).join('\n')
}

export default async function* reporter(source) {
  for await (const { type, data } of source) {
    if (type === 'test:dequeue') {
      put({ begin: data.name })
    } else if (type === 'test:pass' || type === 'test:fail') {
      const skipped = data.skip !== undefined
      const failed = type === 'test:fail'
      put({
        name: data.name,
        result: failed ? 'fail' : skipped ? 'skip' : 'ok',
        detail: failed ? explain(data.details?.error) : skipped ? String(data.skip) : '',
        ms: Math.round(data.details?.duration_ms ?? 0),
      })
    }
  }
}
