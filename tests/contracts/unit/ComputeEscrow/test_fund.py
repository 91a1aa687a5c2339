"""fund: the payer's available money goes into a channel.

fund
├── opens the channel, then tops it up; available falls by as much
├── reverts for anybody but the payer
├── reverts beyond available, for zero
├── reverts for a channel without signer, or whose provider can never be paid
└── a requested close stays where it is
"""

from __future__ import annotations

from typing import Any

from tests.contracts.channels import DEPOSIT, Till, channel_id, fields
from tests.contracts.stage import TALLY, ZERO, Stage, reverts_with


def test_opens_and_tops_up(stage: Stage, till: Till) -> None:
    channel = till.channel()
    sent = stage.escrow.fund(fields(channel), DEPOSIT, {"from": stage.consumer})
    event = sent.events["ChannelFunded"]
    assert event["channelId"] == channel_id(channel)
    assert (event["payer"], event["signer"], event["provider"], event["salt"]) == fields(channel)
    assert (event["amount"], event["deposited"]) == (DEPOSIT, DEPOSIT)
    sent = stage.escrow.fund(fields(channel), 1, {"from": stage.consumer})
    assert sent.events["ChannelFunded"]["deposited"] == DEPOSIT + 1
    assert till.state(channel) == (DEPOSIT + 1, 0, 0)
    assert stage.account(stage.consumer) == (1_000 * TALLY - DEPOSIT - 1, 0)


def test_reverts_for_anybody_else(stage: Stage, till: Till, stranger: Any) -> None:
    """Case 11: nobody moves another's money into a channel of its own."""
    channel = till.channel(signer=stranger.address, provider=stranger.address)
    for person in (stranger, stage.provider, till.signer):
        with reverts_with("OnlyPayer", stage.consumer, person):
            stage.escrow.fund(fields(channel), 1, {"from": person})


def test_reverts_beyond_available_and_for_nothing(stage: Stage, till: Till) -> None:
    channel = till.channel()
    with reverts_with("InsufficientAvailable", 1_000 * TALLY + 1, 1_000 * TALLY):
        stage.escrow.fund(fields(channel), 1_000 * TALLY + 1, {"from": stage.consumer})
    with reverts_with("ZeroAmount"):
        stage.escrow.fund(fields(channel), 0, {"from": stage.consumer})


def test_what_is_locked_is_not_available(stage: Stage, till: Till) -> None:
    stage.create(stage.terms(max_charge=1_000 * TALLY))
    with reverts_with("InsufficientAvailable", 1, 0):
        stage.escrow.fund(fields(till.channel()), 1, {"from": stage.consumer})


def test_reverts_for_channels_that_could_never_be_paid_out(stage: Stage, till: Till) -> None:
    sender = {"from": stage.consumer}
    with reverts_with("ChannelWithoutSigner"):
        stage.escrow.fund(fields(till.channel(signer=ZERO)), 1, sender)
    for nobody in (ZERO, stage.escrow.address):
        with reverts_with("InvalidRecipient", nobody):
            stage.escrow.fund(fields(till.channel(provider=nobody)), 1, sender)


def test_leaves_a_requested_close_where_it_is(stage: Stage, till: Till) -> None:
    """Case 9: neither clock nor request changes with the amount."""
    channel = till.open()
    close_at = stage.escrow.requestClose(fields(channel), {"from": stage.consumer}).return_value
    stage.escrow.fund(fields(channel), 5, {"from": stage.consumer})
    assert till.state(channel) == (DEPOSIT + 5, 0, int(close_at))
