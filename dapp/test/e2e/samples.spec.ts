// The samples on an app's page are programs: each is taken from the page as it stands there, and run.

import { execFile } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './market';
import { connect, deposit, expect, giveTokens, logIn, test } from './people';

const run = promisify(execFile);

test('curl, Python and TypeScript call the app', async ({ page, market, wallets }) => {
  await giveTokens(market, wallets, 100n);
  await page.goto('/');
  await connect(page);
  await deposit(page, '20');
  await page.getByRole('navigation').getByRole('link', { name: 'Keys' }).click();
  await logIn(page);
  await page.getByRole('button', { name: 'Sign the permission' }).click();
  await expect(page.getByText('Granted', { exact: false })).toBeVisible();
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Make an API key' }) });
  await form.getByLabel('Name').fill('samples');
  await form.getByRole('button', { name: 'Make the key' }).click();
  const key = await form.locator('code').innerText();

  await page.getByRole('navigation').getByRole('link', { name: 'Apps' }).click();
  await page.getByRole('main').getByRole('link', { name: 'greet' }).click();
  const card = page.locator('section', {
    has: page.getByRole('heading', { name: 'Call it from a program' }),
  });
  const sample = async (language: string) => {
    await card.getByRole('radio', { name: language }).check();
    return card.locator('pre').innerText();
  };
  const folder = mkdtempSync(join(tmpdir(), 'samples-'));
  // A machine that knows nothing of this market: no contexts, no wallet.
  const env = { PATH: process.env['PATH'], HOME: folder, TALLYSTICK_KEY: key };

  const curl = await run('sh', ['-c', await sample('curl')], { env });
  expect(JSON.parse(curl.stdout)).toEqual({ greeting: 'Hello, Ada!' });

  const script = join(folder, 'sample.py');
  writeFileSync(script, await sample('Python'));
  const python = await run(join(ROOT, '.venv', 'bin', 'python'), [script], { env });
  expect(python.stdout).toContain("{'greeting': 'Hello, Ada!'} 0.001 TALLY");

  const module = join(folder, 'sample.mjs');
  writeFileSync(module, await sample('TypeScript'));
  const node = await run(process.execPath, [module], { env });
  expect(node.stdout).toContain("{ greeting: 'Hello, Ada!' } 1000000000000000");
});
