// Without a wallet: what the market offers, in both languages, by keyboard.

import { expect, expectAccessible, test } from './people';

test('the market is read by anybody', async ({ page }) => {
  await page.goto('/market');
  await expect(page.getByRole('heading', { name: 'Market', exact: true })).toBeVisible();
  const offers = page.getByRole('region', { name: /Offers by provider/ });
  await expect(offers.getByRole('row')).toHaveCount(3);
  await expect(offers).toContainText('0.0001389');
  await expect(offers).not.toContainText(/\b0\.000\b/);
  await page.getByLabel('GPU memory').selectOption('80');
  await expect(page.getByRole('heading', { name: 'No card fits' })).toBeVisible();
  await page.getByRole('button', { name: 'Show everything' }).click();
  await expect(offers.getByRole('row')).toHaveCount(3);
  await expectAccessible(page);
});

test('a provider page says what it staked', async ({ page }) => {
  await page.goto('/market');
  await page
    .getByRole('region', { name: /Offers by provider/ })
    .getByRole('link')
    .first()
    .click();
  await expect(page.getByText('Stake', { exact: true })).toBeVisible();
  await expectAccessible(page);
});

test('home names the next act, also in Chinese, and by keyboard alone', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'Three steps to the first result' })).toBeVisible();
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to the content' })).toBeFocused();
  await page.getByRole('radio', { name: '中文' }).check();
  await expect(page.getByRole('heading', { name: '三步得到第一个结果' })).toBeVisible();
  await expect(page.locator('html')).toHaveAttribute('lang', 'zh-CN');
  await page.reload();
  await expect(page.getByRole('heading', { name: '三步得到第一个结果' })).toBeVisible();
  await expectAccessible(page);
});

test('a page that is not there says so', async ({ page }) => {
  await page.goto('/nothing-here');
  await expect(page.getByRole('heading', { name: 'There is no such page' }).first()).toBeVisible();
  await page.getByRole('link', { name: 'Go home' }).click();
  await expect(page).toHaveURL('/');
});
