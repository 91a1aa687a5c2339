// A stranger becomes a provider with what the screen says, earns, and leaves; another one delegates and leaves.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT, startOwn, stopOwn, type Market } from './market';
import { connect, expect, expectAccessible, giveTokens, logIn, test as base } from './people';
import type { Wallets } from './wallets';

/** The unbonding time is waited for by moving the chain's clock: that market is good for nothing else then. */
let own: Market | null = null;
const agents: ChildProcess[] = [];

const test = base.extend({
  // eslint-disable-next-line no-empty-pattern -- Playwright reads the names out of the braces
  market: async ({}, use) => {
    own ??= startOwn('provide-market');
    await use(own);
  },
});

// A market comes up within the first test's time.
test.describe.configure({ mode: 'serial', timeout: 600_000 });

test.afterAll(async () => {
  for (const agent of agents) await ended(agent);
  if (own !== null) stopOwn(own);
});

const BIN = join(ROOT, '.venv', 'bin');
const UNBONDING_SECONDS = 21 * 86_400;

/** Runs the command in a shell, as a person would who copied it; resolves with the line that it prints. */
async function runCopied(command: string, home: string): Promise<{ agent: ChildProcess; line: string }> {
  mkdirSync(home, { recursive: true });
  const env = { ...process.env, HOME: home, PATH: `${BIN}:${process.env['PATH'] ?? ''}` };
  const agent = spawn('bash', ['-c', `exec ${command}`], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  agents.push(agent);
  let said = '';
  const line = await new Promise<string>((resolve, reject) => {
    const hear = (piece: Buffer) => {
      said += piece.toString();
      const found = /^tallystick-provider:\S+$/m.exec(said);
      if (found !== null) resolve(found[0]);
    };
    agent.stdout.on('data', hear);
    agent.stderr.on('data', hear);
    agent.on('exit', () => reject(new Error(`the agent ended: ${said}`)));
  });
  return { agent, line };
}

/** A page asks every few seconds, and a slow machine later still: the task works until it was seen at work. */
function workUntil(file: string): string {
  return `import os, time
for n in range(360):
    print("line", n, flush=True)
    time.sleep(0.5)
    if os.path.exists(${JSON.stringify(file)}):
        break
`;
}

async function ended(agent: ChildProcess): Promise<void> {
  if (agent.exitCode !== null || agent.signalCode !== null) return;
  const over = new Promise((resolve) => agent.once('exit', resolve));
  agent.kill('SIGTERM');
  await over;
}

async function pass(wallets: Wallets, seconds: number): Promise<void> {
  await wallets.rpc('evm_increaseTime', [seconds]);
  await wallets.rpc('evm_mine');
}

test('stake, serve, earn, unstake', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 300n);
  await page.goto('/provider');
  await expect(page).toHaveURL('/provide');
  await connect(page);
  await page.getByLabel('GPU class').fill('gpu2');
  await page.getByLabel('Your lowest price per GPU-hour').fill('0.25');
  await page.getByRole('radio', { name: 'Simulated, to try it' }).check({ force: true });
  await page.getByRole('radio', { name: 'Plain processes' }).check({ force: true });
  await expectAccessible(page);
  const command = await page.locator('[data-command]').innerText();
  expect(command).toContain(`--provider ${wallets.address()}`);

  const { agent, line } = await runCopied(command, join(market.directory, 'newcomer'));
  await page.getByLabel('The line').fill(line.slice(0, -9));
  await expect(page.getByText('This is not the whole line.', { exact: false })).toBeVisible();
  await page.getByLabel('The line').fill(line);
  await expect(page.getByText('its consent is valid')).toBeVisible();
  const register = page.locator('section', {
    has: page.getByRole('heading', { name: '3. Stake and register' }),
  });
  await register.getByRole('button', { name: 'Stake and register' }).click();
  await expect(register.getByText('Registered (1 × card)', { exact: false })).toBeVisible();
  await register.getByRole('button', { name: /^Send 0.05 ETH/ }).click();
  await expect(register.locator('[data-stage=mined]').last()).toContainText('Send 0.05 ETH');
  expect(wallets.asked.map((one) => one.method)).toEqual([
    'eth_requestAccounts',
    'eth_signTypedData_v4',
    ...Array.from({ length: 4 }, () => 'eth_sendTransaction'),
  ]);

  await logIn(page);
  for (const name of ['key bound', 'stake', 'GPUs registered', 'gas', 'backend']) {
    await expect(page.locator(`[data-finding="${name}"]`)).toHaveAttribute('data-ok', 'true');
  }
  await expectAccessible(page);
  const tabs = page.getByRole('navigation', { name: 'Pages for providers' });
  await tabs.getByRole('link', { name: 'GPUs' }).click();
  await expect(page.getByText('online', { exact: true })).toBeVisible();
  await expect(page.getByRole('region', { name: 'Cards' }).getByRole('row')).toHaveCount(2);
  await expectAccessible(page);

  await tabs.getByRole('link', { name: 'Tasks' }).click();
  await expect(page.getByRole('heading', { name: 'Nothing is running' })).toBeVisible();
  const script = join(market.directory, 'work.py');
  const seen = join(market.directory, 'seen-running');
  writeFileSync(script, workUntil(seen));
  const ordered = promisify(execFile)(
    join(BIN, 'tallystick'),
    [
      'submit',
      script,
      '--gpu',
      'gpu2',
      '--count',
      '1',
      '--time',
      '5m',
      '--auto-deposit',
      '--to',
      join(market.directory, 'result'),
    ],
    { env: { ...process.env, ...market.consumer } },
  );
  const inHand = page.getByRole('region', { name: 'In hand' });
  await expect(inHand).toContainText('running', { timeout: 120_000 });
  await expectAccessible(page);
  writeFileSync(seen, '');
  await ordered;
  const done = page.getByRole('region', { name: 'Done' });
  await expect(done.getByText('paid', { exact: true })).toBeVisible({ timeout: 120_000 });
  await expect(done.getByRole('row').last().getByRole('link')).toHaveAttribute('href', /\/explorer\/tx\/0x/);
  await expectAccessible(page);

  await tabs.getByRole('link', { name: 'Earnings' }).click();
  const pay = page.locator('.figure', { hasText: 'Task pay' }).locator('[data-units]');
  await expect(pay).not.toHaveAttribute('data-units', '0');
  const pending = page.locator('section', { has: page.getByRole('heading', { name: 'Pending' }) });
  await expect(pending.getByText('≈')).toBeVisible();
  await expectAccessible(page);
  await pending.getByRole('button', { name: 'Withdraw the credit' }).click();
  await expect(pending.locator('[data-stage=mined]')).toContainText('Pay out what');
  await expect(page.getByRole('region', { name: 'Lately' })).toContainText('Provider paid out');

  await ended(agent);
  await tabs.getByRole('link', { name: 'Stake' }).click();
  await page.getByRole('button', { name: 'Take the cards back' }).click();
  const leave = page.locator('section', { has: page.getByRole('heading', { name: 'Ask for it back' }) });
  await expect(leave.getByText('100 TALLY back nothing')).toBeVisible();
  await leave.getByRole('button', { name: 'All of it' }).click();
  await leave.getByRole('button', { name: 'Ask for the stake back' }).click();
  await expect(leave.locator('[data-stage=mined]').last()).toContainText('Ask for 100 TALLY');
  const leaving = page.getByRole('region', { name: 'Stake on its way out' });
  await expect(leaving).toContainText(/in (20|21)d/);
  await expectAccessible(page);
  await pass(wallets, UNBONDING_SECONDS);
  await leaving.getByRole('button', { name: 'Withdraw' }).click();
  await expect(page.getByRole('heading', { name: 'Nothing is on its way out' })).toBeVisible();
  const wallet = page.locator('.figure', { hasText: 'In the wallet' }).locator('[data-units]');
  await expect(wallet).toHaveAttribute('data-units', /^300\d{18}$/);
});

test('delegate, undelegate', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 60n);
  await page.goto('/delegate');
  await connect(page);
  const providers = page.getByRole('region', { name: 'Providers' });
  await providers.getByRole('row').nth(1).getByRole('button', { name: 'Choose' }).click();
  await expectAccessible(page);
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Delegate', exact: true }) });
  await form.getByLabel('Amount').fill('0.01');
  await expect(form.getByText('A delegation is 1 TALLY at least.')).toBeVisible();
  await form.getByLabel('Amount').fill('50');
  await form.getByRole('button', { name: 'Delegate' }).click();
  await expect(form.locator('[data-stage=mined]')).toContainText('Delegate 50 TALLY');
  const position = page.getByRole('region', { name: /^Behind 0x/ });
  await expect(position.locator(`[data-units="50${'0'.repeat(18)}"]`)).toBeVisible();
  await expectAccessible(page);
  await position.getByLabel('Take back').fill('20');
  await position.getByRole('button', { name: 'Take it back' }).click();
  await expect(position.locator(`[data-units="30${'0'.repeat(18)}"]`)).toBeVisible();
  await position.getByRole('button', { name: 'All of it' }).click();
  await position.getByRole('button', { name: 'Take it back' }).click();
  await expect(page.getByRole('heading', { name: 'You stand behind nobody yet' })).toBeVisible();
  const leaving = page.getByRole('region', { name: 'Delegations on their way out' });
  await expect(leaving.getByRole('row')).toHaveCount(3);
  await pass(wallets, UNBONDING_SECONDS);
  await leaving.getByRole('button', { name: 'Withdraw' }).first().click();
  await expect(leaving.getByRole('row')).toHaveCount(2);
  await leaving.getByRole('button', { name: 'Withdraw' }).first().click();
  await expect(page.getByRole('heading', { name: 'Nothing is on its way out' })).toBeVisible();
  await expect(form.getByText('60 TALLY in the wallet')).toBeVisible();
});
