"""A provider's journal in a process of its own, which kills itself in the middle of its n-th step.

A step is the moment before a batch is written, after all of it was and before the commit, or after
that; the three take turns. With `every` so many batches one is a checkpoint.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tallystick.protocol import messages
from tallystick.protocol.call_journal import Served
from tallystick.protocol.messages import Receipt, channel_id
from tallystick.protocol.types import Digest
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.journal import CallJournal, Entry, KeptResult
from tallystick_provider.clock import ManualClock
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    LIMITS,
    NOW_MS,
    NOW_S,
    funded,
    run_of,
    sign_receipt,
)
from tests.protocol.test_serving import ask_of, voucher_for

CALLS = 40
ID = channel_id(CHANNEL)


class _Chain:
    async def channel(self, channel: object) -> object:
        return funded()

    async def funded_at_s(self, channel: object) -> int:
        return NOW_S


def digest_of_receipt(receipt: Receipt) -> Digest:
    return messages.digest(DOMAIN, receipt)


def main(path: str, said: str, fatal: int, every: int) -> None:
    steps = 0

    def reached() -> None:
        nonlocal steps
        steps += 1
        if steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    class Marked(CallJournal):
        def _commit(self, batch: Any) -> int:
            reached()
            size = super()._commit(batch)
            reached()
            return size

        def _put_results(self, entries: Sequence[Entry]) -> None:
            super()._put_results(entries)
            reached()

    journal = Marked(Path(path), NOW_S - 10, checkpoint_batches=every)
    asyncio.run(_serve(journal, Path(said)))


async def _serve(journal: CallJournal, said: Path) -> None:
    chain: object = _Chain()
    channels = Channels(DOMAIN, journal, chain, ManualClock(NOW_MS), credit_calls=1)  # type: ignore[arg-type]
    channels.load()
    await channels.of(CHANNEL)
    for number in range(1, CALLS):
        end = channels.end(ID)
        await channels.apply(
            ID, end.may_serve(ask_of(number, end.paid), LIMITS, APP, now_ms=NOW_MS)
        )
        done = channels.end(ID).serve(number, run_of(1), APP, sign_receipt)
        assert isinstance(done.reply, Served)
        kept = KeptResult(b"result", "application/json", 0, 0)
        await channels.apply(ID, done, (done.reply.receipt.seq, kept))
        with said.open("a") as file:  # sent: from here on there is no way back
            file.write(digest_of_receipt(done.reply.receipt) + "\n")
        end = channels.end(ID)
        await channels.apply(ID, end.accept_voucher(voucher_for(end)))
