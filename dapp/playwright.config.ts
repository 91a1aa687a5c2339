import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';

// Debian's Chromium where it is installed; else the one that Playwright brings.
const system = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const given = process.env['CHROMIUM'] ?? system;

export default defineConfig({
  testDir: 'test/e2e',
  outputDir: '../build/dapp-e2e/results',
  globalSetup: './test/e2e/setup.ts',
  globalTeardown: './test/e2e/teardown.ts',
  workers: 1,
  // A limit, not a measure: a shared machine was seen to take three times as long as a quiet one.
  timeout: 300_000,
  expect: { timeout: 60_000 },
  forbidOnly: true,
  reporter: [['list']],
  use: {
    trace: 'retain-on-failure',
    launchOptions: {
      args: ['--no-sandbox'],
      ...(given === undefined ? {} : { executablePath: given }),
    },
  },
  projects: [
    { name: 'e2e', testMatch: '**/*.spec.ts', testIgnore: ['**/screenshots.spec.ts', '**/later.spec.ts'] },
    { name: 'later', testMatch: '**/later.spec.ts', dependencies: ['e2e'] },
    { name: 'screenshots', testMatch: '**/screenshots.spec.ts' },
  ],
});
