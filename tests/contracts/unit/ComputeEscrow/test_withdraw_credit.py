"""withdrawCredit with rows: from voucher to wallet in one transaction.

withdrawCredit
├── redeems the rows, adds what is credited already, pays all less the fee, rounded down
├── with credit zero the rows alone pay; with neither it reverts
├── rows that pay nothing are skipped
├── equals redeem followed by withdrawCredit, to the unit (case 7)
├── goes to the payout address, whoever sends it
├── a frozen payee keeps its credit, and the payout address leads out (case 5)
└── tokens of six decimals (case 6)
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import Channel, Domain, sign
from tallystick.protocol.types import Address
from tests.contracts.channels import Till, row_of
from tests.contracts.conftest import deploy_neighbours
from tests.contracts.stage import NO_DIGEST, TALLY, Stage, reverts_with


def test_pays_credit_and_rows_together(stage: Stage, till: Till, stranger: Any) -> None:
    channel = till.open()
    till.redeem(till.row(channel, 3 * TALLY))
    before = stage.token.balanceOf(stage.provider)
    sent = stage.escrow.withdrawCredit(
        stage.provider, [till.row(channel, 10 * TALLY)], {"from": stranger}
    )
    fee = 10 * TALLY // 100
    assert stage.token.balanceOf(stage.provider) - before == 10 * TALLY - fee
    assert stage.payee(stage.provider) == (0, fee)
    assert sent.events["VoucherRedeemed"]["amount"] == 7 * TALLY
    event = sent.events["CreditWithdrawn"]
    assert (event["paid"], event["fee"]) == (10 * TALLY - fee, fee)
    assert int(sent.return_value) == 10 * TALLY - fee


def test_rows_alone_are_enough(stage: Stage, till: Till) -> None:
    channel = till.open()
    row = till.row(channel, TALLY)
    stage.escrow.withdrawCredit(stage.provider, [row], {"from": stage.dispatcher})
    assert stage.payee(stage.provider) == (0, TALLY // 100)
    with reverts_with("NoCredit", stage.provider):
        stage.escrow.withdrawCredit(stage.provider, [row], {"from": stage.dispatcher})


def test_bad_rows_are_skipped(stage: Stage, till: Till, stranger: Any) -> None:
    channel = till.open()
    rows = [till.row(channel, TALLY, by=stranger), till.row(channel, TALLY)]
    sent = stage.escrow.withdrawCredit(stage.provider, rows, {"from": stranger})
    assert int(sent.return_value) == TALLY - TALLY // 100


@pytest.mark.parametrize("total", [1, 99, 100, 101, 12_345])
def test_the_same_in_one_step_and_in_two(
    stage: Stage, till: Till, total: int, stranger: Any
) -> None:
    """Case 7: the fee is rounded down, once, over the sum."""
    one, two = till.open(till.channel(salt=1), total), till.open(till.channel(salt=2), total)
    sender = {"from": stranger}
    stage.escrow.withdrawCredit(stage.provider, [till.row(one, total)], sender)
    assert stage.payee(stage.provider) == (0, total // 100)
    till.redeem(till.row(two, total))
    stage.escrow.withdrawCredit(stage.provider, [], sender)
    assert stage.payee(stage.provider) == (0, 2 * (total // 100))


def test_goes_to_the_payout_address(stage: Stage, till: Till, stranger: Any) -> None:
    """Law 12: the key that redeems cannot redirect."""
    channel = till.open()
    stage.escrow.setPayoutAddress(stage.provider, stranger, {"from": stage.provider})
    before = stage.token.balanceOf(stranger)
    rows = [till.row(channel, 100)]
    stage.escrow.withdrawCredit(stage.provider, rows, {"from": stage.operator})
    assert stage.token.balanceOf(stranger) - before == 99


def test_in_six_decimals_with_a_frozen_payee(
    deployer: Any, treasury: Any, consumer: Any, provider: Any, stranger: Any
) -> None:
    """Cases 5 and 6: what the token refuses to send stays credited, and leaves elsewhere."""
    from brownie import MockUSDC, chain

    token = deployer.deploy(MockUSDC, consumer, 10**12)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 5_000_000, {"from": consumer})
    channel = Channel(
        Address(consumer.address), Address(consumer.address), Address(provider.address), 0
    )
    escrow.depositToChannel(
        (channel.payer, channel.signer, channel.provider, 0), 5_000_000, {"from": consumer}
    )
    domain = Domain(chain.id, Address(escrow.address))
    voucher = channel.voucher(1_999_999, NO_DIGEST)
    rows = [row_of(voucher, sign(domain, voucher, consumer.private_key))]
    token.freeze(provider, {"from": deployer})
    with reverts_with("Frozen"):
        escrow.withdrawCredit(provider, rows, {"from": stranger})
    escrow.redeem(provider, rows, {"from": stranger})
    assert int(escrow.payeeOf(provider)[0]) == 1_999_999
    escrow.setPayoutAddress(provider, stranger, {"from": provider})
    escrow.withdrawCredit(provider, [], {"from": consumer})
    assert int(token.balanceOf(stranger)) == 1_999_999 - 19_999
