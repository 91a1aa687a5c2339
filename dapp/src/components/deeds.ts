import type { AppPrice, Deed } from '~/lib/chain/writes';
import { COIN } from '~/lib/deployment';
import type { Translate } from '~/lib/i18n';
import { SECONDS_PER_HOUR, shown, type Token } from '~/lib/money';
import { shortHex } from '~/lib/text';
import { isoMinute, shownSeconds } from '~/lib/time';

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
    case 'publishApp':
      return t('deed.publishApp', {
        manifest: shortHex(deed.manifestDigest),
        price: priceText(deed.price, t, token),
        royalty: (deed.royaltyBps / 100).toString(),
      });
    case 'addAppVersion':
      return t('deed.addAppVersion', {
        app: shortHex(deed.app),
        manifest: shortHex(deed.manifestDigest),
        price: priceText(deed.price, t, token),
      });
    case 'setAppPrice':
      return t('deed.setAppPrice', {
        app: shortHex(deed.app),
        version: deed.version,
        price: priceText(deed.price, t, token),
      });
    case 'setAppDiscount':
      return t('deed.setAppDiscount', {
        app: shortHex(deed.app),
        percent: (deed.bps / 100).toString(),
        start: isoMinute(deed.start),
        end: isoMinute(deed.end),
      });
    case 'retireApp':
      return t('deed.retireApp', { app: shortHex(deed.app) });
    case 'renounceApp':
      return t('deed.renounceApp', { app: shortHex(deed.app) });
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

/** All three parts, those that are nothing too: what is left out would be asked about. */
export function priceText(price: AppPrice, t: Translate, token: Token): string {
  const amountOf = (units: bigint) => `${shown(units, token.decimals, 'nearest')} ${token.symbol}`;
  return t('price.text', {
    flat: amountOf(price.flat),
    call: amountOf(price.feePerCall),
    hour: amountOf(price.ratePerGpuSecond * SECONDS_PER_HOUR),
  });
}
