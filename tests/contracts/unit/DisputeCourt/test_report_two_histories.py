"""reportTwoHistories and reportBrokenChain: a provider that signed two truths.

reportTwoHistories
├── two receipts for one place: a unit is slashed, a fifth of it the reporter's (case 65)
├── for a task's fence and for a channel's seq, by the provider's own key or any of its operator keys
├── once a route, whatever else is shown of it (case 69), and by nobody for another provider
├── reverts for one receipt twice, other places, other routes, other providers
├── reverts for a signature that is not the provider's, or of a key retired too long ago
└── reverts for receipts older than the unbonding time (case 57: later there is nothing to take)
reportBrokenChain
├── given neighbours of one channel: a `prev` that is another receipt, or a total that fell
├── the same offence as two histories of that channel
└── reverts for a chain that holds, for receipts that are no neighbours, for a task's receipts
what honest providers do is no fault
├── a receipt that the market cut at a cancel
├── a second fence of the same task
└── the next receipt of a channel with the same total
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tallystick.protocol.types import Fence
from tests.contracts.courtroom import Courtroom, channel_of
from tests.contracts.stage import DAY_S, NO_DIGEST, UNIT, Stage, at_time, digest_of, reverts_with

SALT = 7


@pytest.fixture
def channel(stage: Stage, dispatcher: Any) -> str:
    return channel_of(stage.consumer.address, dispatcher.address, stage.provider.address, SALT)


@pytest.fixture
def fields(stage: Stage, dispatcher: Any) -> tuple[Any, Any, int]:
    return (stage.consumer, dispatcher, SALT)


def test_two_results_for_one_place_cost_a_unit(
    room: Courtroom, stage: Stage, channel: str, stranger: Any
) -> None:
    """Case 65: a fifth is the reporter's and the rest is burned."""
    one = room.call_receipt(channel, 3)
    other = replace(one, result=digest_of("another"))
    before = stage.stake_of(stage.provider)
    sent = room.court.reportTwoHistories(room.signed(one), room.signed(other), {"from": stranger})
    event = sent.events["TwoHistoriesShown"]
    assert (event["provider"], event["route"], event["reporter"]) == (
        stage.provider,
        channel,
        stranger,
    )
    assert event["slashed"] == UNIT == room.lost(stage.provider, before)
    assert event["offenceId"] == room.court.offenceOfRoute(stage.provider, channel)
    assert stage.staking.isJailed(stage.provider)


def test_two_receipts_for_one_fence(room: Courtroom, stage: Stage, stranger: Any) -> None:
    terms = stage.terms()
    one = stage.receipt(terms, stage.usage())
    other = replace(one, gpu_ms=one.gpu_ms - 1)
    room.court.reportTwoHistories(room.signed(one), room.signed(other), {"from": stranger})
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


def test_by_two_keys_of_one_provider(
    room: Courtroom, stage: Stage, channel: str, stranger: Any
) -> None:
    one = room.call_receipt(channel)
    other = replace(one, total=one.total + 1)
    room.court.reportTwoHistories(
        room.signed(one, stage.provider), room.signed(other, stage.operator), {"from": stranger}
    )
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


def test_once_a_route(
    room: Courtroom, stage: Stage, channel: str, fields: tuple[Any, ...], stranger: Any
) -> None:
    """Case 69."""
    one = room.call_receipt(channel)
    other = replace(one, total=one.total + 1)
    next_one = room.call_receipt(channel, 2)
    report = room.court.reportTwoHistories
    report(room.signed(one), room.signed(other), {"from": stranger})
    with reverts_with("AlreadyPunished"):
        report(room.signed(other), room.signed(one), {"from": stranger})
    with reverts_with("AlreadyPunished"):
        room.court.reportBrokenChain(
            *fields, room.signed(one), room.signed(next_one), {"from": stranger}
        )
    with reverts_with("AlreadyPunished"):
        third = replace(one, result=digest_of("third"))
        report(room.signed(third), room.signed(one), {"from": stranger})
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)

    elsewhere = replace(one, route=digest_of("another route"))
    room.court.reportTwoHistories(
        room.signed(elsewhere),
        room.signed(replace(elsewhere, total=1)),
        {"from": stranger},
    )
    assert stage.stake_of(stage.provider) == (2 * UNIT, 0)


def test_nobody_without_stake_shields_another(
    room: Courtroom, stage: Stage, stranger: Any, session_key: Any
) -> None:
    """An address with nothing to lose signs two histories for the route first."""
    terms = stage.terms()
    one = stage.receipt(terms, stage.usage())
    other = replace(one, gpu_ms=one.gpu_ms - 1)
    shield = [replace(receipt, provider=session_key.address) for receipt in (one, other)]
    sent = room.court.reportTwoHistories(
        *(room.signed(receipt, session_key) for receipt in shield), {"from": session_key}
    )
    assert sent.events["TwoHistoriesShown"]["slashed"] == 0
    room.court.reportTwoHistories(room.signed(one), room.signed(other), {"from": stranger})
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


def test_takes_what_there_is(room: Courtroom, stage: Stage, channel: str, stranger: Any) -> None:
    """Case 57."""
    stage.staking.requestUnbond(4 * UNIT, {"from": stage.provider})
    one = room.call_receipt(channel)
    other = replace(one, total=one.total + 1)
    before = stage.stake_of(stage.provider)
    room.court.reportTwoHistories(room.signed(one), room.signed(other), {"from": stranger})
    assert room.lost(stage.provider, before) <= UNIT


def test_reverts_for_one_receipt_twice(room: Courtroom, channel: str, stranger: Any) -> None:
    """Even if it was signed by two keys."""
    one = room.call_receipt(channel)
    for by in (room.stage.operator, room.stage.provider):
        with reverts_with("SameReceipt"):
            room.court.reportTwoHistories(room.signed(one), room.signed(one, by))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seq": 2}, "DifferentPlaces"),
        ({"route": digest_of("elsewhere")}, "DifferentRoutes"),
        ({"provider": "0x00000000000000000000000000000000000000Aa"}, "DifferentProviders"),
    ],
)
def test_reverts_for_two_places(
    room: Courtroom, channel: str, stranger: Any, change: dict[str, Any], error: str
) -> None:
    one = room.call_receipt(channel)
    other = replace(one, total=1, **change)
    with reverts_with(error):
        room.court.reportTwoHistories(room.signed(one), room.signed(other), {"from": stranger})


def test_reverts_for_a_signature_of_somebody_else(
    room: Courtroom, stage: Stage, channel: str, stranger: Any
) -> None:
    """Case 36: neither a stranger's, nor one that is none."""
    one = room.call_receipt(channel)
    other = replace(one, total=1)
    with reverts_with("NotAnswerable", stage.provider, stranger):
        room.court.reportTwoHistories(room.signed(one), room.signed(other, stranger))
    with reverts_with("NotAnswerable", stage.provider, stranger):
        room.court.reportTwoHistories(room.signed(one, stranger), room.signed(other))
    nothing = (*room.signed(other)[:1], bytes(32), bytes(32))
    with reverts_with("NotAnswerable", stage.provider, "0x" + "00" * 20):
        room.court.reportTwoHistories(room.signed(one), nothing)


def test_reverts_for_two_histories_of_another_chain(
    room: Courtroom, stage: Stage, channel: str
) -> None:
    """Case 37: the same keys may tell another story on a chain that was forked off."""
    one = room.call_receipt(channel)
    elsewhere = replace(stage.domain, chain_id=stage.domain.chain_id + 1)
    room.stage.domain, here = elsewhere, stage.domain
    other = room.signed(replace(one, total=1))
    room.stage.domain = here
    with reverts_with("NotAnswerable", stage.provider):
        room.court.reportTwoHistories(room.signed(one), other)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_retired_key_answers_for_seven_days(
    room: Courtroom, stage: Stage, channel: str, stranger: Any, seconds: int
) -> None:
    """Cases 30 and 70."""
    retired = stage.staking.retireOperatorKey(stage.operator, {"from": stage.provider}).timestamp
    one = room.call_receipt(channel)
    pair = room.signed(one), room.signed(replace(one, total=1))
    with at_time(stage, retired + 7 * DAY_S + seconds):
        if seconds == 0:
            room.court.reportTwoHistories(*pair, {"from": stranger})
        else:
            with reverts_with("NotAnswerable", stage.provider, stage.operator):
                room.court.reportTwoHistories(*pair, {"from": stranger})


@pytest.mark.parametrize("old", [0, 1])
@pytest.mark.parametrize("seconds", [0, 1])
def test_a_receipt_is_void_after_the_unbonding_time(
    room: Courtroom, stage: Stage, channel: str, stranger: Any, old: int, seconds: int
) -> None:
    """Cases 30 and 58: as long as stake can be reached, and no longer; each of the two."""
    ended_at_s = stage.now()
    pair = [room.call_receipt(channel), room.call_receipt(channel, total=1)]
    young = replace(pair[1 - old], ended_at_ms=(ended_at_s + 21 * DAY_S) * 1000)
    pair[1 - old] = young
    pair[old] = replace(pair[old], ended_at_ms=ended_at_s * 1000)
    signed = [room.signed(receipt) for receipt in pair]
    with at_time(stage, ended_at_s + 21 * DAY_S + seconds):
        if seconds == 0:
            room.court.reportTwoHistories(*signed, {"from": stranger})
        else:
            with reverts_with("ReceiptTooOld", (ended_at_s + 1) * 1000, ended_at_s * 1000):
                room.court.reportTwoHistories(*signed, {"from": stranger})


# ---------------------------------------------------------------------- a chain of receipts


@pytest.mark.parametrize(
    "change",
    [
        {"prev": digest_of("another receipt")},
        {"prev": NO_DIGEST},
        {"total": 299},
    ],
    ids=["names another", "names none", "its total fell"],
)
def test_a_broken_chain_costs_a_unit(
    room: Courtroom,
    stage: Stage,
    channel: str,
    fields: tuple[Any, ...],
    stranger: Any,
    change: dict[str, Any],
) -> None:
    earlier = room.call_receipt(channel, 3)
    later = room.call_receipt(channel, 4, prev=stage.digest(earlier))
    sent = room.court.reportBrokenChain(
        *fields, room.signed(earlier), room.signed(replace(later, **change)), {"from": stranger}
    )
    event = sent.events["TwoHistoriesShown"]
    assert (event["route"], event["slashed"]) == (channel, UNIT)


@pytest.mark.parametrize("total", [300, 301, 400])
def test_reverts_for_a_chain_that_holds(
    room: Courtroom, stage: Stage, channel: str, fields: tuple[Any, ...], total: int
) -> None:
    """A call may cost nothing: an equal total does not fall."""
    earlier = room.call_receipt(channel, 3)
    later = room.call_receipt(channel, 4, prev=stage.digest(earlier), total=total)
    with reverts_with("ReceiptsFollow"):
        room.court.reportBrokenChain(*fields, room.signed(earlier), room.signed(later))


@pytest.mark.parametrize("seq", [1, 2, 3, 5])
def test_reverts_for_receipts_that_are_no_neighbours(
    room: Courtroom, channel: str, fields: tuple[Any, ...], seq: int
) -> None:
    earlier = room.call_receipt(channel, 3)
    later = room.call_receipt(channel, seq)
    with reverts_with("NotNeighbours", 4, seq):
        room.court.reportBrokenChain(*fields, room.signed(earlier), room.signed(later))


def test_no_place_comes_after_the_last(
    room: Courtroom, channel: str, fields: tuple[Any, ...]
) -> None:
    last = room.call_receipt(channel, 2**64 - 1, total=1)
    first = room.call_receipt(channel, 0, total=0)
    with reverts_with("NotNeighbours", 2**64, 0):
        room.court.reportBrokenChain(*fields, room.signed(last), room.signed(first))


def test_reverts_unless_the_fields_are_the_channel(
    room: Courtroom, stage: Stage, channel: str, fields: tuple[Any, ...], stranger: Any
) -> None:
    pair = room.signed(room.call_receipt(channel)), room.signed(room.call_receipt(channel, 2))
    payer, signer, salt = fields
    for wrong in ((stranger, signer, salt), (payer, stranger, salt), (payer, signer, salt + 1)):
        with reverts_with("WrongChannel"):
            room.court.reportBrokenChain(*wrong, *pair)
    elsewhere = room.signed(room.call_receipt(digest_of("elsewhere"), 2))
    with reverts_with("WrongChannel"):
        room.court.reportBrokenChain(*fields, pair[0], elsewhere)


# ---------------------------------------------------------------------- honest providers


def test_two_fences_of_one_task_are_no_chain(
    room: Courtroom, stage: Stage, fields: tuple[Any, ...]
) -> None:
    """A lease that was lost and given anew: both receipts have no `prev`, and the later one may
    cost less."""
    terms = stage.terms()
    first = stage.receipt(terms, stage.usage())
    second = stage.receipt(terms, stage.usage(fence=Fence(2), gpu_ms=1))
    with reverts_with("DifferentPlaces", 1, 2):
        room.court.reportTwoHistories(room.signed(first), room.signed(second))
    with reverts_with("WrongChannel"):
        room.court.reportBrokenChain(*fields, room.signed(first), room.signed(second))


def test_what_the_market_cuts_is_no_second_history(
    room: Courtroom, stage: Stage, stranger: Any
) -> None:
    """The chain pays less than the receipt says; the provider signed one receipt only."""
    terms = stage.terms()
    stage.create(terms)
    usage = stage.usage(ended_at_ms=(stage.now() + 60) * 1000, gpu_ms=1_000)
    usage = replace(usage, started_at_ms=usage.ended_at_ms - 70_000, gpu_ms=140_000)
    stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    room.later(61)
    sent = stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    receipt = stage.receipt(terms, usage)
    assert sent.events["TaskProven"]["charge"] < receipt.total
    assert sent.events["TaskProven"]["receipt"] == stage.digest(receipt)
    with reverts_with("SameReceipt"):
        room.court.reportTwoHistories(room.signed(receipt), room.signed(receipt))
    # What the chain paid, put in its place, is not what the provider signed.
    cut = replace(receipt, total=sent.events["TaskProven"]["charge"])
    forged = (room.signed(cut)[0], *room.signed(receipt)[1:])
    with reverts_with("NotAnswerable", stage.provider):
        room.court.reportTwoHistories(room.signed(receipt), forged)

