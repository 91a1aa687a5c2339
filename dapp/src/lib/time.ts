// Durations and moments for people. Every name says its unit.

import type { Translate } from './i18n';

/** `8h`, `90m`, `1d12h`, `45s`, or whole seconds; null when it is none of these. */
export function parseDurationSeconds(text: string): number | null {
  const plain = text.trim().toLowerCase();
  if (/^\d{1,8}$/.test(plain)) return Number(plain);
  const match = /^(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?$/.exec(plain);
  if (plain === '' || match === null) return null;
  const [days, hours, minutes, seconds] = match.slice(1).map((part: string | undefined) => Number(part ?? 0));
  return (days ?? 0) * 86_400 + (hours ?? 0) * 3600 + (minutes ?? 0) * 60 + (seconds ?? 0);
}

/** The two largest parts: `1d 12h`, `3m 05s`, `0.42s`. */
export function shownMs(ms: number): string {
  if (ms < 1000) return `${ms.toString()}ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 10) return `${(ms / 1000).toFixed(2)}s`;
  if (seconds < 60) return `${seconds.toString()}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes.toString()}m ${pad(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours.toString()}h ${pad(minutes % 60)}m`;
  return `${Math.floor(hours / 24).toString()}d ${(hours % 24).toString()}h`;
}

export function shownSeconds(seconds: number): string {
  return seconds < 60 ? `${seconds.toString()}s` : shownMs(seconds * 1000);
}

/** `2026-03-01 09:30 UTC`: in a sentence of two languages, and the same for everybody. */
export function isoMinute(unixS: bigint): string {
  return `${new Date(Number(unixS) * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

function pad(value: number): string {
  return value.toString().padStart(2, '0');
}

/** A span that a contract fixed, in words: whole days where it is some, else as clocks show it. */
export function days(seconds: number, t: Translate): string {
  const whole = seconds / 86_400;
  if (!Number.isInteger(whole) || whole === 0) return shownSeconds(seconds);
  return whole === 1 ? t('time.day') : t('time.days', { days: whole });
}
