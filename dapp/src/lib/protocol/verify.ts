// A receipt, checked in this browser by somebody who trusts nobody: what was signed is recomputed, and who signed
// is recovered. The rules are `tallystick.receipts` for tasks and `tallystick.protocol.verifying` for calls.

import { keccak256, toBytes, type Address, type Hex } from 'viem';
import type { Schemas } from '~/lib/api';
import type { MessageKey } from '~/lib/i18n';
import { chargeUp } from '~/lib/money';
import {
  channelId,
  digestOfJson,
  gpuSetRoot,
  receiptDigest,
  signerOf,
  taskIdOf,
  termsOf,
  usageRoot,
  voucherDigest,
  ZERO_DIGEST,
  type Domain,
} from './hashing';

export type CheckName = Exclude<Extract<MessageKey, `check.${string}`>, 'check.differs'>;

export interface Check {
  name: CheckName;
  /** null: what was shown does not answer it. */
  ok: boolean | null;
  expected: string;
  found: string;
}

const CLOCK_MARGIN_MS = 5 * 60 * 1000;

/** `signsFor` asks the chain whether a key is the provider's; null when nobody can be asked. */
export type SignsFor = (signer: Address, provider: Address) => Promise<boolean | null>;

export async function verifyTask(
  domain: Domain,
  task: Schemas['TaskBody'],
  view: Schemas['ReceiptView'],
  consumer: string,
  signsFor: SignsFor,
  nowMs: number,
): Promise<Check[]> {
  const { receipt } = view;
  const terms = termsOf(task.terms);
  const digest = receiptDigest(domain, receipt);
  const elapsedMs = receipt.ended_at_ms - receipt.started_at_ms;
  const most = BigInt(terms.gpus) * BigInt(Math.max(0, elapsedMs));
  const uncapped = chargeUp(terms, BigInt(receipt.calls), BigInt(receipt.gpu_ms));
  const charge = uncapped < terms.maxCharge ? uncapped : terms.maxCharge;
  return [
    same('check.terms', task.id, taskIdOf(domain, terms)),
    same('check.consumer', consumer.toLowerCase(), terms.consumer.toLowerCase()),
    same('check.manifest', terms.spec, digestOfJson(task.manifest)),
    await signatureCheck(digest, receipt.provider, view.signature, signsFor),
    same('check.digest', digest, view.digest),
    same('check.route', task.id, receipt.route),
    same('check.fence', view.fence.toString(), receipt.seq.toString()),
    same('check.prev', ZERO_DIGEST, receipt.prev),
    same('check.request', terms.spec, receipt.request),
    same('check.result', view.result_digest, receipt.result),
    judge(
      'check.times',
      elapsedMs >= 0 &&
        elapsedMs <= terms.maxSeconds * 1000 &&
        receipt.started_at_ms >= task.created_at_ms - CLOCK_MARGIN_MS &&
        receipt.ended_at_ms <= nowMs + CLOCK_MARGIN_MS,
      `0 – ${(terms.maxSeconds * 1000).toString()} ms`,
      `${elapsedMs.toString()} ms`,
    ),
    judge(
      'check.gpuTime',
      BigInt(receipt.gpu_ms) <= most,
      `≤ ${most.toString()} ms`,
      `${receipt.gpu_ms.toString()} ms`,
    ),
    judge('check.calls', receipt.calls <= 1, '≤ 1', receipt.calls.toString()),
    same('check.charge', charge.toString(), receipt.total),
  ];
}

export async function verifyCall(
  domain: Domain,
  view: Schemas['CallReceiptView'],
  asked: { callId: string; payer: string | null; input: Uint8Array | null; result: Uint8Array | null },
  signsFor: SignsFor,
): Promise<Check[]> {
  const { receipt, signature } = view.signed;
  const digest = receiptDigest(domain, receipt);
  const before = view.before === null ? null : view.before.receipt;
  const beforeDigest = before === null ? ZERO_DIGEST : receiptDigest(domain, before);
  const manifest = readManifest(view);
  const price = {
    flat: BigInt(view.request.price.flat),
    feePerCall: BigInt(view.request.price.fee_per_call),
    ratePerGpuSecond: BigInt(view.request.price.rate_per_gpu_second),
  };
  const total =
    (before === null ? 0n : BigInt(before.total)) +
    chargeUp(price, BigInt(receipt.calls), BigInt(receipt.gpu_ms));
  const elapsedMs = receipt.ended_at_ms - receipt.started_at_ms;
  const longestMs = view.request.max_seconds * 1000;
  const known = receipt.seq === 1 || before !== null;
  return [
    judge(
      'check.deployment',
      view.chain_id === domain.chainId && view.escrow.toLowerCase() === domain.escrow.toLowerCase(),
      `${domain.chainId.toString()} ${domain.escrow}`,
      `${view.chain_id.toString()} ${view.escrow}`,
    ),
    same('check.call', asked.callId, view.request.call_id),
    asked.payer === null
      ? open('check.payer', '', view.channel.payer)
      : same('check.payer', asked.payer.toLowerCase(), view.channel.payer.toLowerCase()),
    asked.input === null
      ? open('check.input', '', view.request.input)
      : same('check.input', keccak256(asked.input), view.request.input),
    await signatureCheck(digest, receipt.provider, signature, signsFor),
    same('check.provider', view.channel.provider.toLowerCase(), receipt.provider.toLowerCase()),
    same('check.channel', channelId(view.channel), receipt.route),
    known
      ? judge(
          'check.place',
          receipt.prev === beforeDigest && receipt.seq === (before === null ? 1 : before.seq + 1),
          beforeDigest,
          receipt.prev,
        )
      : open('check.place', '', receipt.prev),
    same('check.request', digestOfJson(view.request), receipt.request),
    asked.result === null
      ? open('check.result', '', receipt.result)
      : same('check.result', keccak256(asked.result), receipt.result),
    judge(
      'check.times',
      elapsedMs >= 0 && elapsedMs <= longestMs,
      `0 – ${longestMs.toString()} ms`,
      `${elapsedMs.toString()} ms`,
    ),
    same('check.calls', '1', receipt.calls.toString()),
    manifest === null
      ? open('check.gpuTime', '', `${receipt.gpu_ms.toString()} ms`)
      : judge(
          'check.gpuTime',
          receipt.gpu_ms <= manifest.gpus * elapsedMs,
          `≤ ${(manifest.gpus * elapsedMs).toString()} ms`,
          `${receipt.gpu_ms.toString()} ms`,
        ),
    same('check.gpuSet', gpuSetRoot(view.gpu_ids), receipt.gpu_set),
    same('check.usage', usageRoot(view.usage), receipt.usage_root),
    known ? same('check.total', total.toString(), receipt.total) : open('check.total', '', receipt.total),
    await voucherCheck(domain, view, digest),
  ];
}

async function voucherCheck(domain: Domain, view: Schemas['CallReceiptView'], digest: Hex): Promise<Check> {
  if (view.voucher === null) return open('check.voucher', view.channel.signer, '–');
  const { voucher, signature } = view.voucher;
  const signer = await signerOf(voucherDigest(domain, voucher), signature);
  const channel = {
    payer: voucher.payer,
    provider: voucher.provider,
    salt: voucher.salt,
    signer: signer ?? '0x',
  };
  if (signer === null || channelId(channel) !== channelId(view.channel)) {
    return judge('check.voucher', false, view.channel.signer, signer ?? '–');
  }
  let end = { seq: view.signed.receipt.seq, digest, total: BigInt(view.signed.receipt.total) };
  for (const { receipt } of view.later) {
    const follows =
      receipt.seq === end.seq + 1 && receipt.prev === end.digest && BigInt(receipt.total) >= end.total;
    if (!follows) return judge('check.voucher', false, end.digest, receipt.prev);
    end = { seq: receipt.seq, digest: receiptDigest(domain, receipt), total: BigInt(receipt.total) };
  }
  const agrees = voucher.receipt === end.digest && BigInt(voucher.total) === end.total;
  return judge('check.voucher', agrees, end.digest, voucher.receipt);
}

async function signatureCheck(
  digest: Hex,
  provider: string,
  signature: string,
  signsFor: SignsFor,
): Promise<Check> {
  const signer = await signerOf(digest, signature);
  if (signer === null) return judge('check.signature', false, provider, '–');
  if (signer.toLowerCase() === provider.toLowerCase())
    return judge('check.signature', true, provider, signer);
  return {
    name: 'check.signature',
    ok: await signsFor(signer, provider as Address),
    expected: provider,
    found: signer,
  };
}

/** The manifest's cards, if it is the file that the version names. */
function readManifest(view: Schemas['CallReceiptView']): { gpus: number } | null {
  if (view.manifest === null || view.app === null) return null;
  if (keccak256(toBytes(view.manifest)) !== view.app.version.manifest_digest) return null;
  const parsed = JSON.parse(view.manifest) as { resources?: { gpus?: number } };
  return { gpus: parsed.resources?.gpus ?? 0 };
}

function same(name: CheckName, expected: string, found: string): Check {
  return { name, ok: expected === found, expected, found };
}

function judge(name: CheckName, ok: boolean, expected: string, found: string): Check {
  return { name, ok, expected, found };
}

function open(name: CheckName, expected: string, found: string): Check {
  return { name, ok: null, expected, found };
}
