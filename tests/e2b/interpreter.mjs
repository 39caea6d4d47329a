// SPDX-License-Identifier: Apache-2.0
// The code interpreter through its published client, from the template that the client asks for by
// itself.
import assert from 'node:assert/strict'
import { api, create, prove, refused, Sandbox, to, until, within } from './lib/brig.mjs'

const interpreter = (t, opts) => create(t, 'code-interpreter-v1', opts)

prove('state_lasts_from_one_execution_to_the_next', 60, async (t) => {
  const s = await Sandbox.create({ timeoutMs: 120_000 }) // no template: the client's own default
  t.after(() => s.kill())
  const first = await s.runCode('x = 1')
  assert.deepEqual([first.text, first.results, first.error, first.executionCount], [undefined, [], undefined, 1])
  const second = await s.runCode('x + 1')
  assert.deepEqual([second.text, second.executionCount], ['2', 2])
  assert.equal(second.results.length, 1)
  assert.equal(second.results[0].isMainResult, true)
  assert.equal((await s.runCode("'it is text'")).text, 'it is text')
  assert.equal((await s.runCode('import os; os.getcwd()')).text, '/home/user')
})

prove('what_is_printed_arrives_in_order_and_as_it_comes', 60, async (t) => {
  const s = await interpreter(t)
  const seen = []
  const r = await s.runCode(`import sys, time
for i in range(3):
    print("out", i, flush=True)
    print("err", i, file=sys.stderr, flush=True)
print("é€😀" * 2000)`, { onStdout: (m) => seen.push(m.line), onStderr: (m) => seen.push(m.line) })
  assert.equal(r.logs.stdout.join(''), 'out 0\nout 1\nout 2\n' + 'é€😀'.repeat(2000) + '\n')
  assert.equal(r.logs.stderr.join(''), 'err 0\nerr 1\nerr 2\n')
  assert.equal(seen.join('').slice(0, 36), 'out 0\nerr 0\nout 1\nerr 1\nout 2\nerr 2\n')
  // Before the code has ended: it waits for what only a reader of its output would do.
  let told
  const line = new Promise((done) => { told = done })
  const running = s.runCode(`import os, time
print("waiting", flush=True)
while not os.path.exists("/tmp/go"): time.sleep(0.01)
"went on"`, { onStdout: (m) => told(m.line) })
  assert.equal(await line, 'waiting\n')
  await s.files.write('/tmp/go', '')
  assert.equal((await running).text, 'went on')
})

prove('an_exception_is_told_with_its_traceback', 60, async (t) => {
  const s = await interpreter(t)
  const told = []
  const r = await s.runCode('def f():\n    return missing_name\nprint("before")\nf()', { onError: (e) => told.push(e.name) })
  assert.equal(r.error.name, 'NameError')
  assert.equal(r.error.value, "name 'missing_name' is not defined")
  assert.match(r.error.traceback, /missing_name/)
  assert.deepEqual(told, ['NameError'])
  assert.deepEqual([r.logs.stdout.join(''), r.results], ['before\n', []])
  assert.equal((await s.runCode('1 +')).error.name, 'SyntaxError')
  assert.equal((await s.runCode('40 + 2')).text, '42', 'it goes on')
})

prove('results_have_their_types_and_the_last_one_is_the_main_one', 60, async (t) => {
  const s = await interpreter(t)
  const seen = []
  const r = await s.runCode(`from IPython.display import display, HTML, Markdown, JSON
display(HTML("<b>x</b>"))
display(Markdown("*y*"))
display(JSON({"a": [1, 2]}))
"main"`, { onResult: (x) => seen.push(x.isMainResult) })
  if (r.error) assert.fail(r.error.traceback)
  assert.deepEqual(r.results.map((x) => x.isMainResult ?? false), [false, false, false, true])
  assert.equal(r.results[0].html, '<b>x</b>')
  assert.equal(r.results[1].markdown, '*y*')
  assert.deepEqual(r.results[2].json, { a: [1, 2] })
  assert.equal(r.text, 'main')
  assert.equal(seen.length, 4)
  const own = await s.runCode('class A:\n    def _repr_html_(self): return "<i>a</i>"\n    def __repr__(self): return "an A"\nA()')
  assert.deepEqual([own.text, own.results[0].html], ['an A', '<i>a</i>'])
  assert.deepEqual(own.results[0].formats().toSorted(), ['html'])
})

prove('a_figure_is_a_picture_and_a_chart', 90, async (t) => {
  const s = await interpreter(t)
  const r = await s.runCode(`import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 6, 5], label="a line")
plt.title("A title"); plt.xlabel("x of it"); plt.ylabel("y of it")
plt.show()`)
  if (r.error) assert.fail(r.error.traceback)
  assert.equal(r.results.length, 1)
  const png = Buffer.from(r.results[0].png, 'base64')
  assert.deepEqual([...png.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  assert.ok(png.readUInt32BE(16) > 100 && png.readUInt32BE(20) > 100)
  const { chart } = r.results[0]
  assert.deepEqual([chart.type, chart.title, chart.x_label, chart.y_label], ['line', 'A title', 'x of it', 'y of it'])
  assert.deepEqual(chart.elements[0].points, [[1, 4], [2, 6], [3, 5]])
  assert.equal(chart.elements[0].label, 'a line')
})

prove('tables_of_pandas_come_with_their_data', 90, async (t) => {
  const s = await interpreter(t)
  const r = await s.runCode('import pandas as pd\npd.DataFrame({"a": [1, 2], "b": ["x", "y"]})')
  if (r.error) assert.fail(r.error.traceback)
  assert.match(r.results[0].html, /<table/)
  assert.deepEqual(r.results[0].data, { a: [1, 2], b: ['x', 'y'] })
})

prove('variables_of_an_execution_last_as_long_as_it', 60, async (t) => {
  const s = await interpreter(t, { envs: { FOO: 'sandbox' } })
  const ask = 'import os; [os.environ.get("FOO"), os.environ.get("BAR")]'
  assert.equal((await s.runCode(ask)).text, "['sandbox', None]")
  assert.equal((await s.runCode(ask, { envs: { FOO: 'own', BAR: 'x' } })).text, "['own', 'x']")
  assert.equal((await s.runCode(ask)).text, "['sandbox', None]")
})

prove('contexts_are_apart_and_listed_in_their_order', 90, async (t) => {
  const s = await interpreter(t)
  await s.files.makeDir('/tmp/there')
  const c = await s.createCodeContext({ cwd: '/tmp/there' })
  assert.deepEqual([c.language, c.cwd], ['python', '/tmp/there'])
  assert.equal((await s.runCode('import os; os.getcwd()', { context: c })).text, '/tmp/there')
  await s.runCode('x = "of the default"')
  await s.runCode('x = "of the other"', { context: c })
  assert.equal((await s.runCode('x')).text, 'of the default')
  assert.equal((await s.runCode('x', { context: c })).text, 'of the other')

  const listed = await s.listCodeContexts()
  assert.equal(listed.at(-1).id, c.id, 'the newest is the last')
  assert.ok(listed.some((l) => l.language === 'python' && l.id !== c.id))
  assert.ok(listed.some((l) => l.language === 'javascript'))

  await s.restartCodeContext(c)
  assert.equal((await s.runCode('x', { context: c })).error.name, 'NameError')
  assert.equal((await s.runCode('os', { context: c })).error.name, 'NameError')
  assert.equal((await s.runCode('x')).text, 'of the default')
  await s.removeCodeContext(c)
  assert.ok(!(await s.listCodeContexts()).some((l) => l.id === c.id))
  await refused(s.runCode('1', { context: c }), 'NotFoundError')
  await refused(s.restartCodeContext(c.id), 'NotFoundError')
  await refused(s.removeCodeContext('no-such-context'), 'NotFoundError')
})

prove('code_that_takes_too_long_is_interrupted', 60, async (t) => {
  const s = await interpreter(t)
  await s.runCode('kept = 7')
  const start = Date.now()
  await refused(s.runCode('import time\nwhile True: time.sleep(0.1)', { timeoutMs: 3000 }), 'TimeoutError')
  assert.ok(Date.now() - start >= 2900)
  const next = await within(5, 'the next execution', s.runCode('kept'))
  assert.equal(next.text, '7', 'state has survived')
})

prove('executions_of_a_context_wait_for_each_other', 60, async (t) => {
  const s = await interpreter(t)
  await s.runCode('seen = []')
  await Promise.all([0, 1, 2, 3].map((i) => s.runCode(`import time; seen.append(${i}); time.sleep(0.2); seen.append(${i})`)))
  const order = JSON.parse((await s.runCode('seen')).text)
  for (let i = 0; i < 8; i += 2) assert.equal(order[i], order[i + 1], String(order))
  assert.deepEqual(order.toSorted(), [0, 0, 1, 1, 2, 2, 3, 3])
})

prove('javascript_typescript_and_bash_run_too', 90, async (t) => {
  const s = await interpreter(t)
  const js = await s.runCode('const a = 20; console.log("from js"); a + 1', { language: 'javascript' })
  assert.deepEqual([js.text, js.logs.stdout.join('')], ['21', 'from js\n'])
  assert.equal((await s.runCode('a * 2', { language: 'js' })).text, '40')
  assert.equal((await s.runCode('await Promise.resolve(5)', { language: 'js' })).text, '5')
  const bad = await s.runCode('null.x', { language: 'javascript' })
  assert.equal(bad.error.name, 'TypeError')
  const ts = await s.runCode('interface P { n: number }\nconst p: P = { n: 3 }\np.n', { language: 'ts' })
  if (ts.error) assert.fail(ts.error.traceback)
  assert.equal(ts.text, '3')
  const bash = await s.runCode('V=1; echo "bash $V"', { language: 'bash' })
  assert.equal(bash.logs.stdout.join(''), 'bash 1\n')
  assert.equal((await s.runCode('echo $V', { language: 'bash' })).logs.stdout.join(''), '1\n')
  assert.notEqual((await s.runCode('1', { language: 'brainfuck' }).catch((e) => ({ error: e }))).error, undefined)
})

prove('the_interpreter_is_healthy_and_strict_about_requests', 60, async (t) => {
  const s = await interpreter(t)
  const call = (path, body, token = s.envdAccessToken) => fetch(api + path, {
    method: body === undefined ? 'GET' : 'POST', body,
    headers: to(s, 49999, { 'Content-Type': 'application/json', 'X-Access-Token': token }),
  })
  const health = await call('/health')
  assert.deepEqual([health.status, await health.json()], [200, 'OK'])
  const both = await call('/execute', '{"code":"1","context_id":"x","language":"python"}')
  assert.equal(both.status, 400)
  assert.equal((await call('/execute', '{"code":"1","context_id":"x"}')).status, 404)
  const r = await call('/execute', '{"code":"print(\\"é\\")","context_id":null,"language":null,"env_vars":null}')
  const text = await r.text()
  assert.match(text, /^[\x20-\x7e\n]+$/, 'ASCII only')
  const lines = text.split('\n')
  assert.equal(lines.pop(), '')
  assert.ok(!lines.includes(''), 'no empty lines')
  assert.deepEqual(lines.map((l) => JSON.parse(l).type), ['number_of_executions', 'stdout', 'end_of_execution'])
  assert.ok(!Number.isNaN(Date.parse(JSON.parse(lines[1]).timestamp)))
})

prove('a_killed_sandbox_ends_an_execution_with_the_reason', 60, async (t) => {
  const s = await interpreter(t)
  let started
  const line = new Promise((done) => { started = done })
  const running = s.runCode('print("up", flush=True)\nimport time; time.sleep(60)', { onStdout: started })
  const ended = refused(running, 'TimeoutError', 'killed')
  await line
  await s.kill()
  await within(15, 'the execution has ended', ended)
})

prove('a_kernel_that_dies_is_told_and_replaced', 60, async (t) => {
  const s = await interpreter(t)
  const r = await s.runCode('import os; os._exit(3)').catch((e) => ({ error: e }))
  assert.ok(r.error, 'its death went by unnoticed')
  await until('a new kernel', async () => (await s.runCode('1 + 1').catch(() => ({}))).text === '2', 20)
})
