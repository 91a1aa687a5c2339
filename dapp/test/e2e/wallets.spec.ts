// Two wallets in one browser (EIP-6963): each is offered by its name, none takes the other's place.
// Case 139.

import { connect, expect, expectAccessible, test } from './people';

test('both wallets are offered, and the chosen one is the one that is asked', async ({ page, wallets }) => {
  await page.goto('/');
  await page.getByRole('banner').getByRole('button', { name: 'Connect wallet' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('listitem')).toHaveCount(2);
  await expectAccessible(page);
  await dialog.getByRole('button', { name: 'Alder Wallet' }).click();
  const alder = wallets.address('test.alder');
  await expect(page.getByRole('banner')).toContainText(alder.slice(0, 6));
  expect(wallets.asked.map((one) => one.wallet)).toEqual(['test.alder']);

  await page.reload();
  await expect(page.getByRole('banner'), 'the same wallet, without a question').toContainText(
    alder.slice(0, 6),
  );
  expect(wallets.asked).toHaveLength(1);

  await wallets.switchAccount(37, 'test.hazel');
  await expect(page.getByRole('banner'), 'what the other wallet does is no news').toContainText(
    alder.slice(0, 6),
  );
  await page
    .getByRole('banner')
    .getByRole('button', { name: alder.slice(0, 6) })
    .click();
  await dialog.getByRole('button', { name: 'Disconnect' }).click();
  await connect(page, 'Hazel Wallet');
  await expect(page.getByRole('banner')).toContainText(wallets.address('test.hazel').slice(0, 6));
});

test('a connection that is declined can be tried with the other wallet', async ({ page, wallets }) => {
  await page.goto('/');
  await page.getByRole('banner').getByRole('button', { name: 'Connect wallet' }).click();
  const dialog = page.getByRole('dialog');
  wallets.rejectNext();
  await dialog.getByRole('button', { name: 'Hazel Wallet' }).click();
  await expect(dialog.getByRole('alert')).toContainText('You declined in the wallet');
  await dialog.getByRole('button', { name: 'Alder Wallet' }).click();
  await expect(dialog).toBeHidden();
});
