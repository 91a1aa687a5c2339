// Every transaction that the app can ask a wallet for: who is called, with which bytes. What the screen says
// of one is read back out of these bytes by `describe`, so that it cannot say anything else.

import {
  decodeFunctionData,
  encodeFunctionData,
  getAddress,
  isAddressEqual,
  parseSignature,
  zeroAddress,
  type Abi,
  type Address,
  type Hex,
} from 'viem';
import {
  appRegistryAbi,
  computeEscrowAbi,
  providerStakingAbi,
  tallyTokenAbi,
  taskMarketAbi,
} from '~/generated/abi';
import type { Deployment } from '~/lib/deployment';

export interface Write {
  to: Address;
  data: Hex;
  /** Of the chain's own coin; only a plain transfer has any. */
  value?: bigint;
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

/** In the smallest unit: what each call costs, and a GPU's second. */
export interface AppPrice {
  flat: bigint;
  feePerCall: bigint;
  ratePerGpuSecond: bigint;
}

/** What the registry keeps of a version; the manifest's file is known by its digest. */
export interface AppVersion {
  imageDigest: Hex;
  manifestDigest: Hex;
  manifestUri: string;
}

/** No royalty: that is a share of tasks, and fixed for ever at the first version. */
export function publishApp(at: Deployment, salt: Hex, version: AppVersion, price: AppPrice): Write {
  const { imageDigest, manifestDigest, manifestUri } = version;
  const args = [salt, imageDigest, manifestDigest, manifestUri, price, zeroAddress, 0] as const;
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'publish', args });
  return { to: at.registry, data };
}

export function addAppVersion(at: Deployment, app: Hex, version: AppVersion, price: AppPrice): Write {
  const { imageDigest, manifestDigest, manifestUri } = version;
  const args = [app, imageDigest, manifestDigest, manifestUri, price] as const;
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'addVersion', args });
  return { to: at.registry, data };
}

export function setAppPrice(at: Deployment, app: Hex, version: number, price: AppPrice): Write {
  const args = [app, version, price] as const;
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'setPrice', args });
  return { to: at.registry, data };
}

/** Off every price from `start` to `end`, both included, in unix seconds. */
export function setAppDiscount(at: Deployment, app: Hex, bps: number, start: bigint, end: bigint): Write {
  const args = [app, bps, start, end] as const;
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'setDiscount', args });
  return { to: at.registry, data };
}

export function retireApp(at: Deployment, app: Hex): Write {
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'retire', args: [app] });
  return { to: at.registry, data };
}

export function renounceApp(at: Deployment, app: Hex): Write {
  const data = encodeFunctionData({ abi: appRegistryAbi, functionName: 'renounce', args: [app] });
  return { to: at.registry, data };
}

// What a provider and a delegator send.

/** Exactly this amount, for exactly this stake or delegation. */
export function approveStakeExactly(at: Deployment, amount: bigint): Write {
  const data = encodeFunctionData({
    abi: tallyTokenAbi,
    functionName: 'approve',
    args: [at.staking, amount],
  });
  return { to: at.stakingTokenAddress, data };
}

export function stake(at: Deployment, amount: bigint): Write {
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'stake', args: [amount] }),
  );
}

export function stakeWithPermit(at: Deployment, amount: bigint, permit: SignedPermit): Write {
  const args = [amount, ...split(permit)] as const;
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'stakeWithPermit', args }),
  );
}

/** The key consents by its own signature; from then on it signs receipts for the sender. */
export function bindOperatorKey(at: Deployment, key: Address, consent: Hex): Write {
  const args = [key, consent] as const;
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'bindOperatorKey', args }),
  );
}

export function registerGpus(at: Deployment, gpuSet: Hex, gpus: number): Write {
  const args = [gpuSet, gpus] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'registerGpus', args }));
}

export function requestUnbond(at: Deployment, amount: bigint): Write {
  const args = [amount] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'requestUnbond', args }));
}

export function withdrawStake(at: Deployment, requestId: bigint, to: Address): Write {
  const args = [requestId, to] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'withdrawStake', args }));
}

export function unjail(at: Deployment): Write {
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'unjail' }));
}

export function setCommission(at: Deployment, bps: number): Write {
  const args = [bps] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'setCommission', args }));
}

/** The commission that a provider's pool earned for it. */
export function withdrawFees(at: Deployment, account: Address): Write {
  const args = [account] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'withdrawFees', args }));
}

/** Pay goes to the payee's payout address, whoever sends this. */
export function withdrawCredit(at: Deployment, payee: Address): Write {
  const data = encodeFunctionData({
    abi: computeEscrowAbi,
    functionName: 'withdrawCredit',
    args: [payee, []],
  });
  return { to: at.escrow, data };
}

/** The protocol's fee of what a payee withdrew: its pool's part goes to those who delegate to it. */
export function shareFees(at: Deployment, payee: Address): Write {
  const data = encodeFunctionData({ abi: computeEscrowAbi, functionName: 'shareFees', args: [payee] });
  return { to: at.escrow, data };
}

/** `minShares` refuses a price that a slash changed under way. */
export function delegate(at: Deployment, provider: Address, amount: bigint, minShares: bigint): Write {
  const args = [provider, amount, minShares] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'delegate', args }));
}

export function delegateWithPermit(
  at: Deployment,
  provider: Address,
  amount: bigint,
  minShares: bigint,
  permit: SignedPermit,
): Write {
  const args = [provider, amount, minShares, ...split(permit)] as const;
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'delegateWithPermit', args }),
  );
}

export function requestUndelegate(
  at: Deployment,
  provider: Address,
  shares: bigint,
  minAmount: bigint,
): Write {
  const args = [provider, shares, minAmount] as const;
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'requestUndelegate', args }),
  );
}

export function withdrawDelegation(at: Deployment, requestId: bigint, to: Address): Write {
  const args = [requestId, to] as const;
  return toStaking(
    at,
    encodeFunctionData({ abi: providerStakingAbi, functionName: 'withdrawDelegation', args }),
  );
}

export function claimRewards(at: Deployment, provider: Address, to: Address): Write {
  const args = [provider, to] as const;
  return toStaking(at, encodeFunctionData({ abi: providerStakingAbi, functionName: 'claimRewards', args }));
}

/** Gas money for an operator key. */
export function sendCoin(to: Address, value: bigint): Write {
  return { to, data: '0x', value };
}

export interface SignedPermit {
  deadline: bigint;
  signature: Hex;
}

function split({ deadline, signature }: SignedPermit) {
  const { r, s, v, yParity } = parseSignature(signature);
  return [deadline, Number(v ?? BigInt(yParity + 27)), r, s] as const;
}

function toStaking(at: Deployment, data: Hex): Write {
  return { to: at.staking, data };
}

/** What a transaction does, as its own bytes say. */
export type Deed =
  | { kind: 'approve'; spender: Address; amount: bigint }
  | { kind: 'approveStake'; amount: bigint }
  | { kind: 'stake'; amount: bigint; permit: boolean }
  | { kind: 'bindOperatorKey'; key: Address }
  | { kind: 'registerGpus'; gpus: number }
  | { kind: 'requestUnbond'; amount: bigint }
  | { kind: 'withdrawStake'; requestId: bigint; to: Address }
  | { kind: 'unjail' }
  | { kind: 'setCommission'; bps: number }
  | { kind: 'withdrawFees'; account: Address }
  | { kind: 'withdrawCredit'; payee: Address }
  | { kind: 'shareFees'; payee: Address }
  | { kind: 'delegate'; provider: Address; amount: bigint; permit: boolean }
  | { kind: 'requestUndelegate'; provider: Address; minAmount: bigint }
  | { kind: 'withdrawDelegation'; requestId: bigint; to: Address }
  | { kind: 'claimRewards'; provider: Address; to: Address }
  | { kind: 'sendCoin'; to: Address; amount: bigint }
  | { kind: 'deposit'; account: Address; amount: bigint; permit: boolean }
  | { kind: 'withdraw'; to: Address; amount: bigint }
  | { kind: 'createTask'; maxCharge: bigint; gpus: number; maxSeconds: number; secondsPrice: bigint }
  | { kind: 'cancelTask'; maxCharge: bigint }
  | { kind: 'reclaimTask'; maxCharge: bigint }
  | { kind: 'revokeAllowance'; digest: Hex }
  | { kind: 'publishApp'; manifestDigest: Hex; price: AppPrice; royaltyBps: number }
  | { kind: 'addAppVersion'; app: Hex; manifestDigest: Hex; price: AppPrice }
  | { kind: 'setAppPrice'; app: Hex; version: number; price: AppPrice }
  | { kind: 'setAppDiscount'; app: Hex; bps: number; start: bigint; end: bigint }
  | { kind: 'retireApp'; app: Hex }
  | { kind: 'renounceApp'; app: Hex };

/** Throws for anything that the app has no words for: then nothing is sent. */
export function describe(at: Deployment, write: Write): Deed {
  if (write.data === '0x' && write.value !== undefined)
    return { kind: 'sendCoin', to: getAddress(write.to), amount: write.value };
  if (write.value !== undefined && write.value !== 0n)
    throw new Error('No call of the app takes coin: it is not sent.');
  const call = decodeFunctionData({ abi: abiOf(at, write.to), data: write.data });
  const args = call.args ?? [];
  const name = call.functionName;
  const terms = args[0] as TaskTerms;
  switch (name) {
    case 'approve':
      if (isAddressEqual(args[0] as Address, at.staking))
        return { kind: 'approveStake', amount: args[1] as bigint };
      if (!isAddressEqual(args[0] as Address, at.escrow))
        throw new Error('An approval of a stranger is not sent.');
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
    case 'publish':
      return {
        kind: 'publishApp',
        manifestDigest: args[2] as Hex,
        price: args[4] as AppPrice,
        royaltyBps: args[6] as number,
      };
    case 'addVersion':
      return {
        kind: 'addAppVersion',
        app: args[0] as Hex,
        manifestDigest: args[2] as Hex,
        price: args[4] as AppPrice,
      };
    case 'setPrice':
      return {
        kind: 'setAppPrice',
        app: args[0] as Hex,
        version: args[1] as number,
        price: args[2] as AppPrice,
      };
    case 'setDiscount':
      return {
        kind: 'setAppDiscount',
        app: args[0] as Hex,
        bps: args[1] as number,
        start: args[2] as bigint,
        end: args[3] as bigint,
      };
    case 'retire':
      return { kind: 'retireApp', app: args[0] as Hex };
    case 'renounce':
      return { kind: 'renounceApp', app: args[0] as Hex };
    case 'stake':
    case 'stakeWithPermit':
      return { kind: 'stake', amount: args[0] as bigint, permit: name === 'stakeWithPermit' };
    case 'bindOperatorKey':
      return { kind: 'bindOperatorKey', key: getAddress(args[0] as Address) };
    case 'registerGpus':
      return { kind: 'registerGpus', gpus: args[1] as number };
    case 'requestUnbond':
      return { kind: 'requestUnbond', amount: args[0] as bigint };
    case 'withdrawStake':
    case 'withdrawDelegation':
      return { kind: name, requestId: args[0] as bigint, to: getAddress(args[1] as Address) };
    case 'unjail':
      return { kind: 'unjail' };
    case 'setCommission':
      return { kind: 'setCommission', bps: args[0] as number };
    case 'withdrawFees':
      return { kind: 'withdrawFees', account: getAddress(args[0] as Address) };
    case 'withdrawCredit':
    case 'shareFees':
      return { kind: name, payee: getAddress(args[0] as Address) };
    case 'delegate':
    case 'delegateWithPermit':
      return {
        kind: 'delegate',
        provider: getAddress(args[0] as Address),
        amount: args[1] as bigint,
        permit: name === 'delegateWithPermit',
      };
    case 'requestUndelegate':
      return {
        kind: 'requestUndelegate',
        provider: getAddress(args[0] as Address),
        minAmount: args[2] as bigint,
      };
    case 'claimRewards':
      return {
        kind: 'claimRewards',
        provider: getAddress(args[0] as Address),
        to: getAddress(args[1] as Address),
      };
    default:
      throw new Error(`There are no words for a call of ${name}: it is not sent.`);
  }
}

function abiOf(at: Deployment, to: Address): Abi {
  if (isAddressEqual(to, at.token) || isAddressEqual(to, at.stakingTokenAddress)) return tallyTokenAbi;
  if (isAddressEqual(to, at.staking)) return providerStakingAbi;
  if (isAddressEqual(to, at.escrow)) return computeEscrowAbi;
  if (isAddressEqual(to, at.market)) return taskMarketAbi;
  if (isAddressEqual(to, at.registry)) return appRegistryAbi;
  throw new Error(`${to} is none of this market's contracts: nothing is sent there.`);
}
