// From what a person asks for to what the wallet signs: manifest, terms, sealed keys (`tallystick.orders`).

import { getAddress, keccak256, recoverMessageAddress, toHex, type Address, type Hex } from 'viem';
import { providerStakingAbi } from '~/generated/abi';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import { ask, client, fetchRaw, newIdempotencyKey, type Schemas } from '~/lib/api';
import { requireSameAccount } from '~/lib/chain/transaction';
import { Said } from '~/lib/chain/faults';
import type { TaskTerms } from '~/lib/chain/writes';
import type { Deployment } from '~/lib/deployment';
import { maxChargeUp } from '~/lib/money';
import type { Signer } from '~/lib/wallet/useWallet';
import { gzip, tar, type BundleFile } from './bundle';
import { digestOfJson, taskIdOf, termsBody, ZERO_ADDRESS, type Domain } from './hashing';
import { contentKey, encryptBundle, readingKey, sealInputKey } from './seal';

export type OfferBody = Schemas['OfferBody'];
export type Manifest = Schemas['Manifest'];

export interface Wish {
  name: string;
  image: string;
  command: string[];
  files: BundleFile[];
  gpuClass: string;
  gpus: number;
  maxSeconds: number;
  ratePerGpuSecond: bigint;
  /** What the form has no field for: carried over from a task that is run again. */
  rest?: Rest;
}

export interface Rest {
  env: Record<string, string>;
  gpuMemoryMib: number;
  cpuMilli: number;
  memoryMib: number;
  diskMib: number;
  maxOutputMib: number;
}

const USUAL: Rest = {
  env: {},
  gpuMemoryMib: 0,
  cpuMilli: 1000,
  memoryMib: 2048,
  diskMib: 1024,
  maxOutputMib: 256,
};

const FENCES_SEALED_AHEAD = 4;
const QUEUE_SECONDS = 24 * 3600;
const MOST_PROVIDERS = 64;

/**
 * The rate to sign: the lowest that two eligible providers meet, or the only one's, never above the ceiling. A
 * second taker can take over when the first one fails. When all who could do it are busy, the task waits in
 * line at their price. Null when nobody could.
 */
export function chooseRate(offers: readonly OfferBody[], ceiling: bigint | null): bigint | null {
  const able = offers.filter((offer) => offer.eligible);
  const pool = able.length > 0 ? able : offers.filter((offer) => offer.reason === 'gpus_busy');
  const asks = pool
    .map((offer) => BigInt(offer.rate_per_gpu_second))
    .sort((one, other) => (one < other ? -1 : 1));
  const rate = asks[Math.min(1, asks.length - 1)];
  const least = asks[0];
  if (rate === undefined || least === undefined) return null;
  if (ceiling === null) return rate;
  if (least > ceiling) return null;
  return rate < ceiling ? rate : ceiling;
}

/** Every field, also those left at their default: the digest is over all of them. */
export function makeManifest(wish: Wish, inputDigest: Hex | null, resultKey: Hex): Manifest {
  const rest = wish.rest ?? USUAL;
  return {
    version: 1,
    name: wish.name,
    image: wish.image,
    command: wish.command,
    env: rest.env,
    input_digest: inputDigest,
    resources: {
      gpu_class: wish.gpus === 0 ? '' : wish.gpuClass,
      gpus: wish.gpus,
      gpu_memory_mib: rest.gpuMemoryMib,
      cpu_milli: rest.cpuMilli,
      memory_mib: rest.memoryMib,
      disk_mib: rest.diskMib,
    },
    network: 'none',
    max_output_mib: rest.maxOutputMib,
    result_key: resultKey,
  };
}

export function makeTerms(
  wish: Wish,
  at: Deployment,
  order: { consumer: Address; spec: Hex; nonce: bigint; nowS: number },
): TaskTerms {
  const price = { flat: 0n, feePerCall: 0n, ratePerGpuSecond: wish.ratePerGpuSecond };
  return {
    consumer: order.consumer,
    signer: ZERO_ADDRESS,
    dispatcher: at.dispatcher,
    royaltyTo: ZERO_ADDRESS,
    spec: order.spec,
    gpus: wish.gpus,
    ...price,
    dispatcherBps: at.dispatcherBps,
    royaltyBps: 0,
    maxCharge: maxChargeUp(price, wish.gpus, wish.maxSeconds),
    maxSeconds: wish.maxSeconds,
    deadline: BigInt(order.nowS + wish.maxSeconds + QUEUE_SECONDS),
    challengeWindow: at.challengeWindowSeconds,
    verification: 0,
    nonce: order.nonce,
  };
}

/** Signs the order, hands in input and order, and answers the terms, which are still to be locked on chain. */
export async function placeOrder(
  at: Deployment,
  signer: Signer,
  wish: Wish,
  offers: readonly OfferBody[],
): Promise<{ terms: TaskTerms; taskId: Hex }> {
  const domain = { chainId: at.chainId, escrow: at.escrow };
  const sign = (message: string) => signer.writer.signMessage({ message });
  const key = await readingKey(signer.address, sign);
  const nonce = BigInt(toHex(crypto.getRandomValues(new Uint8Array(32))));
  const content = await contentKey(key, nonce);
  const sealed = wish.files.length === 0 ? null : await encryptBundle(content, await gzip(tar(wish.files)));
  const manifest = makeManifest(wish, sealed === null ? null : keccak256(sealed), key.publicKey);
  const nowS = Math.floor(Date.now() / 1000);
  const terms = makeTerms(wish, at, { consumer: signer.address, spec: digestOfJson(manifest), nonce, nowS });
  const taskId = taskIdOf(domain, terms);
  const sealedKeys =
    sealed === null ? [] : await sealForAll(domain, at, signer, wish, offers, taskId, content);
  requireSameAccount(signer);
  const signature = await signer.writer.signTypedData({
    domain: eip712Domain(at.chainId, at.escrow),
    types: { TaskTerms: eip712Types.TaskTerms },
    primaryType: 'TaskTerms',
    message: terms,
  });
  if (sealed !== null) {
    const headers = { 'Content-Type': 'application/octet-stream', 'Idempotency-Key': newIdempotencyKey() };
    await fetchRaw(`/v1/blobs/${keccak256(sealed)}`, { method: 'PUT', body: sealed, headers });
  }
  const body = { terms: termsBody(terms), signature, manifest, sealed_keys: sealedKeys, secured: true };
  await ask(
    client.POST('/v1/tasks', { body, params: { header: { 'Idempotency-Key': newIdempotencyKey() } } }),
  );
  return { terms, taskId };
}

async function sealForAll(
  domain: Domain,
  at: Deployment,
  signer: Signer,
  wish: Wish,
  offers: readonly OfferBody[],
  taskId: Hex,
  content: Uint8Array<ArrayBuffer>,
): Promise<Schemas['SealedKey'][]> {
  const able = offers
    .filter((offer) => offer.gpus_total >= wish.gpus && offer.hpke_key.length === 66)
    .slice(0, MOST_PROVIDERS);
  const trusted: OfferBody[] = [];
  for (const offer of able) {
    if (await keyIsTheProviders(domain, at, signer, offer)) trusted.push(offer);
  }
  if (trusted.length === 0) throw new Said((t) => t('order.noTrustedKey'));
  const sealed: Schemas['SealedKey'][] = [];
  for (const offer of trusted) {
    for (let fence = 1; fence <= FENCES_SEALED_AHEAD; fence += 1) {
      const bytes = await sealInputKey(offer.hpke_key as Hex, taskId, fence, content);
      sealed.push({ provider: offer.provider, fence, sealed: bytes });
    }
  }
  return sealed;
}

/**
 * The backend names the keys, and could name its own: so the chain is asked whose the signing key is. Nothing
 * is sealed to a key that no staked provider signed.
 */
export async function keyIsTheProviders(
  domain: Domain,
  at: Deployment,
  signer: Signer,
  offer: { provider: string; hpke_key: string; hpke_signature: string },
): Promise<boolean> {
  const provider = offer.provider as Address;
  const message = sealingKeyText(domain, provider, offer.hpke_key);
  const signedBy = await recoverMessageAddress({ message, signature: offer.hpke_signature as Hex }).catch(
    () => null,
  );
  if (signedBy === null) return false;
  const staking = { address: at.staking, abi: providerStakingAbi } as const;
  const [signs, units] = await Promise.all([
    signer.reader.readContract({ ...staking, functionName: 'signsFor', args: [signedBy, provider] }),
    signer.reader.readContract({ ...staking, functionName: 'unitsOf', args: [provider] }),
  ]);
  return signs && units > 0n;
}

export function sealingKeyText(domain: Domain, provider: string, hpkeKey: string): string {
  return [
    'Tallystick provider sealing key',
    `Chain: ${domain.chainId}`,
    `Escrow: ${getAddress(domain.escrow)}`,
    `Provider: ${getAddress(provider)}`,
    `HPKE key: ${hpkeKey.toLowerCase()}`,
  ].join('\n');
}
