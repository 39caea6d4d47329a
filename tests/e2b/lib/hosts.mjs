// SPDX-License-Identifier: Apache-2.0
// Preloaded (--import) where a machine has no wildcard DNS: every name below BRIG_E2B_DOMAIN is this
// machine. The clients are left as they are; only the resolver that they ask is replaced.
import dns from 'node:dns'
import { syncBuiltinESMExports } from 'node:module'

const domain = (process.env.BRIG_E2B_DOMAIN ?? '').replace(/:\d+$/, '')
const lookup = dns.lookup

dns.lookup = function (name, options, callback) {
  if (typeof options === 'function') [options, callback] = [{}, options]
  if (!domain || !name.endsWith('.' + domain)) return lookup.call(dns, name, options, callback)
  const all = typeof options === 'object' && options.all
  process.nextTick(() =>
    all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4),
  )
}
syncBuiltinESMExports()
