// An app from the form to the money: deployed, called, streamed, verified, changed, gone back, and what is left
// withdrawn again.

import { connect, deposit, expect, expectAccessible, giveTokens, logIn, test } from './people';
import type { Page } from '@playwright/test';

async function publish(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Publish the app' }).click();
  await expect(page).toHaveURL(/\/apps\/0x[0-9a-f]{64}$/);
}

test('deposit, deploy, call, verify, withdraw', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '20');

  await page.getByRole('navigation').getByRole('link', { name: 'Apps' }).click();
  await page.getByRole('main').getByRole('link', { name: 'Deploy an app' }).click();
  await page.getByRole('radio', { name: 'a greeting' }).check();
  await expect(page.getByLabel('Name')).toHaveValue('hello');
  await expect(page.getByLabel('Image', { exact: true })).toHaveValue('process');
  await page.getByLabel('Renting a server').fill('0.05');
  // 0.001 a call against 1.2 a day.
  await expect(page.getByText('From 1,200 calls a day on, renting costs less')).toBeVisible();
  await expectAccessible(page);
  await logIn(page);
  await expect(page.getByText('The app is new: this publishes version 1.')).toBeVisible();
  await publish(page);
  const [transaction] = wallets.asked.slice(-1);
  expect(transaction?.method).toBe('eth_sendTransaction');
  await expect(page.getByRole('heading', { name: 'hello', level: 1 })).toBeVisible();

  await page.getByLabel('name', { exact: true }).fill('Grace');
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeHidden();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await expect(page.locator('[data-answer]')).toContainText('Hello, Grace!');
  const receipt = page.getByRole('region', { name: 'Receipt' });
  await expect(receipt.locator('[data-units="1000000000000000"]')).toBeVisible();
  await receipt.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(receipt.getByText('The receipt holds')).toBeVisible();
  await expect(receipt.locator('[data-ok=false]')).toHaveCount(0);
  const calls = page.getByRole('region', { name: 'Your calls of this app' });
  await expect(calls.getByText('completed')).toHaveCount(1);
  const starts = page.locator('section', {
    has: page.getByRole('heading', { name: 'Log of the last starts' }),
  });
  await expect(starts.getByText('ready', { exact: true }).first()).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('navigation').getByRole('link', { name: 'Money' }).click();
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Withdraw' }) });
  await form.getByLabel('Amount').fill('5');
  await form.getByRole('button', { name: 'Withdraw' }).click();
  await expect(form.locator('[data-stage=mined]')).toContainText('Withdraw 5 TALLY');
});

test('a streamed answer is seen as it comes', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '20');
  await page.goto('/apps/new');
  await page.getByLabel('Name').fill('tale');
  await page.getByLabel('Handler').fill('handler:tell');
  await page
    .getByLabel('Schema of the input')
    .fill(
      '{"type":"object","required":["words"],"properties":{"words":{"type":"integer","minimum":1,"maximum":20}}}',
    );
  await page.getByLabel('Discount').fill('50');
  await logIn(page);
  await publish(page);
  await expect(page.getByRole('region', { name: 'Discounts' })).toContainText('50 %');

  await page.getByLabel('words').fill('6');
  await page.getByLabel('Show the answer as it comes').check();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeHidden();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  const coming = page.locator('[data-streaming]');
  await expect(coming).toContainText('"word":2');
  await expect(coming).not.toContainText('"word":6');
  await expect(page.locator('[data-answer]')).toContainText('"word":6');
  await expect(page.locator('[data-answer]')).not.toContainText('call_id');
  const receipt = page.getByRole('region', { name: 'Receipt' });
  await receipt.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(receipt.getByText('The receipt holds')).toBeVisible();
  await expect(receipt.locator('[data-ok=false]')).toHaveCount(0);
});

test('a publisher changes, goes back, prices and ends an app; nobody else may', async ({ page, wallets }) => {
  await page.goto('/apps/new');
  await connect(page);
  await page.getByRole('radio', { name: 'a greeting' }).check();
  await logIn(page);
  await publish(page);

  const head = page.locator('.page-head');
  await head.getByRole('link', { name: 'Change the app' }).click();
  await expect(page.getByText('There is nothing to publish', { exact: false })).toBeVisible();
  await expect(page.getByRole('button', { name: 'Publish the app' })).toBeDisabled();
  await page.getByLabel('Most workers').fill('2');
  await page.getByLabel('Stopped after idle').fill('5m');
  await page.getByRole('button', { name: 'Publish version 2' }).click();
  await expect(page).toHaveURL(/\/apps\/0x[0-9a-f]{64}$/);
  await expect(page.getByText('0 to 2 per provider; stopped after 5m 00s idle')).toBeVisible();

  const versions = page.getByRole('region', { name: 'Versions' });
  await expect(versions.getByRole('row')).toHaveCount(3);
  await versions.getByRole('button', { name: 'Publish 1 again' }).click();
  await expect(versions.getByRole('row')).toHaveCount(4);
  await expect(
    page.getByText('0 to 4 per provider; stopped after 1m 00s idle', { exact: false }),
  ).toBeVisible();

  const owner = page.getByRole('region', { name: 'What you may change' });
  await owner.getByLabel('Fee per call').fill('0.002');
  await owner.getByRole('button', { name: 'Announce it' }).click();
  await expect(owner.locator('[data-stage=mined]')).toContainText('0.002 TALLY a call');
  await expect(page.getByText('announced', { exact: true })).toBeVisible();
  await owner.getByRole('button', { name: 'Announce the discount' }).click();
  await expect(page.getByRole('region', { name: 'Discounts' })).toContainText('20 %');
  await expectAccessible(page);

  // Another account sees what may change and by whom, and no button to do it.
  await wallets.switchAccount(7);
  await expect(owner).toBeHidden();
  await expect(page.getByRole('link', { name: 'Use as a template' })).toBeVisible();
});

test('an app that was ended says so', async ({ page, wallets }) => {
  await page.goto('/apps/new');
  await connect(page);
  await page.getByRole('radio', { name: 'a greeting' }).check();
  await logIn(page);
  await publish(page);
  const owner = page.getByRole('region', { name: 'What you may change' });
  await expect(owner.getByRole('button', { name: 'Make it permanent' })).toBeDisabled();
  await owner.getByLabel('I know that there is no way back').check();
  await owner.getByRole('button', { name: 'Make it permanent' }).click();
  await expect(
    page.getByText('Permanent: nobody can change or stop it, its publisher included.'),
  ).toBeVisible();
  await expect(owner).toBeHidden();
  expect(wallets.asked.at(-1)?.method).toBe('eth_sendTransaction');
});
