// A task from the form to the money: ordered, locked, run, verified, accepted, paid.

import { readFileSync } from 'node:fs';
import { connect, deposit, expect, expectAccessible, giveTokens, logIn, test } from './people';

test('a script goes round', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '50');
  await page.getByRole('link', { name: 'Home' }).click();
  await logIn(page);
  await page.getByRole('main').getByRole('link', { name: 'New task' }).first().click();
  await expectAccessible(page);
  await page
    .getByLabel('Script', { exact: true })
    .last()
    .fill(
      'import os, time\nfor n in range(4):\n    print("line", n, flush=True)\n    time.sleep(0.5)\nopen(os.environ["TALLYSTICK_OUTPUT"] + "/answer.txt", "w").write("42")\n',
    );
  await page.getByLabel('Time limit').fill('5m');
  await expect(page.getByText('ready (simulated)').first()).toBeVisible();
  await page.getByRole('button', { name: 'Submit the task' }).click();
  await expect(page).toHaveURL(/\/tasks\/0x/);
  await expect(page.getByRole('log')).toContainText('line 3');
  await expectAccessible(page);

  await page.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(page.getByText('The receipt holds')).toBeVisible();
  await expect(page.locator('[data-ok=false]')).toHaveCount(0);
  await expect(page.locator('[data-check="check.signature"]')).toHaveAttribute('data-ok', 'true');
  await page.getByRole('button', { name: 'Open the result' }).click();
  const receipt = page.getByRole('region', { name: 'Receipt' });
  await expect(receipt.getByText('answer.txt')).toBeVisible();
  const saved = page.waitForEvent('download');
  await receipt.locator('li', { hasText: 'answer.txt' }).getByRole('button', { name: 'Save' }).click();
  expect(readFileSync(await (await saved).path(), 'utf8')).toBe('42');
  await page.getByRole('button', { name: 'Accept and pay' }).click();
  await expect(page.getByText('Both halves signed')).toBeVisible();
  await expect(page.getByText('Paid by the receipt', { exact: false })).toBeVisible();
  await expectAccessible(page);

  const first = page.url();
  const charged = page.locator('.figure', { hasText: 'Charged' }).locator('[data-units]');
  const charge = (await charged.getAttribute('data-units')) ?? '';
  await page.getByRole('navigation').getByRole('link', { name: 'Costs' }).click();
  const tasks = page.locator('.figure', { hasText: 'Tasks' }).locator(`[data-units="${charge}"]`);
  await expect(tasks, 'what the chain settled, to the unit').toBeVisible();
  await page.getByRole('radio', { name: 'GPU class' }).click();
  const spentBy = page.getByRole('region', { name: 'Spent by' });
  await expect(spentBy.getByRole('row').nth(1)).toContainText('gpu1');
  await expect(spentBy.locator(`[data-units="${charge}"]`)).toBeVisible();
  const saved2 = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Save as CSV' }).click();
  expect(readFileSync(await (await saved2).path(), 'utf8')).toContain(`,${charge}`);
  await expectAccessible(page);

  for (let steps = 0; page.url() !== first && steps < 4; steps++) await page.goBack();
  await page.getByRole('link', { name: 'Run it again' }).click();
  await page.getByRole('button', { name: 'Open its input' }).click();
  await expect(page.getByLabel('Script', { exact: true }).last()).toHaveValue(/print\("line", n/);
  await expect(page.getByLabel('Time limit')).toHaveValue('300s');
  await expect(page.getByText('ready (simulated)').first()).toBeVisible();
  await expectAccessible(page);
  await page.getByRole('button', { name: 'Submit the task' }).click();
  await expect(page).toHaveURL(/\/tasks\/0x/);
  expect(page.url()).not.toBe(first);
  await expect(page.getByRole('log')).toContainText('line 3');
});
