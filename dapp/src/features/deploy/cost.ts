// What calls will cost, against renting the same cards by the hour around the clock. Pure; all in smallest units.

import type { AppPrice } from '~/lib/chain/writes';
import { chargeUp, divideUp } from '~/lib/money';

const DAY_S = 86_400n;
const HOURS_A_DAY = 24n;

export interface Comparison {
  perCall: bigint;
  perDay: bigint;
  /** The same number of cards, for every hour of a day, busy or not. */
  rentPerDay: bigint;
  /** From so many calls a day on renting is the cheaper one; null when a call costs nothing. */
  crossover: bigint | null;
  /** Calls that the rented cards could answer in a day, one after another on each place. */
  capacity: bigint;
}

export function compare(
  price: AppPrice,
  work: { gpus: number; callMs: bigint; callsPerDay: bigint; places: number },
  rentPerCardHour: bigint,
): Comparison {
  const perCall = chargeUp(price, 1n, BigInt(work.gpus) * work.callMs);
  const cards = BigInt(Math.max(1, work.gpus));
  const rentPerDay = rentPerCardHour * cards * HOURS_A_DAY;
  return {
    perCall,
    perDay: perCall * work.callsPerDay,
    rentPerDay,
    crossover: perCall === 0n ? null : divideUp(rentPerDay, perCall),
    capacity: work.callMs === 0n ? 0n : (DAY_S * 1000n * BigInt(work.places)) / work.callMs,
  };
}
