// What a publisher has typed so far, what is wrong with it, and the manifest that it makes. Pure.

import type { MessageKey } from '~/lib/i18n';
import type { AppPrice } from '~/lib/chain/writes';
import { exact, parseAmount, ratePerGpuSecondDown, SECONDS_PER_HOUR } from '~/lib/money';
import { imageDigest, schemaText, type FullAppManifest, type Handler } from '~/lib/protocol/appManifest';
import { parseDurationSeconds } from '~/lib/time';

export type PriceModel = 'call' | 'gpu' | 'hybrid' | 'flat';

export interface AppDraft {
  name: string;
  image: string;
  handler: 'function' | 'runpod' | 'http';
  entry: string;
  warmUp: string;
  socket: string;
  schema: string;
  gpuClass: string;
  gpus: string;
  gpuMemoryMib: string;
  cpuMilli: string;
  memoryMib: string;
  diskMib: string;
  timeout: string;
  concurrency: string;
  minWorkers: string;
  maxWorkers: string;
  queueDelayMs: string;
  cooldown: string;
  model: PriceModel;
  flat: string;
  call: string;
  gpuHour: string;
  discount: string;
  discountDays: string;
  /** What the form has no field for, carried over from the version that it began with. */
  rest: Pick<
    FullAppManifest,
    'ready_timeout_s' | 'max_request_bytes' | 'max_response_bytes' | 'safe_to_repeat' | 'environment'
  >;
  path: string;
  readyPath: string;
}

const MIB = 1024 * 1024;

export const FRESH: AppDraft = {
  name: '',
  image: '',
  handler: 'function',
  entry: 'handler:greet',
  warmUp: '',
  socket: '/run/app/app.sock',
  schema: '',
  gpuClass: 'none',
  gpus: '1',
  gpuMemoryMib: '0',
  cpuMilli: '1000',
  memoryMib: '1024',
  diskMib: '256',
  timeout: '60s',
  concurrency: '1',
  minWorkers: '0',
  maxWorkers: '4',
  queueDelayMs: '2000',
  cooldown: '60s',
  model: 'call',
  flat: '',
  call: '0.001',
  gpuHour: '',
  discount: '',
  discountDays: '7',
  rest: {
    ready_timeout_s: 120,
    max_request_bytes: 4 * MIB,
    max_response_bytes: 16 * MIB,
    safe_to_repeat: true,
    environment: [],
  },
  path: '/call',
  readyPath: '/ready',
};

export type Fault = Extract<MessageKey, `deploy.fault.${string}`>;
export type FieldName = keyof AppDraft;

/** What the form comes to; with a fault in a field, that field counts for nothing. */
interface Meant {
  manifest: FullAppManifest;
  price: AppPrice;
  /** Whether price, cards and places are sound, so that a call's cost can be told already. */
  priced: boolean;
  discountBps: number;
  discountDays: number;
}

export type Read = Meant & ({ ok: true } | { ok: false; faults: Partial<Record<FieldName, Fault>> });

const PRICING: readonly FieldName[] = ['flat', 'call', 'gpuHour', 'gpus', 'concurrency'];
const ENTRY = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$/;

/** The limits are those of `AppManifest`: what passes here is not refused by the backend for its numbers. */
export function readDraft(draft: AppDraft, decimals: number): Read {
  const faults: Partial<Record<FieldName, Fault>> = {};
  const whole = (field: FieldName, least: number, most: number): number => {
    const value = wholeOf(draft[field] as string);
    if (value === null || value < least || value > most) faults[field] = 'deploy.fault.number';
    return value ?? least;
  };
  const seconds = (field: FieldName, least: number, most: number): number => {
    const value = parseDurationSeconds(draft[field] as string);
    if (value === null || value < least || value > most) faults[field] = 'deploy.fault.duration';
    return value ?? least;
  };
  const { model } = draft;
  const amount = (field: 'flat' | 'call' | 'gpuHour', only: PriceModel): bigint => {
    if (model !== only && model !== 'hybrid') return 0n;
    const parsed = parseAmount(draft[field], decimals);
    if (parsed.ok) return parsed.units;
    // Nothing is a price as well; of a hybrid, parts may be left empty.
    if (parsed.why !== 'zero' && (parsed.why !== 'empty' || model !== 'hybrid'))
      faults[field] = 'deploy.fault.amount';
    return 0n;
  };

  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(draft.name)) faults.name = 'deploy.fault.name';
  const image = draft.image.trim();
  if (imageDigest(image) === null || image.length > 200) faults.image = 'deploy.fault.image';
  const handler = handlerOf(draft, faults);
  let schema = '';
  try {
    schema = schemaText(draft.schema);
    if (schema !== '' && !schema.startsWith('{')) faults.schema = 'deploy.fault.schema';
  } catch {
    faults.schema = 'deploy.fault.schema';
  }
  const withGpu = draft.gpuClass !== 'none';
  const manifest: FullAppManifest = {
    version: 1,
    name: draft.name,
    image,
    handler,
    resources: {
      gpu_class: withGpu ? draft.gpuClass : '',
      gpus: withGpu ? whole('gpus', 1, 64) : 0,
      gpu_memory_mib: withGpu ? whole('gpuMemoryMib', 0, 1_000_000) : 0,
      cpu_milli: whole('cpuMilli', 100, 256_000),
      memory_mib: whole('memoryMib', 64, 4_194_304),
      disk_mib: whole('diskMib', 16, 4_194_304),
    },
    concurrency: whole('concurrency', 1, 1024),
    scaling: {
      min_workers: whole('minWorkers', 0, 1024),
      max_workers: whole('maxWorkers', 1, 1024),
      target_queue_delay_ms: whole('queueDelayMs', 1, 3_600_000),
      cooldown_s: seconds('cooldown', 0, 86_400),
    },
    timeout_s: seconds('timeout', 1, 86_400),
    ...draft.rest,
    input_schema: schema,
    network: 'none',
  };
  if (manifest.scaling.min_workers > manifest.scaling.max_workers) faults.minWorkers ??= 'deploy.fault.order';
  const hour = amount('gpuHour', 'gpu');
  const price: AppPrice = {
    flat: amount('flat', 'flat'),
    feePerCall: amount('call', 'call'),
    ratePerGpuSecond: ratePerGpuSecondDown(hour),
  };
  if (hour > 0n && price.ratePerGpuSecond === 0n) faults.gpuHour = 'deploy.fault.tooLittle';
  // A rate on GPU time charges nothing where there is no GPU.
  if (hour > 0n && !withGpu) faults.gpuHour = 'deploy.fault.noGpuToCharge';
  const percent = draft.discount.trim() === '' ? 0 : (wholeOf(draft.discount) ?? -1);
  if (percent < 0 || percent > 100) faults.discount = 'deploy.fault.percent';
  const discountDays = percent === 0 ? 0 : whole('discountDays', 1, 365);
  const priced = PRICING.every((field) => faults[field] === undefined);
  const meant = { manifest, price, priced, discountBps: percent * 100, discountDays };
  return Object.keys(faults).length > 0 ? { ...meant, ok: false, faults } : { ...meant, ok: true };
}

function handlerOf(draft: AppDraft, faults: Partial<Record<FieldName, Fault>>): Handler {
  if (draft.handler === 'http') {
    if (!/^\/[A-Za-z0-9._/-]+$/.test(draft.socket) || draft.socket.length > 100)
      faults.socket = 'deploy.fault.socket';
    return { kind: 'http', port: null, socket: draft.socket, path: draft.path, ready_path: draft.readyPath };
  }
  if (!ENTRY.test(draft.entry) || draft.entry.length > 200) faults.entry = 'deploy.fault.entry';
  const warmUp = draft.warmUp.trim();
  if (warmUp !== '' && (!ENTRY.test(warmUp) || warmUp.length > 200)) faults.warmUp = 'deploy.fault.entry';
  return { kind: draft.handler, entry: draft.entry, warm_up: warmUp === '' ? null : warmUp };
}

function wholeOf(text: string): number | null {
  return /^\d{1,10}$/.test(text.trim()) ? Number(text) : null;
}

/** A form that says what a published version says; `model` is the narrowest that holds its price. */
export function draftOf(manifest: FullAppManifest, price: AppPrice, decimals: number): AppDraft {
  const { handler, resources, scaling } = manifest;
  const text = (units: bigint) => (units === 0n ? '' : exact(units, decimals));
  const parts = [price.flat, price.feePerCall, price.ratePerGpuSecond].filter((part) => part > 0n).length;
  const model: PriceModel =
    parts > 1 ? 'hybrid' : price.flat > 0n ? 'flat' : price.ratePerGpuSecond > 0n ? 'gpu' : 'call';
  return {
    ...FRESH,
    name: manifest.name,
    image: manifest.image,
    handler: handler.kind,
    entry: handler.kind === 'http' ? '' : handler.entry,
    warmUp: handler.kind === 'http' ? '' : (handler.warm_up ?? ''),
    socket: handler.kind === 'http' ? (handler.socket ?? '') : FRESH.socket,
    schema: manifest.input_schema === '' ? '' : indented(manifest.input_schema),
    gpuClass: resources.gpus === 0 ? 'none' : resources.gpu_class,
    gpus: Math.max(1, resources.gpus).toString(),
    gpuMemoryMib: resources.gpu_memory_mib.toString(),
    cpuMilli: resources.cpu_milli.toString(),
    memoryMib: resources.memory_mib.toString(),
    diskMib: resources.disk_mib.toString(),
    timeout: `${manifest.timeout_s.toString()}s`,
    concurrency: manifest.concurrency.toString(),
    minWorkers: scaling.min_workers.toString(),
    maxWorkers: scaling.max_workers.toString(),
    queueDelayMs: scaling.target_queue_delay_ms.toString(),
    cooldown: `${scaling.cooldown_s.toString()}s`,
    model,
    flat: text(price.flat),
    call: model === 'call' && price.feePerCall === 0n ? '0' : text(price.feePerCall),
    gpuHour: text(price.ratePerGpuSecond * SECONDS_PER_HOUR),
    rest: {
      ready_timeout_s: manifest.ready_timeout_s,
      max_request_bytes: manifest.max_request_bytes,
      max_response_bytes: manifest.max_response_bytes,
      safe_to_repeat: manifest.safe_to_repeat,
      environment: manifest.environment,
    },
    path: handler.kind === 'http' ? handler.path : FRESH.path,
    readyPath: handler.kind === 'http' ? handler.ready_path : FRESH.readyPath,
  };
}

function indented(schema: string): string {
  try {
    return JSON.stringify(JSON.parse(schema), null, 2);
  } catch {
    return schema;
  }
}
