"""Holds the rows against the contracts, so that a unit too much is seen before it is paid out.

Each look reads one snapshot of the rows and asks the contracts at the very block of the cursor.
Sums that must agree are added up over all rows; what changed since the last look, what differed
before, and a few rows of each kind in turn are compared one by one. A difference counts when a
second look finds it again: it is logged as an error with both values, written into `books`, shown
by /readyz and in the metrics, and neither dispatcher nor gateway begin anything new until the rows
agree again. A node that lags behind, or is on another branch, decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import structlog

from tallystick.protocol import codec
from tallystick.protocol.codec import ContractName
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import MessageError
from tallystick.protocol.pricing import Price, discounted_price_up
from tallystick.protocol.types import ZERO_ADDRESS, Address
from tallystick_backend.chain import Chain, ChainError, RpcInconsistent, RpcReverted
from tallystick_backend.clock import Clock
from tallystick_backend.index import books
from tallystick_backend.index.books import Books, Difference, Round
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    BooksRow,
    ChannelRow,
    DelegationRow,
    EarnedRow,
    OperatorKeyRow,
    PoolRow,
    ProviderRow,
    TaskChainRow,
    TotalsRow,
)

NEXT_STEP: Final = (
    "Nothing new is leased or paid meanwhile. Stop the backend and run `tallystick-backend "
    "reindex`; if the rows differ again after that, report it with both values."
)
_ASKED_AT_ONCE: Final = 8
_PATIENCE_S: Final = 120
"""A node may refuse for so long before anybody hears of it."""
_TOLD: Final = 10
"""Differences in a log line and in the row."""
_STATUS: Final = {"open": 1, "proven": 2, "disputed": 3}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    every_blocks: int = 20
    every_s: float = 30
    """While the chain moves."""
    poll_s: float = 1
    again_s: float = 2
    """Before a difference is looked for a second time."""
    rows_of_a_kind: int = 25
    """Compared in turn, besides those that changed."""


@dataclass(slots=True)
class _Last:
    block_number: int = -1
    block_hash: str = ""
    at_ms: int = 0
    suspects: tuple[str, ...] = field(default_factory=tuple)


class Reconciler:
    """One supervised part. The one writer of `books`."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        deployment: Deployment,
        clock: Clock,
        settings: ReconcileSettings | None = None,
    ) -> None:
        self._database = database
        self._chain = chain
        self._deployment = deployment
        self._clock = clock
        self._settings = settings or ReconcileSettings()
        self._round = Round(self._settings.rows_of_a_kind)
        self._last = _Last()
        self._failing_since_ms: int | None = None

    @property
    def condition(self) -> str:
        """ "ok", or for how long nothing could be compared."""
        if self._failing_since_ms is None:
            return "ok"
        failing_s = (self._clock.now_ms() - self._failing_since_ms) // 1000
        if failing_s < _PATIENCE_S:
            return "ok"
        return f"the rows could not be held against the contracts for {failing_s} s"

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self.is_due():
                    await self.look()
                    self._failing_since_ms = None
            except ChainError as error:
                if self._failing_since_ms is None:
                    self._failing_since_ms = self._clock.now_ms()
                _log.info("books_not_compared", why=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._settings.poll_s)

    async def is_due(self) -> bool:
        async with self._database.read() as session:
            cursor = await rows.cursor(session)
            known = await rows.books(session)
        if cursor is None:
            return False
        last, now_ms = self._last, self._clock.now_ms()
        waited_s = (now_ms - last.at_ms) / 1000
        if last.block_number < 0 or cursor.block_number - last.block_number >= (
            self._settings.every_blocks
        ):
            return True
        moved = cursor.block_hash != last.block_hash
        differs = known is not None and known.differences is not None
        return waited_s >= self._settings.every_s and (moved or differs)

    async def look(self) -> tuple[Difference, ...] | None:
        """What differs, seen twice; None when nothing could be said. Raises `ChainError`."""
        first = await self._differences()
        if first is None:
            return None
        found: Sequence[Difference] = first[1]
        at = first[0]
        if found:
            await asyncio.sleep(self._settings.again_s)
            again = await self._differences(also=[one.entity for one in found])
            if again is None:
                return None
            at, seen = again
            # The chain may have moved meanwhile: what differs then is told by its name.
            named = {(one.entity, one.what) for one in found}
            found = [one for one in seen if (one.entity, one.what) in named]
        await self._tell(at, tuple(found))
        return tuple(found)

    async def _differences(self, also: Iterable[str] = ()) -> tuple[_Last, list[Difference]] | None:
        async with self._database.read() as session:
            known = await rows.books(session)
            suspects = [one["entity"] for one in (known and known.differences) or ()]
            read = await books.read(
                session,
                self._round,
                changed_since=self._last.block_number if self._last.block_number >= 0 else 2**62,
                suspects=[*suspects, *also],
            )
        if read is None:
            return None
        cursor = read.cursor
        await self._require_block(cursor.block_number, cursor.block_hash)
        found = [*read.differences, *await self._held_against(read)]
        # Once more: what was asked between was answered by this branch.
        await self._require_block(cursor.block_number, cursor.block_hash)
        return _Last(cursor.block_number, cursor.block_hash, self._clock.now_ms()), found

    async def _require_block(self, number: int, block_hash: str) -> None:
        header = await self._chain.header(number)
        if header is None or header.hash != block_hash:
            raise RpcInconsistent(
                f"the node does not have block {number} as it was indexed: it lags behind, or is "
                "on another branch"
            )

    async def _tell(self, at: _Last, found: tuple[Difference, ...]) -> None:
        self._last = at
        async with self._database.transaction() as session:
            row = await rows.books(session)
            before = None if row is None else row.differences
            now = [
                {"entity": one.entity, "what": one.what, "here": one.here, "there": one.there}
                for one in found[:_TOLD]
            ] or None
            row = row or BooksRow(id=1, block_number=0, at_ms=0)
            row.block_number, row.at_ms = at.block_number, at.at_ms
            row.differences = now
            session.add(row)
        if found:
            _log.error(
                "books_differ",
                block=at.block_number,
                differences=[str(one) for one in found[:_TOLD]],
                more=max(0, len(found) - _TOLD),
                next_step=NEXT_STEP,
            )
        elif before is not None:
            _log.warning("books_agree_again", block=at.block_number)

    # --- against the contracts ----------------------------------------------------------------

    async def _held_against(self, read: Books) -> list[Difference]:
        gate = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def one(key: str, row: rows.EntityRow) -> list[Difference]:
            async with gate:
                return await self._entity(key, row, read)

        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(one(key, row)) for key, row in read.entities.items()]
                balances = group.create_task(self._balances(read))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [difference for task in asked for difference in task.result()] + balances.result()

    async def _balances(self, read: Books) -> list[Difference]:
        """Anyone may send tokens to a contract, so they may have more; never less."""
        deployment, number = self._deployment, read.cursor.block_number
        staked = read.totals.staked + read.unbonding + read.totals.delegated + read.undelegating
        found = []
        for name, token, holder, least in (
            ("escrowed", deployment.token, deployment.escrow, read.totals.escrowed),
            ("staked and delegated", deployment.staking_token, deployment.staking, staked),
        ):
            (has,) = await self._ask("TallyToken", token, "balanceOf", holder, number=number)
            if has < least:
                what = f"{name}, against the contract's tokens,"
                found.append(Difference("totals:market", what, str(least), f"at most {has}"))
        return found

    async def _entity(self, key: str, row: rows.EntityRow, read: Books) -> list[Difference]:
        """One row, by what its contract says."""
        try:
            expected = await self._contract_says(row, read)
        except RpcReverted:
            return [Difference(key, "row", "present", "absent: the contract knows no such thing")]
        return [
            Difference(key, name, str(here), str(there))
            for name, (here, there) in expected.items()
            if here != there
        ]

    async def _contract_says(
        self, row: rows.EntityRow, read: Books
    ) -> dict[str, tuple[object, object]]:
        """By name: what the row says, what the contract says."""
        where, number = self._deployment, read.cursor.block_number

        async def escrow(function: str, *values: Any) -> tuple[Any, ...]:
            return await self._ask("ComputeEscrow", where.escrow, function, *values, number=number)

        async def staking(function: str, *values: Any) -> tuple[Any, ...]:
            return await self._ask(
                "ProviderStaking", where.staking, function, *values, number=number
            )

        async def registry(function: str, *values: Any) -> tuple[Any, ...]:
            return await self._ask("AppRegistry", where.registry, function, *values, number=number)

        match row:
            case AccountRow():
                available, locked = await escrow("accountOf", row.address)
                credit, _ = await escrow("payeeOf", row.address)
                return {
                    "available": (row.available, available),
                    "locked": (row.locked, locked),
                    "credit": (row.credit, credit),
                }
            case ChannelRow():
                deposited, claimed, close_at = await escrow("channelOf", row.channel_id)
                return {
                    "deposited": (row.deposited, deposited),
                    "claimed": (row.claimed, claimed),
                    "close_at": (row.close_at_s or 0, close_at),
                }
            case ProviderRow():
                stake, unbonding = await staking("stakeOf", row.address)
                (gpus,) = await staking("gpusOf", row.address)
                seats, _ = await staking("seatsOf", row.address)
                (jailed_until,) = await staking("jailedUntil", row.address)
                return {
                    "stake": (row.stake, stake),
                    "unbonding": (row.unbonding, unbonding),
                    "gpus": (row.gpus_registered, gpus),
                    "seats": (row.seats, seats),
                    "jailed_until": (row.jailed_until_s or 0, jailed_until),
                }
            case PoolRow():
                delegated, _, generation, undelegating = await staking("poolOf", row.provider)
                _, next_bps, effective_at = await staking("commissionOf", row.provider)
                return {
                    "delegated": (row.delegated, delegated),
                    "undelegating": (row.undelegating, undelegating),
                    "generation": (row.generation, generation),
                    "commission_bps": (row.commission_bps, next_bps),
                    "commission_at": (row.commission_at_s, effective_at),
                }
            case DelegationRow():
                shares, _ = await staking("delegationOf", row.provider, row.delegator)
                pool = read.pools.get(row.provider)
                is_void = pool is None or pool.generation != row.generation
                return {"shares": (0 if is_void else row.shares, shares)}
            case OperatorKeyRow():
                provider, retired_at = await staking("operatorKey", row.key)
                return {
                    "provider": (row.provider, provider.lower()),
                    "retired_at": (row.retired_at_s or 0, retired_at),
                }
            case TaskChainRow():
                status, time_s = await self._ask(
                    "TaskMarket", where.market, "taskOf", row.task_id, number=number
                )
                said: dict[str, tuple[object, object]] = {
                    "state": (_STATUS.get(row.state, 0), status)
                }
                if row.state == "open":
                    said["cancelled_at"] = (row.cancelled_at_s or 0, time_s)
                if row.state == "proven":
                    said["unlock"] = (row.unlock_s, time_s)
                return said
            case AppRow():
                (app,) = await registry("appOf", row.app_id)
                publisher, versions, retired_at, royalty_to, royalty_bps, _, permanent = app
                return {
                    "publisher": (row.publisher, publisher.lower()),
                    "versions": (row.versions, versions),
                    "retired_at": (row.retired_at_s or 0, retired_at),
                    "royalty_to": (row.royalty_to, royalty_to.lower()),
                    "royalty_bps": (row.royalty_bps, royalty_bps),
                    "permanent": (row.permanent, permanent),
                }
            case AppVersionRow():
                image, manifest, published_at = await registry("versionOf", row.app_id, row.version)
                return {
                    "image_digest": (row.image_digest, image.lower()),
                    "manifest_digest": (row.manifest_digest, manifest.lower()),
                    "published_at": (row.published_at_s, published_at),
                }
            case AppPriceRow():
                try:
                    (price,) = await registry("priceAt", row.app_id, row.version, row.from_s)
                except RpcReverted:
                    (app,) = await registry("appOf", row.app_id)
                    retired_at = app[2]
                    if 0 < retired_at <= row.from_s:
                        return {}  # from its retirement on an app has no price
                    raise
                (bps,) = await registry("discountAt", row.app_id, row.from_s)
                here = Price(row.flat, row.fee_per_call, row.rate_per_gpu_second)
                return {"price": (discounted_price_up(here, bps), Price(*price))}
            case AppDiscountRow() | EarnedRow() | TotalsRow():
                return {}  # sums tell of these, or nothing does
            case _:
                assert_never(row)

    async def _ask(
        self, contract: ContractName, address: Address, function: str, *values: Any, number: int
    ) -> tuple[Any, ...]:
        if address == ZERO_ADDRESS:
            raise RpcInconsistent(f"the deployment has no {contract}")
        data = await self._chain.call(
            address, codec.encode_call(contract, function, *values), number
        )
        try:
            return codec.decode_answer(contract, function, data)
        except MessageError as error:
            raise RpcInconsistent(f"{contract}.{function} was answered oddly: {error}") from error
