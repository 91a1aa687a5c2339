// When money ends at the pace of now. Pure.

import { SECONDS_PER_HOUR } from '~/lib/money';

export const UNDER_WAY = new Set([
  'ordered',
  'funded',
  'leased',
  'running',
  'finished',
  'proven',
  'disputed',
  'orphaned',
]);

/** Seconds until `available` is spent; null when nothing is being spent. */
export function lastsSeconds(available: bigint, perHour: bigint): number | null {
  if (perHour === 0n) return null;
  return Number((available * SECONDS_PER_HOUR) / perHour);
}
