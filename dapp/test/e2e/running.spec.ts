// While a task runs: its log as it comes, also through a restart of the backend, and stopping it.

import type { Locator, Page } from '@playwright/test';
import { service, type Market } from './market';
import { connect, deposit, expect, giveTokens, logIn, submit, test } from './people';
import type { Wallets } from './wallets';

async function comeIn(page: Page, market: Market, wallets: Wallets) {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '50');
  await page.getByRole('link', { name: 'Home' }).click();
  await logIn(page);
}

async function linesOf(log: Locator): Promise<string[]> {
  return (await log.innerText()).split('\n').filter((line) => line.startsWith('line '));
}

test('the log goes on after a restart of the backend; stopped, the task costs what it used', async ({
  page,
  market,
  wallets,
}) => {
  await comeIn(page, market, wallets);
  await submit(
    page,
    'import time\nfor n in range(10_000):\n    print("line", n, flush=True)\n    time.sleep(0.25)',
  );
  await expect(page).toHaveURL(/\/tasks\/0x/);
  const log = page.getByRole('log');
  await expect(log).toContainText('line 2');
  await expect(page.getByText('live', { exact: true })).toBeVisible();

  const away = page.getByText('The backend does not answer', { exact: false });
  service('stop', 'backend');
  try {
    await expect(away).toBeVisible();
    await expect(log, 'what was read stays').toContainText('line 2');
  } finally {
    service('start', 'backend');
  }
  const before = (await linesOf(log)).length;
  await expect(away).toBeHidden();
  await expect.poll(async () => (await linesOf(log)).length).toBeGreaterThan(before + 8);
  const lines = await linesOf(log);
  expect(new Set(lines).size, 'no line comes twice').toBe(lines.length);

  await page.getByRole('button', { name: 'Stop the task' }).click();
  await page.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(page.getByText('The receipt holds')).toBeVisible();
  await page.getByRole('button', { name: 'Accept and pay' }).click();
  await expect(page.getByText('Paid by the receipt', { exact: false })).toBeVisible();
  const charged = page.locator('.figure', { hasText: 'Charged' }).locator('[data-units]');
  const most = 5n * 60n * 138_888_888_888_888n;
  expect(BigInt((await charged.getAttribute('data-units')) ?? '0')).toBeLessThan(most);
  expect(BigInt((await charged.getAttribute('data-units')) ?? '0')).toBeGreaterThan(0n);
});
