// A visitor with two wallets, and what a visitor does over and over.

import { expect, test as base, type Page } from '@playwright/test';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { encodeFunctionData, type Address } from 'viem';
import { tallyTokenAbi } from '../../src/generated/abi';
import { market, type Market } from './market';
import { account, Wallets } from './wallets';

interface Fixtures {
  market: Market;
  wallets: Wallets;
}

/** Accounts that nobody used before, also on a market that was tested before. */
let next = 1_000 + Math.floor(Math.random() * 1_000_000) * 100;

export const test = base.extend<Fixtures>({
  // eslint-disable-next-line no-empty-pattern -- Playwright reads the names out of the braces
  market: async ({}, use) => use(market()),
  baseURL: async ({ market: found }, use) => use(found.url),
  wallets: async ({ page, market: found }, use) => {
    const problems: string[] = [];
    page.on('pageerror', (fault) => problems.push(fault.message));
    page.on('console', (line) => {
      if (line.text().includes('Content Security Policy')) problems.push(line.text());
    });
    const wallets = await Wallets.install(page, found.rpcUrl, next);
    next += 2;
    await use(wallets);
    expect(problems, 'no script fault, no breach of the policy').toEqual([]);
  },
});

export { expect };

/** Tokens out of the deployer's pocket, which the local chain filled. */
export async function giveTokens(found: Market, wallets: Wallets, tokens: bigint): Promise<void> {
  const config = (await (await fetch(`${found.url}/v1/config`)).json()) as { token: { address: string } };
  const data = encodeFunctionData({
    abi: tallyTokenAbi,
    functionName: 'transfer',
    args: [wallets.address() as Address, tokens * 10n ** 18n],
  });
  await wallets.rpc('eth_sendTransaction', [{ from: account(0).address, to: config.token.address, data }]);
}

export async function connect(page: Page, wallet = 'Hazel Wallet'): Promise<void> {
  await page.getByRole('banner').getByRole('button', { name: 'Connect wallet' }).click();
  await page.getByRole('dialog').getByRole('button', { name: wallet }).click();
  await expect(page.getByRole('dialog')).toBeHidden();
}

export async function logIn(page: Page): Promise<void> {
  await page.getByRole('main').getByRole('button', { name: 'Log in' }).click();
  await expect(page.getByRole('main').getByRole('button', { name: 'Log in' })).toBeHidden();
}

export async function deposit(page: Page, amount: string): Promise<void> {
  await page.getByRole('link', { name: 'Money' }).click();
  const form = page.locator('section', { has: page.getByRole('heading', { name: 'Deposit' }) });
  await form.getByLabel('Amount').fill(amount);
  await form.getByRole('button', { name: 'Deposit', exact: true }).click();
  await expect(form.locator('[data-stage=mined]')).toBeVisible();
}

/** Writes the script into the form and submits it; the wallet is asked next, then the task's page opens. */
export async function submit(page: Page, script: string): Promise<void> {
  await page.getByRole('link', { name: 'Home' }).click();
  await page.getByRole('main').getByRole('link', { name: 'New task' }).first().click();
  await page.getByLabel('Script', { exact: true }).last().fill(script);
  await page.getByLabel('Time limit').fill('5m');
  const button = page.getByRole('button', { name: 'Submit the task' });
  await expect(button).toBeEnabled();
  await button.click();
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** No finding that keeps anybody out. Evaluated, not added as a script: the policy forbids that. */
export async function expectAccessible(page: Page): Promise<void> {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: () => Promise<{ violations: Violation[] }> } };
    interface Violation {
      id: string;
      impact: string | null;
      nodes: { html: string; failureSummary?: string }[];
    }
    const { violations } = await axe.run();
    return violations
      .filter((one) => one.impact === 'serious' || one.impact === 'critical')
      .map(
        (one) =>
          `${one.id}: ${one.nodes.map((node) => `${node.html} ${node.failureSummary ?? ''}`).join(' | ')}`,
      );
  });
  expect(found).toEqual([]);
}

export { account };
