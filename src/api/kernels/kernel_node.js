/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_node.js: executes JavaScript and TypeScript, one cell after the other in one global scope.
 *
 * Theory of operation
 * -------------------
 * Cells are evaluated by V8's own REPL mode, reached through the inspector of this process: it allows
 * `await` at the top level and lets `const`, `let` and `class` be declared again. Static and dynamic
 * imports are rewritten to calls of our importer, because a script has neither; the places are found
 * by the parser that node brings with it (acorn). The value of the last expression is the result; a
 * promise is waited for, so that what an async main() prints belongs to its cell.
 *
 * SIGINT ends running code by a watchdog of node's vm module while it does not give up the thread, and
 * by rejecting the wait for the cell otherwise.
 *
 * TypeScript loses its types, nothing is checked: by node itself (module.stripTypeScriptTypes), or
 * the package typescript, esbuild or sucrase, whichever the image has.
 */
(function (require, process) {
'use strict';
const fs = require('fs');
const inspector = require('inspector');
const module_ = require('module');
const path = require('path');
const util = require('util');
const vm = require('vm');
const { pathToFileURL } = require('url');

const language = process.argv[process.argv.length - 1];
const session = new inspector.Session();
session.connect();
const GROUP = 'brig';
let acorn = null, walk = null;
try {
	acorn = require('internal/deps/acorn/acorn/dist/acorn');
	walk = require('internal/deps/acorn/acorn-walk/dist/walk');
} catch {
	/* imports in cells then fail with V8's own message */
}

function send(event) {
	const data = Buffer.from(JSON.stringify(event) + '\n');
	for (let at = 0; at < data.length;)
		at += fs.writeSync(62, data, at);
}

/* ---- imports and require, as seen from the working folder ---- */
function resolver() {
	return module_.createRequire(path.join(process.cwd(), 'cell.js'));
}
function importer(name) {
	name = String(name);
	return import_(/^\.{0,2}\//.test(name) ? pathToFileURL(path.resolve(name)).href : name);
}
/* A script with a place in the working folder can import; packages are looked for from there. */
const import_ = vm.runInThisContext('(n) => import(n)', {
	filename: path.join(process.cwd(), 'cell.js'),
	importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ??
		((name) => nodeImport(name)),
});
async function nodeImport(name) {
	/* Before node 21.7 a script has no default loader; its own loader is reached inside. */
	const loader = require('internal/process/esm_loader').esmLoader;
	const base = pathToFileURL(path.join(process.cwd(), 'cell.js')).href;
	return loader.import(name, base, Object.create(null));
}

function declare(node, source) {
	const from = `await __brig_import(${source})`;
	if (node.specifiers.length === 0)
		return from + ';';
	const out = [], named = [];
	let whole = null;
	for (const s of node.specifiers) {
		if (s.type === 'ImportNamespaceSpecifier')
			whole = s.local.name;
		else
			named.push(`${JSON.stringify(s.type === 'ImportDefaultSpecifier' ? 'default'
				: s.imported.name ?? s.imported.value)}: ${s.local.name}`);
	}
	if (whole)
		out.push(`const ${whole} = ${from};`);
	if (named.length)
		out.push(`const {${named.join(', ')}} = ${whole ?? from};`);
	return out.join(' ');
}
function rewrite(code) {
	if (!acorn || !/\bimport\b|\bexport\b/.test(code))
		return code;
	let tree = null;
	for (const sourceType of ['module', 'script']) {
		try {
			tree = acorn.parse(code, { ecmaVersion: 'latest', sourceType,
				allowAwaitOutsideFunction: true, allowReturnOutsideFunction: false });
			break;
		} catch {
			continue;
		}
	}
	if (!tree)
		return code;
	const cuts = [];
	for (const node of tree.body) {
		if (node.type === 'ImportDeclaration')
			cuts.push([node.start, node.end, declare(node, node.source.raw)]);
		else if (node.type === 'ExportNamedDeclaration' && node.declaration)
			cuts.push([node.start, node.declaration.start, '']);
	}
	walk.full(tree, (node) => {
		if (node.type === 'ImportExpression')
			cuts.push([node.start, node.start + 'import'.length, '__brig_import']);
	});
	cuts.sort((a, b) => b[0] - a[0]);
	for (const [start, end, text] of cuts) {
		const lines = code.slice(start, end).split('\n').length - 1;
		code = code.slice(0, start) + text + '\n'.repeat(lines) + code.slice(end);
	}
	return code;
}

/* ---- TypeScript ---- */
function find(name) {
	const roots = [process.cwd(), '/usr/share/nodejs', '/usr/local/lib/node_modules',
		'/usr/lib/node_modules'];
	for (const root of roots) {
		try {
			return require(require.resolve(name, { paths: [root] }));
		} catch {
			try {
				return require(path.join(root, name));
			} catch {
				continue;
			}
		}
	}
	return null;
}
let strip = null;
function stripper() {
	if (typeof module_.stripTypeScriptTypes === 'function')
		return (code) => module_.stripTypeScriptTypes(code, { mode: 'transform' });
	const ts = find('typescript');
	if (ts)
		return (code) => {
			const done = ts.transpileModule(code, { reportDiagnostics: true, compilerOptions: {
				target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext,
				importsNotUsedAsValues: ts.ImportsNotUsedAsValues?.Preserve,
				preserveValueImports: true, isolatedModules: true } });
			const wrong = done.diagnostics.filter((d) => d.category === 1 && d.code < 2000);
			if (wrong.length)
				throw new SyntaxError(ts.flattenDiagnosticMessageText(wrong[0].messageText, '\n'));
			return done.outputText.replace(/^export \{\};?\n?/m, '');
		};
	const esbuild = find('esbuild');
	if (esbuild)
		return (code) => esbuild.transformSync(code, { loader: 'ts', target: 'esnext' }).code;
	const sucrase = find('sucrase');
	if (sucrase)
		return (code) => sucrase.transform(code, { transforms: ['typescript'],
			disableESTransforms: true, keepUnusedImports: true }).code;
	return () => {
		throw new Error('this image has nothing that removes types from TypeScript: node 22.6 or ' +
			'newer, or the package typescript (Debian: node-typescript), esbuild or sucrase');
	};
}

/* ---- results ---- */
const MIMES = { 'text/plain': 'text', 'text/html': 'html', 'text/markdown': 'markdown',
	'image/svg+xml': 'svg', 'image/png': 'png', 'image/jpeg': 'jpeg', 'application/pdf': 'pdf',
	'text/latex': 'latex', 'application/json': 'json', 'application/javascript': 'javascript',
	'e2b/data': 'data', 'e2b/chart': 'chart' };
const BINARY = new Set(['png', 'jpeg', 'pdf']);

function content(key, value) {
	if (Buffer.isBuffer(value) || value instanceof Uint8Array)
		return Buffer.from(value).toString(BINARY.has(key) || !key ? 'base64' : 'utf8');
	return value;
}
function bundle(data) {
	const out = {}, extra = {};
	for (const [mime, value] of Object.entries(data)) {
		if (value === undefined || value === null)
			continue;
		if (MIMES[mime])
			out[MIMES[mime]] = content(MIMES[mime], value);
		else
			extra[mime] = content(null, value);
	}
	if (Object.keys(extra).length)
		out.extra = extra;
	return out;
}
function shown(value) {
	let out = {};
	if (value !== null && (typeof value === 'object' || typeof value === 'function')) {
		try {
			const display = value[Symbol.for('Jupyter.display')] ?? value[Symbol.for('Deno.jupyter.display')];
			if (typeof display === 'function')
				out = bundle(display.call(value) ?? {});
			else if (typeof value._repr_html_ === 'function')
				out.html = String(value._repr_html_());
			else if (typeof value._repr_svg_ === 'function')
				out.svg = String(value._repr_svg_());
			else if (typeof value._repr_png_ === 'function')
				out.png = content('png', value._repr_png_());
		} catch {
			out = {};
		}
	}
	if (out.text === undefined)
		out.text = typeof value === 'string' ? value : util.inspect(value, { depth: 4 });
	return out;
}
/* display(value) shows a value; display({'text/html': '<b>x</b>'}, {raw: true}) or display.html(..),
 * .markdown(..), .svg(..), .png(buffer or base64), .jpeg(..), .json(..) one representation of it. */
function display(value, options) {
	send({ type: 'result', is_main_result: false,
		...(options?.raw ? bundle(value) : shown(value)) });
}
for (const [mime, key] of Object.entries(MIMES))
	if (key !== 'text')
		display[key] = (value) => display({ [mime]: value, 'text/plain': `<${key}>` }, { raw: true });

/* ---- cells ---- */
function post(method, params) {
	return new Promise((resolve, reject) =>
		session.post(method, params, (err, done) => err ? reject(new Error(err.message)) : resolve(done)));
}
let sink;
Object.defineProperty(globalThis, '__brig_import', { value: importer });
Object.defineProperty(globalThis, '__brig_sink', { value: (v) => { sink = v; } });
globalThis.display = display;
Object.defineProperty(globalThis, 'require',
	{ get: resolver, set(v) { Object.defineProperty(globalThis, 'require', { value: v, writable: true }); },
		configurable: true });
globalThis.module = { exports: {} };
globalThis.exports = globalThis.module.exports;
globalThis.__filename = '';
Object.defineProperty(globalThis, '__dirname', { get: () => process.cwd(), configurable: true });

/* The value behind what the inspector returned. */
function value_of(remote) {
	if (!remote || remote.type === 'undefined')
		return undefined;
	const arg = remote.objectId ? { objectId: remote.objectId }
		: remote.unserializableValue ? { unserializableValue: remote.unserializableValue }
		: { value: remote.value ?? null };
	sink = undefined;
	session.post('Runtime.callFunctionOn', { functionDeclaration: 'function(v){__brig_sink(v)}',
		arguments: [arg], executionContextId: 1, objectGroup: GROUP }, (err) => { if (err) throw err; });
	const v = sink;
	sink = undefined;
	return v;
}
/* Posts the evaluation under node's watchdog for SIGINT. */
let pending = null;
const guarded = new vm.Script('__brig_go()', { filename: 'brig:kernel' });
Object.defineProperty(globalThis, '__brig_go', { value: () => pending() });

class Interrupted extends Error {
	constructor() {
		super('');
		this.name = 'KeyboardInterrupt';
	}
}
let stop = null; /* rejects the wait for the cell */
process.on('SIGINT', () => stop && stop(new Interrupted()));
process.on('uncaughtException', (e) => stop ? stop(e) : console.error(trace(e)));
process.on('unhandledRejection', (e) => stop ? stop(e) : console.error(trace(e)));

function evaluate(code) {
	return new Promise((resolve, reject) => {
		stop = reject;
		pending = () => session.post('Runtime.evaluate', { expression: code, replMode: true,
			objectGroup: GROUP, generatePreview: false }, (err, done) => {
			if (err)
				reject(new Error(err.message));
			else if (done.exceptionDetails)
				reject(value_of(done.exceptionDetails.exception));
			else
				resolve({ remote: done.result });
		});
		try {
			guarded.runInThisContext({ breakOnSigint: true });
		} catch (e) {
			reject(e?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? new Interrupted() : e);
		}
	});
}
function trace(e) {
	const text = e instanceof Error || typeof e?.stack === 'string' ? String(e.stack)
		: `Uncaught ${util.inspect(e)}`;
	return text.split('\n').filter((l) => !/^\s+at .*(brig:|node:|new Promise \(<anonymous>\))/.test(l))
		.join('\n');
}
async function run(code) {
	if (language === 'typescript') {
		strip ??= stripper();
		code = strip(code);
	}
	const { remote } = await evaluate(rewrite(code));
	let value = value_of(remote);
	if (util.types.isPromise(value))
		value = await new Promise((resolve, reject) => {
			stop = reject;
			value.then(resolve, reject);
		});
	return value;
}
async function execute(req) {
	const before = {};
	for (const [name, v] of Object.entries(req.env ?? {})) {
		before[name] = process.env[name];
		process.env[name] = v;
	}
	try {
		const value = await run(req.code);
		stop = null;
		if (value !== undefined)
			send({ type: 'result', is_main_result: true, ...shown(value) });
	} catch (e) {
		stop = null;
		const error = e instanceof Error || typeof e?.message === 'string';
		send({ type: 'error', name: error ? String(e.name ?? 'Error') : 'Error',
			value: error ? String(e.message) : util.inspect(e), traceback: trace(e) });
	}
	for (const [name, v] of Object.entries(before))
		if (v === undefined)
			delete process.env[name];
		else
			process.env[name] = v;
	post('Runtime.releaseObjectGroup', { objectGroup: GROUP }).catch(() => {});
	send({ type: 'done' });
}

let text = '', busy = Promise.resolve();
const rx = new (require('net').Socket)({ fd: 63, readable: true, writable: false });
rx.setEncoding('utf8');
rx.on('data', (piece) => {
	text += piece;
	for (let at; (at = text.indexOf('\n')) >= 0;) {
		const req = JSON.parse(text.slice(0, at));
		text = text.slice(at + 1);
		if (req.op === 'env')
			Object.assign(process.env, req.env);
		else
			busy = busy.then(() => execute(req));
	}
});
rx.on('end', () => process.exit(0));
})
