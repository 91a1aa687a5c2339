// What the chain allows only later. It moves the chain's clock, so it runs behind everything else.

import { service } from './market';
import { connect, deposit, expect, expectAccessible, giveTokens, logIn, submit, test } from './people';

const HOUR_S = 3_600;

test('nobody takes a task: cancelled on chain, an hour later the ceiling comes back', async ({
  page,
  market,
  wallets,
}) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '50');
  await page.getByRole('link', { name: 'Home' }).click();
  await logIn(page);
  // Both providers are gone before the order is signed.
  const asked = wallets.asked.length;
  wallets.hold();
  await submit(page, 'print("never")');
  await expect.poll(() => wallets.asked.length).toBeGreaterThan(asked);
  service('stop', 'provider-1');
  service('stop', 'provider-2');
  wallets.answerNow();
  await expect(page).toHaveURL(/\/tasks\/0x/);
  await expect(page.getByText('waits for a provider', { exact: false })).toBeVisible();
  await page.getByRole('button', { name: 'Stop the task' }).click();
  const card = page.locator('section', { has: page.getByRole('heading', { name: 'Get the rest back' }) });
  await card.getByRole('button', { name: 'Cancel on chain' }).click();
  const waits = card.locator('[data-free-at]');
  await expect(waits).toBeVisible();
  await expect(card.getByRole('button', { name: 'Reclaim the ceiling' })).toBeHidden();
  await expectAccessible(page);

  const block = (await wallets.rpc('eth_getBlockByNumber', ['latest', false])) as { timestamp: string };
  const left = Number(await waits.getAttribute('data-free-at')) - Number(block.timestamp);
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThanOrEqual(HOUR_S);
  await wallets.rpc('evm_increaseTime', [left + 5]);
  await wallets.rpc('evm_mine');
  await card.getByRole('button', { name: 'Reclaim the ceiling' }).click();
  await expect(page.getByText('The ceiling came back', { exact: false })).toBeVisible();
  await page.getByRole('link', { name: 'Money' }).click();
  const available = page.locator('.figure', { hasText: 'Available' });
  await expect(available.locator('[data-units]')).toHaveAttribute('data-units', `50${'0'.repeat(18)}`);
});
