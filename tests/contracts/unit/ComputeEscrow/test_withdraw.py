"""withdraw, withdrawCredit, setPayoutAddress, shareFees: whatever strangers do, money leaves (L6).

withdraw
├── available leaves at once, to any address
├── what is locked stays
└── reverts beyond available, for zero, to nowhere
withdrawCredit
├── by anyone, always to the payout address; the fee stays aside
├── a frozen payee does not stop the others (case 5)
└── reverts without credit
setPayoutAddress
└── by the present payout address only: no hot key redirects pay
shareFees
└── by anyone, to the treasury
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.conftest import deploy_neighbours
from tests.contracts.stage import CLOSE_S, POOL_SHARE_BPS, TALLY, ZERO, Stage, reverts_with

CHARGE = 131 * TALLY // 10
CREDIT = CHARGE - CHARGE * 500 // 10_000
FEE = CREDIT * 100 // 10_000


@pytest.fixture
def earned(stage: Stage, stranger: Any) -> None:
    """The provider has been paid for one task."""
    stage.market.proveOrder(stage.accepted(stage.terms(), stage.usage()), {"from": stranger})


def test_available_leaves_at_once(stage: Stage, stranger: Any) -> None:
    before = stage.token.balanceOf(stranger)
    stage.escrow.withdraw(1_000 * TALLY, stranger, {"from": stage.consumer})
    assert stage.account(stage.consumer) == (0, 0)
    assert stage.token.balanceOf(stranger) - before == 1_000 * TALLY


def test_what_is_locked_stays(stage: Stage) -> None:
    stage.create(stage.terms())
    with reverts_with("InsufficientAvailable", 951 * TALLY, 950 * TALLY):
        stage.escrow.withdraw(951 * TALLY, stage.consumer, {"from": stage.consumer})
    stage.escrow.withdraw(950 * TALLY, stage.consumer, {"from": stage.consumer})
    assert stage.account(stage.consumer) == (0, 50 * TALLY)


def test_withdraw_reverts_for_nothing_and_to_nowhere(stage: Stage) -> None:
    with reverts_with("ZeroAmount"):
        stage.escrow.withdraw(0, stage.consumer, {"from": stage.consumer})
    for nowhere in (ZERO, stage.escrow.address):
        with reverts_with("InvalidRecipient", nowhere):
            stage.escrow.withdraw(1, nowhere, {"from": stage.consumer})


def test_strangers_do_not_slow_a_withdrawal(stage: Stage, people: list[Any]) -> None:
    """Cases 8 and 9: a stranger's deposits and gifts change neither gas nor amount."""
    alone = stage.escrow.withdraw(TALLY, stage.consumer, {"from": stage.consumer}).gas_used
    stage.token.approve(stage.escrow, 100, {"from": stage.provider})
    for person in people:
        stage.escrow.deposit(person, 1, {"from": stage.provider})
    crowded = stage.escrow.withdraw(TALLY, stage.consumer, {"from": stage.consumer}).gas_used
    assert abs(crowded - alone) <= alone * 5 // 100


def test_a_direct_transfer_moves_nothing_else(stage: Stage) -> None:
    """Case 18."""
    before = (stage.account(stage.consumer), stage.payee(stage.provider))
    stage.token.transfer(stage.escrow, 5, {"from": stage.consumer})
    assert (stage.account(stage.consumer), stage.payee(stage.provider)) == before


# ---------------------------------------------------------------------- credit


@pytest.mark.usefixtures("earned")
def test_credit_is_paid_less_the_fee(stage: Stage, stranger: Any) -> None:
    before = stage.token.balanceOf(stage.provider)
    sent = stage.escrow.withdrawCredit(stage.provider, [], {"from": stranger})
    assert stage.token.balanceOf(stage.provider) - before == CREDIT - FEE
    assert stage.payee(stage.provider) == (0, FEE)
    event = sent.events["CreditWithdrawn"]
    assert (event["to"], event["paid"], event["fee"]) == (stage.provider, CREDIT - FEE, FEE)
    with reverts_with("NoCredit", stage.provider):
        stage.escrow.withdrawCredit(stage.provider, [], {"from": stranger})


@pytest.mark.usefixtures("earned")
def test_credit_goes_to_the_payout_address_which_alone_changes_it(
    stage: Stage, treasury: Any, stranger: Any
) -> None:
    """Law 12: the hot key that earned it cannot take it."""
    with reverts_with("OnlyPayoutAddress", stage.provider, stage.operator):
        stage.escrow.setPayoutAddress(stage.provider, stage.operator, {"from": stage.operator})
    stage.escrow.setPayoutAddress(stage.provider, stranger, {"from": stage.provider})
    with reverts_with("OnlyPayoutAddress", stranger, stage.provider):
        stage.escrow.setPayoutAddress(stage.provider, stage.provider, {"from": stage.provider})
    before = stage.token.balanceOf(stranger)
    stage.escrow.withdrawCredit(stage.provider, [], {"from": treasury})
    assert stage.token.balanceOf(stranger) - before == CREDIT - FEE
    for nowhere in (ZERO, stage.escrow.address):
        with reverts_with("InvalidRecipient", nowhere):
            stage.escrow.setPayoutAddress(stage.provider, nowhere, {"from": stranger})


@pytest.mark.usefixtures("earned")
def test_fees_go_to_the_treasury(stage: Stage, treasury: Any, stranger: Any) -> None:
    with reverts_with("NoFees", stage.provider):
        stage.escrow.shareFees(stage.provider, {"from": stranger})
    stage.escrow.withdrawCredit(stage.provider, [], {"from": stranger})
    before = stage.token.balanceOf(treasury)
    stage.escrow.shareFees(stage.provider, {"from": stranger})
    assert stage.token.balanceOf(treasury) - before == FEE
    assert stage.payee(stage.provider) == (0, 0)


def test_a_frozen_payee_stops_nobody_else(
    deployer: Any, treasury: Any, consumer: Any, stranger: Any
) -> None:
    """Case 5: everyone pulls for themselves, and the payout address leads out."""
    from brownie import MockUSDC

    token = deployer.deploy(MockUSDC, consumer, 10**12)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 200, {"from": consumer})
    escrow.deposit(consumer, 100, {"from": consumer})
    token.freeze(consumer, {"from": deployer})
    with reverts_with("Frozen"):
        escrow.withdraw(100, consumer, {"from": consumer})
    escrow.withdraw(100, stranger, {"from": consumer})
    assert token.balanceOf(stranger) == 100


# ---------------------------------------------------------------------- the market's orders


def test_only_the_market_moves_money_inside(stage: Stage, stranger: Any) -> None:
    """Case 11: nobody but the market pays out of an account; case 14 for these three."""
    one = stage.consumer.address
    calls = [
        lambda sender: stage.escrow.lockAvailable(one, 1, sender),
        lambda sender: stage.escrow.unlock(one, 1, sender),
        lambda sender: stage.escrow.payProviderFrom(one, 0, 1, stranger, ZERO, 0, ZERO, 0, sender),
    ]
    for person in (stranger, stage.consumer, stage.provider):
        for call in calls:
            with reverts_with("OnlyMarket", stage.market, person):
                call({"from": person})


@pytest.mark.parametrize("fee_bps", [0, 500])
def test_the_protocol_fee_has_a_limit(
    deployer: Any, token: Any, treasury: Any, stranger: Any, fee_bps: int
) -> None:
    """Case 32; nothing can be changed later, there is no setter (cases 12, 24, 33)."""
    from brownie import ComputeEscrow

    neighbours = (token, stranger, stranger, treasury)
    deployer.deploy(ComputeEscrow, *neighbours, fee_bps, POOL_SHARE_BPS, CLOSE_S)
    with reverts_with("ProtocolFeeTooHigh", 500, 501):
        deployer.deploy(ComputeEscrow, *neighbours, 501, POOL_SHARE_BPS, CLOSE_S)


def test_contracts_cannot_be_replaced_or_destroyed(stage: Stage) -> None:
    """Case 15: no DELEGATECALL, CALLCODE or SELFDESTRUCT in the code."""
    from brownie import web3

    for contract in (stage.token, stage.escrow, stage.staking, stage.market):
        code = bytes(web3.eth.get_code(contract.address))
        # The metadata at the end is no code.
        code = code[: -2 - int.from_bytes(code[-2:], "big")]
        at = 0
        while at < len(code):
            assert code[at] not in (0xF2, 0xF4, 0xFF), contract
            at += code[at] - 0x5E if 0x60 <= code[at] <= 0x7F else 1
