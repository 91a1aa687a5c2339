// One signature instead of an approval: EIP-2612. The token says itself which domain it signs under.

import type { Address, Hex } from 'viem';
import { computeEscrowAbi, tallyTokenAbi } from '~/generated/abi';
import { tokenEip712Types } from '~/generated/typedData';
import type { Deployment } from '~/lib/deployment';
import type { Signer } from '~/lib/wallet/useWallet';
import { requireSameAccount } from './transaction';

const GOOD_FOR_SECONDS = 3600n;

export interface Permit {
  deadline: bigint;
  signature: Hex;
}

/** For a deposit. Null when the token knows no permit: then it has to be approved, for exactly the amount. */
export function signPermit(at: Deployment, signer: Signer, amount: bigint): Promise<Permit | null> {
  return signPermitOf(at.token, at.escrow, signer, amount);
}

/** For stake and delegations, in the same way. */
export function signStakePermit(at: Deployment, signer: Signer, amount: bigint): Promise<Permit | null> {
  return signPermitOf(at.stakingTokenAddress, at.staking, signer, amount);
}

async function signPermitOf(
  address: Address,
  spender: Address,
  signer: Signer,
  amount: bigint,
): Promise<Permit | null> {
  const token = { address, abi: tallyTokenAbi } as const;
  let nonce: bigint;
  let found: Awaited<ReturnType<typeof domainOf>>;
  try {
    nonce = await signer.reader.readContract({ ...token, functionName: 'nonces', args: [signer.address] });
    found = await domainOf(address, signer);
  } catch {
    return null;
  }
  const { timestamp } = await signer.reader.getBlock();
  const deadline = timestamp + GOOD_FOR_SECONDS;
  requireSameAccount(signer);
  const signature = await signer.writer.signTypedData({
    domain: found,
    types: { Permit: tokenEip712Types.Permit },
    primaryType: 'Permit',
    message: { owner: signer.address, spender, value: amount, nonce, deadline },
  });
  return { deadline, signature };
}

async function domainOf(token: Address, signer: Signer) {
  const [, name, version, chainId, verifyingContract] = await signer.reader.readContract({
    address: token,
    abi: tallyTokenAbi,
    functionName: 'eip712Domain',
  });
  return { name, version, chainId: Number(chainId), verifyingContract };
}

export async function readBalances(at: Deployment, signer: Signer): Promise<Balances> {
  const escrow = { address: at.escrow, abi: computeEscrowAbi } as const;
  const [wallet, [available, locked]] = await Promise.all([
    signer.reader.readContract({
      address: at.token,
      abi: tallyTokenAbi,
      functionName: 'balanceOf',
      args: [signer.address],
    }),
    signer.reader.readContract({ ...escrow, functionName: 'accountOf', args: [signer.address] }),
  ]);
  return { wallet, available, locked };
}

export interface Balances {
  wallet: bigint;
  available: bigint;
  locked: bigint;
}
