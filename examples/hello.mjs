// SPDX-License-Identifier: Apache-2.0
// The published E2B client, unmodified, against brig: E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY say where.
import { Sandbox } from 'e2b'

const sandbox = await Sandbox.create(process.argv[2] ?? 'base')
try {
  await sandbox.files.write('hello.txt', 'hello from a file\n')
  const { stdout } = await sandbox.commands.run('cat hello.txt; echo "and from $(id -un) in sandbox $E2B_SANDBOX_ID"')
  process.stdout.write(stdout)
} finally {
  await sandbox.kill()
}
