// A real market for the browser to look at: chain, contracts, bus, backend, providers, as own processes.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../../..');
export const PLACE = join(ROOT, 'build', 'dapp-e2e');

export interface Market {
  url: string;
  rpcUrl: string;
  directory: string;
  app: string;
  /** What a program needs to act as the market's own consumer. */
  consumer: Record<string, string>;
}

export function market(): Market {
  return JSON.parse(readFileSync(join(PLACE, 'market.json'), 'utf8')) as Market;
}

const APP_HANDLER = `from tallystick.app import handler


@handler
def greet(name: str, times: int = 1, loud: bool = False) -> dict[str, str]:
    text = " ".join([f"Hello, {name}!"] * times)
    return {"greeting": text.upper() if loud else text}
`;

const APP_PROJECT = `name = "greet"
timeout_s = 20

[handler]
kind = "function"
entry = "handler:greet"

[resources]
cpu_milli = 100
memory_mib = 1024
disk_mib = 16

[input_schema]
type = "object"
required = ["name"]
additionalProperties = false
[input_schema.properties.name]
type = "string"
description = "Who is greeted"
default = "Ada"
[input_schema.properties.times]
type = "integer"
minimum = 1
maximum = 5
default = 1
[input_schema.properties.loud]
type = "boolean"
default = false

[price]
call = "0.001"
`;

/** Not published by anybody: a test deploys it from the browser. It streams. */
const TALE_HANDLER = `import time
from collections.abc import Iterator

from tallystick.app import handler


@handler
def tell(words: int) -> Iterator[dict[str, object]]:
    for number in range(1, words + 1):
        time.sleep(0.8)
        yield {"word": number, "of": words}
`;

const TALE_PROJECT = `name = "tale"
timeout_s = 30

[handler]
kind = "function"
entry = "handler:tell"
`;

/** Starts it, publishes an app, and leaves both running until `stop`. */
export function start(): Market {
  const given = process.env['TALLYSTICK_E2E_DIR'];
  const directory = given ?? join(PLACE, 'market');
  if (given === undefined) {
    rmSync(PLACE, { recursive: true, force: true });
    mkdirSync(PLACE, { recursive: true });
    // Leases outlast a restart of the backend on a busy machine.
    const size = ['--runtime', 'process', '--providers', '2', '--gpus', '2', '--lease-seconds', '60'];
    // Whatever ends this process, a signal too, ends the market.
    run(['dev', 'up', '--dir', directory, ...size, '--while-pid', process.pid.toString()]);
  }
  mkdirSync(PLACE, { recursive: true });
  const bare = read(directory);
  const tale = join(directory, 'apps', 'tale');
  mkdirSync(tale, { recursive: true });
  writeFileSync(join(tale, 'handler.py'), TALE_HANDLER);
  writeFileSync(join(tale, 'tallystick.toml'), TALE_PROJECT);
  const found = { ...bare, app: publish(directory, bare.consumer) };
  writeFileSync(join(PLACE, 'market.json'), JSON.stringify(found));
  return found;
}

/** Another one, for a test that moves the clock of its chain: nothing else would stand that. */
export function startOwn(name: string): Market {
  const directory = join(PLACE, name);
  rmSync(directory, { recursive: true, force: true });
  run(['dev', 'up', '--dir', directory, '--runtime', 'process', '--providers', '1', '--gpus', '1']);
  return read(directory);
}

export function stopOwn(found: Market): void {
  run(['dev', 'down', '--dir', found.directory]);
}

function read(directory: string): Market {
  const state = JSON.parse(readFileSync(join(directory, 'state.json'), 'utf8')) as {
    url: string;
    rpc_url: string;
    consumer: Record<string, string>;
  };
  return { url: state.url, rpcUrl: state.rpc_url, directory, app: '', consumer: state.consumer };
}

/** One program of the market ends or goes on: what a person at the page sees of it. */
export function service(does: 'stop' | 'start', name: string): void {
  run(['dev', does, name, '--dir', market().directory]);
}

export function stop(): void {
  if (process.env['TALLYSTICK_E2E_DIR'] === undefined) run(['dev', 'down', '--dir', join(PLACE, 'market')]);
}

/** The publisher is the deployer's account, so that consumers in the tests own nothing special. */
function publish(directory: string, consumer: Record<string, string>): string {
  const project = join(directory, 'apps', 'greet');
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, 'handler.py'), APP_HANDLER);
  writeFileSync(join(project, 'tallystick.toml'), APP_PROJECT);
  const env = { ...consumer, TALLYSTICK_KEY_FILE: join(directory, 'keys', 'deployer') };
  const said = run(['app', 'deploy', '--dir', project, '--image', 'process', '--yes', '--json'], env);
  const found = /0x[0-9a-f]{64}/.exec(said);
  if (found === null) throw new Error(`no app id in: ${said}`);
  return found[0];
}

function run(args: string[], env: Record<string, string> = {}): string {
  const program = join(ROOT, '.venv', 'bin', 'tallystick');
  return execFileSync(program, args, {
    cwd: ROOT,
    encoding: 'utf8',
    // The market of the tests is none of the person's own contexts.
    env: { ...process.env, TALLYSTICK_CONFIG: join(PLACE, 'config.toml'), ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}
