"""depositToChannel, depositToChannelWithPermit, depositToChannelWithAuthorization.

depositToChannel
├── moves exactly the amount from the caller into the channel, and into no account
├── paid in for another payer it is a gift
├── reverts for zero, without a signer, for parties that can never be paid
├── a token that takes a fee reverts, one that calls back has one effect (cases 1 and 2)
└── the largest amount fits, one more does not run over into claimed (case 6)
depositToChannelWithPermit
├── permits and deposits in one call; a permit somebody used up first is no failure (case 20)
└── no permit and no allowance: reverts
depositToChannelWithAuthorization
├── anyone sends it; it lands in the channel that was signed for
└── reverts for another channel, for an account, and a second time
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import Channel
from tallystick.protocol.types import Address
from tests.contracts.channels import Till, channel_id, fields
from tests.contracts.conftest import deploy_neighbours
from tests.contracts.stage import TALLY, ZERO, Stage, reverts_with
from tests.contracts.unit.ComputeEscrow.test_deposit import FAR, SALT, authorization, permit


def test_goes_into_the_channel(stage: Stage, till: Till) -> None:
    channel = till.channel()
    stage.token.approve(stage.escrow, 5, {"from": stage.consumer})
    before = stage.token.balanceOf(stage.consumer)
    sent = stage.escrow.depositToChannel(fields(channel), 5, {"from": stage.consumer})
    assert before - stage.token.balanceOf(stage.consumer) == 5
    assert till.state(channel) == (5, 0, 0)
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)
    event = sent.events["ChannelDeposited"]
    assert event["channelId"] == channel_id(channel)
    assert (event["payer"], event["signer"], event["provider"], event["salt"]) == fields(channel)
    assert (event["source"], event["amount"], event["deposited"]) == (stage.consumer, 5, 5)
    assert "Deposited" not in sent.events


def test_for_another_payer_it_is_a_gift(stage: Stage, till: Till, other_provider: Any) -> None:
    channel = till.channel()
    stage.token.approve(stage.escrow, 5, {"from": other_provider})
    sent = stage.escrow.depositToChannel(fields(channel), 5, {"from": other_provider})
    assert sent.events["ChannelDeposited"]["source"] == other_provider
    stage.escrow.release(fields(channel), 5, {"from": stage.provider})
    assert stage.account(stage.consumer)[0] == 1_000 * TALLY + 5


def test_reverts_for_channels_that_could_never_be_paid_out(stage: Stage, till: Till) -> None:
    sender = {"from": stage.consumer}
    with reverts_with("ZeroAmount"):
        stage.escrow.depositToChannel(fields(till.channel()), 0, sender)
    with reverts_with("ChannelWithoutSigner"):
        stage.escrow.depositToChannel(fields(till.channel(signer=ZERO)), 1, sender)
    for nobody in (ZERO, stage.escrow.address):
        for channel in (till.channel(payer=nobody), till.channel(provider=nobody)):
            with reverts_with("InvalidRecipient", nobody):
                stage.escrow.depositToChannel(fields(channel), 1, sender)


@pytest.mark.parametrize("fee_bps", [1, 10_000])
def test_reverts_when_the_token_takes_a_fee(
    deployer: Any, treasury: Any, consumer: Any, provider: Any, fee_bps: int
) -> None:
    """Case 2."""
    from brownie import FeeOnTransferToken

    token = deployer.deploy(FeeOnTransferToken, consumer, 10 * TALLY, fee_bps)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, TALLY, {"from": consumer})
    channel = (consumer.address, consumer.address, provider.address, 0)
    with reverts_with("DepositNotExact", TALLY, TALLY - TALLY * fee_bps // 10_000):
        escrow.depositToChannel(channel, TALLY, {"from": consumer})


@pytest.mark.parametrize("again", ["depositToChannel", "deposit", "fund", "redeem", "release"])
def test_a_token_that_calls_back_has_one_effect(
    deployer: Any, treasury: Any, consumer: Any, provider: Any, again: str
) -> None:
    """Case 1: what moves tokens cannot be entered; what does not has nothing to gain."""
    from brownie import ReentrantToken

    token = deployer.deploy(ReentrantToken, consumer, 10 * TALLY)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 5 * TALLY, {"from": consumer})
    channel = (consumer.address, consumer.address, provider.address, 0)
    data = {
        "depositToChannel": escrow.depositToChannel.encode_input(channel, 1),
        "deposit": escrow.deposit.encode_input(consumer, 1),
        "fund": escrow.fund.encode_input(channel, 1),
        "redeem": escrow.redeem.encode_input(provider, [(0, 1, *[b"\1" * 32] * 3)]),
        "release": escrow.release.encode_input(channel, 1),
    }[again]
    token.arm(escrow, data, {"from": deployer})
    escrow.depositToChannel(channel, TALLY, {"from": consumer})
    assert token.called()
    assert token.succeeded() == (again == "redeem")
    told = Channel(
        Address(consumer.address), Address(consumer.address), Address(provider.address), 0
    )
    assert [int(part) for part in escrow.channelOf(channel_id(told))] == [TALLY, 0, 0]
    assert int(token.balanceOf(escrow)) == TALLY


def test_the_largest_amount_does_not_run_over(
    deployer: Any, treasury: Any, consumer: Any, provider: Any
) -> None:
    """Case 6: the low half of the slot is full; nothing reaches the half of what is claimed."""
    from brownie import MockUSDC
    from brownie.exceptions import VirtualMachineError

    most = 2**128 - 1
    token = deployer.deploy(MockUSDC, consumer, 2 * most)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 2 * most, {"from": consumer})
    channel = (consumer.address, consumer.address, provider.address, 0)
    escrow.depositToChannel(channel, most, {"from": consumer})
    with pytest.raises(VirtualMachineError):
        escrow.depositToChannel(channel, 1, {"from": consumer})
    deposited, claimed, _ = escrow.channelOf(escrow.channelIdOf(channel))
    assert (int(deposited), int(claimed)) == (most, 0)


# ---------------------------------------------------------------------- permit


def test_with_permit_also_one_used_up_first(stage: Stage, till: Till, stranger: Any) -> None:
    """Case 20."""
    channel = fields(till.channel())
    v, r, s = permit(stage, stage.consumer, 7)
    sender = {"from": stage.consumer}
    stage.escrow.depositToChannelWithPermit(channel, 7, FAR, v, r, s, sender)
    v, r, s = permit(stage, stage.consumer, 5)
    stage.token.permit(stage.consumer, stage.escrow, 5, FAR, v, r, s, {"from": stranger})
    stage.escrow.depositToChannelWithPermit(channel, 5, FAR, v, r, s, sender)
    assert till.money(till.channel()) == (12, 0)


def test_reverts_without_permit_and_allowance(stage: Stage, till: Till, stranger: Any) -> None:
    v, r, s = permit(stage, stage.consumer, 7)
    with reverts_with("ERC20InsufficientAllowance"):
        stage.escrow.depositToChannelWithPermit(
            fields(till.channel()), 7, FAR, v, r, s, {"from": stranger}
        )


# ---------------------------------------------------------------------- authorization


def test_with_authorization_anyone_sends_it(stage: Stage, till: Till, stranger: Any) -> None:
    channel = till.channel()
    nonce = stage.escrow.channelAuthorizationNonce(channel_id(channel), SALT)
    v, r, s = authorization(stage, stage.consumer, nonce, 7)
    arguments = (stage.consumer, fields(channel), 7, 0, FAR, SALT, v, r, s)
    sent = stage.escrow.depositToChannelWithAuthorization(*arguments, {"from": stranger})
    assert sent.events["ChannelDeposited"]["source"] == stage.consumer
    assert till.money(channel) == (7, 0)
    with reverts_with("ERC3009UsedAuthorization"):
        stage.escrow.depositToChannelWithAuthorization(*arguments, {"from": stranger})


def test_with_authorization_no_relayer_redirects_it(
    stage: Stage, till: Till, stranger: Any
) -> None:
    """The nonce binds the channel: no other channel, no account, and neither the other way."""
    channel = till.channel()
    nonce = stage.escrow.channelAuthorizationNonce(channel_id(channel), SALT)
    v, r, s = authorization(stage, stage.consumer, nonce, 7)
    for other in (till.channel(salt=8), till.channel(signer=stranger.address)):
        with reverts_with("ERC3009InvalidSignature"):
            stage.escrow.depositToChannelWithAuthorization(
                stage.consumer, fields(other), 7, 0, FAR, SALT, v, r, s, {"from": stranger}
            )
    truncated = "0x" + channel_id(channel)[26:]
    for account in (stage.consumer, stranger, truncated):
        with reverts_with("ERC3009InvalidSignature"):
            stage.escrow.depositWithAuthorization(
                stage.consumer, account, 7, 0, FAR, SALT, v, r, s, {"from": stranger}
            )
    account_nonce = stage.escrow.authorizationNonce(stage.consumer, SALT)
    v, r, s = authorization(stage, stage.consumer, account_nonce, 7)
    with reverts_with("ERC3009InvalidSignature"):
        stage.escrow.depositToChannelWithAuthorization(
            stage.consumer, fields(channel), 7, 0, FAR, SALT, v, r, s, {"from": stranger}
        )
