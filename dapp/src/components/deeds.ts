import type { Deed } from '~/lib/chain/writes';
import type { Translate } from '~/lib/i18n';
import { shown, type Token } from '~/lib/money';
import { shortHex } from '~/lib/text';
import { shownSeconds } from '~/lib/time';

/** In words, what the bytes of a transaction do. */
export function deedText(deed: Deed, t: Translate, token: Token): string {
  const amountOf = (units: bigint) => `${shown(units, token.decimals)} ${token.symbol}`;
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
  }
}
