// What the screen says is what the calldata does: each write is read back out of its own bytes.
// Cases 140 and 141: approvals are for the exact amount, and have a sentence of their own.

import { decodeFunctionData, encodeFunctionData, type Address, type Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { describe as group, expect, it } from 'vitest';
import { deedText } from '~/components/deeds';
import { computeEscrowAbi, tallyTokenAbi } from '~/generated/abi';
import * as writes from '~/lib/chain/writes';
import { translator } from '~/lib/i18n';
import { termsOf } from '~/lib/protocol/hashing';
import { en } from '~/messages/en';
import { zh } from '~/messages/zh';
import { deployment, vectors } from './fixtures';

const account: Address = '0x90F79bf6EB2c4f870365E785982E1f101E93b906';
const other: Address = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
const amount = 12_500_000_000_000_000_000n;
const digest: Hex = `0x${'5a'.repeat(32)}`;
const terms = termsOf(vectors.terms);
const signer = privateKeyToAccount(`0x${'11'.repeat(32)}`);

async function permit() {
  return { deadline: 1_900_000_000n, signature: await signer.signMessage({ message: 'any' }) };
}

const price: writes.AppPrice = {
  flat: 2n * 10n ** 18n,
  feePerCall: 10n ** 15n,
  ratePerGpuSecond: 138_888_888_888_888n,
};
const version: writes.AppVersion = {
  imageDigest: `0x${'6d'.repeat(32)}`,
  manifestDigest: `0x${'7b'.repeat(32)}`,
  manifestUri: 'urn:tallystick:manifest:any',
};

const cases: [string, () => writes.Write | Promise<writes.Write>, writes.Deed, RegExp][] = [
  [
    'approveExactly',
    () => writes.approveExactly(deployment, amount),
    { kind: 'approve', spender: deployment.escrow, amount },
    /exactly 12\.5 TALLY/,
  ],
  [
    'deposit',
    () => writes.deposit(deployment, account, amount),
    { kind: 'deposit', account, amount, permit: false },
    /Deposit 12\.5 TALLY/,
  ],
  [
    'depositWithPermit',
    async () => writes.depositWithPermit(deployment, account, amount, await permit()),
    { kind: 'deposit', account, amount, permit: true },
    /Deposit 12\.5 TALLY to the account of 0x90F7…b906/,
  ],
  [
    'withdraw',
    () => writes.withdraw(deployment, amount, other),
    { kind: 'withdraw', to: other, amount },
    /Withdraw 12\.5 TALLY to 0x7099…79C8/,
  ],
  [
    'createTask',
    () => writes.createTask(deployment, terms),
    {
      kind: 'createTask',
      maxCharge: terms.maxCharge,
      gpus: 2,
      maxSeconds: 600,
      secondsPrice: terms.ratePerGpuSecond,
    },
    /Lock up to 0\.1666 TALLY for 2 GPUs and at most 10m 00s/,
  ],
  [
    'cancelTask',
    () => writes.cancelTask(deployment, terms),
    { kind: 'cancelTask', maxCharge: terms.maxCharge },
    /Cancel the task/,
  ],
  [
    'reclaimTask',
    () => writes.reclaimTask(deployment, terms),
    { kind: 'reclaimTask', maxCharge: terms.maxCharge },
    /back that the task locked/,
  ],
  [
    'revokeAllowance',
    () => writes.revokeAllowance(deployment, digest),
    { kind: 'revokeAllowance', digest },
    /Revoke the allowance/,
  ],
  [
    'approveStakeExactly',
    () => writes.approveStakeExactly(deployment, amount),
    { kind: 'approveStake', amount },
    /staking contract to take exactly 12\.5 TALLY/,
  ],
  [
    'stake',
    () => writes.stake(deployment, amount),
    { kind: 'stake', amount, permit: false },
    /Stake 12\.5 TALLY/,
  ],
  [
    'stakeWithPermit',
    async () => writes.stakeWithPermit(deployment, amount, await permit()),
    { kind: 'stake', amount, permit: true },
    /Stake 12\.5 TALLY/,
  ],
  [
    'bindOperatorKey',
    () => writes.bindOperatorKey(deployment, other, '0x1b'),
    { kind: 'bindOperatorKey', key: other },
    /0x7099…79C8 sign for you/,
  ],
  [
    'registerGpus',
    () => writes.registerGpus(deployment, digest, 3),
    { kind: 'registerGpus', gpus: 3 },
    /Register cards: 3/,
  ],
  [
    'requestUnbond',
    () => writes.requestUnbond(deployment, amount),
    { kind: 'requestUnbond', amount },
    /Ask for 12\.5 TALLY/,
  ],
  [
    'withdrawStake',
    () => writes.withdrawStake(deployment, 7n, account),
    { kind: 'withdrawStake', requestId: 7n, to: account },
    /stake of request 7 to 0x90F7…b906/,
  ],
  ['unjail', () => writes.unjail(deployment), { kind: 'unjail' }, /Leave the jail/],
  [
    'setCommission',
    () => writes.setCommission(deployment, 1_250),
    { kind: 'setCommission', bps: 1_250 },
    /commission to 12\.5\s%/,
  ],
  [
    'withdrawFees',
    () => writes.withdrawFees(deployment, account),
    { kind: 'withdrawFees', account },
    /commission of 0x90F7…b906/,
  ],
  [
    'withdrawCredit',
    () => writes.withdrawCredit(deployment, account),
    { kind: 'withdrawCredit', payee: account },
    /what 0x90F7…b906 earned/,
  ],
  [
    'shareFees',
    () => writes.shareFees(deployment, account),
    { kind: 'shareFees', payee: account },
    /fees of 0x90F7…b906/,
  ],
  [
    'delegate',
    () => writes.delegate(deployment, other, amount, 1n),
    { kind: 'delegate', provider: other, amount, permit: false },
    /Delegate 12\.5 TALLY to 0x7099…79C8/,
  ],
  [
    'delegateWithPermit',
    async () => writes.delegateWithPermit(deployment, other, amount, 1n, await permit()),
    { kind: 'delegate', provider: other, amount, permit: true },
    /Delegate 12\.5 TALLY to 0x7099…79C8/,
  ],
  [
    'requestUndelegate',
    () => writes.requestUndelegate(deployment, other, 5n, amount),
    { kind: 'requestUndelegate', provider: other, minAmount: amount },
    /worth 12\.5 TALLY back from 0x7099…79C8/,
  ],
  [
    'withdrawDelegation',
    () => writes.withdrawDelegation(deployment, 2n, account),
    { kind: 'withdrawDelegation', requestId: 2n, to: account },
    /delegation of request 2 to 0x90F7…b906/,
  ],
  [
    'claimRewards',
    () => writes.claimRewards(deployment, other, account),
    { kind: 'claimRewards', provider: other, to: account },
    /rewards behind 0x7099…79C8 to 0x90F7…b906/,
  ],
  [
    'sendCoin',
    () => writes.sendCoin(other, 50_000_000_000_000_000n),
    { kind: 'sendCoin', to: other, amount: 50_000_000_000_000_000n },
    /Send 0\.05 ETH to 0x7099…79C8/,
  ],
  [
    'publishApp',
    () => writes.publishApp(deployment, digest, version, price),
    { kind: 'publishApp', manifestDigest: version.manifestDigest, price, royaltyBps: 0 },
    /Publish an app with manifest 0x7b7b…7b7b, at 0\.001 TALLY a call, 0\.5 TALLY a GPU-hour, 2 TALLY flat; royalty 0 %/,
  ],
  [
    'addAppVersion',
    () => writes.addAppVersion(deployment, digest, version, price),
    { kind: 'addAppVersion', app: digest, manifestDigest: version.manifestDigest, price },
    /Add a version to app 0x5a5a…5a5a, with manifest 0x7b7b…7b7b, at 0\.001 TALLY a call/,
  ],
  [
    'setAppPrice',
    () => writes.setAppPrice(deployment, digest, 3, price),
    { kind: 'setAppPrice', app: digest, version: 3, price },
    /Announce for version 3 of app 0x5a5a…5a5a: 0\.001 TALLY a call/,
  ],
  [
    'setAppDiscount',
    () => writes.setAppDiscount(deployment, digest, 2500, 1_800_000_000n, 1_800_086_400n),
    { kind: 'setAppDiscount', app: digest, bps: 2500, start: 1_800_000_000n, end: 1_800_086_400n },
    /Take 25 % off .* from 2027-01-15 08:00 UTC to 2027-01-16 08:00 UTC/,
  ],
  [
    'retireApp',
    () => writes.retireApp(deployment, digest),
    { kind: 'retireApp', app: digest },
    /Retire app 0x5a5a…5a5a/,
  ],
  [
    'renounceApp',
    () => writes.renounceApp(deployment, digest),
    { kind: 'renounceApp', app: digest },
    /permanent: nobody can change/,
  ],
];

group('every write', () => {
  it('has a case here', () => {
    const makers = Object.keys(writes).filter((name) => name !== 'describe');
    expect(cases.map(([name]) => name).sort()).toEqual(makers.sort());
  });

  it.each(cases)('%s says what its bytes do', async (_, make, deed, sentence) => {
    const read = writes.describe(deployment, await make());
    expect(read).toEqual(deed);
    expect(deedText(read, translator(en), deployment.payment)).toMatch(sentence);
    expect(deedText(read, translator(zh), deployment.payment)).not.toMatch(/\{/);
  });
});

group('describe', () => {
  it('has no words for a stranger contract', () => {
    expect(() => writes.describe(deployment, { to: other, data: '0x' })).toThrow(
      /none of this market's contracts/,
    );
  });
  it('has no words for coin that goes along with a call', () => {
    const write = { ...writes.stake(deployment, amount), value: 1n };
    expect(() => writes.describe(deployment, write)).toThrow(/takes coin/);
  });
  it('has no words for an approval of anybody else', () => {
    const data = encodeFunctionData({ abi: tallyTokenAbi, functionName: 'approve', args: [other, 1n] });
    expect(() => writes.describe(deployment, { to: deployment.token, data })).toThrow(/stranger/);
  });
  it('has no words for a call that the app never makes', () => {
    const data = encodeFunctionData({ abi: tallyTokenAbi, functionName: 'transfer', args: [other, 1n] });
    expect(() => writes.describe(deployment, { to: deployment.token, data })).toThrow(/no words/);
  });
});

group('another staking token', () => {
  it('is named in what is staked, and not in what is paid', () => {
    const staking = { symbol: 'STK', decimals: 18 };
    const words = (write: writes.Write) =>
      deedText(writes.describe(deployment, write), translator(en), deployment.payment, staking);
    expect(words(writes.stake(deployment, amount))).toBe('Stake 12.5 STK.');
    expect(words(writes.delegate(deployment, other, amount, 1n))).toMatch(/12\.5 STK/);
    expect(words(writes.deposit(deployment, account, amount))).toMatch(/12\.5 TALLY/);
  });
});

group('a permit', () => {
  it('travels as v, r and s of its signature', async () => {
    const signed = await permit();
    const { data } = writes.depositWithPermit(deployment, account, amount, signed);
    const { args } = decodeFunctionData({ abi: computeEscrowAbi, data });
    expect(`${String(args[4])}${String(args[5]).slice(2)}${Number(args[3]).toString(16)}`).toBe(
      signed.signature,
    );
  });
});
