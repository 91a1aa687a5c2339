"""open and draw: who judges.

open
└── by the market only
draw
├── by anyone, after the block fixed at the opening
│   └── given the chain forgot its hash: by the 256th after it, and so on; always possible
├── three providers, each once, of those listed before the dispute
│   ├── who was listed later is not among them; who left later still is
│   └── everybody with the same chance
├── passes over consumer, signer, dispatcher, royaltyTo and provider, and who is in jail (case 70)
└── reverts early, too late to be heard, twice, for no dispute, with too few left
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.courtroom import DRAW_BLOCKS, Case, Courtroom
from tests.contracts.stage import DAY_S, UNIT, ZERO, Stage, at_time, digest_of, reverts_with

LAST_DRAW_S = 3 * DAY_S
"""After the dispute: a commit, a reveal and a day to bring the verdict fit before six days are
over."""


def jail(room: Courtroom, person: Any) -> None:
    one = room.call_receipt(digest_of(str(person)), provider=person.address)
    other = replace(one, total=1)
    room.court.reportTwoHistories(room.signed(one, person), room.signed(other, person))


def test_only_the_market_opens(room: Courtroom, stage: Stage, stranger: Any) -> None:
    terms = as_tuple(stage.terms())
    with reverts_with("OnlyMarket", stage.market, stranger):
        room.court.open(digest_of("task"), terms, stage.provider, {"from": stranger})


def test_three_of_those_who_sit(room: Courtroom, stranger: Any) -> None:
    seats = room.seated(5)
    case = room.disputed()
    room.mine(DRAW_BLOCKS)
    sent = room.court.draw(case.row, {"from": stranger})
    event = sent.events["CheckersDrawn"]
    assert len(set(event["checkers"])) == 3
    assert set(event["checkers"]) <= {str(seat) for seat in seats}
    assert event["commitEndsAt"] == sent.timestamp + DAY_S
    assert event["revealEndsAt"] == sent.timestamp + 2 * DAY_S
    drawn = room.court.checkersOf(case.task_id, 1)
    assert [str(row[0]) for row in drawn] == list(event["checkers"])


def test_not_before_the_hash_is_unknown_to_all(room: Courtroom) -> None:
    room.seated(3)
    case = room.proven()
    opened = room.dispute(case).block_number
    assert room.court.disputeOf(case.task_id)[4] == opened + 8
    room.mine(7)
    with reverts_with("DrawBlockAhead", opened + 8, opened + 8):
        room.court.draw(case.row)
    room.court.draw(case.row)


@pytest.mark.parametrize("blocks", [256, 257, 264, 265, 600, 3_000])
def test_a_forgotten_block_gives_way_to_the_next(room: Courtroom, blocks: int) -> None:
    """Somebody slept; nobody has to do anything for the draw to go on."""
    seats = room.seated(4)
    case = room.disputed()
    room.mine(blocks)
    assert set(map(str, room.draw(case))) <= set(map(str, seats))


def test_not_who_came_after_the_dispute(room: Courtroom) -> None:
    """Nor a seat that takes the place of one that was freed."""
    early = room.seated(3)
    case = room.disputed()
    for person in early[:2]:
        room.court.leaveSeat({"from": person})
    room.later(DAY_S)
    for person in early[:2]:
        room.court.freeSeat(person)
    late = [room.newcomer() for _ in range(6)]
    for person in late:
        room.court.takeSeat({"from": person})
    room.later(DAY_S)
    for person in late:
        room.court.listSeat(person)
    assert room.court.seats() == 7
    assert set(room.draw(case)) == set(early)


def test_not_who_was_listed_in_the_same_second(room: Courtroom, stage: Stage) -> None:
    early = room.seated(3)
    person = room.newcomer()
    room.court.takeSeat({"from": person})
    room.later(DAY_S)
    case = room.proven()
    now = stage.now() + 10
    with at_time(stage, now):
        room.court.listSeat(person)
    with at_time(stage, now):
        room.dispute(case)
    assert set(room.draw(case)) == set(early)


def test_passes_over_whom_the_terms_name(
    room: Courtroom, stage: Stage, people: list[Any], deployer: Any
) -> None:
    """The consumer, its signer, the dispatcher, the app's owner and the provider, all with
    seats."""
    parties = [stage.consumer, people[5], stage.dispatcher, people[6], stage.provider]
    for person in parties:
        stage.token.transfer(person, 2 * UNIT, {"from": deployer})
        stage.token.approve(stage.staking, 2 * UNIT, {"from": person})
        stage.staking.stake(2 * UNIT, {"from": person})
        room.court.takeSeat({"from": person})
    room.later(DAY_S)
    for person in parties:
        room.court.listSeat(person)
    named = {
        "signer": people[5].address,
        "royalty_to": people[6].address,
        "royalty_bps": 1,
    }
    case = room.proven(**named)
    room.later(1)
    with reverts_with("TooFewSeats", 3, 0):
        room.dispute(case)
    neutral = room.seated(3)
    room.dispute(case)
    assert set(room.draw(case)) == set(neutral)


def test_passes_over_who_is_in_jail(room: Courtroom) -> None:
    """Case 70."""
    seats = room.seated(4)
    case = room.disputed()
    jail(room, seats[1])
    assert set(room.draw(case)) == {seats[0], seats[2], seats[3]}


def test_reverts_with_too_few_left(room: Courtroom) -> None:
    """The next block's hash would not help either: the proof stands."""
    seats = room.seated(3)
    case = room.disputed()
    jail(room, seats[2])
    room.mine(DRAW_BLOCKS)
    with reverts_with("TooFewSeats", 3, 2):
        room.court.draw(case.row)
    assert room.court.disputeOf(case.task_id)[3] == 1


@pytest.mark.parametrize("seconds", [0, 1])
def test_until_a_round_could_not_be_heard_any_more(
    room: Courtroom, stage: Stage, seconds: int
) -> None:
    """Case 30."""
    room.seated(3)
    case = room.disputed()
    last = stage.task(case.terms)[1] + LAST_DRAW_S
    assert room.court.timesOf(case.task_id)[0] == last
    room.mine(DRAW_BLOCKS)
    with at_time(stage, last + seconds):
        if seconds == 0:
            room.court.draw(case.row)
        else:
            with reverts_with("DrawTooLate", last, last + 1):
                room.court.draw(case.row)


def test_reverts_twice_and_for_no_dispute(room: Courtroom, stage: Stage) -> None:
    room.seated(3)
    case = room.disputed()
    room.draw(case)
    with reverts_with("WrongState", 1, 2):
        room.court.draw(case.row)
    with reverts_with("UnknownDispute"):
        room.court.draw(as_tuple(stage.terms(nonce=99)))
    with reverts_with("UnknownDispute"):
        room.court.timesOf(digest_of("nothing"))


def test_everybody_has_the_same_chance(room: Courtroom, stage: Stage) -> None:
    """Sixty draws of three out of seven, one of whom is a party: each of six is expected 30 times.
    Bounds at five standard deviations."""
    from brownie import web3

    seats = room.seated(7)
    party = seats[3].address
    case = room.disputed(royalty_to=party, royalty_bps=1)
    drawn: Counter[str] = Counter()
    for _ in range(60):
        room.mine(256)
        answer = web3.eth.call(
            {"to": room.court.address, "data": room.court.draw.encode_input(case.row)}
        )
        three = {"0x" + answer[at + 12 : at + 32].hex() for at in (0, 32, 64)}
        assert len(three) == 3 and ZERO not in three and party.lower() not in three
        drawn.update(three)
    assert len(drawn) == 6
    assert all(10 <= times <= 50 for times in drawn.values()), drawn


def test_a_case_is_its_own_draw(room: Courtroom) -> None:
    """Two disputes opened in one block do not share their three."""
    room.seated(20)
    cases: list[Case] = [room.proven(nonce=nonce) for nonce in range(3)]
    for case in cases:
        room.dispute(case)
    assert len({frozenset(map(str, room.draw(case))) for case in cases}) > 1
