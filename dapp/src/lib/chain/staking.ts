// What the chain says of an account as a provider and as a delegator: no backend has to be believed about money.

import type { Address, PublicClient } from 'viem';
import { computeEscrowAbi, providerStakingAbi, tallyTokenAbi } from '~/generated/abi';
import type { Deployment } from '~/lib/deployment';

/** Stake or delegation on its way out, on a clock of its own. */
export interface Request {
  id: bigint;
  amount: bigint;
  withdrawableAt: number;
}

export interface Standing {
  /** Of the staking token. */
  wallet: bigint;
  coin: bigint;
  bonded: bigint;
  unbonding: bigint;
  gpus: number;
  seats: number;
  jailedUntil: number | null;
  requests: Request[];
  /** Pay inside the escrow, not withdrawn yet. */
  credit: bigint;
  /** The protocol's fee of what was withdrawn, not shared out yet. */
  unsharedFees: bigint;
  payout: Address;
  commission: Commission;
  /** Commission not withdrawn yet. */
  commissionEarned: bigint;
  hasPool: boolean;
  /** The chain's clock, in seconds. */
  now: number;
}

export interface Commission {
  bps: number;
  nextBps: number;
  effectiveAt: number;
}

/** Newest requests that are looked for; each takes one question. */
const MOST_REQUESTS = 50n;

export async function readStanding(
  at: Deployment,
  reader: PublicClient,
  account: Address,
): Promise<Standing> {
  const staking = { address: at.staking, abi: providerStakingAbi } as const;
  const escrow = { address: at.escrow, abi: computeEscrowAbi } as const;
  const args = [account] as const;
  const [
    wallet,
    coin,
    [bonded, unbonding],
    gpus,
    [seats],
    jailedUntil,
    count,
    [credit, unsharedFees],
    payout,
    [bps, nextBps, effectiveAt],
    commissionEarned,
    hasPool,
    block,
  ] = await Promise.all([
    reader.readContract({
      address: at.stakingTokenAddress,
      abi: tallyTokenAbi,
      functionName: 'balanceOf',
      args,
    }),
    reader.getBalance({ address: account }),
    reader.readContract({ ...staking, functionName: 'stakeOf', args }),
    reader.readContract({ ...staking, functionName: 'gpusOf', args }),
    reader.readContract({ ...staking, functionName: 'seatsOf', args }),
    reader.readContract({ ...staking, functionName: 'jailedUntil', args }),
    reader.readContract({ ...staking, functionName: 'unbondRequestsOf', args }),
    reader.readContract({ ...escrow, functionName: 'payeeOf', args }),
    reader.readContract({ ...escrow, functionName: 'payoutAddressOf', args }),
    reader.readContract({ ...staking, functionName: 'commissionOf', args }),
    reader.readContract({ ...staking, functionName: 'feesOf', args }),
    reader.readContract({ ...staking, functionName: 'hasPool', args }),
    reader.getBlock(),
  ]);
  const requests = await Promise.all(
    newest(count).map(async (id): Promise<Request> => {
      const [amount, withdrawableAt] = await reader.readContract({
        ...staking,
        functionName: 'unbondRequest',
        args: [account, id],
      });
      return { id, amount, withdrawableAt: Number(withdrawableAt) };
    }),
  );
  return {
    wallet,
    coin,
    bonded,
    unbonding,
    gpus,
    seats,
    jailedUntil: jailedUntil === 0n ? null : Number(jailedUntil),
    requests: requests.filter(isOpen),
    credit,
    unsharedFees,
    payout,
    commission: { bps, nextBps, effectiveAt: Number(effectiveAt) },
    commissionEarned,
    hasPool,
    now: Number(block.timestamp),
  };
}

/** What backs nothing: no registered card and no seat in the court. */
export function freeStake(at: Deployment, standing: Standing): bigint {
  const required = BigInt(standing.gpus + standing.seats) * at.stakeUnit;
  return standing.bonded > required ? standing.bonded - required : 0n;
}

/** What is missing for so many cards. */
export function missingStake(at: Deployment, standing: Standing, gpus: number): bigint {
  const required = BigInt(gpus + standing.seats) * at.stakeUnit;
  return required > standing.bonded ? required - standing.bonded : 0n;
}

export interface Pool {
  tokens: bigint;
  shares: bigint;
}

export async function readPool(at: Deployment, reader: PublicClient, provider: Address): Promise<Pool> {
  const [tokens, shares] = await reader.readContract({
    address: at.staking,
    abi: providerStakingAbi,
    functionName: 'poolOf',
    args: [provider],
  });
  return { tokens, shares };
}

/** Shares for an amount, as the contract rounds them (`SharePot.sharesDown`). */
export function sharesDown(amount: bigint, pool: Pool): bigint {
  return (amount * (pool.shares + 1n)) / (pool.tokens + 1n);
}

/** What shares are worth, as the contract rounds it (`SharePot.tokensDown`). */
export function tokensDown(shares: bigint, pool: Pool): bigint {
  if (shares === pool.shares) return pool.tokens;
  return (shares * (pool.tokens + 1n)) / (pool.shares + 1n);
}

export interface Position {
  provider: Address;
  shares: bigint;
  amount: bigint;
  rewards: bigint;
  commission: Commission;
  jailed: boolean;
}

export async function readPosition(
  at: Deployment,
  reader: PublicClient,
  provider: Address,
  delegator: Address,
): Promise<Position> {
  const staking = { address: at.staking, abi: providerStakingAbi } as const;
  const [[shares, amount], rewards, [bps, nextBps, effectiveAt], jailed] = await Promise.all([
    reader.readContract({ ...staking, functionName: 'delegationOf', args: [provider, delegator] }),
    reader.readContract({ ...staking, functionName: 'rewardsOf', args: [provider, delegator] }),
    reader.readContract({ ...staking, functionName: 'commissionOf', args: [provider] }),
    reader.readContract({ ...staking, functionName: 'isJailed', args: [provider] }),
  ]);
  const commission = { bps, nextBps, effectiveAt: Number(effectiveAt) };
  return { provider, shares, amount, rewards, commission, jailed };
}

export interface DelegatorFunds {
  wallet: bigint;
  least: bigint;
  requests: (Request & { provider: Address })[];
  now: number;
}

export async function readDelegator(
  at: Deployment,
  reader: PublicClient,
  delegator: Address,
): Promise<DelegatorFunds> {
  const staking = { address: at.staking, abi: providerStakingAbi } as const;
  const [wallet, least, count, block] = await Promise.all([
    reader.readContract({
      address: at.stakingTokenAddress,
      abi: tallyTokenAbi,
      functionName: 'balanceOf',
      args: [delegator],
    }),
    reader.readContract({ ...staking, functionName: 'minDelegation' }),
    reader.readContract({ ...staking, functionName: 'undelegateRequestsOf', args: [delegator] }),
    reader.getBlock(),
  ]);
  const requests = await Promise.all(
    newest(count).map(async (id) => {
      const [provider, amount, withdrawableAt] = await reader.readContract({
        ...staking,
        functionName: 'undelegateRequest',
        args: [delegator, id],
      });
      return { id, provider, amount, withdrawableAt: Number(withdrawableAt) };
    }),
  );
  return { wallet, least, requests: requests.filter(isOpen), now: Number(block.timestamp) };
}

/** A request that was withdrawn has no clock any more; one that was slashed to nothing still has. */
function isOpen(request: Request): boolean {
  return request.withdrawableAt !== 0;
}

function newest(count: bigint): bigint[] {
  const first = count > MOST_REQUESTS ? count - MOST_REQUESTS : 0n;
  return Array.from({ length: Number(count - first) }, (_, index) => first + BigInt(index));
}
