import type { Deed } from '~/lib/chain/writes';
import { COIN } from '~/lib/deployment';
import type { Translate } from '~/lib/i18n';
import { shown, type Token } from '~/lib/money';
import { shortHex } from '~/lib/text';
import { shownSeconds } from '~/lib/time';

/** In words, what the bytes of a transaction do. */
export function deedText(deed: Deed, t: Translate, token: Token, staking: Token = token): string {
  const sumOf = (units: bigint, of: Token) => `${shown(units, of.decimals)} ${of.symbol}`;
  const amountOf = (units: bigint) => sumOf(units, token);
  const stakeOf = (units: bigint) => sumOf(units, staking);
  switch (deed.kind) {
    case 'approve':
      return t('deed.approve', { amount: amountOf(deed.amount) });
    case 'deposit':
      return t('deed.deposit', { amount: amountOf(deed.amount), account: shortHex(deed.account) });
    case 'withdraw':
      return t('deed.withdraw', { amount: amountOf(deed.amount), to: shortHex(deed.to) });
    case 'createTask':
      return t('deed.createTask', {
        amount: amountOf(deed.maxCharge),
        gpus: deed.gpus,
        time: shownSeconds(deed.maxSeconds),
      });
    case 'cancelTask':
      return t('deed.cancelTask', { amount: amountOf(deed.maxCharge) });
    case 'reclaimTask':
      return t('deed.reclaimTask', { amount: amountOf(deed.maxCharge) });
    case 'revokeAllowance':
      return t('deed.revokeAllowance');
    case 'approveStake':
      return t('deed.approveStake', { amount: stakeOf(deed.amount) });
    case 'stake':
      return t('deed.stake', { amount: stakeOf(deed.amount) });
    case 'bindOperatorKey':
      return t('deed.bindOperatorKey', { key: shortHex(deed.key) });
    case 'registerGpus':
      return deed.gpus === 0 ? t('deed.registerNone') : t('deed.registerGpus', { gpus: deed.gpus });
    case 'requestUnbond':
      return t('deed.requestUnbond', { amount: stakeOf(deed.amount) });
    case 'withdrawStake':
      return t('deed.withdrawStake', { request: deed.requestId.toString(), to: shortHex(deed.to) });
    case 'unjail':
      return t('deed.unjail');
    case 'setCommission':
      return t('deed.setCommission', { percent: deed.bps / 100 });
    case 'withdrawFees':
      return t('deed.withdrawFees', { account: shortHex(deed.account) });
    case 'withdrawCredit':
      return t('deed.withdrawCredit', { payee: shortHex(deed.payee) });
    case 'shareFees':
      return t('deed.shareFees', { payee: shortHex(deed.payee) });
    case 'delegate':
      return t('deed.delegate', { amount: stakeOf(deed.amount), provider: shortHex(deed.provider) });
    case 'requestUndelegate':
      return t('deed.requestUndelegate', {
        amount: stakeOf(deed.minAmount),
        provider: shortHex(deed.provider),
      });
    case 'withdrawDelegation':
      return t('deed.withdrawDelegation', { request: deed.requestId.toString(), to: shortHex(deed.to) });
    case 'claimRewards':
      return t('deed.claimRewards', { provider: shortHex(deed.provider), to: shortHex(deed.to) });
    case 'sendCoin':
      return t('deed.sendCoin', { amount: sumOf(deed.amount, COIN), to: shortHex(deed.to) });
  }
}
