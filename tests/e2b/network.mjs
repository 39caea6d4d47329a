// SPDX-License-Identifier: Apache-2.0
// Ways out of a sandbox, and into its ports by the single URL.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { answers, api, create, noise, prove, refused, to, until } from './lib/brig.mjs'

const serve = (s, port, folder = '/home/user') =>
  s.commands.run(`cd ${folder} && exec python3 -m http.server ${port}`, { background: true, timeoutMs: 0 })
const open = (s, port, more) =>
  until(`port ${port} answers`, async () => (await fetch(api, { headers: to(s, port, more) })).status === 200)

prove('there_is_no_way_out_of_a_sandbox', 60, async (t) => {
  // The oracle is outside: a listener of this machine, which this machine itself reaches.
  let reached = 0
  const listener = createServer((c) => { reached++; c.end('reached\n') })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.after(() => listener.close())
  const { port } = listener.address()
  const control = await fetch(`http://127.0.0.1:${port}`).then(() => '', (e) => String(e.cause))
  assert.equal(reached, 1, `the listener must be reachable at all: ${control}`)

  const s = await create(t, 'base', { allowInternetAccess: false })
  const tries = await s.commands.run(`python3 - <<'EOF'
import errno, socket
for host, port in (("127.0.0.1", ${port}), ("::1", ${port}), ("192.0.2.1", 80), ("2001:db8::1", 80)):
    k = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    k.settimeout(3)
    try:
        k.connect((host, port)); print("connected")
    except OSError as e:
        print(errno.errorcode.get(e.errno, e))
EOF`)
  const said = tries.stdout.trim().split('\n')
  assert.equal(said.length, 4)
  assert.ok(!said.includes('connected'), said.join())
  assert.deepEqual(said.slice(2), ['ENETUNREACH', 'ENETUNREACH'])
  assert.equal(reached, 1)
})

prove('rules_of_the_network_are_checked_kept_and_replaced', 40, async (t) => {
  const s = await create(t, 'base', { allowInternetAccess: true })
  assert.equal((await s.getInfo()).allowInternetAccess, true)
  await s.updateNetwork({ denyOut: ['192.0.2.0/24'], allowOut: ['*.example.com', '198.51.100.7'] })
  const { network } = await s.getInfo()
  assert.deepEqual([network.denyOut, network.allowOut], [['192.0.2.0/24'], ['*.example.com', '198.51.100.7']])
  await s.updateNetwork({})
  const cleared = (await s.getInfo()).network ?? {}
  assert.deepEqual([cleared.denyOut ?? [], cleared.allowOut ?? []], [[], []])
  const e = await refused(s.updateNetwork({ denyOut: ['not an address'] }), 'SandboxError', /^400: /)
  assert.equal(e.statusCode, 400)
  // One that was made without has no link that rules could apply to, and is not told that they did.
  const without = await create(t, 'base', { allowInternetAccess: false })
  assert.equal((await without.getInfo()).allowInternetAccess, false)
  await without.updateNetwork({})
  await refused(without.updateNetwork({ allowOut: ['198.51.100.7'] }), 'SandboxError', /^409: .*without a network/)
})

prove('a_port_is_served_by_the_single_url', 60, async (t) => {
  const s = await create(t)
  await s.files.write('www/index.html', '<p>hello</p>')
  await s.files.write('www/data.bin', noise(3_000_000).buffer)
  const closed = await fetch(api, { headers: to(s, 8000) })
  assert.equal(closed.status, 502)
  await answers(closed, { sandboxId: s.sandboxId,
    message: 'The sandbox is running but port is not open', port: 8000, code: 502 })
  await serve(s, 8000, 'www')
  await open(s, 8000)
  const page = await fetch(`${api}/index.html?x=1`, { headers: to(s, 8000) })
  assert.equal(await page.text(), '<p>hello</p>')
  assert.match(page.headers.get('server'), /SimpleHTTP/)
  const data = await fetch(`${api}/data.bin`, { headers: to(s, 8000) })
  assert.deepEqual(new Uint8Array(await data.arrayBuffer()), await s.files.read('www/data.bin', { format: 'bytes' }))
  assert.equal((await fetch(`${api}/missing`, { headers: to(s, 8000) })).status, 404)
  // Ports of another sandbox are others.
  const other = await create(t)
  assert.equal((await fetch(api, { headers: to(other, 8000) })).status, 502)
  await s.kill()
  const dead = await fetch(api, { headers: to(s, 8000) })
  assert.equal(dead.status, 502)
  await answers(dead, { sandboxId: s.sandboxId, message: 'The sandbox was not found', code: 502 })
})

prove('what_is_sent_to_a_port_arrives_as_it_was_sent', 60, async (t) => {
  const s = await create(t)
  await s.files.write('echo.py', `
import http.server, json
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n); self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        out = json.dumps({"method": self.command, "path": self.path, "size": len(body), "sum": sum(body),
            "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(299, "Fine"); self.send_header("X-Answer", "yes"); self.send_header("Content-Length", str(len(out)))
        self.end_headers(); self.wfile.write(out)
    do_PUT = do_DELETE = do_POST
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), H).serve_forever()
`)
  await s.commands.run('exec python3 echo.py', { background: true, timeoutMs: 0 })
  await until('port 9000 is open', async () => (await fetch(api, { headers: to(s, 9000) })).status === 501)
  const body = noise(500_000)
  const sum = body.reduce((a, b) => a + b, 0)
  const streamed = () => new ReadableStream({ start(c) { c.enqueue(body.slice(0, 7)); c.enqueue(body.slice(7)); c.close() } })
  for (const [method, send] of [['POST', body], ['PUT', body], ['POST', streamed()]]) {
    const r = await fetch(`${api}/a%20b/c?q=%C3%A9&r`, { method, body: send, duplex: 'half',
      headers: to(s, 9000, { 'X-Mine': 'some thing', Cookie: 'a=b' }) })
    assert.equal(r.status, 299)
    assert.equal(r.headers.get('x-answer'), 'yes')
    const got = await r.json()
    assert.deepEqual([got.method, got.path, got.size, got.sum], [method, '/a%20b/c?q=%C3%A9&r', 500_000, sum])
    assert.deepEqual([got.headers['x-mine'], got.headers.cookie], ['some thing', 'a=b'])
  }
})

prove('ports_may_ask_for_a_token_of_their_own', 60, async (t) => {
  const s = await create(t, 'base', { network: { allowPublicTraffic: false } })
  assert.ok(s.trafficAccessToken, 'no trafficAccessToken')
  assert.notEqual(s.trafficAccessToken, s.envdAccessToken)
  await serve(s, 8000)
  await open(s, 8000, { 'E2B-Traffic-Access-Token': s.trafficAccessToken })
  for (const more of [{}, { 'E2B-Traffic-Access-Token': 'another' }, { 'X-Access-Token': s.envdAccessToken }]) {
    const r = await fetch(api, { headers: to(s, 8000, more) })
    assert.equal(r.status, 403, JSON.stringify(more))
    assert.equal((await r.json()).code, 403)
  }
  // Its files and commands never need it; its code interpreter gets it from the client.
  assert.equal((await s.commands.run('echo ok')).stdout, 'ok\n')
  assert.equal((await s.runCode('1 + 1')).text, '2')
  const open_ = await create(t)
  assert.ok(!open_.trafficAccessToken)
})
