// The life of a transaction, from a wish to its block. Nothing else in the app sends one.
//
//   preparing -> checking -> asking -> pending -> mined
//                                       |-> replaced (sped up): goes on with the new hash
//                                       '-> cancelled in the wallet, or refused by the contract: failed

import { isAddressEqual, type Hash } from 'viem';
import type { Deployment } from '~/lib/deployment';
import type { Signer } from '~/lib/wallet/useWallet';
import { walletStore } from '~/lib/wallet/store';
import { Said } from './faults';
import { describe, type Deed, type Write } from './writes';

export type Stage =
  | { name: 'idle' }
  | { name: 'preparing' }
  | { name: 'signing' }
  | { name: 'checking'; deed: Deed }
  | { name: 'asking'; deed: Deed }
  | { name: 'pending'; deed: Deed; hash: Hash; replaced: boolean }
  | { name: 'mined'; deed: Deed; hash: Hash; block: bigint }
  | { name: 'failed'; fault: unknown; hash: Hash | null };

export type OnStage = (stage: Stage) => void;

/** Sends one transaction and stays with it until it is in a block; rejects with what went wrong. */
export async function send(at: Deployment, signer: Signer, write: Write, onStage: OnStage): Promise<Hash> {
  const deed = describe(at, write);
  onStage({ name: 'checking', deed });
  const value = write.value ?? 0n;
  const request = { account: signer.address, to: write.to, data: write.data, value };
  // The contract says no here, with its reason, before the wallet is asked for anything.
  const gas = await signer.reader.estimateGas(request);
  requireSameAccount(signer);
  const [from, nonce] = await Promise.all([
    signer.reader.getBlockNumber(),
    signer.reader.getTransactionCount({ address: signer.address, blockTag: 'pending' }),
  ]);
  onStage({ name: 'asking', deed });
  const hash = await signer.writer.sendTransaction({ ...request, gas: (gas * 6n) / 5n, chain: signer.chain });
  onStage({ name: 'pending', deed, hash, replaced: false });
  const ended = await followToBlock(signer, write, { hash, nonce, from }, (seen) =>
    onStage({ name: 'pending', deed, hash: seen, replaced: true }),
  );
  const { receipt } = ended;
  const seen = receipt.transactionHash;
  if (ended.cancelled) throw new SentAndFailed(seen, new Said((t) => t('fault.replaced')));
  if (receipt.status === 'reverted')
    throw new SentAndFailed(seen, await reasonOf(signer, write, receipt.blockNumber));
  onStage({ name: 'mined', deed, hash: seen, block: receipt.blockNumber });
  return seen;
}

interface Sent {
  hash: Hash;
  /** As counted before it was sent; the transaction itself says better once the node shows it. */
  nonce: number;
  /** The last block before it was sent. */
  from: bigint;
}

const ASKED_EVERY_MS = 700;

/**
 * Until the transaction, or the one that took its place, is in a block. Whoever speeds it up or cancels it in the
 * wallet sends another with the same number: that is looked for in each block, so that nobody waits for ever.
 */
async function followToBlock(signer: Signer, write: Write, sent: Sent, onReplaced: (hash: Hash) => void) {
  let { nonce } = sent;
  let next = sent.from + 1n;
  for (;;) {
    const receipt = await signer.reader.getTransactionReceipt({ hash: sent.hash }).catch(() => null);
    if (receipt !== null) return { receipt, cancelled: false };
    const known = await signer.reader.getTransaction({ hash: sent.hash }).catch(() => null);
    nonce = known?.nonce ?? nonce;
    const head = await signer.reader.getBlockNumber().catch(() => next - 1n);
    for (; next <= head; next += 1n) {
      const block = await signer.reader.getBlock({ blockNumber: next, includeTransactions: true });
      const other = block.transactions.find(
        (one) => one.nonce === nonce && isAddressEqual(one.from, signer.address) && one.hash !== sent.hash,
      );
      if (other === undefined) continue;
      const same = other.input === write.data && other.to !== null && isAddressEqual(other.to, write.to);
      if (same) onReplaced(other.hash);
      return { receipt: await signer.reader.getTransactionReceipt({ hash: other.hash }), cancelled: !same };
    }
    await new Promise((go) => setTimeout(go, ASKED_EVERY_MS));
  }
}

/** It went out and came to nothing; the chain shows it under this hash. */
export class SentAndFailed extends Error {
  override name = 'SentAndFailed';
  constructor(
    readonly hash: Hash,
    override readonly cause: unknown,
  ) {
    super('sent and failed');
  }
}

/** Somebody who switches accounts halfway must not pay from the other one. */
export function requireSameAccount(signer: Signer): void {
  const { address, chainId } = walletStore.get();
  if (address === null || !isAddressEqual(address, signer.address)) throw new Said((t) => t('fault.account'));
  if (chainId !== signer.chain.id) throw new Said((t) => t('fault.chain'));
}

async function reasonOf(signer: Signer, write: Write, blockNumber: bigint): Promise<unknown> {
  try {
    await signer.reader.call({
      account: signer.address,
      to: write.to,
      data: write.data,
      value: write.value ?? 0n,
      blockNumber,
    });
    return new Said((t) => t('fault.refused'));
  } catch (fault) {
    return fault;
  }
}
