import type { AppPrice, Deed } from '~/lib/chain/writes';
import type { Translate } from '~/lib/i18n';
import { SECONDS_PER_HOUR, shown, type Token } from '~/lib/money';
import { shortHex } from '~/lib/text';
import { isoMinute, shownSeconds } from '~/lib/time';

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
