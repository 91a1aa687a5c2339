"""Follows the chain: reads what is new, takes back what is gone, stops where it must not guess.

Blocks within `finality_blocks` of the head are stored with their hashes. When the block under the
cursor is no longer on the node's chain, the highest stored block that still is becomes the parent
of a new branch, read over the network first and written in one transaction with the way back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.events import decode_app_log, decode_log
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tallystick_backend.chain import Chain, ChainError, Header, Log, Page, RpcInconsistent
from tallystick_backend.clock import Clock
from tallystick_backend.index import record, start
from tallystick_backend.index.errors import IndexStopped, ReorgTooDeep, WrongChain
from tallystick_backend.index.project import Followed
from tallystick_backend.index.record import Branch
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database, is_conflict
from tallystick_backend.store.tables import BlockRow, CursorRow

_LONGEST_PAUSE_MS = 10_000
_PATIENCE_S = 20
"""A node may be unreachable or contradict itself for so long before anybody hears of it."""
_EVENTS_IN_A_TRANSACTION = 500

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    poll_ms: int = 500
    confirmations: int = 0
    """How many blocks must lie above one before it is indexed; 0: with the head."""
    finality_blocks: int = 64
    """A reorganisation deeper than this stops the index: payments may have followed from it."""


class Index:
    """The one writer of what the chain says."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        deployment: Deployment,
        clock: Clock,
        settings: IndexSettings | None = None,
        nudge: asyncio.Event | None = None,
        moved: asyncio.Event | None = None,
    ) -> None:
        """`nudge` is set by whoever expects a new block and ends the pause between two looks;
        `moved` is set here whenever rows changed."""
        self._database = database
        self._chain = chain
        self._deployment = deployment
        self._clock = clock
        self._settings = settings or IndexSettings()
        self._nudge = nudge or asyncio.Event()
        self._moved = moved or asyncio.Event()
        self._failing_since_ms: int | None = None

    @property
    def condition(self) -> str:
        """ "ok", or for how long the node gave nothing that could be used."""
        if self._failing_since_ms is None:
            return "ok"
        failing_s = (self._clock.now_ms() - self._failing_since_ms) // 1000
        if failing_s < _PATIENCE_S:
            return "ok"
        return f"no answer of the chain's node could be used for {failing_s} s"

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Troubles are waited out, or written into the cursor as `degraded` when only
        a person can judge them; `WrongChain` is raised, too, as another start may find it gone."""
        failures = 0
        checked = False
        while not stop.is_set():
            try:
                if not checked:
                    await self.check()
                    checked = True
                moved = await self.step()
                failures = 0
                self._failing_since_ms = None
            except WrongChain as error:
                # What is in the rows is of another chain than what the node tells.
                await self._degrade(error)
                raise
            except IndexStopped as error:
                await self._degrade(error)
                await stop.wait()
                return
            except ChainError as error:
                failures += 1
                moved = False
                if self._failing_since_ms is None:
                    self._failing_since_ms = self._clock.now_ms()
                _log.warning("rpc_failed", error=str(error), failures=failures)
            if not moved:
                pause_ms = self._settings.poll_ms * 2 ** min(failures, 10)
                await self._pause(stop, min(pause_ms, _LONGEST_PAUSE_MS))

    async def check(self) -> None:
        """Raises `WrongChain` unless node, deployment and database belong together."""
        genesis_hash = await start.check(self._database, self._chain, self._deployment)
        async with self._database.read() as session:
            if await rows.cursor(session) is not None:
                return
        first = await self._chain.header(max(self._deployment.block - 1, 0))
        if first is None:
            raise WrongChain(f"the node has no block {self._deployment.block} yet")
        # All that follows rests on this one: it is not taken from a single answer.
        after = await self._chain.header(first.number + 1)
        if await self._chain.header(first.number) != first or (
            after is not None and after.parent_hash != first.hash
        ):
            raise RpcInconsistent(f"the node tells of block {first.number} in two ways")
        async with self._database.transaction() as session:
            if await rows.cursor(session) is None:
                await record.begin(session, self._deployment, genesis_hash, first)

    async def step(self) -> bool:
        """Reads once what is new; True if the cursor moved."""
        try:
            return await self._step()
        except _CursorMovedError:
            return True
        except IntegrityError as error:
            _log.info("another_index_was_first", error=str(error.orig))
            return True
        except Exception as error:
            if is_conflict(error):
                return True
            raise

    async def catch_up(self) -> None:
        """Steps until nothing is new."""
        while await self.step():
            pass

    async def _step(self) -> bool:
        cursor = await self._cursor()
        head = await self._chain.head()
        target = head.number - self._settings.confirmations
        ancestor = await self._common_ancestor(cursor, head)
        if ancestor is not None:
            await self._change_branch(cursor, ancestor, min(target, cursor.block_number), head)
            return True
        if target <= cursor.block_number:
            await self._note_head(cursor, head)
            return False
        await self._advance(cursor, target, head)
        return True

    async def _advance(self, cursor: CursorRow, target: int, head: Header) -> None:
        first = cursor.block_number + 1
        final = head.number - self._settings.finality_blocks
        linked = first > final
        last = target if linked else min(target, final)
        parent = _header_of_cursor(cursor)
        async for page in self._chain.pages(first, last, linked=linked):
            _check_link(parent, page)
            events = await self._decode(page)
            for branch in _branches(parent, page, events):
                async with self._writing(branch.parent) as session:
                    await record.extend(
                        session,
                        branch,
                        head_number=head.number,
                        finality_blocks=self._settings.finality_blocks,
                        now_ms=self._clock.now_ms(),
                    )
                parent = branch.tip

    async def _common_ancestor(self, cursor: CursorRow, head: Header) -> Header | None:
        """The highest block both we and the node have; None when that is the cursor's own, or when
        the node merely lags behind on the same branch."""
        at = min(cursor.block_number, head.number)
        if at == cursor.block_number and await self._hash_at(at, head) == cursor.block_hash:
            return None
        async with self._database.read() as session:
            stored = await rows.blocks_down_from(session, at)
        if not stored:
            # It may be on our branch or not: that shows when it has caught up.
            raise RpcInconsistent(
                f"the node's newest block is {head.number}; it told of {cursor.block_number} before"
            )

        async def is_common(block: BlockRow) -> bool:
            return await self._hash_at(block.number, head) == block.hash

        if await is_common(stored[0]):
            return None if head.number < cursor.block_number else _header_of_row(stored[0])
        # Below a block that both have, they have all; a question for each would rarely get through.
        low, high = 1, len(stored)
        while low < high:
            middle = (low + high) // 2
            if await is_common(stored[middle]):
                high = middle
            else:
                low = middle + 1
        if low < len(stored):
            return _header_of_row(stored[low])
        for block in stored:
            # One false answer must not stop us.
            if await is_common(block):
                return _header_of_row(block)
        raise ReorgTooDeep(cursor.block_number, self._settings.finality_blocks)

    async def _hash_at(self, number: int, head: Header) -> str:
        if number == head.number:
            return head.hash
        header = await self._chain.header(number)
        if header is None:
            raise RpcInconsistent(f"block {number} is gone although the head is above it")
        return header.hash

    async def _change_branch(
        self, cursor: CursorRow, ancestor: Header, last: int, head: Header
    ) -> None:
        headers: list[Header] = []
        events: list[Followed] = []
        parent = ancestor
        async for page in self._chain.pages(ancestor.number + 1, last, linked=True):
            _check_link(parent, page)
            headers += page.headers
            events += await self._decode(page)
            parent = page.headers[-1]
        branch = Branch(ancestor, tuple(headers), tuple(events))
        async with self._writing(_header_of_cursor(cursor)) as session:
            await record.replace_branch(
                session,
                branch,
                head_number=head.number,
                finality_blocks=self._settings.finality_blocks,
                now_ms=self._clock.now_ms(),
            )
        _log.info(
            "chain_reorganised",
            from_block=cursor.block_number,
            to_block=branch.tip.number,
            depth=cursor.block_number - ancestor.number,
        )

    @asynccontextmanager
    async def _writing(self, expected: Header) -> AsyncIterator[AsyncSession]:
        """A transaction that goes on only from where this step began."""
        async with self._database.transaction() as session:
            await rows.one_index_at_a_time(session)
            cursor = await rows.cursor(session)
            if cursor is None or cursor.block_hash != expected.hash:
                raise _CursorMovedError
            yield session
        self._moved.set()

    async def _cursor(self) -> CursorRow:
        async with self._database.read() as session:
            cursor = await rows.cursor(session)
        if cursor is None:
            await self.check()
            return await self._cursor()
        return cursor

    async def _note_head(self, cursor: CursorRow, head: Header) -> None:
        if cursor.head_number == head.number and cursor.degraded is None:
            return
        async with self._writing(_header_of_cursor(cursor)) as session:
            await rows.note_head(session, head.number)

    async def _degrade(self, error: IndexStopped) -> None:
        _log.error("index_stopped", error=str(error), next_step=error.next_step)
        async with self._database.transaction() as session:
            await rows.mark_degraded(session, f"{error} {error.next_step}")

    async def _pause(self, stop: asyncio.Event, pause_ms: int) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._nudge)]
        try:
            await asyncio.wait(waits, timeout=pause_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._nudge.clear()

    async def _decode(self, page: Page) -> list[Followed]:
        times = {header.number: header.timestamp_s for header in page.headers}
        # Thousands of logs take seconds: the loop has others to serve.
        return await asyncio.to_thread(lambda: list(_events(page.logs, self._deployment, times)))


class _CursorMovedError(Exception):
    """Another index was faster."""


def _events(
    logs: Iterable[Log], deployment: Deployment, times: dict[int, int]
) -> Iterable[Followed]:
    for log in logs:
        try:
            time_s = times[log.block_number]
            event: Followed | None = decode_log(log, deployment, time_s)
            if event is None:
                event = decode_app_log(log, deployment, time_s)
        except ProtocolError as error:
            raise RpcInconsistent(
                f"log {log.log_index} of block {log.block_number} cannot be read: {error}"
            ) from error
        if event is not None:
            yield event


def _branches(parent: Header, page: Page, events: Sequence[Followed]) -> Iterator[Branch]:
    """The page in parts of whole blocks, so that no transaction keeps other writers waiting."""
    headers: list[Header] = []
    start = end = 0
    for header in page.headers:
        headers.append(header)
        while end < len(events) and events[end].at.block_number == header.number:
            end += 1
        if end - start >= _EVENTS_IN_A_TRANSACTION or header is page.headers[-1]:
            yield Branch(parent, tuple(headers), tuple(events[start:end]))
            parent, headers, start = header, [], end


def _check_link(parent: Header, page: Page) -> None:
    first = page.headers[0]
    if first.number == page.first and first.parent_hash != parent.hash:
        raise RpcInconsistent(f"block {first.number} does not follow {parent.number}")


def _header_of_cursor(cursor: CursorRow) -> Header:
    return Header(
        cursor.block_number, Digest(cursor.block_hash), ZERO_DIGEST, cursor.block_timestamp_s, b""
    )


def _header_of_row(row: BlockRow) -> Header:
    return Header(row.number, Digest(row.hash), Digest(row.parent_hash), row.timestamp_s, b"")
