// Prints what a visitor downloads: every script of the build, and which of them the first page needs.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const FIRST_LOAD_LIMIT = 250_000;
const assets = new URL('../dist/assets/', import.meta.url);
const html = readFileSync(new URL('../dist/index.html', import.meta.url), 'utf8');
const sizes = new Map(
  readdirSync(assets)
    .filter((name) => /\.(js|css)$/.test(name))
    .map((name) => [name, gzipSync(readFileSync(new URL(name, assets)), { level: 9 }).length]),
);

// The entry, whatever the page preloads, and everything these import without being asked.
const first = new Set();
const visit = (name) => {
  if (first.has(name) || !sizes.has(name)) return;
  first.add(name);
  const text = readFileSync(new URL(name, assets), 'utf8');
  for (const [, found] of text.matchAll(/(?:from|import)\s*["']\.\/([^"']+)["']/g)) visit(found);
};
for (const [, found] of html.matchAll(/assets\/([^"']+)["']/g)) visit(found);

let script = 0;
for (const [name, bytes] of [...sizes].sort((a, b) => b[1] - a[1])) {
  if (first.has(name) && name.endsWith('.js')) script += bytes;
  console.log(`${String(bytes).padStart(8)}  ${first.has(name) ? 'first load' : 'when asked '}  ${name}`);
}
console.log(
  `${String(script).padStart(8)}  bytes of script on first load, compressed; at most ${FIRST_LOAD_LIMIT}`,
);
if (script > FIRST_LOAD_LIMIT) process.exit(1);
