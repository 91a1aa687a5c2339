// An app, called from the browser, paid by a channel, checked here; and what it cost, added up.

import { connect, deposit, expect, expectAccessible, giveTokens, logIn, test } from './people';

test('deposit, allow, call, verify, see the costs', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '20');
  await page.goto(`/apps/${market.app}`);
  await logIn(page);
  await expect(page.getByRole('heading', { name: 'greet' })).toBeVisible();
  await page.getByLabel('name', { exact: true }).fill('Grace');
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeVisible();
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeHidden();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await expect(page.locator('[data-answer]')).toContainText('Hello, Grace!');
  const receipt = page.getByRole('region', { name: 'Receipt' });
  await expect(receipt.locator('[data-units="1000000000000000"]')).toBeVisible();
  await receipt.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(receipt.getByText('The receipt holds')).toBeVisible();
  await expect(receipt.locator('[data-ok=false]')).toHaveCount(0);
  for (const check of ['signature', 'input', 'result', 'total', 'voucher']) {
    await expect(receipt.locator(`[data-check="check.${check}"]`)).toHaveAttribute('data-ok', 'true');
  }
  await expectAccessible(page);

  await page.getByRole('navigation').getByRole('link', { name: 'Costs' }).click();
  await expect(
    page.locator('.figure', { hasText: 'Together' }).locator('[data-units="1000000000000000"]'),
  ).toBeVisible();
  await expectAccessible(page);

  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Set a limit' }) });
  await form.getByLabel('At most').fill('0.001');
  await form.getByRole('button', { name: 'Set the limit' }).click();
  const limits = page.getByRole('region', { name: 'Limits on spending' });
  await expect(limits.getByText('reached', { exact: true })).toBeVisible();
  await expect(limits.getByRole('progressbar')).toHaveAttribute('value', '100');
  await page.getByRole('navigation').getByRole('link', { name: 'Home' }).click();
  const notice = page.locator('[data-notice=limit_reached]');
  await expect(notice).toContainText('A spending limit is reached');
  await expectAccessible(page);
  await notice.getByRole('link', { name: 'See and change it' }).click();
  await limits.getByRole('button', { name: 'Change' }).click();
  await page.getByLabel('At most').fill('0.004');
  await page.getByRole('button', { name: 'Change the limit' }).click();
  await expect(limits.getByRole('progressbar')).toHaveAttribute('value', '25');

  await page.getByRole('navigation').getByRole('link', { name: 'Keys' }).click();
  await expect(page.getByRole('region', { name: 'Who may pay calls for you' }).getByRole('row')).toHaveCount(
    2,
  );
  await expectAccessible(page);
  await page.getByRole('button', { name: 'Revoke', exact: true }).click();
  await expect(page.getByText('revoked', { exact: true })).toBeVisible();
});

test('a key is shown once and revoked', async ({ page, wallets }) => {
  await page.goto('/keys');
  await connect(page);
  await logIn(page);
  expect(wallets.asked.at(-1)?.method).toBe('personal_sign');
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Make an API key' }) });
  await form.getByLabel('Name').fill('laptop');
  await form.getByRole('button', { name: 'Make the key' }).click();
  await expect(form.locator('code')).toContainText(/^tk_/);
  const { origins } = await page.context().storageState();
  const stored = JSON.stringify(origins);
  expect(stored).not.toMatch(/t[ks]_/);
  await page.getByRole('region', { name: 'API keys' }).getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByRole('heading', { name: 'No API key yet' })).toBeVisible();
});

test('a limit is set and removed', async ({ page, wallets }) => {
  await page.goto('/keys');
  await connect(page);
  await logIn(page);
  expect(wallets.address()).toMatch(/^0x/);
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Set a limit' }) });
  await form.getByLabel('At most').fill('0.5');
  await form.getByRole('button', { name: 'Set the limit' }).click();
  const limits = page.getByRole('region', { name: 'Limits on spending' });
  await expect(limits.getByRole('row')).toHaveCount(2);
  await limits.getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByRole('heading', { name: 'No limit is set' })).toBeVisible();
});
