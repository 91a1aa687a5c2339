// The Solidity compiler as a command, for machines where its native build cannot be downloaded.
//
// It runs soljson.js (npm package `solc`: the same compiler built for WebAssembly, byte for byte the
// same output) and answers the two requests that Brownie, Foundry and Slither make: `--version` and
// `--standard-json`. tools/compiler.py puts it beside a copy of soljson.js, so it depends on no checkout.
"use strict";

const fs = require("fs");
const path = require("path");

const request = parseArguments(process.argv.slice(2));
const compiler = require(path.join(__dirname, "soljson.js"));

if (request.wanted === "version") {
  const version = compiler.cwrap("solidity_version", "string", [])();
  console.log("solc, the solidity compiler commandline interface\nVersion: " + version);
} else {
  const input = fs.readFileSync(request.inputFile ?? 0, "utf8");
  // Large outputs leave through a pipe: writeSync alone may stop half way with EAGAIN.
  process.stdout.write(compileStandardJson(input) + "\n");
}

function parseArguments(args) {
  const parsed = { wanted: null, inputFile: null, searchFolders: [] };
  const next = (option) => {
    if (args.length === 0) fail(`${option} needs a value`);
    return args.shift();
  };
  while (args.length > 0) {
    const option = args.shift();
    if (option === "--version") parsed.wanted = "version";
    else if (option === "--standard-json") parsed.wanted = "standard-json";
    else if (option === "--base-path" || option === "--include-path") parsed.searchFolders.push(next(option));
    else if (option === "--allow-paths") next(option); // every file that this user may read is allowed
    else if (option === "--pretty-json" || option === "--no-color" || option === "-") continue;
    else if (!option.startsWith("-") && parsed.wanted === "standard-json") parsed.inputFile = option;
    else fail(`${option} is not supported: this build of solc answers --version and --standard-json only`);
  }
  if (parsed.wanted === null) fail("say --version or --standard-json");
  return parsed;
}

function compileStandardJson(input) {
  const compile = compiler.cwrap("solidity_compile", "string", ["string", "number", "number"]);
  const readImport = compiler.addFunction((_context, kindAt, nameAt, contentsAt, errorAt) => {
    const kind = compiler.UTF8ToString(kindAt);
    const name = compiler.UTF8ToString(nameAt);
    const found = kind === "source" ? readSource(name) : null;
    if (found !== null) writeString(found, contentsAt);
    else writeString(`File not found: ${name} (${kind})`, errorAt);
  }, "viiiii");
  return compile(input, readImport, 0);
}

function readSource(name) {
  for (const folder of [".", ...request.searchFolders]) {
    const file = path.resolve(folder, name.replace(/^file:\/\//, ""));
    if (fs.existsSync(file)) return fs.readFileSync(file, "utf8");
  }
  return null;
}

// The compiler frees this memory itself, so it has to come from the compiler's own allocator.
function writeString(text, pointerAt) {
  const size = compiler.lengthBytesUTF8(text) + 1;
  const address = compiler._solidity_alloc(size);
  compiler.stringToUTF8(text, address, size);
  compiler.setValue(pointerAt, address, "*");
}

function fail(message) {
  console.error("solc: " + message);
  process.exit(1);
}
