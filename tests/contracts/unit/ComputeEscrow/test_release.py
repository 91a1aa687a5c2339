"""release: the provider gives unclaimed money back at once.

release
├── by the provider or its operator key: available to the payer, also while a close waits
├── reverts for anybody else, the payer and a retired key among them
├── reverts beyond what is unclaimed, and for zero
└── what was claimed stays claimed: the vouchers left pay up to the smaller deposit
"""

from __future__ import annotations

from typing import Any

from tests.contracts.channels import DEPOSIT, Till, channel_id, fields
from tests.contracts.stage import CLOSE_S, TALLY, Stage, at_time, reverts_with


def test_comes_back_at_once(stage: Stage, till: Till, operator: Any) -> None:
    channel = till.open()
    till.redeem(till.row(channel, 10 * TALLY))
    sent = stage.escrow.release(fields(channel), 20 * TALLY, {"from": stage.provider})
    event = sent.events["ChannelReleased"]
    assert event["channelId"] == channel_id(channel)
    assert (event["amount"], event["deposited"]) == (20 * TALLY, 40 * TALLY)
    assert stage.account(stage.consumer)[0] == 960 * TALLY
    stage.escrow.release(fields(channel), 30 * TALLY, {"from": operator})
    assert till.money(channel) == (10 * TALLY, 10 * TALLY)
    assert stage.account(stage.consumer)[0] == 990 * TALLY


def test_reverts_for_anybody_else(stage: Stage, till: Till, stranger: Any, operator: Any) -> None:
    channel = till.open()
    stage.staking.retireOperatorKey(operator, {"from": stage.provider})
    for person in (stranger, stage.consumer, till.signer, operator):
        with reverts_with("OnlyProvider", stage.provider, person):
            stage.escrow.release(fields(channel), 1, {"from": person})


def test_reverts_beyond_what_is_unclaimed(stage: Stage, till: Till) -> None:
    channel = till.open()
    till.redeem(till.row(channel, DEPOSIT - 1))
    with reverts_with("InsufficientUnclaimed", 2, 1):
        stage.escrow.release(fields(channel), 2, {"from": stage.provider})
    with reverts_with("ZeroAmount"):
        stage.escrow.release(fields(channel), 0, {"from": stage.provider})
    with reverts_with("InsufficientUnclaimed", 1, 0):
        stage.escrow.release(fields(till.channel(salt=99)), 1, {"from": stage.provider})


def test_a_voucher_reaches_as_far_as_what_is_left(stage: Stage, till: Till) -> None:
    channel = till.open()
    row = till.row(channel, 50 * TALLY)
    stage.escrow.release(fields(channel), 40 * TALLY, {"from": stage.provider})
    till.redeem(row)
    assert stage.payee(stage.provider)[0] == 20 * TALLY


def test_a_waiting_close_goes_on(stage: Stage, till: Till) -> None:
    channel = till.open()
    stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    close_at = till.state(channel)[2]
    stage.escrow.release(fields(channel), DEPOSIT, {"from": stage.provider})
    assert till.state(channel) == (0, 0, close_at)
    with at_time(stage, close_at + CLOSE_S):
        assert int(stage.escrow.close(fields(channel), {"from": stage.consumer}).return_value) == 0
