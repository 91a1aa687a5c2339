"""What the chain says of channels and apps, read on the provider's own node.

Money counts only so many blocks deep (`confirmations`); what speaks against a channel, a close or a
redemption, counts in the newest block. `changes` tells what to read again: subscriptions come and
go, questions for logs are the truth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from web3 import AsyncWeb3
from web3.exceptions import Web3RPCError

from tallystick.protocol import codec
from tallystick.protocol.apps import AppHistory, history
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.contracts import Call, Escrow
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import QuoteError
from tallystick.protocol.events import (
    AppEvent,
    RawLog,
    decode_app_log,
    raw_log,
)
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.types import Address, AppId, Digest
from tallystick_provider.errors import AppRefused
from tallystick_provider.ledger import LOG_RANGE_BLOCKS, node_trouble

OVERLAP_BLOCKS: Final = 16
"""Read again each time: a reorganisation may have put others in their place."""
CHANNEL_EVENTS: Final = frozenset(
    (
        "ChannelDeposited",
        "ChannelFunded",
        "CloseRequested",
        "CloseCancelled",
        "ChannelClosed",
        "ChannelReleased",
        "VoucherRedeemed",
    )
)


@dataclass(frozen=True, slots=True)
class Changes:
    channels: frozenset[Digest] = frozenset()
    apps: frozenset[AppId] = frozenset()


@dataclass(slots=True)
class ChainView:
    web3: AsyncWeb3[Any]
    deployment: Deployment
    provider: Address
    confirmations: int
    _seen_to: int = -1
    _seen: dict[tuple[Digest, int], int] = field(default_factory=dict)
    """Logs told already, and their blocks."""
    _unripe: dict[Digest, int] = field(default_factory=dict)
    """Channels whose newest event is not deep enough yet."""

    async def head(self) -> tuple[int, int]:
        """Number and time of the newest block."""
        with node_trouble():
            head: Any = await self.web3.eth.get_block("latest")
            return int(head["number"]), int(head["timestamp"])

    async def channel(self, channel: Channel) -> ChannelState:
        escrow = Escrow(self.web3, self.deployment.escrow)
        with node_trouble():
            newest = await escrow.channel(channel)
            if not self.confirmations:
                return newest
            head, _ = await self.head()
            deep = max(self.deployment.block, head - self.confirmations)
            settled = await escrow.channel(channel, block=deep)
        return ChannelState(
            min(newest.deposited, settled.deposited),
            newest.claimed,
            newest.close_at or settled.close_at,
        )

    async def funded_at_s(self, channel: Channel) -> int | None:
        """Block time of its first deposit; None if none is found. All of the past is looked at: a
        channel that was closed unused and funded again had a life before."""
        wanted = [topic for topic, name in _topics("ComputeEscrow") if name in _FUNDING]
        first: RawLog | None = None
        async for log in self._logs_backwards(
            self.deployment.escrow, [wanted, channel_id(channel)]
        ):
            first = log
        return None if first is None else await self._time_of(first.block_number)

    async def app(self, app_id: AppId) -> AppHistory:
        """Raises AppRefused when nothing is published under that id."""
        found: list[RawLog] = []
        names = dict(_topics("AppRegistry"))
        async for log in self._logs_backwards(self.deployment.registry, [list(names), app_id]):
            found.append(log)
            if names[Digest(log.topics[0])] == "AppPublished":
                break
        events: list[AppEvent] = []
        for log in reversed(found):
            event = decode_app_log(log, self.deployment, await self._time_of(log.block_number))
            if event is not None:
                events.append(event)
        try:
            return history(events)
        except QuoteError:
            raise AppRefused(
                f"no app {app_id} is in the registry {self.deployment.registry}"
            ) from None

    async def changes(self) -> Changes:
        """Since the last time it was asked; nothing the first time."""
        head, _ = await self.head()
        if self._seen_to < 0:
            self._seen_to = head
        first = max(self.deployment.block, min(self._seen_to, head) - OVERLAP_BLOCKS)
        channels, apps = set[Digest](), set[AppId]()
        escrow = [topic for topic, name in _topics("ComputeEscrow") if name in CHANNEL_EVENTS]
        for log in await self._logs(self.deployment.escrow, [escrow], first, head):
            channel = Digest(log.topics[1])
            if self._is_new(log):
                channels.add(channel)
                self._unripe[channel] = max(log.block_number, self._unripe.get(channel, 0))
        registry = [topic for topic, _ in _topics("AppRegistry")]
        for log in await self._logs(self.deployment.registry, [registry], first, head):
            if self._is_new(log):
                apps.add(AppId(Digest(log.topics[1])))
        for channel, block in list(self._unripe.items()):
            if block <= head - self.confirmations:
                del self._unripe[channel]
                channels.add(channel)
        self._seen = {key: block for key, block in self._seen.items() if block >= first}
        self._seen_to = head
        return Changes(frozenset(channels), frozenset(apps))

    def redemption(self, vouchers: Sequence[SignedVoucher]) -> Call:
        return Escrow(self.web3, self.deployment.escrow).redeem(self.provider, vouchers)

    # --- logs -------------------------------------------------------------------------------

    def _is_new(self, log: RawLog) -> bool:
        key = (Digest(log.block_hash), log.log_index)
        known = key in self._seen
        self._seen[key] = log.block_number
        return not known

    async def _logs(
        self, address: Address, topics: list[Any], first: int, last: int
    ) -> list[RawLog]:
        found: list[RawLog] = []
        with node_trouble():
            for lower in range(first, last + 1, LOG_RANGE_BLOCKS):
                upper = min(lower + LOG_RANGE_BLOCKS - 1, last)
                question: Any = {
                    "address": address,
                    "topics": topics,
                    "fromBlock": lower,
                    "toBlock": upper,
                }
                found += map(raw_log, await self.web3.eth.get_logs(question))
        return found

    async def _logs_backwards(self, address: Address, topics: list[Any]) -> AsyncIterator[RawLog]:
        """Newest first, in ranges that grow as long as the node answers them."""
        upper, _ = await self.head()
        size = LOG_RANGE_BLOCKS
        while upper >= self.deployment.block:
            lower = max(self.deployment.block, upper - size + 1)
            question: Any = {
                "address": address,
                "topics": topics,
                "fromBlock": lower,
                "toBlock": upper,
            }
            with node_trouble():
                try:
                    answer = await self.web3.eth.get_logs(question)
                except Web3RPCError:
                    if size <= 1:
                        raise
                    size = max(1, size // 4)
                    continue
            for log in reversed(list(map(raw_log, answer))):
                yield log
            upper, size = lower - 1, min(size * 2, LOG_RANGE_BLOCKS * 64)

    async def _time_of(self, block: int) -> int:
        with node_trouble():
            found: Any = await self.web3.eth.get_block(block)
            return int(found["timestamp"])


_FUNDING: Final = frozenset(("ChannelDeposited", "ChannelFunded"))


def _topics(contract: Any) -> Iterable[tuple[Digest, str]]:
    return [(topic, event.name) for topic, event in codec.events(contract).items()]
