"""requestClose, cancelClose, close.

requestClose
├── by the payer: sets closeAt one period from now
└── reverts for anybody else, a second time, and with nothing unclaimed
cancelClose
└── by the payer: the next request starts anew; reverts without a request
close
├── by anyone, from closeAt on, not a second before (cases 10 and 30)
├── until it is executed vouchers are paid, also after closeAt (case 44)
├── what was not claimed is available to the payer; claimed stays
├── a stranger's top-up moves nothing but the amount (case 9)
└── given everything was claimed meanwhile: ends with nothing, the next close needs a request
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.channels import DEPOSIT, Till, channel_id, fields
from tests.contracts.stage import CLOSE_S, TALLY, Stage, at_time, reverts_with


def request(stage: Stage, till: Till, channel: Any) -> int:
    sent = stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    event = sent.events["CloseRequested"]
    assert event["channelId"] == channel_id(channel)
    assert int(event["closeAt"]) == int(sent.return_value) == sent.timestamp + CLOSE_S
    assert till.state(channel)[2] == sent.timestamp + CLOSE_S
    return int(sent.timestamp) + CLOSE_S


def test_what_is_not_claimed_comes_back(stage: Stage, till: Till, stranger: Any) -> None:
    channel = till.open()
    till.redeem(till.row(channel, 20 * TALLY))
    close_at = request(stage, till, channel)
    with at_time(stage, close_at):
        sent = stage.escrow.close(fields(channel), {"from": stranger})
    event = sent.events["ChannelClosed"]
    assert (event["amount"], event["deposited"]) == (40 * TALLY, 20 * TALLY)
    assert int(sent.return_value) == 40 * TALLY
    assert till.state(channel) == (20 * TALLY, 20 * TALLY, 0)
    assert stage.account(stage.consumer) == (980 * TALLY, 0)
    with reverts_with("CloseNotRequested", channel_id(channel)):
        stage.escrow.close(fields(channel), {"from": stranger})


def test_not_a_second_before(stage: Stage, till: Till) -> None:
    """Case 30."""
    channel = till.open()
    close_at = request(stage, till, channel)
    with (
        at_time(stage, close_at - 1),
        reverts_with("ClosePeriodNotOver", close_at, close_at - 1),
    ):
        stage.escrow.close(fields(channel), {"from": stage.consumer})


def test_a_second_request_does_not_move_the_first(stage: Stage, till: Till) -> None:
    """Case 10."""
    channel = till.open()
    close_at = request(stage, till, channel)
    stage.at(close_at - 10)
    with reverts_with("CloseAlreadyRequested", close_at):
        stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    assert till.state(channel)[2] == close_at


def test_only_the_payer_asks_and_takes_back(
    stage: Stage, till: Till, stranger: Any, operator: Any
) -> None:
    channel = till.open()
    for person in (stranger, stage.provider, till.signer, operator):
        with reverts_with("OnlyPayer", stage.consumer, person):
            stage.escrow.requestClose(fields(channel), {"from": person})
    request(stage, till, channel)
    for person in (stranger, stage.provider, till.signer, operator):
        with reverts_with("OnlyPayer", stage.consumer, person):
            stage.escrow.cancelClose(fields(channel), {"from": person})


def test_taken_back_the_next_request_starts_anew(stage: Stage, till: Till) -> None:
    channel = till.open()
    with reverts_with("CloseNotRequested", channel_id(channel)):
        stage.escrow.cancelClose(fields(channel), {"from": stage.consumer})
    first = request(stage, till, channel)
    sent = stage.escrow.cancelClose(fields(channel), {"from": stage.consumer})
    assert sent.events["CloseCancelled"]["channelId"] == channel_id(channel)
    assert till.state(channel)[2] == 0
    stage.at(first)
    with reverts_with("CloseNotRequested", channel_id(channel)):
        stage.escrow.close(fields(channel), {"from": stage.consumer})
    assert request(stage, till, channel) >= first + CLOSE_S


@pytest.mark.parametrize("claimed", [0, DEPOSIT])
def test_reverts_with_nothing_unclaimed(stage: Stage, till: Till, claimed: int) -> None:
    """A request before there is money would let the period run out in advance."""
    channel = till.open() if claimed else till.channel()
    if claimed:
        till.redeem(till.row(channel, claimed))
    with reverts_with("NothingUnclaimed", channel_id(channel)):
        stage.escrow.requestClose(fields(channel), {"from": stage.consumer})


def test_vouchers_are_good_until_it_is_executed(stage: Stage, till: Till) -> None:
    """Case 44: a provider has the whole period, and longer if nobody closes."""
    channel = till.open()
    close_at = request(stage, till, channel)
    with at_time(stage, close_at - 1):
        till.redeem(till.row(channel, 10 * TALLY))
    with at_time(stage, close_at + CLOSE_S):
        till.redeem(till.row(channel, 30 * TALLY))
    stage.escrow.close(fields(channel), {"from": stage.consumer})
    till.redeem(till.row(channel, 31 * TALLY))
    assert stage.payee(stage.provider)[0] == 30 * TALLY
    assert stage.account(stage.consumer)[0] == 970 * TALLY


def test_a_strangers_top_up_moves_only_the_amount(
    stage: Stage, till: Till, other_provider: Any
) -> None:
    """Case 9: it is a gift to the payer."""
    channel = till.open()
    close_at = request(stage, till, channel)
    stage.token.approve(stage.escrow, 5, {"from": other_provider})
    stage.escrow.depositToChannel(fields(channel), 5, {"from": other_provider})
    with reverts_with("ZeroAmount"):
        stage.escrow.depositToChannel(fields(channel), 0, {"from": other_provider})
    with at_time(stage, close_at):
        stage.escrow.close(fields(channel), {"from": stage.consumer})
    assert stage.account(stage.consumer)[0] == 1_000 * TALLY + 5


def test_all_claimed_meanwhile_it_ends_with_nothing(stage: Stage, till: Till) -> None:
    channel = till.open()
    close_at = request(stage, till, channel)
    till.redeem(till.row(channel, DEPOSIT))
    with at_time(stage, close_at):
        sent = stage.escrow.close(fields(channel), {"from": stage.consumer})
    assert int(sent.return_value) == 0
    # Money that comes later does not inherit the period that ran (case 10).
    till.open(channel)
    with reverts_with("CloseNotRequested", channel_id(channel)):
        stage.escrow.close(fields(channel), {"from": stage.consumer})


def test_strangers_do_not_slow_a_close(stage: Stage, till: Till, people: list[Any]) -> None:
    """Case 8 and law 6: the way out costs the same in a crowd."""

    def gas(salt: int) -> int:
        channel = till.open(till.channel(salt=salt))
        with at_time(stage, request(stage, till, channel)):
            return int(stage.escrow.close(fields(channel), {"from": stage.consumer}).gas_used)

    alone = gas(1)
    for person in people:
        till.open(till.channel(salt=50, signer=person.address), 1)
    assert abs(gas(2) - alone) <= alone * 5 // 100
