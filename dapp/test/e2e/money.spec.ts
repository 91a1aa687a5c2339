// Money in, money out, and everything that goes wrong between a person, a wallet and a chain.
// Case 139.

import type { Page } from '@playwright/test';
import type { Address } from 'viem';
import type { Market } from './market';
import { connect, deposit, expect, expectAccessible, giveTokens, logIn, test } from './people';
import { account, type Wallets } from './wallets';

test('deposit with one signature, withdraw without anybody', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '40');
  expect(wallets.asked.map((one) => one.method)).toEqual([
    'eth_requestAccounts',
    'eth_signTypedData_v4',
    'eth_sendTransaction',
  ]);
  const available = page.locator('.figure', { hasText: 'Available' });
  await expect(available.locator('[data-units]')).toHaveAttribute('data-units', `40${'0'.repeat(18)}`);

  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Withdraw' }) });
  await form.getByLabel('Amount').fill('15.5');
  await form.getByRole('button', { name: 'Withdraw' }).click();
  await expect(form.locator('[data-stage=mined]')).toContainText('Withdraw 15.5 TALLY');
  await expect(available.locator('[data-units]')).toHaveAttribute('data-units', `245${'0'.repeat(17)}`);
  await expectAccessible(page);
});

test('a declined signature sends nothing and can be tried again', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 10n);
  await page.goto('/money');
  await connect(page);
  wallets.rejectNext();
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Deposit' }) });
  await form.getByLabel('Amount').fill('5');
  await form.getByRole('button', { name: 'Deposit', exact: true }).click();
  await expect(form.locator('[data-stage=failed]')).toContainText('You declined in the wallet');
  expect(wallets.asked.some((one) => one.method === 'eth_sendTransaction')).toBe(false);
  await form.getByRole('button', { name: 'Deposit', exact: true }).click();
  await expect(form.locator('[data-stage=mined]')).toBeVisible();
});

test('a double click is one transaction', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 10n);
  await page.goto('/money');
  await connect(page);
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Deposit' }) });
  await form.getByLabel('Amount').fill('1');
  await form.getByRole('button', { name: 'Deposit', exact: true }).dblclick();
  await expect(form.locator('[data-stage=mined]')).toBeVisible();
  expect(wallets.asked.filter((one) => one.method === 'eth_sendTransaction')).toHaveLength(1);
});

test('on another network nothing is offered but to switch', async ({ page, wallets }) => {
  wallets.chainId = 1;
  await page.goto('/money');
  await connect(page);
  await expect(page.getByRole('heading', { name: 'Your wallet is on another network' })).toBeVisible();
  await expectAccessible(page);
  await page
    .getByRole('main')
    .getByRole('button', { name: /Switch to/ })
    .click();
  await expect(page.getByRole('heading', { name: 'Deposit' })).toBeVisible();
});

test('another account halfway: nothing is sent from it', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 10n);
  await page.goto('/money');
  await connect(page);
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Deposit' }) });
  await form.getByLabel('Amount').fill('2');
  wallets.hold();
  await form.getByRole('button', { name: 'Deposit', exact: true }).click();
  await expect(form.locator('[data-stage=signing]')).toBeVisible();
  await wallets.switchAccount(39);
  wallets.answerNow();
  await expect(page.getByRole('banner')).toContainText(account(39).address.slice(0, 6));
  await page.waitForTimeout(1_500);
  expect(wallets.asked.some((one) => one.method === 'eth_sendTransaction')).toBe(false);
});

test('another account ends the log-in', async ({ page, wallets }) => {
  await page.goto('/tasks');
  await connect(page);
  await logIn(page);
  await expect(page.getByRole('heading', { name: 'No task yet' })).toBeVisible();
  await wallets.switchAccount(38);
  await expect(page.getByRole('heading', { name: 'Log in with your wallet' })).toBeVisible();
});

type Sent = Parameters<Wallets['send']>[0];

/** A withdrawal waits for its block, and the wallet puts another transaction in its place. */
async function withdrawReplaced(page: Page, market: Market, wallets: Wallets, by: (sent: Sent) => Sent) {
  await giveTokens(market, wallets, 10n);
  await page.goto('/money');
  await connect(page);
  await deposit(page, '3');
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Withdraw' }) });
  await form.getByLabel('Amount').fill('1');
  await wallets.rpc('evm_setAutomine', [false]);
  await wallets.rpc('evm_setIntervalMining', [0]);
  try {
    await form.getByRole('button', { name: 'Withdraw' }).click();
    await expect(form.locator('[data-stage=pending]')).toBeVisible();
    const sent = wallets.asked.at(-1)?.params[0] as Sent;
    const nonce = Number(await wallets.rpc('eth_getTransactionCount', [wallets.address(), 'latest']));
    await wallets.send({ ...by(sent), nonce, tip: 50_000_000_000n }, wallets.address());
    await wallets.rpc('evm_mine');
    await wallets.rpc('evm_mine');
    await expect(form.locator('[data-stage=mined], [data-stage=failed]')).toBeVisible();
  } finally {
    await wallets.rpc('evm_setIntervalMining', [1]);
  }
  return form;
}

test('sped up in the wallet: the new transaction is followed', async ({ page, market, wallets }) => {
  const form = await withdrawReplaced(page, market, wallets, (sent) => sent);
  await expect(form.locator('[data-stage=mined]')).toContainText('Withdraw 1 TALLY');
});

test('cancelled in the wallet: it says so, and the money is where it was', async ({
  page,
  market,
  wallets,
}) => {
  const form = await withdrawReplaced(page, market, wallets, () => ({
    to: wallets.address() as Address,
    data: '0x',
  }));
  await expect(form.locator('[data-stage=failed]')).toContainText('You replaced this transaction');
  const available = page.locator('.figure', { hasText: 'Available' });
  await expect(available.locator('[data-units]')).toHaveAttribute('data-units', `3${'0'.repeat(18)}`);
  await form.getByRole('button', { name: 'Withdraw' }).click();
  await expect(form.locator('[data-stage=mined]')).toBeVisible();
});

test('the contract says no in a sentence, before the wallet is asked', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 10n);
  await page.goto('/money');
  await connect(page);
  await deposit(page, '2');
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Withdraw' }) });
  await form.getByLabel('Amount').fill('1');
  await form.getByLabel('To address').fill('0x0000000000000000000000000000000000000000');
  await form.getByRole('button', { name: 'Withdraw' }).click();
  const said = form.locator('[data-stage=failed]');
  await expect(said).toBeVisible();
  await expect(said).not.toContainText(/revert|0x[0-9a-f]{8}\b/i);
});
