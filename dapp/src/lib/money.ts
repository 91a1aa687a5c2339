// Amounts are bigint in the token's smallest unit until they are drawn; this is where they are drawn.

export interface Token {
  symbol: string;
  decimals: number;
}

const SIGNIFICANT = 4;
export const SECONDS_PER_HOUR = 3600n;

/** Every digit, without trailing zeros: `1.5`, `0.000000000000000001`. */
export function exact(units: bigint, decimals: number): string {
  const sign = units < 0n ? '-' : '';
  const digits = (units < 0n ? -units : units).toString().padStart(decimals + 1, '0');
  const whole = digits.slice(0, digits.length - decimals);
  const part = digits.slice(digits.length - decimals).replace(/0+$/, '');
  return sign + whole + (part === '' ? '' : `.${part}`);
}

/**
 * For reading: thousands grouped, four significant digits, never zero for what is not zero. Balances are rounded
 * towards zero, so that what is shown is there; prices to the nearest. A small amount keeps its first digits:
 * `0.0000001388`.
 */
export function shown(units: bigint, decimals: number, rounding: 'down' | 'nearest' = 'down'): string {
  const sign = units < 0n ? '-' : '';
  const size = units < 0n ? -units : units;
  const step = 10n ** BigInt(Math.max(0, decimals - places(size, decimals)));
  const kept = (rounding === 'nearest' ? (size + step / 2n) / step : size / step) * step;
  const [whole = '0', part = ''] = exact(kept, decimals).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return sign + grouped + (part === '' ? '' : `.${part}`);
}

/** How many digits behind the point are worth reading. */
function places(size: bigint, decimals: number): number {
  const digits = size.toString().length - decimals;
  return digits <= 0 ? SIGNIFICANT - digits : Math.max(2, SIGNIFICANT - digits + 1);
}

export type ParsedAmount =
  { ok: true; units: bigint } | { ok: false; why: 'empty' | 'form' | 'digits' | 'zero' };

/** What a person typed, exactly; never through a float. */
export function parseAmount(text: string, decimals: number): ParsedAmount {
  const plain = text.trim();
  if (plain === '') return { ok: false, why: 'empty' };
  const match = /^(\d{1,20})(?:\.(\d*))?$/.exec(plain) ?? /^(0?)\.(\d+)$/.exec(plain);
  if (match === null) return { ok: false, why: 'form' };
  const part = match[2] ?? '';
  if (part.length > decimals) return { ok: false, why: 'digits' };
  const units = BigInt((match[1] ?? '') + part.padEnd(decimals, '0'));
  return units === 0n ? { ok: false, why: 'zero' } : { ok: true, units };
}

/** Whole percent of `most` that `spent` is, rounded down and at most 100; all of nothing. */
export function partOf(spent: bigint, most: bigint): number {
  return spent >= most ? 100 : Number((spent * 100n) / most);
}

export function divideUp(numerator: bigint, denominator: bigint): bigint {
  return (numerator + denominator - 1n) / denominator;
}

/** The most that a task can cost: what its terms lock (`pricing.max_charge_up`). */
export function maxChargeUp(
  price: { flat: bigint; feePerCall: bigint; ratePerGpuSecond: bigint },
  gpus: number,
  seconds: number,
): bigint {
  const gpuMs = BigInt(gpus) * BigInt(seconds) * 1000n;
  return chargeUp(price, 1n, gpuMs);
}

/** charge = flat + feePerCall * calls + roundUp(ratePerGpuSecond * gpuMs / 1000) */
export function chargeUp(
  price: { flat: bigint; feePerCall: bigint; ratePerGpuSecond: bigint },
  calls: bigint,
  gpuMs: bigint,
): bigint {
  return price.flat + price.feePerCall * calls + divideUp(price.ratePerGpuSecond * gpuMs, 1000n);
}

/** Smallest units per GPU-second of a price per GPU-hour; the consumer keeps the rest. */
export function ratePerGpuSecondDown(perHour: bigint): bigint {
  return perHour / SECONDS_PER_HOUR;
}
