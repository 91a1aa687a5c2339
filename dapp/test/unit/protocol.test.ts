// The browser's half of the protocol against the Python kernel's, byte for byte.

import { hexToBytes, recoverMessageAddress, type Hex } from 'viem';
import { describe, expect, it } from 'vitest';
import { gunzip, gzip, isSafeName, tar, untar } from '~/lib/protocol/bundle';
import {
  canonicalJson,
  channelId,
  digestOfJson,
  gpuSetRoot,
  receiptDigest,
  signerOf,
  taskIdOf,
  termsBody,
  termsOf,
  usageRoot,
  type Domain,
} from '~/lib/protocol/hashing';
import { chooseRate, sealingKeyText, type OfferBody } from '~/lib/protocol/order';
import {
  contentKey,
  decryptBundle,
  encryptBundle,
  openResult,
  readingKeyFromSignature,
} from '~/lib/protocol/seal';
import { verifyTask } from '~/lib/protocol/verify';
import type { Schemas } from '~/lib/api';
import { vectors } from './fixtures';

const domain = vectors.domain as Domain;

describe('digests', () => {
  it('of a manifest are those of its canonical JSON', () =>
    expect(digestOfJson(vectors.manifest)).toBe(vectors.spec));
  it('of terms are the task id', () => expect(taskIdOf(domain, termsOf(vectors.terms))).toBe(vectors.taskId));
  it('of terms survive the way over the wire', () =>
    expect(termsBody(termsOf(vectors.terms))).toEqual(vectors.terms));
  it('of a receipt are what the provider signed', async () => {
    const digest = receiptDigest(domain, vectors.receipt);
    expect(digest).toBe(vectors.receiptDigest);
    expect(await signerOf(digest, vectors.receiptSignature)).toBe(vectors.operator);
  });
  it('of a channel, a set of cards and a metering agree', () => {
    expect(channelId(vectors.channel)).toBe(vectors.channelId);
    expect(gpuSetRoot(vectors.gpuIds)).toBe(vectors.gpuSet);
    expect(usageRoot(vectors.usage)).toBe(vectors.usageRoot);
  });
  it('sort keys and write no spaces', () =>
    expect(canonicalJson({ b: [1, null], a: { d: true, c: 'é' } })).toBe(
      '{"a":{"c":"é","d":true},"b":[1,null]}',
    ));
});

describe('sealing', () => {
  it("makes the wallet's key, the content key, and opens a result sealed in Python", async () => {
    const key = await readingKeyFromSignature(vectors.walletSignature as Hex);
    expect(key.publicKey).toBe(vectors.readingKey);
    expect(await contentKey(key, BigInt(vectors.terms.nonce))).toEqual(hexToBytes(vectors.contentKey as Hex));
    const sealed = hexToBytes(vectors.sealedResult as Hex);
    expect(new TextDecoder().decode(await openResult(key, vectors.taskId as Hex, 3, sealed))).toBe(
      'the result',
    );
    await expect(openResult(key, vectors.taskId as Hex, 4, sealed)).rejects.toThrow();
  });
  it('opens an input again that it sealed, and no other', async () => {
    const key = hexToBytes(vectors.contentKey as Hex) as Uint8Array<ArrayBuffer>;
    const sealed = await encryptBundle(key, new TextEncoder().encode('the input'));
    expect(new TextDecoder().decode(await decryptBundle(key, sealed))).toBe('the input');
    sealed[20] = (sealed[20] ?? 0) ^ 1;
    await expect(decryptBundle(key, sealed)).rejects.toThrow();
  });
  it('knows whose a sealing key is, however the address is written', async () => {
    const message = sealingKeyText(domain, vectors.provider.toLowerCase(), vectors.sealingKey);
    const signedBy = await recoverMessageAddress({ message, signature: vectors.sealingKeySignature as Hex });
    expect(signedBy).toBe(vectors.operator);
  });
});

describe('bundles', () => {
  it('come back as they went, and are the same bytes for the same files', async () => {
    const files = [
      { name: 'b.txt', content: new TextEncoder().encode('two') },
      { name: 'a/one.bin', content: new Uint8Array(1500).fill(7) },
    ];
    const packed = tar(files);
    expect(tar([...files].reverse())).toEqual(packed);
    expect(untar(await gunzip(await gzip(packed), 100_000)).map((file) => file.name)).toEqual([
      'a/one.bin',
      'b.txt',
    ]);
  });
  it('stop at the size that was allowed', async () => {
    const bomb = await gzip(new Uint8Array(1_000_000));
    await expect(gunzip(bomb, 1000)).rejects.toThrow(/more than 1000/);
  });
  it.each(['../x', '/x', 'a//b', 'a\\b', '', '.', 'a/..'])('refuse the name %j', (name) =>
    expect(isSafeName(name)).toBe(false),
  );
});

describe('a task receipt', () => {
  const task = {
    id: vectors.taskId,
    terms: vectors.terms,
    manifest: vectors.manifest,
    created_at_ms: vectors.receipt.started_at_ms - 1000,
  } as unknown as Schemas['TaskBody'];
  const view: Schemas['ReceiptView'] = {
    receipt: vectors.receipt,
    signature: vectors.receiptSignature,
    digest: vectors.receiptDigest,
    fence: 1,
    exit_code: 0,
    result_digest: vectors.receipt.result,
    result_bytes: 1,
    energy_mj: null,
    simulated: true,
    runtime: 'process',
    accepted: false,
  };
  const check = async (shown: Schemas['ReceiptView'], shownTask = task, knows = true) => {
    const signsFor = () => Promise.resolve(knows);
    const found = await verifyTask(
      domain,
      shownTask,
      shown,
      vectors.terms.consumer,
      signsFor,
      vectors.receipt.ended_at_ms,
    );
    return found.filter((one) => one.ok === false).map((one) => one.name);
  };

  it('holds', async () => expect(await check(view)).toEqual([]));
  it('does not hold when the chain knows no such key', async () =>
    expect(await check(view, task, false)).toEqual(['check.signature']));

  const changes: Partial<Schemas['ReceiptBody']>[] = [
    { total: '1388888888888881' },
    { gpu_ms: 10_001 },
    { ended_at_ms: vectors.receipt.ended_at_ms + 1 },
    { started_at_ms: vectors.receipt.started_at_ms - 1 },
    { result: `0x${'ce'.repeat(32)}` },
    { request: `0x${'ce'.repeat(32)}` },
    { route: `0x${'ce'.repeat(32)}` },
    { prev: `0x${'ce'.repeat(32)}` },
    { seq: 2 },
    { calls: 2 },
    { gpu_set: `0x${'ce'.repeat(32)}` },
    { usage_root: `0x${'ce'.repeat(32)}` },
    { provider: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8' },
  ];
  it.each(changes)('with %o changed is refused', async (change) => {
    expect(await check({ ...view, receipt: { ...vectors.receipt, ...change } })).toContain('check.digest');
  });
  it('for a manifest that was swapped is refused', async () => {
    const swapped = { ...task, manifest: { ...vectors.manifest, command: ['python', 'evil.py'] } };
    expect(await check(view, swapped)).toEqual(['check.manifest']);
  });
});

describe('chooseRate', () => {
  const offer = (rate: string, eligible = true, reason = '') =>
    ({ rate_per_gpu_second: rate, eligible, reason }) as OfferBody;
  it('takes the lowest that two meet', () =>
    expect(chooseRate([offer('5'), offer('3'), offer('9')], null)).toBe(5n));
  it('takes the only one', () => expect(chooseRate([offer('5')], null)).toBe(5n));
  it('never goes above the ceiling', () => {
    expect(chooseRate([offer('3'), offer('9')], 4n)).toBe(4n);
    expect(chooseRate([offer('5')], 4n)).toBeNull();
  });
  it('queues at the price of those that are busy', () =>
    expect(chooseRate([offer('7', false, 'gpus_busy')], null)).toBe(7n));
  it('finds nobody', () => expect(chooseRate([offer('7', false, 'too_small')], null)).toBeNull());
});
