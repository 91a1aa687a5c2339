// How fast money goes, and when it ends at that pace. Pure.

import type { Schemas } from '~/lib/api';
import { SECONDS_PER_HOUR } from '~/lib/money';

type Task = Schemas['TaskBody'];

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

/** Smallest units an hour: what runs now at its agreed rate, and calls as in the last hour. */
export function burnPerHour(tasks: readonly Task[], callsLastHour: bigint): bigint {
  const running = tasks
    .filter((task) => task.state === 'running')
    .reduce((sum, task) => sum + BigInt(task.terms.rate_per_gpu_second) * BigInt(task.terms.gpus), 0n);
  return running * SECONDS_PER_HOUR + callsLastHour;
}

/** Seconds until `available` is spent; null when nothing is being spent. */
export function lastsSeconds(available: bigint, perHour: bigint): number | null {
  if (perHour === 0n) return null;
  return Number((available * SECONDS_PER_HOUR) / perHour);
}
