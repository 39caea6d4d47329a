// SPDX-License-Identifier: Apache-2.0
// A server with a domain, a certificate and hosts PORT-SANDBOX.DOMAIN, as the clients expect by default:
// no URL is set, only E2B_DOMAIN. Names are resolved by lib/hosts.mjs, the certificate is of a private CA.
import assert from 'node:assert/strict'
import { answers, create, load, noise, prove, until, within } from './lib/brig.mjs'

const { WebSocket } = await load('undici')

prove('a_domain_is_all_that_clients_need', 60, async (t) => {
  assert.equal(process.env.E2B_API_URL, undefined)
  assert.equal(process.env.E2B_SANDBOX_URL, undefined)
  const s = await create(t)
  assert.equal(s.sandboxDomain, process.env.E2B_DOMAIN)
  assert.equal(s.getHost(3000), `3000-${s.sandboxId}.${process.env.E2B_DOMAIN}`)
  assert.equal(await s.isRunning(), true)
  assert.equal((await s.commands.run('echo hi')).stdout, 'hi\n')
  await s.files.write('f', 'over TLS')
  assert.equal(await s.files.read('f'), 'over TLS')
  assert.equal((await s.runCode('6 * 7')).text, '42')
  const url = new URL(await s.downloadUrl('f'))
  assert.equal(url.host, `49983-${s.sandboxId}.${process.env.E2B_DOMAIN}`)
  assert.equal(await (await fetch(url)).text(), 'over TLS')
  assert.equal(await s.kill(), true)
  assert.equal(await s.isRunning(), false)
})

prove('a_port_has_a_host_of_its_own', 60, async (t) => {
  const s = await create(t)
  const url = `https://${s.getHost(8000)}/`
  const closed = await fetch(url)
  assert.equal(closed.status, 502)
  await answers(closed, { sandboxId: s.sandboxId,
    message: 'The sandbox is running but port is not open', port: 8000, code: 502 })
  await s.files.write('www/index.html', 'hello')
  await s.commands.run('cd www; exec python3 -m http.server 8000', { background: true, timeoutMs: 0 })
  await until('the port answers', async () => (await fetch(url)).status === 200)
  assert.equal(await (await fetch(url)).text(), 'hello')
  await s.kill()
  const dead = await fetch(url)
  assert.equal(dead.status, 502)
  await answers(dead, { sandboxId: s.sandboxId, message: 'The sandbox was not found', code: 502 })
})

prove('a_port_with_a_token_is_closed_without_it', 60, async (t) => {
  const s = await create(t, 'base', { network: { allowPublicTraffic: false } })
  await s.commands.run('exec python3 -m http.server 8000', { background: true, timeoutMs: 0 })
  const url = `https://${s.getHost(8000)}/`
  const headers = { 'E2B-Traffic-Access-Token': s.trafficAccessToken }
  await until('the port answers', async () => (await fetch(url, { headers })).status === 200)
  assert.equal((await fetch(url)).status, 403)
  assert.equal((await s.commands.run('echo hi')).stdout, 'hi\n')
})

// RFC 6455, as much of it as an echo needs: no library of the image can do that.
const ECHO = `
import base64, hashlib, socket, struct, threading
def exactly(f, n):
    data = f.read(n)
    if len(data) != n: raise EOFError
    return data
def serve(c):
    f = c.makefile("rb")
    key = None
    while (line := f.readline().strip()):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key": key = value.strip()
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
              b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    while True:
        b0, b1 = exactly(f, 2)
        n = b1 & 127
        if n == 126: n, = struct.unpack(">H", exactly(f, 2))
        elif n == 127: n, = struct.unpack(">Q", exactly(f, 8))
        mask = exactly(f, 4)
        data = bytearray(exactly(f, n))
        for i in range(4): data[i::4] = bytes(data[i::4]).translate(bytes(x ^ mask[i] for x in range(256)))
        head = bytes([b0, n]) if n < 126 else bytes([b0, 126]) + struct.pack(">H", n) if n < 65536 \\
            else bytes([b0, 127]) + struct.pack(">Q", n)
        c.sendall(head + data)
        if b0 & 15 == 8: c.close(); return
k = socket.create_server(("127.0.0.1", 7000))
while True: threading.Thread(target=serve, args=(k.accept()[0],), daemon=True).start()
`

prove('a_web_socket_passes', 60, async (t) => {
  const s = await create(t)
  await s.files.write('echo.py', ECHO)
  await s.commands.run('exec python3 echo.py', { background: true, timeoutMs: 0 })
  const connect = () => new Promise((done, fail) => {
    const w = new WebSocket(`wss://${s.getHost(7000)}/chat?x=1`)
    w.binaryType = 'arraybuffer'
    t.after(() => w.close())
    w.onopen = () => done(w)
    w.onerror = (e) => fail(e.error ?? new Error(e.message))
  })
  const w = await until('the socket opens', () => connect().catch(() => null))
  const ask = (data) => within(10, `an echo of ${data.length}`, new Promise((done, fail) => {
    w.onmessage = (e) => done(e.data)
    w.onclose = w.onerror = () => fail(new Error('the socket was closed'))
    w.send(data)
  }))
  assert.equal(await ask('hello é'), 'hello é')
  const big = noise(60_000)
  assert.deepEqual(new Uint8Array(await ask(big)), big)
  const large = Buffer.concat(Array(10).fill(Buffer.from(big)))
  assert.equal(Buffer.compare(Buffer.from(await ask(large)), large), 0)
  // Several at a time, and the end of the sandbox is their end.
  const second = await connect()
  const ended = Promise.all([w, second].map((each) => new Promise((done) => { each.onclose = done })))
  await s.kill()
  await within(10, 'both sockets are closed', ended)
})
