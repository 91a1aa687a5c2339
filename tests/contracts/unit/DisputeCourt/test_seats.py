"""Seats: a unit of stake set aside, to check what others did.

takeSeat
├── sets one own unit aside; the seat can be listed a day later (case 30)
└── reverts twice, without a free unit, and in jail (case 70)
listSeat
├── by anyone after the day
└── reverts early, twice, for a seat on its way out, in jail
leaveSeat, freeSeat
├── by the provider, and a day later by anyone; the stake is free, the place goes to the last
└── reverts twice, early, for nobody's seat
dismissSeat
└── by anyone, of a provider in jail
the list
├── holds everybody once, whatever order they come and go in
└── costs the same with three seats and with many (cases 8 and 68)
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.contracts.courtroom import Courtroom
from tests.contracts.stage import DAY_S, UNIT, Stage, at_time, digest_of, reverts_with


def seat(room: Courtroom, person: Any) -> tuple[int, int, bool]:
    listable_at, leavable_at, listed = room.court.seatOf(person)
    return int(listable_at), int(leavable_at), bool(listed)


def jail(room: Courtroom, person: Any) -> None:
    """It signs two histories."""
    one = room.call_receipt(digest_of(str(person)), provider=person.address)
    other = room.call_receipt(digest_of(str(person)), provider=person.address, total=1)
    room.court.reportTwoHistories(room.signed(one, person), room.signed(other, person))


def test_a_unit_is_set_aside(room: Courtroom, stage: Stage) -> None:
    person = room.newcomer(2)
    sent = room.court.takeSeat({"from": person})
    assert seat(room, person) == (sent.timestamp + DAY_S, 0, False)
    assert sent.events["SeatTaken"]["listableAt"] == sent.timestamp + DAY_S
    with reverts_with("StakeBacksGpus"):
        stage.staking.requestUnbond(UNIT + 1, {"from": person})
    stage.staking.requestUnbond(UNIT, {"from": person})


def test_reverts_twice(room: Courtroom) -> None:
    person = room.newcomer(2)
    room.court.takeSeat({"from": person})
    with reverts_with("SeatAlreadyTaken", person):
        room.court.takeSeat({"from": person})
    room.court.leaveSeat({"from": person})
    with reverts_with("SeatAlreadyTaken", person):
        room.court.takeSeat({"from": person})


def test_reverts_without_a_free_unit(room: Courtroom, stage: Stage) -> None:
    """What backs a GPU cannot back a seat."""
    person = room.newcomer(1)
    stage.staking.registerGpus(digest_of("gpus"), 1, {"from": person})
    with reverts_with("StakeTooLow", 2 * UNIT, UNIT):
        room.court.takeSeat({"from": person})
    with reverts_with("StakeTooLow", UNIT, 0):
        room.court.takeSeat({"from": room.newcomer(0)})


@pytest.mark.parametrize("seconds", [-1, 0])
def test_listed_after_a_day(room: Courtroom, stage: Stage, stranger: Any, seconds: int) -> None:
    """Case 30."""
    person = room.newcomer()
    taken = room.court.takeSeat({"from": person}).timestamp
    with at_time(stage, taken + DAY_S + seconds):
        if seconds < 0:
            with reverts_with("TooSoon", taken + DAY_S, taken + DAY_S - 1):
                room.court.listSeat(person, {"from": stranger})
        else:
            sent = room.court.listSeat(person, {"from": stranger})
            assert sent.events["SeatListed"]["seats"] == 1 == room.court.seats()
            assert seat(room, person)[2]
            with reverts_with("SeatAlreadyListed", person):
                room.court.listSeat(person, {"from": stranger})


def test_nobody_has_no_seat(room: Courtroom, stranger: Any) -> None:
    for verb in (room.court.listSeat, room.court.freeSeat, room.court.dismissSeat):
        with reverts_with("NoSeat", stranger):
            verb(stranger, {"from": stranger})
    with reverts_with("NoSeat", stranger):
        room.court.leaveSeat({"from": stranger})


@pytest.mark.parametrize("seconds", [-1, 0])
def test_freed_a_day_after_it_was_left(
    room: Courtroom, stage: Stage, stranger: Any, seconds: int
) -> None:
    """Case 30, and law 6: nobody's consent is needed."""
    person = room.seated(1, 1)[0]
    left = room.court.leaveSeat({"from": person}).timestamp
    with reverts_with("SeatIsLeaving", person):
        room.court.leaveSeat({"from": person})
    assert room.court.seats() == 1
    with at_time(stage, left + DAY_S + seconds):
        if seconds < 0:
            with reverts_with("TooSoon", left + DAY_S, left + DAY_S - 1):
                room.court.freeSeat(person, {"from": stranger})
        else:
            room.court.freeSeat(person, {"from": stranger})
            assert seat(room, person) == (0, 0, False)
            assert room.court.seats() == 0
            stage.staking.requestUnbond(UNIT, {"from": person})


def test_reverts_to_free_a_seat_that_nobody_left(room: Courtroom) -> None:
    person = room.seated(1)[0]
    with reverts_with("SeatNotLeaving", person):
        room.court.freeSeat(person)


def test_left_before_it_was_listed(room: Courtroom) -> None:
    person = room.newcomer()
    room.court.takeSeat({"from": person})
    room.court.leaveSeat({"from": person})
    room.later(DAY_S)
    with reverts_with("SeatIsLeaving", person):
        room.court.listSeat(person)
    room.court.freeSeat(person)
    assert room.court.seats() == 0


def test_a_jailed_provider_has_no_seat(room: Courtroom, stage: Stage) -> None:
    """Case 70: it can be neither taken nor listed nor kept."""
    sitting = room.seated(1, 3)[0]
    waiting = room.newcomer(3)
    room.court.takeSeat({"from": waiting})
    room.later(DAY_S)
    with reverts_with("NotJailed", sitting):
        room.court.dismissSeat(sitting)
    newcomer = room.newcomer(3)
    for person in (sitting, waiting, newcomer):
        jail(room, person)
    with reverts_with("SeatJailed", newcomer):
        room.court.takeSeat({"from": newcomer})
    with reverts_with("SeatJailed", waiting):
        room.court.listSeat(waiting)
    for person in (sitting, waiting):
        room.court.dismissSeat(person)
        assert seat(room, person) == (0, 0, False)
    assert room.court.seats() == 0
    stage.staking.requestUnbond(2 * UNIT, {"from": sitting})


def test_everybody_is_listed_once(room: Courtroom) -> None:
    """Come and go in any order: a full draw of the list finds each of those who are there."""
    chance = random.Random(8)
    present = room.seated(6)
    for _ in range(4):
        person = present.pop(chance.randrange(len(present)))
        room.court.leaveSeat({"from": person})
        room.later(DAY_S)
        sent = room.court.freeSeat(person)
        assert sent.events["SeatFreed"]["seats"] == len(present) == room.court.seats()
        if chance.random() < 0.5:
            present += room.seated(1)
    present += room.seated(3 - len(present)) if len(present) < 3 else []
    for person in present[3:]:
        room.court.leaveSeat({"from": person})
    room.later(DAY_S)
    for person in present[3:]:
        room.court.freeSeat(person)
    room.later(1)
    assert set(room.draw(room.disputed())) == set(present[:3])


def test_gas_does_not_grow_with_the_list(room: Courtroom, stage: Stage, stranger: Any) -> None:
    """Cases 8 and 68."""

    def costs() -> list[int]:
        person, other = room.newcomer(), room.newcomer()
        used = [room.court.takeSeat({"from": one}).gas_used for one in (person, other)]
        room.later(DAY_S)
        used += [room.court.listSeat(one, {"from": stranger}).gas_used for one in (person, other)]
        case = room.proven(nonce=room.stage.now())
        used.append(room.dispute(case).gas_used)
        room.mine(9)
        used.append(room.court.draw(case.row).gas_used)
        used.append(room.court.leaveSeat({"from": person}).gas_used)
        room.later(DAY_S)
        used.append(room.court.freeSeat(person, {"from": stranger}).gas_used)
        return used

    room.seated(5)
    costs()
    few = costs()
    room.seated(40)
    many = costs()
    for before, after in zip(few, many, strict=True):
        # A draw may meet the provider itself, or walk one more step through a place's history.
        assert after <= before * 1.05 + 12_000
