"""Leases under races, and under any sequence of steps."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.protocol import wire
from tallystick_backend.clock import ManualClock
from tallystick_backend.dispatch import rules
from tallystick_backend.dispatch.rules import Standing, WorkLeft, after_lease
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import work
from tallystick_backend.store.session import Database
from tallystick_backend.tasks import LIVE_LEASES, check_lease_move, check_work_move
from tests.backend.dispatch.market import UNIT, Market, TestProvider, signed_assignment

SETTINGS = DispatchSettings(stake_unit=1)


# --- rules as tables --------------------------------------------------------------------------

OPEN = Standing(secured=True, deadline_s=10_000, chain_state="open", chain_end_s=10_000)
SIGNED = Standing(secured=False, deadline_s=10_000)


@pytest.mark.parametrize(
    ("stands", "spare", "expected"),
    [
        pytest.param(OPEN, 0, True, id="its ceiling is locked"),
        pytest.param(Standing(True, 10_000), 100, False, id="secured, and not created yet"),
        pytest.param(SIGNED, 10, True, id="a signed order the account covers"),
        pytest.param(SIGNED, 9, False, id="a signed order the account does not cover"),
        pytest.param(Standing(True, 10_000, 5, "open", 10_000), 0, False, id="withdrawn"),
        pytest.param(Standing(True, 10_000, None, "open", 10_000, 5), 0, False, id="cancelled"),
        pytest.param(Standing(True, 10_000, None, "open", 999), 0, False, id="past its end"),
        pytest.param(Standing(True, 10_000, None, "orphaned", 10_000), 9, False, id="orphaned"),
        pytest.param(
            Standing(False, 10_000, None, "orphaned"), 10, True, id="orphaned, yet signed for"
        ),
        pytest.param(Standing(False, 10_000, None, "settled", 10_000), 10, False, id="settled"),
        pytest.param(Standing(False, 10_000, None, "proven", 10_000), 10, False, id="proven"),
    ],
)
def test_may_be_leased(stands: Standing, spare: int, expected: bool) -> None:
    assert rules.may_be_leased(stands, 1_000, spare=spare, max_charge=10) is expected


@pytest.mark.parametrize(
    ("ending", "attempts", "fence", "stands", "state", "spent"),
    [
        pytest.param("declined", 0, 1, OPEN, "waiting", 0, id="a decline costs nothing"),
        pytest.param("undelivered", 0, 1, OPEN, "waiting", 0, id="nor an offer nobody heard"),
        pytest.param("failed_provider", 2, 3, OPEN, "waiting", 2, id="provider's fault is its own"),
        pytest.param("failed_task", 1, 2, OPEN, "waiting", 2, id="the task's fault counts"),
        pytest.param("lost", 1, 2, OPEN, "waiting", 2, id="silence counts"),
        pytest.param("lost", 2, 3, OPEN, "failed", 3, id="the third is the last"),
        pytest.param("declined", 0, 8, OPEN, "failed", 0, id="eight leases are enough"),
        pytest.param("lost", 2, 3, Standing(True, 9, 5), "stopped", 3, id="withdrawn meanwhile"),
        pytest.param(
            "lost",
            2,
            3,
            Standing(True, 9, None, "orphaned"),
            "waiting",
            2,
            id="a reorganisation blames nobody",
        ),
    ],
)
def test_after_a_lease(
    ending: rules.Ending, attempts: int, fence: int, stands: Standing, state: str, spent: int
) -> None:
    after = after_lease(
        WorkLeft(fence, attempts, ()),
        ending,
        provider="0xa",
        reason="why",
        lease_until_s=100,
        now_ms=50_000,
        standing=stands,
        settings=SETTINGS,
    )
    assert (after.state, after.attempts) == (state, spent)
    assert (after.failure is not None) == (state == "failed")
    free = 50_000 if ending == "undelivered" else 103_000
    assert after.not_before_ms == free


@given(
    now_s=st.integers(0, 500),
    lease_from_s=st.integers(0, 500),
    length=st.integers(0, 60),
    end_s=st.integers(0, 600),
    finished=st.booleans(),
    withdrawn=st.none() | st.integers(0, 500_000),
)
def test_a_renewal_never_takes_back_and_never_passes_the_end(
    now_s: int, lease_from_s: int, length: int, end_s: int, finished: bool, withdrawn: int | None
) -> None:
    current = lease_from_s + length
    until = rules.lease_until(
        Standing(True, end_s, withdrawn, "open", end_s),
        now_s=now_s,
        lease_from_s=lease_from_s,
        current_until_s=current,
        max_seconds=100,
        finished=finished,
        settings=SETTINGS,
    )
    assert until >= current
    assert until <= max(current, end_s)
    assert until <= max(current, now_s + SETTINGS.lease_seconds)


def test_a_lease_is_over_only_after_its_last_second_and_the_margin() -> None:
    assert not rules.is_expired(100, 102_999, SETTINGS)
    assert rules.is_expired(100, 103_000, SETTINGS)


# --- races ------------------------------------------------------------------------------------


async def test_two_dispatchers_give_one_lease(market: Market) -> None:
    provider = await market.provider(registered=4)
    tasks = [await market.order() for _ in range(4)]
    crowd = [market.new_dispatcher() for _ in range(4)]
    await asyncio.gather(*[one.lease_the_ready() for one in crowd])
    await market.go()
    for task in tasks:
        assert (await market.work(task)).fence == 1
    assert sorted(provider.offers) == sorted(tasks)


async def test_a_beat_and_the_end_of_the_lease_do_not_both_win(market: Market) -> None:
    for n in range(1, 6):
        await market.provider(n)
        task = await market.order()
        await market.go()
        holder = next(one for one in market.providers.values() if task in one.offers)
        await market.run_out()
        answer, _ = await asyncio.gather(
            market.beat(holder, task), market.dispatcher.give_up_the_silent()
        )
        lease = await market.lease(task, 1)
        assert lease is not None
        assert (answer.verdict == "renewed") == (lease.state in LIVE_LEASES)
        assert (await market.work(task)).state == (
            "waiting" if answer.verdict == "lost" else "running"
        )
        await market.withdraw(task)


# --- any sequence of steps --------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "pass",
                "restart",
                "wait",
                "beat",
                "finish",
                "fail_task",
                "fail_provider",
                "deaf",
                "decline",
                "listen",
                "withdraw",
                "orphan",
                "reopen",
                "settle",
            ]
        ),
        st.integers(0, 1),
        st.sampled_from([1, 5, 12, 33]),
    ),
    max_size=30,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_whatever_happens_one_provider_at_a_time_can_prove(
    sqlite_url_of_a_new_database: Any, steps: list[tuple[str, int, int]]
) -> None:
    """Law L11, over any order of passes, restarts, silences, refusals and results."""
    for url in sqlite_url_of_a_new_database():
        asyncio.run(_live(url, steps))


async def _live(url: str, steps: list[tuple[str, int, int]]) -> None:
    database = Database(url)
    market = Market(database, ManualClock(), DispatchSettings(stake_unit=UNIT))
    providers = [await market.provider(1), await market.provider(2)]
    task = await market.order()
    watch = _Watch(market, task)
    for step, who, seconds in steps:
        await _take(market, task, providers[who], step, seconds)
        await watch.look()
    await database.close()


async def _take(market: Market, task: str, who: TestProvider, step: str, seconds: int) -> None:
    match step:
        case "pass":
            await market.go()
        case "restart":
            market.dispatcher = market.new_dispatcher()
            await market.go()
        case "wait":
            market.clock.advance(seconds=seconds)
            for one in market.providers.values():
                await market.say(one, "announce", one.announcement(), wire.AnnouncementReply)
        case "beat" if task in who.offers:
            await market.beat(who, task, who.offers[task].assignment.fence)
        case "finish" if task in who.offers:
            await market.finish(who, task)
        case "fail_task" if task in who.offers:
            await market.fail(who, task, "task", who.offers[task].assignment.fence)
        case "fail_provider" if task in who.offers:
            await market.fail(who, task, "provider", who.offers[task].assignment.fence)
        case "deaf":
            who.accepts = None
        case "decline":
            who.accepts = False
        case "listen":
            who.accepts = True
        case "withdraw":
            await market.withdraw(task)
        case "orphan":
            await market.chain_says(task, state="orphaned")
        case "reopen":
            await market.chain_says(task, state="open")
        case "settle" if await market.receipt(task) is not None:
            await market.chain_says(task, state="settled")


class _Watch:
    """Sees every row after every step."""

    def __init__(self, market: Market, task: str) -> None:
        self._market = market
        self._task = task
        self._leases: dict[int, str] = {}
        self._until: dict[int, int] = {}
        self._work: str = "waiting"
        self._fence = 0
        self._receipt: str | None = None

    async def look(self) -> None:
        async with self._market.database.read() as session:
            row = await work.work(session, self._task)
            leases = [await work.lease(session, self._task, n) for n in range(1, 10)]
        found = [lease for lease in leases if lease is not None]
        if row is None:
            assert not found
            return
        check_work_move(self._work, row.state)  # type: ignore[arg-type]
        assert row.fence >= self._fence, "the fence only rises"
        assert row.fence == max((lease.fence for lease in found), default=0)
        assert row.attempts <= 3
        live = [lease for lease in found if lease.state in LIVE_LEASES]
        assert len(live) <= 1
        assert all(lease.fence == row.fence for lease in live)
        assert (row.state in ("leased", "running")) == bool(live)
        for lease in found:
            assert signed_assignment(lease) == self._market.signer.address
            check_lease_move(self._leases.get(lease.fence, "offered"), lease.state)  # type: ignore[arg-type]
            assert lease.lease_until_s >= self._until.get(lease.fence, 0)
            self._leases[lease.fence] = lease.state
            self._until[lease.fence] = lease.lease_until_s
        for before, after in itertools.pairwise(found):
            margin = self._market.settings.lease_margin_seconds
            assert before.lease_until_s + margin < after.lease_from_s
        receipt = await self._market.receipt(self._task)
        digest = None if receipt is None else receipt.digest
        assert self._receipt in (None, digest), "the first receipt stays"
        assert (digest is not None) == (row.state == "finished")
        self._work, self._fence, self._receipt = row.state, row.fence, digest
