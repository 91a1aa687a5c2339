// A block reaches this page over two ways: the wallet's node says that it is mined, the backend's index reads it a moment later.

import { ask, client } from '~/lib/api';

const LOOK_MS = 250;
const MOST_LOOKS = 40;

/** Until the backend's index has the block, so that what is asked for next is of it. Ten seconds at most: an index that stands still has a notice of its own. */
export async function untilIndexed(block: bigint, look_ms = LOOK_MS): Promise<void> {
  for (let looks = 0; looks < MOST_LOOKS; looks++) {
    try {
      const query = { limit: 1 };
      const head = await ask(client.GET('/v1/explorer/events', { params: { query } }));
      if (BigInt(head.block) >= block) return;
    } catch {
      return; // away: the page says so, and asks for everything again when it is back
    }
    await new Promise((done) => setTimeout(done, look_ms));
  }
}
