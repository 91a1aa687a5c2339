// Every screen in four variants, under build/screenshots: for people to look at, not for a machine to compare.

import { execFileSync } from 'node:child_process';
import type { Page } from '@playwright/test';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './market';
import { account, connect, deposit, expect, giveTokens, logIn, test } from './people';

const FOLDER = join(ROOT, 'build', 'screenshots');
const VARIANTS = [
  { name: 'wide-light', width: 1360, theme: 'light' },
  { name: 'wide-dark', width: 1360, theme: 'dark' },
  { name: 'narrow-light', width: 390, theme: 'light' },
  { name: 'narrow-dark', width: 390, theme: 'dark' },
] as const;

function camera(page: Page) {
  mkdirSync(FOLDER, { recursive: true });
  return async (name: string) => {
    for (const { name: variant, width, theme } of VARIANTS) {
      await page.setViewportSize({ width, height: 844 });
      await page.emulateMedia({ colorScheme: theme });
      await page.waitForTimeout(250);
      await page.screenshot({ path: join(FOLDER, `${name}-${variant}.png`), fullPage: true });
    }
    await page.setViewportSize({ width: 1360, height: 844 });
    await page.emulateMedia({ colorScheme: 'light' });
  };
}

test('every screen', async ({ page, market, wallets }) => {
  test.setTimeout(600_000);
  const take = camera(page);
  const first = wallets.index();
  const go = (name: string) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click();

  await page.goto('/');
  await take('01-home-visitor');
  await page.getByRole('banner').getByRole('button', { name: 'Connect wallet' }).click();
  await take('02-connect');
  await page.keyboard.press('Escape');
  await go('Market');
  await expect(page.getByRole('heading', { name: /^Offers/ })).toBeVisible();
  await take('03-market');
  await page
    .getByRole('region', { name: /Offers by provider/ })
    .getByRole('link')
    .first()
    .click();
  await expect(page.getByText('Stake', { exact: true })).toBeVisible();
  await take('04-provider');
  await go('Explorer');
  await expect(
    page
      .getByRole('region', { name: /Events on chain/ })
      .getByRole('row')
      .nth(1),
  ).toBeVisible();
  await take('05-explorer');
  await go('Apps');
  await expect(page.getByRole('region', { name: /Apps with/ })).toBeVisible();
  await take('06-apps');

  await giveTokens(market, wallets, 300n);
  await go('Money');
  await connect(page);
  await deposit(page, '50');
  await take('07-money');
  await go('Tasks');
  await logIn(page);
  await expect(page.getByRole('heading', { name: 'No task yet' })).toBeVisible();
  await take('08-tasks-empty');
  await page.getByRole('main').getByRole('link', { name: 'New task' }).first().click();
  await expect(page.getByText('ready (simulated)').first()).toBeVisible();
  await take('09-new-task');
  await page.getByRole('button', { name: 'Submit the task' }).click();
  await expect(page).toHaveURL(/\/tasks\/0x/);
  await expect(page.getByRole('log')).toContainText('step 4');
  await take('10-task-running');
  await go('Home');
  await expect(page.getByRole('heading', { name: 'Under way' })).toBeVisible();
  await page.waitForTimeout(1_000);
  await take('11-home');
  await go('Tasks');
  await page.getByRole('main').getByRole('link', { name: 'main.py' }).first().click();
  await page.getByRole('button', { name: 'Verify in this browser' }).click();
  await expect(page.getByText('The receipt holds')).toBeVisible();
  await take('12-task-receipt');
  await page.getByRole('button', { name: 'Accept and pay' }).click();
  await expect(page.getByText('Paid by the receipt', { exact: false })).toBeVisible();

  await go('Apps');
  await page.getByRole('main').getByRole('link', { name: 'greet' }).click();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeHidden();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await expect(page.locator('[data-answer]')).toBeVisible();
  await take('13-app');
  await go('Costs');
  await expect(page.getByRole('heading', { name: 'Spent over time' })).toBeVisible();
  await take('14-costs');
  await go('Keys');
  await expect(page.getByRole('region', { name: 'Who may pay calls for you' })).toBeVisible();
  await take('15-keys');

  await go('Provide');
  await page.getByRole('radio', { name: 'Simulated, to try it' }).check({ force: true });
  await page.getByRole('radio', { name: 'Plain processes' }).check({ force: true });
  const command = await page.locator('[data-command]').innerText();
  await page.getByLabel('The line').fill(printedLine(command, join(market.directory, 'screenshots')));
  await expect(page.getByText('its consent is valid')).toBeVisible();
  await expect(page.getByText('The agent was not heard of yet')).toBeVisible();
  await take('17-provide');
  await go('Delegate');
  await page.getByRole('button', { name: 'Choose', exact: true }).first().click();
  const delegation = page.locator('section', {
    has: page.getByRole('heading', { name: 'Delegate', exact: true }),
  });
  await delegation.getByLabel('Amount').fill('20');
  await delegation.getByRole('button', { name: 'Delegate' }).click();
  const position = page.getByRole('region', { name: /^Behind 0x/ });
  await position.getByLabel('Take back').fill('5');
  await position.getByRole('button', { name: 'Take it back' }).click();
  await expect(
    page.getByRole('region', { name: 'Delegations on their way out' }).getByRole('row'),
  ).toHaveCount(2);
  await take('18-delegate');

  // From here on as the provider who served the task above: the market's providers are accounts 10 and 12.
  await wallets.switchAccount(await servedBy(market.url));
  await go('Provide');
  await logIn(page);
  await expect(page.locator('[data-finding="backend"]')).toBeVisible();
  await take('19-provide-doctor');
  const tabs = page.getByRole('navigation', { name: 'Pages for providers' });
  await tabs.getByRole('link', { name: 'GPUs' }).click();
  await expect(page.getByRole('region', { name: 'Cards' })).toBeVisible();
  await take('20-provide-gpus');
  await tabs.getByRole('link', { name: 'Tasks' }).click();
  await expect(page.getByRole('heading', { name: 'Done', exact: true })).toBeVisible();
  await page.waitForTimeout(1_000);
  await take('21-provide-tasks');
  await tabs.getByRole('link', { name: 'Earnings' }).click();
  await expect(page.getByRole('heading', { name: 'Pending' })).toBeVisible();
  await page.waitForTimeout(1_000);
  await take('22-provide-earnings');
  await tabs.getByRole('link', { name: 'Stake' }).click();
  await expect(page.getByRole('heading', { name: 'Ask for it back' })).toBeVisible();
  await take('23-provide-stake');
  await wallets.switchAccount(first);
  await go('Keys');
  await logIn(page);
  await page.getByRole('radio', { name: '中文' }).click();
  await expect(page.getByRole('heading', { name: '密钥与会话' })).toBeVisible();
  await go('首页');
  await page.waitForTimeout(1_000);
  await take('16-home-zh');
  await go('提供算力');
  await page.waitForTimeout(500);
  await take('24-provide-zh');
});

async function servedBy(url: string): Promise<number> {
  const answer = await fetch(`${url}/v1/explorer/events?kind=task&limit=100`);
  const { items } = (await answer.json()) as { items: { name: string; parties: Record<string, string> }[] };
  const provider = items.find((one) => one.name === 'TaskSettled')?.parties['provider'];
  return account(12).address === provider ? 12 : 10;
}

/** What the copied command prints on a machine of its own, without serving there. */
function printedLine(command: string, home: string): string {
  mkdirSync(home, { recursive: true });
  const path = `${join(ROOT, '.venv', 'bin')}:${process.env['PATH'] ?? ''}`;
  const said = execFileSync('bash', ['-c', `${command} --only-prepare`], {
    env: { ...process.env, HOME: home, PATH: path },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const found = /^tallystick-provider:\S+$/m.exec(said);
  if (found === null) throw new Error(`no line in: ${said}`);
  return found[0];
}
test('every screen of a publisher', async ({ page, market, wallets }) => {
  test.setTimeout(600_000);
  const take = camera(page);
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '50');
  await page.goto('/apps/new');
  await take('40-deploy-empty');
  await page.getByRole('radio', { name: 'a model on a GPU' }).check();
  await expect(page.getByText(/Renting never costs less|renting costs less/)).toBeVisible();
  await take('41-deploy-gpu');
  await page.getByRole('radio', { name: 'a greeting' }).check();
  await page.getByLabel('Discount').fill('20');
  await logIn(page);
  await expect(page.getByText('this publishes version 1', { exact: false })).toBeVisible();
  await take('42-deploy-ready');
  await page.getByRole('button', { name: 'Publish the app' }).click();
  await expect(page).toHaveURL(/\/apps\/0x/);
  await page.getByLabel('name', { exact: true }).fill('Grace');
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByRole('heading', { name: 'Allow calls to be paid' })).toBeHidden();
  await page.getByRole('button', { name: 'Call it', exact: true }).click();
  await expect(page.locator('[data-answer]')).toBeVisible();
  await page.getByRole('link', { name: 'Change the app' }).first().click();
  await page.getByLabel('Most workers').fill('8');
  await take('43-deploy-change');
  await page.getByRole('button', { name: 'Publish version 2' }).click();
  await expect(page).toHaveURL(/\/apps\/0x[0-9a-f]{64}$/);
  await expect(page.getByRole('region', { name: 'Versions' }).getByRole('row')).toHaveCount(3);
  await page.waitForTimeout(1_000);
  await take('44-app-owner');
  await page.getByRole('banner').scrollIntoViewIfNeeded();
  await page.getByRole('radio', { name: '中文' }).click();
  await page.waitForTimeout(500);
  await take('45-app-owner-zh');
  await page.goto('/apps/new');
  await page.waitForTimeout(1_000);
  await take('46-deploy-zh');
});
