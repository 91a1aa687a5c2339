// The digests that both sides sign, computed here: nothing that a backend says about them is believed.

import {
  concat,
  encodeAbiParameters,
  hashTypedData,
  keccak256,
  numberToHex,
  recoverAddress,
  toBytes,
  type Address,
  type Hex,
} from 'viem';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import type { Schemas } from '~/lib/api';
import type { TaskTerms } from '~/lib/chain/writes';

export interface Domain {
  chainId: number;
  escrow: Address;
}

export const ZERO_DIGEST: Hex = `0x${'00'.repeat(32)}`;
export const ZERO_ADDRESS: Address = `0x${'00'.repeat(20)}`;

/** Keys sorted, no spaces, UTF-8: the same bytes as everywhere else (`manifest.canonical_json`). */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value as Record<string, unknown>).filter(([, one]) => one !== undefined);
    entries.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
    return `{${entries.map(([key, one]) => `${JSON.stringify(key)}:${canonicalJson(one)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

export function digestOfJson(value: unknown): Hex {
  return keccak256(toBytes(canonicalJson(value)));
}

type MessageName = keyof typeof eip712Types;

export function digestOf(domain: Domain, name: MessageName, message: Record<string, unknown>): Hex {
  return hashTypedData({
    domain: eip712Domain(domain.chainId, domain.escrow),
    types: { [name]: eip712Types[name] },
    primaryType: name,
    message,
  });
}

export function taskIdOf(domain: Domain, terms: TaskTerms): Hex {
  return digestOf(domain, 'TaskTerms', { ...terms });
}

export function termsOf(body: Schemas['TaskTermsBody-Output']): TaskTerms {
  return {
    consumer: body.consumer as Address,
    signer: body.signer as Address,
    dispatcher: body.dispatcher as Address,
    royaltyTo: body.royalty_to as Address,
    spec: body.spec as Hex,
    gpus: body.gpus,
    flat: BigInt(body.flat),
    feePerCall: BigInt(body.fee_per_call),
    ratePerGpuSecond: BigInt(body.rate_per_gpu_second),
    dispatcherBps: body.dispatcher_bps,
    royaltyBps: body.royalty_bps,
    maxCharge: BigInt(body.max_charge),
    maxSeconds: body.max_seconds,
    deadline: BigInt(body.deadline),
    challengeWindow: body.challenge_window,
    verification: body.verification,
    nonce: BigInt(body.nonce),
  };
}

export function termsBody(terms: TaskTerms): Schemas['TaskTermsBody-Input'] {
  return {
    consumer: terms.consumer,
    signer: terms.signer,
    dispatcher: terms.dispatcher,
    royalty_to: terms.royaltyTo,
    spec: terms.spec,
    gpus: terms.gpus,
    flat: terms.flat.toString(),
    fee_per_call: terms.feePerCall.toString(),
    rate_per_gpu_second: terms.ratePerGpuSecond.toString(),
    dispatcher_bps: terms.dispatcherBps,
    royalty_bps: terms.royaltyBps,
    max_charge: terms.maxCharge.toString(),
    max_seconds: terms.maxSeconds,
    deadline: Number(terms.deadline),
    challenge_window: terms.challengeWindow,
    verification: terms.verification,
    nonce: terms.nonce.toString(),
  };
}

export function receiptDigest(domain: Domain, receipt: Schemas['ReceiptBody']): Hex {
  return digestOf(domain, 'Receipt', {
    provider: receipt.provider,
    route: receipt.route,
    seq: BigInt(receipt.seq),
    prev: receipt.prev,
    request: receipt.request,
    result: receipt.result,
    gpuSet: receipt.gpu_set,
    startedAtMs: BigInt(receipt.started_at_ms),
    endedAtMs: BigInt(receipt.ended_at_ms),
    calls: BigInt(receipt.calls),
    gpuMs: BigInt(receipt.gpu_ms),
    usageRoot: receipt.usage_root,
    total: BigInt(receipt.total),
  });
}

export function voucherDigest(domain: Domain, voucher: Schemas['VoucherBody-Output']): Hex {
  return digestOf(domain, 'Voucher', {
    payer: voucher.payer,
    provider: voucher.provider,
    salt: BigInt(voucher.salt),
    total: BigInt(voucher.total),
    receipt: voucher.receipt,
  });
}

/** Who signed, or null where the bytes are no signature. */
export async function signerOf(digest: Hex, signature: string): Promise<Address | null> {
  try {
    return await recoverAddress({ hash: digest, signature: signature as Hex });
  } catch {
    return null;
  }
}

export function channelId(channel: Schemas['ChannelBody']): Hex {
  return keccak256(
    encodeAbiParameters(
      [{ type: 'address' }, { type: 'address' }, { type: 'address' }, { type: 'uint96' }],
      [
        channel.payer as Address,
        channel.signer as Address,
        channel.provider as Address,
        BigInt(channel.salt),
      ],
    ),
  );
}

/** OpenZeppelin's standard tree: leaves hashed twice and sorted, pairs hashed in order of value. */
export function merkleRoot(leaves: readonly Hex[]): Hex {
  if (leaves.length === 0) return ZERO_DIGEST;
  const hashed = leaves.map((leaf) => keccak256(keccak256(leaf))).sort();
  const tree: Hex[] = [...Array.from({ length: hashed.length - 1 }, () => ZERO_DIGEST), ...hashed.reverse()];
  for (let at = hashed.length - 2; at >= 0; at -= 1) {
    const one = tree[2 * at + 1] ?? ZERO_DIGEST;
    const other = tree[2 * at + 2] ?? ZERO_DIGEST;
    tree[at] = keccak256(one < other ? concat([one, other]) : concat([other, one]));
  }
  return tree[0] ?? ZERO_DIGEST;
}

export function gpuSetRoot(gpuIds: readonly string[]): Hex {
  return merkleRoot(gpuIds.map((id) => keccak256(toBytes(id))));
}

const NO_READING = 2n ** 64n - 1n;

export function usageRoot(samples: readonly Schemas['UsageSampleBody'][]): Hex {
  return merkleRoot(
    samples.map((sample) =>
      encodeAbiParameters(
        [{ type: 'uint64' }, { type: 'bytes32' }, { type: 'uint64' }],
        [
          BigInt(sample.at_ms),
          keccak256(toBytes(sample.gpu_id)),
          sample.energy_mj === null ? NO_READING : BigInt(sample.energy_mj),
        ],
      ),
    ),
  );
}

export function word64(value: number): Hex {
  return numberToHex(value, { size: 8 });
}
