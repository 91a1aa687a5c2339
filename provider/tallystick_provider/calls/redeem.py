"""When vouchers go to the chain: enough is owed, a close was requested, or nothing more comes.

A voucher is a running total, so redeeming it again, or an older one beside it, costs gas and
changes nothing; what is owed is read on chain before each batch. While calls go on more is owed
every second: after a batch only what is urgent follows at once, the rest waits for `PAUSE_S` and
goes in one transaction. The transaction takes its turn in
the outbox of `settle.py`, which survives kill -9 at any line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tallystick.protocol.contracts import Call
from tallystick.protocol.serving import RedeemReason, ServingChannel
from tallystick.protocol.types import Digest
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.follow import ChainView

BATCH = 100
PAUSE_S = 10.0
URGENT: tuple[RedeemReason, ...] = ("closing", "abandoned")

log = structlog.get_logger()


@dataclass(slots=True)
class Redeemer:
    channels: Channels
    chain: ChainView
    threshold_k: int
    cost: int
    """Of one redemption, in the token's smallest unit."""
    share_bps: int
    seconds: Callable[[], float] = time.monotonic
    _rests_until_s: float = 0.0

    async def next_call(self) -> Call | None:
        """One batch, the urgent ones first; None when nothing is due."""
        now_s = self.seconds()
        resting = now_s < self._rests_until_s
        due = sorted(
            (
                (channel, why)
                for channel, end in self.channels.ends()
                if (why := self._due(end)) and (why in URGENT or not resting)
            ),
            key=lambda found: found[1] not in URGENT,
        )[:BATCH]
        for channel, _ in due:
            await self.channels.look_again(channel)
        vouchers = []
        for channel, _ in due:
            end = self.channels.end(channel)
            if (why := self._due(end)) and end.voucher is not None:
                vouchers.append(end.voucher)
                log.info("voucher_due", channel=channel, total=end.voucher.voucher.total, why=why)
        if not vouchers:
            return None
        if not resting and len(due) < BATCH:  # else there are more
            self._rests_until_s = now_s + PAUSE_S
        return self.chain.redemption(vouchers)

    def owed(self) -> dict[Digest, int]:
        """By channel, what its voucher would pay now."""
        return {
            channel: owed
            for channel, end in self.channels.ends()
            if end.voucher is not None and (owed := end.chain.due(end.voucher.voucher.total))
        }

    def _due(self, end: ServingChannel) -> RedeemReason | None:
        return end.redeem_due(
            threshold_k=self.threshold_k,
            redemption_cost=self.cost,
            deposit_share_bps=self.share_bps,
        )
