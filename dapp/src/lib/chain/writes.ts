// Every transaction that the app can ask a wallet for: who is called, with which bytes. What the screen says
// of one is read back out of these bytes by `describe`, so that it cannot say anything else.

import {
  decodeFunctionData,
  encodeFunctionData,
  getAddress,
  isAddressEqual,
  parseSignature,
  type Abi,
  type Address,
  type Hex,
} from 'viem';
import { computeEscrowAbi, tallyTokenAbi, taskMarketAbi } from '~/generated/abi';
import type { Deployment } from '~/lib/deployment';

export interface Write {
  to: Address;
  data: Hex;
}

export interface TaskTerms {
  consumer: Address;
  signer: Address;
  dispatcher: Address;
  royaltyTo: Address;
  spec: Hex;
  gpus: number;
  flat: bigint;
  feePerCall: bigint;
  ratePerGpuSecond: bigint;
  dispatcherBps: number;
  royaltyBps: number;
  maxCharge: bigint;
  maxSeconds: number;
  deadline: bigint;
  challengeWindow: number;
  verification: number;
  nonce: bigint;
}

/** Exactly this amount, for exactly this deposit: an approval without a limit is never asked for. */
export function approveExactly(at: Deployment, amount: bigint): Write {
  const data = encodeFunctionData({ abi: tallyTokenAbi, functionName: 'approve', args: [at.escrow, amount] });
  return { to: at.token, data };
}

export function deposit(at: Deployment, account: Address, amount: bigint): Write {
  const data = encodeFunctionData({
    abi: computeEscrowAbi,
    functionName: 'deposit',
    args: [account, amount],
  });
  return { to: at.escrow, data };
}

export function depositWithPermit(
  at: Deployment,
  account: Address,
  amount: bigint,
  permit: { deadline: bigint; signature: Hex },
): Write {
  const { r, s, v, yParity } = parseSignature(permit.signature);
  const parity = Number(v ?? BigInt(yParity + 27));
  const args = [account, amount, permit.deadline, parity, r, s] as const;
  const data = encodeFunctionData({ abi: computeEscrowAbi, functionName: 'depositWithPermit', args });
  return { to: at.escrow, data };
}

export function withdraw(at: Deployment, amount: bigint, to: Address): Write {
  const data = encodeFunctionData({ abi: computeEscrowAbi, functionName: 'withdraw', args: [amount, to] });
  return { to: at.escrow, data };
}

export function createTask(at: Deployment, terms: TaskTerms): Write {
  // From the consumer itself the contract asks for no signature.
  const data = encodeFunctionData({ abi: taskMarketAbi, functionName: 'createTask', args: [terms, '0x'] });
  return { to: at.market, data };
}

export function cancelTask(at: Deployment, terms: TaskTerms): Write {
  const data = encodeFunctionData({ abi: taskMarketAbi, functionName: 'cancel', args: [terms] });
  return { to: at.market, data };
}

export function reclaimTask(at: Deployment, terms: TaskTerms): Write {
  const data = encodeFunctionData({ abi: taskMarketAbi, functionName: 'reclaim', args: [terms] });
  return { to: at.market, data };
}

export function revokeAllowance(at: Deployment, digest: Hex): Write {
  const data = encodeFunctionData({ abi: computeEscrowAbi, functionName: 'revokeAllowance', args: [digest] });
  return { to: at.escrow, data };
}

/** What a transaction does, as its own bytes say. */
export type Deed =
  | { kind: 'approve'; spender: Address; amount: bigint }
  | { kind: 'deposit'; account: Address; amount: bigint; permit: boolean }
  | { kind: 'withdraw'; to: Address; amount: bigint }
  | { kind: 'createTask'; maxCharge: bigint; gpus: number; maxSeconds: number; secondsPrice: bigint }
  | { kind: 'cancelTask'; maxCharge: bigint }
  | { kind: 'reclaimTask'; maxCharge: bigint }
  | { kind: 'revokeAllowance'; digest: Hex };

/** Throws for anything that the app has no words for: then nothing is sent. */
export function describe(at: Deployment, write: Write): Deed {
  const call = decodeFunctionData({ abi: abiOf(at, write.to), data: write.data });
  const args = call.args ?? [];
  const name = call.functionName;
  const terms = args[0] as TaskTerms;
  switch (name) {
    case 'approve':
      return { kind: 'approve', spender: getAddress(args[0] as Address), amount: args[1] as bigint };
    case 'deposit':
    case 'depositWithPermit':
      return {
        kind: 'deposit',
        account: getAddress(args[0] as Address),
        amount: args[1] as bigint,
        permit: name === 'depositWithPermit',
      };
    case 'withdraw':
      return { kind: 'withdraw', amount: args[0] as bigint, to: getAddress(args[1] as Address) };
    case 'createTask':
      return {
        kind: 'createTask',
        maxCharge: terms.maxCharge,
        gpus: terms.gpus,
        maxSeconds: terms.maxSeconds,
        secondsPrice: terms.ratePerGpuSecond,
      };
    case 'cancel':
      return { kind: 'cancelTask', maxCharge: terms.maxCharge };
    case 'reclaim':
      return { kind: 'reclaimTask', maxCharge: terms.maxCharge };
    case 'revokeAllowance':
      return { kind: 'revokeAllowance', digest: args[0] as Hex };
    default:
      throw new Error(`There are no words for a call of ${name}: it is not sent.`);
  }
}

function abiOf(at: Deployment, to: Address): Abi {
  if (isAddressEqual(to, at.token)) return tallyTokenAbi;
  if (isAddressEqual(to, at.escrow)) return computeEscrowAbi;
  if (isAddressEqual(to, at.market)) return taskMarketAbi;
  throw new Error(`${to} is none of this market's contracts: nothing is sent there.`);
}
