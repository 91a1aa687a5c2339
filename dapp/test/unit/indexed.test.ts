// What a transaction changed is asked for again once the index has its block, not before.

import { afterEach, expect, it, vi } from 'vitest';
import { client } from '~/lib/api';
import { untilIndexed } from '~/lib/chain/indexed';

afterEach(() => vi.restoreAllMocks());

function heads(...blocks: (number | Error)[]) {
  return vi.spyOn(client, 'GET').mockImplementation((() => {
    const next = blocks.length > 1 ? blocks.shift() : blocks[0];
    if (next instanceof Error) return Promise.reject(next);
    return Promise.resolve({ data: { items: [], next_cursor: null, block: next }, response: new Response() });
  }) as never);
}

it('asks until the index has come so far', async () => {
  const asked = heads(6, 6, 7);
  await untilIndexed(7n, 0);
  expect(asked).toHaveBeenCalledTimes(3);
});

it('waits for no backend that is away', async () => {
  const asked = heads(new TypeError('fetch failed'));
  await untilIndexed(7n, 0);
  expect(asked).toHaveBeenCalledTimes(1);
});

it('gives up on an index that stands still', async () => {
  const asked = heads(3);
  await untilIndexed(7n, 0);
  expect(asked).toHaveBeenCalledTimes(40);
});
