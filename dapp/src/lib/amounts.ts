// An amount as it is typed, judged while it is typed.

import type { Translate } from './i18n';
import { parseAmount, type Token } from './money';

export interface CheckedAmount {
  units: bigint | null;
  /** What is wrong, in words; an empty field is not wrong yet. */
  fault: string | null;
}

export function checkAmount(
  text: string,
  token: Token,
  most: bigint,
  t: Translate,
  tooMuch: string,
): CheckedAmount {
  const parsed = parseAmount(text, token.decimals);
  if (!parsed.ok) {
    if (parsed.why === 'empty') return { units: null, fault: null };
    const faults = {
      form: t('amount.form'),
      digits: t('amount.digits', { digits: token.decimals }),
      zero: t('amount.zero'),
    };
    return { units: null, fault: faults[parsed.why] };
  }
  if (parsed.units > most) return { units: null, fault: tooMuch };
  return { units: parsed.units, fault: null };
}
