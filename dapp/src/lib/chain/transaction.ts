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
  const request = { account: signer.address, to: write.to, data: write.data };
  // The contract says no here, with its reason, before the wallet is asked for anything.
  const gas = await signer.reader.estimateGas(request);
  requireSameAccount(signer);
  onStage({ name: 'asking', deed });
  const hash = await signer.writer.sendTransaction({ ...request, gas: (gas * 6n) / 5n, chain: signer.chain });
  onStage({ name: 'pending', deed, hash, replaced: false });
  let seen = hash;
  const replaced = { away: false };
  const receipt = await signer.reader.waitForTransactionReceipt({
    hash,
    timeout: 0,
    onReplaced: ({ reason, transaction }) => {
      seen = transaction.hash;
      replaced.away = reason !== 'repriced';
      if (!replaced.away) onStage({ name: 'pending', deed, hash: seen, replaced: true });
    },
  });
  if (replaced.away) throw new SentAndFailed(seen, new Said((t) => t('fault.replaced')));
  if (receipt.status === 'reverted')
    throw new SentAndFailed(seen, await reasonOf(signer, write, receipt.blockNumber));
  onStage({ name: 'mined', deed, hash: seen, block: receipt.blockNumber });
  return seen;
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
    await signer.reader.call({ account: signer.address, to: write.to, data: write.data, blockNumber });
    return new Said((t) => t('fault.refused'));
  } catch (fault) {
    return fault;
  }
}
