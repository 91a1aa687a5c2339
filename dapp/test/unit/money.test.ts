import { describe, expect, it } from 'vitest';
import { chargeUp, exact, maxChargeUp, parseAmount, ratePerGpuSecondDown, shown } from '~/lib/money';

const TALLY = 18;
const unit = 10n ** 18n;

describe('shown', () => {
  it.each([
    [0n, '0'],
    [1n, '0.000000000000000001'],
    [138_888_888_888_888n, '0.0001388'],
    [unit, '1'],
    [(unit * 5n) / 2n, '2.5'],
    [1_234_567n * unit + 1n, '1,234,567'],
    [1_234n * unit + (unit * 56_789n) / 100_000n, '1,234.56'],
    [99_999_999_999_999_999_999n, '99.999'],
    [-unit / 2n, '-0.5'],
  ])('%s units are %s', (units, text) => expect(shown(units, TALLY)).toBe(text));

  it('rounds prices to the nearest, so that half a token an hour reads as that', () =>
    expect(shown(138_888_888_888_888n * 3600n, TALLY, 'nearest')).toBe('0.5'));

  it('is never zero for what is not zero, at any size and with any decimals', () => {
    for (const decimals of [0, 2, 6, 18]) {
      for (let size = 1n; size < 10n ** 30n; size = size * 7n + 3n) {
        for (const rounding of ['down', 'nearest'] as const) {
          expect(Number(shown(size, decimals, rounding).replaceAll(',', ''))).toBeGreaterThan(0);
        }
      }
    }
  });

  it('never shows more than is there when it rounds down', () => {
    for (let size = 1n; size < 10n ** 27n; size = size * 3n + 1n) {
      const parsed = parseAmount(shown(size, TALLY).replaceAll(',', ''), TALLY);
      expect(parsed.ok && parsed.units <= size).toBe(true);
    }
  });
});

describe('parseAmount', () => {
  it.each([
    ['1', unit],
    ['0.5', unit / 2n],
    ['.5', unit / 2n],
    ['1.', unit],
    ['0.000000000000000001', 1n],
  ])('%s', (text, units) => expect(parseAmount(text, TALLY)).toEqual({ ok: true, units }));

  it.each([
    ['', 'empty'],
    ['0', 'zero'],
    ['0.0', 'zero'],
    ['-1', 'form'],
    ['1e18', 'form'],
    ['1,5', 'form'],
    ['0x10', 'form'],
    ['0.0000000000000000001', 'digits'],
  ])('refuses %s', (text, why) => expect(parseAmount(text, TALLY)).toEqual({ ok: false, why }));

  it('gives back what exact wrote', () => {
    for (let size = 1n; size < 10n ** 36n; size = size * 11n + 5n) {
      expect(parseAmount(exact(size, TALLY), TALLY)).toEqual({ ok: true, units: size });
    }
  });
});

describe('prices', () => {
  it('round the GPU time up and the rate down', () => {
    expect(chargeUp({ flat: 5n, feePerCall: 3n, ratePerGpuSecond: 1n }, 2n, 1n)).toBe(12n);
    expect(ratePerGpuSecondDown(unit / 2n)).toBe(138_888_888_888_888n);
  });
  it('lock what gpus and seconds can cost', () =>
    expect(maxChargeUp({ flat: 0n, feePerCall: 0n, ratePerGpuSecond: 138_888_888_888_888n }, 2, 600)).toBe(
      166_666_666_666_665_600n,
    ));
});
