// What went wrong, as a sentence: custom errors of the contracts by the generated table, what wallets and
// nodes say by a few rules. "Execution reverted" is never shown.

import { BaseError, decodeErrorResult, isHex, type Hex } from 'viem';
import { contractErrorsAbi } from '~/generated/abi';
import { contractErrors, type ErrorUnit } from '~/generated/errors';
import { ApiProblem, BackendAway } from '~/lib/api';
import type { Language, Translate } from '~/lib/i18n';
import { shown, type Token } from '~/lib/money';
import { codeOf, USER_REJECTED } from '~/lib/wallet/store';

export interface Words {
  t: Translate;
  language: Language;
  token: Token;
  /** The staking token, where it is another one. */
  staking?: Token;
}

/** A refusal that is no fault of anybody's: the person said no. */
export function wasDeclined(fault: unknown): boolean {
  return codeOf(fault) === USER_REJECTED || /user rejected|user denied/i.test(textOf(fault));
}

export function sentenceOf(fault: unknown, words: Words): string {
  const { t } = words;
  if (wasDeclined(fault)) return t('fault.declined');
  if (fault instanceof BackendAway) return t('fault.away');
  if (fault instanceof ApiProblem)
    return [fault.message, fault.nextStep].filter((part) => part !== '').join(' ');
  if (fault instanceof Said) return fault.say(t);
  const data = revertData(fault);
  if (data !== null) {
    const sentence = sentenceOfRevert(data, words);
    if (sentence !== null) return sentence;
  }
  const text = textOf(fault);
  if (/insufficient funds/i.test(text)) return t('fault.gas');
  if (/nonce too low|already known|replacement transaction underpriced/i.test(text)) return t('fault.nonce');
  if (/revert/i.test(text)) return t('fault.refused');
  return t('fault.unknown', { detail: text.split('\n')[0]?.slice(0, 160) ?? '' });
}

/** A fault of this app's own that knows its words. */
export class Said extends Error {
  override name = 'Said';
  constructor(readonly say: (t: Translate) => string) {
    super('said');
  }
}

export function sentenceOfRevert(data: Hex, words: Words): string | null {
  try {
    const { errorName, args } = decodeErrorResult({ abi: contractErrorsAbi, data });
    const entry = contractErrors[errorName] as { en: string; zh: string } | undefined;
    if (entry === undefined) return null;
    const values: readonly unknown[] = args;
    const filled = entry[words.language].replace(/\{(\d)(?::(\w+))?\}/g, (_, place: string, unit?: string) =>
      valueOf(values[Number(place)], unit as ErrorUnit | undefined, words),
    );
    return words.language === 'en' ? `${filled.charAt(0).toUpperCase()}${filled.slice(1)}.` : `${filled}。`;
  } catch {
    return null;
  }
}

function valueOf(
  value: unknown,
  unit: ErrorUnit | undefined,
  { token, staking = token, language }: Words,
): string {
  if (typeof value !== 'bigint' && typeof value !== 'number') return String(value);
  const number = BigInt(value);
  if (unit === 'token' || unit === 'stake') {
    const { symbol, decimals } = unit === 'stake' ? staking : token;
    return `${shown(number, decimals)} ${symbol}`;
  }
  if (unit === 'time' || unit === 'time_ms') {
    const moment = new Date(Number(number) * (unit === 'time' ? 1000 : 1));
    return moment.toLocaleString(language === 'zh' ? 'zh-CN' : 'en-GB');
  }
  return number.toString();
}

/** The bytes that a contract answered with, however deep wallet and node packed them. */
export function revertData(fault: unknown): Hex | null {
  let at: unknown = fault;
  for (let depth = 0; depth < 12 && typeof at === 'object' && at !== null; depth += 1) {
    const { data, cause, error } = at as { data?: unknown; cause?: unknown; error?: unknown };
    if (isHex(data) && data.length >= 10) return data;
    if (typeof data === 'object' && data !== null) {
      const inner = (data as { data?: unknown }).data;
      if (isHex(inner) && inner.length >= 10) return inner;
    }
    at = cause ?? error;
  }
  return null;
}

function textOf(fault: unknown): string {
  if (fault instanceof BaseError) return [fault.shortMessage, fault.details].join(' ');
  if (fault instanceof Error) return fault.message;
  if (typeof fault === 'object' && fault !== null && 'message' in fault) return String(fault.message);
  return String(fault);
}
