// An app deployed here is the one that `tallystick app deploy` would deploy: the same bytes, ids and plan.

import { decodeFunctionData, type Address, type Hex } from 'viem';
import { describe, expect, it } from 'vitest';
import { compare } from '~/features/deploy/cost';
import { rentOf } from '~/features/deploy/CostPreview';
import { draftOf, FRESH, readDraft, type AppDraft } from '~/features/deploy/draft';
import { planOf, writeOf, type Published } from '~/features/deploy/plan';
import { begun, TEMPLATES } from '~/features/deploy/templates';
import { appRegistryAbi } from '~/generated/abi';
import {
  appIdOf,
  appSalt,
  imageDigest,
  manifestFile,
  schemaText,
  versionOf,
  type FullAppManifest,
} from '~/lib/protocol/appManifest';
import appVectors from './appVectors.json';
import { deployment } from './fixtures';

const DECIMALS = 18;
const unit = 10n ** 18n;
const free = { flat: 0n, feePerCall: 0n, ratePerGpuSecond: 0n };
const vectors = appVectors as unknown as {
  manifest: FullAppManifest;
  manifestDigest: Hex;
  imageDigest: Hex;
  salt: Hex;
  publisher: Address;
  appId: Hex;
}[];

function good(change: Partial<AppDraft>) {
  const read = readDraft({ ...FRESH, name: 'hello', image: 'process', ...change }, DECIMALS);
  if (!read.ok) throw new Error(JSON.stringify(read.faults));
  return read;
}

function faultsOf(change: Partial<AppDraft>) {
  const read = readDraft({ ...FRESH, name: 'hello', image: 'process', ...change }, DECIMALS);
  return read.ok ? {} : read.faults;
}

describe("the SDK's publication", () => {
  it.each(vectors.map((one) => [one.manifest.name, one] as const))('of %s is ours', (_, one) => {
    expect(versionOf(one.manifest)).toEqual({
      imageDigest: one.imageDigest,
      manifestDigest: one.manifestDigest,
      manifestUri: `urn:tallystick:manifest:${one.manifestDigest}`,
    });
    expect(appSalt(one.manifest.name)).toBe(one.salt);
    expect(appIdOf(31337, deployment.registry, one.publisher, one.manifest.name)).toBe(one.appId);
  });

  it.each(vectors.map((one) => [one.manifest.name, one] as const))(
    'of %s comes through the form unchanged',
    (_, one) => {
      const price = {
        flat: 5n,
        feePerCall: 10n ** 15n,
        ratePerGpuSecond: one.manifest.resources.gpus > 0 ? 7n : 0n,
      };
      const read = readDraft(draftOf(one.manifest, price, DECIMALS), DECIMALS);
      if (!read.ok) throw new Error(JSON.stringify(read.faults));
      expect(versionOf(read.manifest).manifestDigest).toBe(one.manifestDigest);
      expect(read.price).toEqual(price);
    },
  );

  it('writes the file that the digest is of', () => {
    const file = new TextDecoder().decode(manifestFile(good({}).manifest));
    expect(file).toMatch(/^\{"concurrency":1,"environment":\[\],"handler":\{"entry":/);
  });
});

describe('an image', () => {
  const digits = 'ab'.repeat(32);
  it.each([
    [`registry.example/a/b@sha256:${digits}`, `0x${digits}`],
    [`sha256:${digits}`, `0x${digits}`],
    ['llama:latest', null],
    [`name@sha256:${digits.toUpperCase()}`, null],
    [`name@sha256:${digits}0`, null],
  ])('%s', (image, digest) => expect(imageDigest(image)).toBe(digest));
});

describe('a form', () => {
  it('says which field is wrong', () => {
    expect(faultsOf({ name: 'Hello' })).toEqual({ name: 'deploy.fault.name' });
    expect(faultsOf({ image: 'hello:latest' })).toEqual({ image: 'deploy.fault.image' });
    expect(faultsOf({ minWorkers: '5' })).toEqual({ minWorkers: 'deploy.fault.order' });
    expect(faultsOf({ entry: 'greet' })).toEqual({ entry: 'deploy.fault.entry' });
    expect(faultsOf({ schema: '{' })).toEqual({ schema: 'deploy.fault.schema' });
    expect(faultsOf({ schema: '[]' })).toEqual({ schema: 'deploy.fault.schema' });
    expect(faultsOf({ timeout: '2d' })).toEqual({ timeout: 'deploy.fault.duration' });
    expect(faultsOf({ call: '' })).toEqual({ call: 'deploy.fault.amount' });
    expect(faultsOf({ discount: '101' })).toEqual({ discount: 'deploy.fault.percent' });
    expect(faultsOf({ model: 'gpu', gpuHour: '1' })).toEqual({ gpuHour: 'deploy.fault.noGpuToCharge' });
  });

  it('prices by its model alone', () => {
    const typed = { flat: '2', call: '0.001', gpuHour: '0.5', gpuClass: 'gpu1' };
    const rate = 138_888_888_888_888n;
    expect(good({ ...typed, model: 'call' }).price).toEqual({ ...free, feePerCall: 10n ** 15n });
    expect(good({ ...typed, model: 'gpu' }).price).toEqual({ ...free, ratePerGpuSecond: rate });
    expect(good({ ...typed, model: 'flat' }).price).toEqual({ ...free, flat: 2n * unit });
    expect(good({ ...typed, model: 'hybrid' }).price).toEqual({
      flat: 2n * unit,
      feePerCall: 10n ** 15n,
      ratePerGpuSecond: rate,
    });
    expect(good({ call: '0' }).price).toEqual(free);
    expect(good({ model: 'hybrid', flat: '', call: '0.001', gpuHour: '' }).price.feePerCall).toBe(10n ** 15n);
  });

  it('keeps the schema as the SDK would: keys sorted, no spaces', () => {
    expect(schemaText('{ "type": "object", "required": ["b", "a"] }')).toBe(
      '{"required":["b","a"],"type":"object"}',
    );
    expect(schemaText('  ')).toBe('');
  });

  it('begins with each template, and keeps what was named', () => {
    for (const template of TEMPLATES) {
      const draft = begun(template, { ...FRESH, name: 'mine', image: 'process' });
      expect(draft.image).toBe('process');
      expect(draft.name).toBe(template.key === 'hello' ? 'hello' : 'mine');
      const gpuClass = draft.gpuClass === '' ? 'gpu1' : draft.gpuClass;
      expect(readDraft({ ...draft, gpuClass }, DECIMALS)).toMatchObject({ ok: true });
    }
  });
});

describe('a plan', () => {
  const me: Address = '0x90F79bf6EB2c4f870365E785982E1f101E93b906';
  const other: Address = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
  const { manifest, price } = good({});
  const wanted = versionOf(manifest);
  const id: Hex = `0x${'11'.repeat(32)}`;
  const there: Published = {
    publisher: me,
    versions: 2,
    permanent: false,
    retired: false,
    imageDigest: wanted.imageDigest,
    manifestDigest: wanted.manifestDigest,
    price,
  };
  const nameOf = (found: Published | null) => {
    const plan = planOf(found, me, wanted, price);
    const write = writeOf(deployment, plan, { id, salt: appSalt('hello') }, wanted, price);
    return write === null ? plan : decodeFunctionData({ abi: appRegistryAbi, data: write.data }).functionName;
  };

  it('publishes, adds a version, announces a price, or does nothing', () => {
    expect(nameOf(null)).toBe('publish');
    expect(nameOf({ ...there, manifestDigest: id })).toBe('addVersion');
    expect(nameOf({ ...there, price: { ...price, flat: 1n } })).toBe('setPrice');
    expect(nameOf(there)).toEqual({ act: 'nothing', version: 2 });
  });
  it('leaves alone what cannot be changed', () => {
    expect(nameOf({ ...there, publisher: other })).toEqual({ act: 'refused', why: 'foreign' });
    expect(nameOf({ ...there, permanent: true })).toEqual({ act: 'refused', why: 'permanent' });
    expect(nameOf({ ...there, retired: true })).toEqual({ act: 'refused', why: 'retired' });
  });
});

describe('against a rented server', () => {
  const work = { gpus: 1, callMs: 2_000n, callsPerDay: 1_000n, places: 1 };
  it('says from how many calls a day on renting is cheaper', () => {
    // 0.001 a call; 0.5 an hour is 12 a day, which is 12,000 calls; one card answers 43,200.
    const found = compare({ ...free, feePerCall: unit / 1000n }, work, unit / 2n);
    expect(found).toEqual({
      perCall: unit / 1000n,
      perDay: unit,
      rentPerDay: 12n * unit,
      crossover: 12_000n,
      capacity: 43_200n,
    });
  });
  it('counts every card, on both sides', () => {
    const rate = 138_888_888_888_888n;
    const found = compare({ ...free, ratePerGpuSecond: rate }, { ...work, gpus: 4 }, rate * 3600n);
    expect(found.perCall).toBe(8n * rate);
    // At the same price an hour, only a server that is never idle is as cheap.
    expect(found.crossover).toBe(found.capacity);
  });
  it('has no answer for what is free', () => expect(compare(free, work, unit).crossover).toBeNull());
  it("takes the market's middle price of the model that most cards are", () => {
    const row = (model: string, cards: number, rate: string) => ({
      gpu_class: 'gpu1',
      model,
      memory_mib: 24_000,
      simulated: false,
      providers: 1,
      cards,
      cards_free: 0,
      min_rate: rate,
      median_rate: rate,
      max_rate: rate,
    });
    const rows = [row('A', 2, '10'), row('B', 5, '20'), row('C', 0, '1')];
    expect(rentOf(rows, 'gpu1')).toEqual({ model: 'B', perHour: 72_000n });
    expect(rentOf(rows, 'gpu9')).toBeNull();
  });
});
