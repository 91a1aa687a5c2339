"""When vouchers go to the chain: enough is owed, a close was requested, or nothing more comes.

A voucher is a running total, so redeeming it again, or an older one beside it, costs gas and
changes nothing; what is owed is read on chain before each batch. The transaction takes its turn in
the outbox of `settle.py`, which survives kill -9 at any line.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from tallystick.protocol.contracts import Call
from tallystick.protocol.serving import RedeemReason, ServingChannel
from tallystick.protocol.types import Digest
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.follow import ChainView

BATCH = 100
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

    async def next_call(self) -> Call | None:
        """One batch, the urgent ones first; None when nothing is due."""
        due = sorted(
            ((channel, why) for channel, end in self.channels.ends() if (why := self._due(end))),
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
        return self.chain.redemption(vouchers) if vouchers else None

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
