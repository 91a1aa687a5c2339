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
  await page.getByLabel('Search', { exact: true }).fill('vram>=24 gpu in (gpu1, h100) and price<1000');
  await expect(offers.getByRole('row')).toHaveCount(3);
  await page.getByLabel('Search', { exact: true }).fill('not simulated');
  await expect(page.getByRole('heading', { name: 'No card fits' })).toBeVisible();
  await page.getByLabel('Search', { exact: true }).fill('vrm>=24');
  await expect(page.getByText("There is no field 'vrm'", { exact: false })).toBeVisible();
  await expectAccessible(page);
  await page.getByLabel('Search', { exact: true }).fill('');
  await expect(offers.getByRole('row')).toHaveCount(3);
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
  await page.getByRole('radio', { name: '中文' }).click();
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

test('the explorer links each row to its transaction, and finds by id', async ({ page, market }) => {
  await page.goto('/explorer');
  const rows = page.getByRole('region', { name: /Events on chain/ }).getByRole('row');
  await expect(rows.nth(1)).toBeVisible();
  await expectAccessible(page);
  await page.getByRole('radio', { name: 'stakes' }).click();
  await expect(rows.nth(1)).toContainText('stakes');
  await rows.nth(1).getByRole('link').last().click();
  await expect(page).toHaveURL(/\/explorer\/tx\/0x/);
  await expect(page.getByText('done', { exact: true })).toBeVisible();
  await expectAccessible(page);
  await page.goto('/explorer');
  await page.getByLabel('Search').fill(market.app);
  await page.getByRole('button', { name: 'Look it up' }).click();
  await expect(page).toHaveURL(`/apps/${market.app}`);
  await expectAccessible(page);
});

test('apps are listed with what they cost', async ({ page, market }) => {
  await page.goto('/apps');
  await page
    .getByRole('region', { name: 'Apps with their prices and state' })
    .getByRole('link', { name: 'greet' })
    .click();
  await expect(page).toHaveURL(`/apps/${market.app}`);
  await expect(page.getByText('no call, no charge')).toBeVisible();
});
