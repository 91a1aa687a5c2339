// What a provider's pages work out for themselves: the command, the line that it prints, shares.

import { privateKeyToAccount } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import { joinCommand } from '~/features/provide/command';
import { readJoinLine } from '~/features/provide/joinLine';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import { freeStake, missingStake, sharesDown, tokensDown, type Standing } from '~/lib/chain/staking';
import { translator } from '~/lib/i18n';
import { days } from '~/lib/time';
import { en } from '~/messages/en';
import { deployment } from './fixtures';

const key = privateKeyToAccount(`0x${'22'.repeat(32)}`);
const provider = '0x90F79bf6EB2c4f870365E785982E1f101E93b906';
const stranger = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';

async function lineOf(
  changes: Record<string, unknown> = {},
  signedFor: typeof provider | typeof stranger = provider,
) {
  const consent = await key.signTypedData({
    domain: eip712Domain(deployment.chainId, deployment.escrow),
    types: { OperatorKey: eip712Types.OperatorKey },
    primaryType: 'OperatorKey',
    message: { provider: signedFor, key: key.address },
  });
  const content = { provider, key: key.address, consent, gpus: ['GPU-1', 'GPU-2'], ...changes };
  const packed = btoa(JSON.stringify(content)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  return `tallystick-provider:${packed}`;
}

describe('the line', () => {
  it('says cards and key, once the consent holds', async () => {
    const read = await readJoinLine(`  ${await lineOf()}\n`, deployment, provider);
    expect(read).toMatchObject({ ok: true, line: { key: key.address, gpus: ['GPU-1', 'GPU-2'] } });
  });

  it('is the one that the agent prints', async () => {
    // By `tallystick_provider.join.line`, with this key for this market.
    const printed =
      'tallystick-provider:eyJwcm92aWRlciI6IjB4OTBGNzliZjZFQjJjNGY4NzAzNjVFNzg1OTgyRTFmMTAxRTkzYjkwNiIsImtleSI6IjB4MTU2MzkxNWUxOTREOENmQkExOTQzNTcwNjAzRjc2MDZBMzExNTUwOCIsImNvbnNlbnQiOiIweGIyMGMyNDgzZTA1YmMyNzU2MTI0NDkwMzYzY2I3ZGZiN2Q4YzRkZDIyNTdiNjQ2NTlhMWI4MTk1NzVmZmRkZTIyNDllZGExMmU2OWM5MTM2OGJkMWY1MDgyYTU5ZWQyZDc1Y2U2ZDg0OTQwZjVjNzgxZDUzMjc0ODgwMWFjMDBlMWIiLCJncHVzIjpbIkdQVS0xIiwiR1BVLTIiXX0';
    const read = await readJoinLine(printed, deployment, provider);
    expect(read).toMatchObject({ ok: true, line: { provider, key: key.address, gpus: ['GPU-1', 'GPU-2'] } });
  });

  it.each([
    ['nothing', () => Promise.resolve(' '), 'empty'],
    ['half of it', async () => (await lineOf()).slice(0, 60), 'form'],
    ['something else', () => Promise.resolve('0x1234'), 'form'],
    ['a card named twice', () => lineOf({ gpus: ['A', 'A'] }), 'form'],
    ['no list of cards', () => lineOf({ gpus: 'A' }), 'form'],
    ['another account', () => lineOf({ provider: stranger }, stranger), 'account'],
    ['a consent to sign for somebody else', () => lineOf({}, stranger), 'signature'],
    ['another key', () => lineOf({ key: stranger }), 'signature'],
    ['a consent that is none', () => lineOf({ consent: '0x12' }), 'signature'],
  ])('refuses %s', async (_, make, why) =>
    expect(await readJoinLine(await make(), deployment, provider)).toEqual({ ok: false, why }),
  );
});

describe('the command', () => {
  const offer = { gpuClass: 'gpu1', rate: 138_888_888_888_888n, count: 2 };
  it('is short for real cards in containers', () =>
    expect(joinCommand('https://m.example', provider, { ...offer, cards: 'nvml', runtime: 'docker' })).toBe(
      `tallystick-provider join https://m.example \\\n  --provider ${provider} \\\n  --rate gpu1=138888888888888`,
    ));
  it('names what is simulated and not isolated', () =>
    expect(
      joinCommand('https://m.example', provider, { ...offer, cards: 'simulated', runtime: 'process' }),
    ).toMatch(/--gpus simulated:2xgpu1:24576 \\\n {2}--runtime process$/));
});

describe('shares', () => {
  it('begin one to one, and follow a slash', () => {
    expect(sharesDown(50n, { tokens: 0n, shares: 0n })).toBe(50n);
    expect(sharesDown(50n, { tokens: 50n, shares: 100n })).toBe(99n);
  });
  it('are worth everything to who has them all, and never more than is there', () => {
    expect(tokensDown(100n, { tokens: 37n, shares: 100n })).toBe(37n);
    for (let held = 1n; held < 100n; held += 1n) {
      expect(tokensDown(held, { tokens: 37n, shares: 100n })).toBeLessThanOrEqual(37n);
    }
  });
});

describe('stake', () => {
  const standing = { bonded: 350n, gpus: 2, seats: 1 } as Standing;
  it('is free where no card and no seat needs it', () => {
    expect(freeStake(deployment, standing)).toBe(50n);
    expect(freeStake(deployment, { ...standing, gpus: 5 })).toBe(0n);
  });
  it('is missing for more cards', () => {
    expect(missingStake(deployment, standing, 2)).toBe(0n);
    expect(missingStake(deployment, standing, 4)).toBe(150n);
  });
});

describe('days', () => {
  it.each([
    [86_400, '1 day'],
    [1_814_400, '21 days'],
    [3_600, '1h 00m'],
    [0, '0s'],
  ])('%s seconds are %s', (seconds, text) => expect(days(seconds, translator(en))).toBe(text));
});
