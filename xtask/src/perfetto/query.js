// Loads a trace into Perfetto's own trace processor (WebAssembly, without a browser and without the
// network) and answers SQL queries, one line of JSON each.
//
//   node query.js DIRECTORY TRACE QUERY...     DIRECTORY has engine_bundle.js and trace_processor.wasm

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [directory, trace, ...queries] = process.argv.slice(2);
const end = (status) => process.exitCode = status;
const out = (text) => fs.writeSync(1, text + "\n");

// What the bundle expects of a web worker.
const read = (url) => {
  const name = path.basename(String(url).split("?")[0]);
  const bytes = fs.readFileSync(path.join(directory, name));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = function () {};
globalThis.importScripts = () => {};
globalThis.location = { href: "http://127.0.0.1/" + path.basename(directory) + "/engine_bundle.js" };
globalThis.fetch = async (url) => new Response(read(url), { headers: { "content-type": "application/wasm" } });
globalThis.XMLHttpRequest = class {
  open(_method, url) { this.url = url; }
  overrideMimeType() {}
  send() { this.response = read(this.url); this.status = 200; }
};

// Protobuf, as much of it as is needed.
const varint = (value) => {
  const bytes = [];
  let left = BigInt(value);
  do {
    const low = Number(left & 0x7fn);
    left >>= 7n;
    bytes.push(left > 0n ? low | 0x80 : low);
  } while (left > 0n);
  return Buffer.from(bytes);
};
const field = (number, bytes) => Buffer.concat([varint(number << 3 | 2), varint(bytes.length), bytes]);
const plain = (number, value) => Buffer.concat([varint(number << 3), varint(value)]);
function* fields(bytes) {
  let at = 0;
  const next = () => {
    let value = 0n, shift = 0n, byte;
    do {
      byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
    } while (byte & 0x80);
    return value;
  };
  while (at < bytes.length) {
    const key = Number(next());
    if ((key & 7) === 0) yield [key >> 3, next()];
    else if ((key & 7) === 2) { const length = Number(next()); yield [key >> 3, bytes.subarray(at, at += length)]; }
    else if ((key & 7) === 1) { yield [key >> 3, bytes.subarray(at, at += 8)]; }
    else { yield [key >> 3, bytes.subarray(at, at += 4)]; }
  }
}
const varints = (bytes) => {
  const all = [];
  let value = 0n, shift = 0n;
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (!(byte & 0x80)) { all.push(BigInt.asIntN(64, value)); value = 0n; shift = 0n; }
  }
  return all;
};

// QueryResult: column_names 1, error 2, batch 3 {cells 1, varint_cells 2, float64_cells 3, string_cells 5}.
const result = { columns: [], cells: [], error: null };
const cell = { 1: () => null, 2: (it) => it.numbers.shift(), 3: (it) => it.floats.shift(), 4: (it) => it.strings.shift(), 5: (it) => it.blobs.shift() };
function take(bytes) {
  for (const [number, value] of fields(bytes)) {
    if (number === 1) result.columns.push(value.toString());
    else if (number === 2 && value.length) result.error = value.toString();
    else if (number === 3) {
      const of = { kinds: [], numbers: [], floats: [], strings: [], blobs: [] };
      for (const [part, its] of fields(value)) {
        if (part === 1) of.kinds.push(...varints(its).map(Number));
        else if (part === 2) of.numbers.push(...varints(its));
        else if (part === 3) for (let at = 0; at < its.length; at += 8) of.floats.push(its.readDoubleLE(at));
        else if (part === 4) of.blobs.push(its);
        else if (part === 5) of.strings.push(...its.toString().split("\0"));
      }
      for (const kind of of.kinds) result.cells.push(cell[kind](of));
    }
  }
}

// The engine's port: TraceProcessorRpc messages, with their lengths.
let waiting = null;
let buffered = Buffer.alloc(0);
const port = {
  onmessage: null,
  postMessage(data) {
    buffered = Buffer.concat([buffered, Buffer.from(data)]);
    for (const [number, message] of fields(buffered)) {
      if (number !== 1) continue;
      let kind = 0;
      for (const [part, value] of fields(message)) {
        if (part === 3) kind = Number(value);
        if (part === 5) { out(JSON.stringify({ fatal: value.toString() })); end(1); }
        if (part === 203) take(value);
      }
      waiting?.(kind);
    }
    buffered = Buffer.alloc(0);
  },
};
let sequence = 0;
const send = (kind, ...rest) => {
  sequence += 1;
  const message = Buffer.concat([plain(1, sequence), plain(2, kind), ...rest]);
  const framed = field(1, message);
  port.onmessage({ data: new Uint8Array(framed) });
};
const soon = () => new Promise((resolve) => setTimeout(resolve, 0));

async function main() {
  const code = fs.readFileSync(path.join(directory, "engine_bundle.js"), "utf8");
  // With `process`, the bundle takes this for its own kind of node program.
  const { process: hidden } = globalThis;
  delete globalThis.process;
  vm.runInThisContext(code);
  globalThis.self.onmessage({ data: port });
  for (let tries = 0; port.onmessage === null && tries < 100_000; tries += 1) await soon();
  for (let tries = 0; tries < 50; tries += 1) await soon();
  globalThis.process = hidden;
  const bytes = fs.readFileSync(trace);
  const PIECE = 8 << 20;
  for (let at = 0; at < bytes.length; at += PIECE) {
    send(1, field(101, bytes.subarray(at, at + PIECE)));
    await soon();
  }
  send(2);
  await soon();
  for (const query of queries) {
    Object.assign(result, { columns: [], cells: [], error: null });
    send(3, field(103, field(1, Buffer.from(query))));
    await soon();
    if (result.error) { out(JSON.stringify({ error: result.error, query })); end(1); continue; }
    const rows = [];
    const width = Math.max(1, result.columns.length);
    for (let at = 0; at < result.cells.length; at += width) {
      rows.push(Object.fromEntries(result.columns.map((name, place) => {
        const value = result.cells[at + place];
        return [name, typeof value === "bigint" ? Number(value) : value];
      })));
    }
    out(JSON.stringify(rows));
  }
  hidden.exit(hidden.exitCode ?? 0);
}
main().catch((error) => { fs.writeSync(2, String(error?.stack ?? error) + "\n"); (globalThis.process ?? {}).exitCode = 1; });
