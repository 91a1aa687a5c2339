"""deposit, depositWithPermit, depositWithAuthorization.

deposit
├── moves exactly the amount from the caller to `to`'s available
├── reverts for zero, for the zero address, for the escrow itself
├── token answers nothing / false / 64 kB: counted / reverts / counted (case 4)
├── token takes a fee: reverts (case 2)
└── token calls back: one effect only (case 1)
depositWithPermit
├── permits and deposits in one call
├── a permit somebody used up first is no failure (case 20)
└── no permit and no allowance: reverts, also where a fallback swallows the permit (case 20)
depositWithAuthorization
├── anyone sends it; it lands where the signer said
└── reverts when a relayer sends it elsewhere, or twice
"""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.contracts.conftest import deploy_neighbours
from tests.contracts.stage import TALLY, ZERO, Stage, reverts_with

FAR = 2**63


def test_is_available_at_once(stage: Stage, stranger: Any) -> None:
    stage.token.approve(stage.escrow, 5, {"from": stage.consumer})
    sent = stage.escrow.deposit(stranger, 5, {"from": stage.consumer})
    assert stage.account(stranger) == (5, 0)
    event = sent.events["Deposited"]
    assert (event["account"], event["payer"], event["amount"]) == (stranger, stage.consumer, 5)


@pytest.mark.parametrize("amount", [0])
def test_reverts_for_nothing(stage: Stage, amount: int) -> None:
    """Case 9: a stranger's empty top-up does not exist."""
    with reverts_with("ZeroAmount"):
        stage.escrow.deposit(stage.consumer, amount, {"from": stage.consumer})


def test_reverts_for_accounts_that_can_never_withdraw(stage: Stage) -> None:
    for nobody in (ZERO, stage.escrow.address):
        with reverts_with("InvalidRecipient", nobody):
            stage.escrow.deposit(nobody, 1, {"from": stage.consumer})


@pytest.mark.parametrize("answer", ["nothing", "false", "64 kB"])
def test_with_a_token_of_odd_answers(
    deployer: Any, treasury: Any, consumer: Any, answer: str
) -> None:
    """Case 4."""
    from brownie import OddAnswerToken
    from brownie.exceptions import VirtualMachineError

    at = ["nothing", "false", "64 kB"].index(answer)
    token = deployer.deploy(OddAnswerToken, consumer, 10 * TALLY, at)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, TALLY, {"from": consumer})
    if answer == "false":
        with pytest.raises(VirtualMachineError):
            escrow.deposit(consumer, TALLY, {"from": consumer})
        return
    escrow.deposit(consumer, TALLY, {"from": consumer})
    escrow.withdraw(TALLY, consumer, {"from": consumer})
    assert token.balanceOf(consumer) == 10 * TALLY


@pytest.mark.parametrize("fee_bps", [1, 5_000, 10_000])
def test_reverts_when_the_token_takes_a_fee(
    deployer: Any, treasury: Any, consumer: Any, fee_bps: int
) -> None:
    """Case 2."""
    from brownie import FeeOnTransferToken

    token = deployer.deploy(FeeOnTransferToken, consumer, 10 * TALLY, fee_bps)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, TALLY, {"from": consumer})
    received = TALLY - TALLY * fee_bps // 10_000
    with reverts_with("DepositNotExact", TALLY, received):
        escrow.deposit(consumer, TALLY, {"from": consumer})


@pytest.mark.parametrize("again", ["deposit", "withdraw", "withdrawCredit", "shareFees"])
def test_a_token_that_calls_back_has_one_effect(
    deployer: Any, treasury: Any, consumer: Any, again: str
) -> None:
    """Case 1: no money-moving function can be entered while another runs."""
    from brownie import ReentrantToken

    token = deployer.deploy(ReentrantToken, consumer, 10 * TALLY)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 5 * TALLY, {"from": consumer})
    data = {
        "deposit": escrow.deposit.encode_input(consumer, 1),
        "withdraw": escrow.withdraw.encode_input(1, consumer),
        "withdrawCredit": escrow.withdrawCredit.encode_input(consumer, []),
        "shareFees": escrow.shareFees.encode_input(consumer),
    }[again]
    token.arm(escrow, data, {"from": deployer})
    escrow.deposit(consumer, TALLY, {"from": consumer})
    assert token.called()
    assert not token.succeeded()
    assert int(escrow.accountOf(consumer)[0]) == TALLY == token.balanceOf(escrow)


def test_a_view_read_in_the_middle_is_consistent(
    deployer: Any, treasury: Any, consumer: Any
) -> None:
    """Case 1: during a withdrawal the account shows what is left, not what was there."""
    from brownie import ReentrantToken

    token = deployer.deploy(ReentrantToken, consumer, 10 * TALLY)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 5 * TALLY, {"from": consumer})
    escrow.deposit(consumer, 5 * TALLY, {"from": consumer})
    token.arm(escrow, escrow.accountOf.encode_input(consumer), {"from": deployer})
    escrow.withdraw(2 * TALLY, consumer, {"from": consumer})
    seen = bytes(token.answer())
    assert int.from_bytes(seen[:32], "big") == 3 * TALLY


def test_six_decimals_work(deployer: Any, treasury: Any, consumer: Any) -> None:
    """Case 6."""
    from brownie import MockUSDC

    token = deployer.deploy(MockUSDC, consumer, 10**12)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(escrow, 1, {"from": consumer})
    escrow.deposit(consumer, 1, {"from": consumer})
    assert int(escrow.accountOf(consumer)[0]) == 1


# ---------------------------------------------------------------------- permit


def test_with_permit(stage: Stage) -> None:
    v, r, s = permit(stage, stage.consumer, 7)
    stage.escrow.depositWithPermit(stage.consumer, 7, FAR, v, r, s, {"from": stage.consumer})
    assert stage.account(stage.consumer)[0] == 1_000 * TALLY + 7


def test_a_permit_used_up_first_is_no_failure(stage: Stage, stranger: Any) -> None:
    """Case 20."""
    v, r, s = permit(stage, stage.consumer, 7)
    stage.token.permit(stage.consumer, stage.escrow, 7, FAR, v, r, s, {"from": stranger})
    stage.escrow.depositWithPermit(stage.consumer, 7, FAR, v, r, s, {"from": stage.consumer})
    assert stage.account(stage.consumer)[0] == 1_000 * TALLY + 7


def test_reverts_without_permit_and_allowance(stage: Stage, stranger: Any) -> None:
    v, r, s = permit(stage, stage.consumer, 7)
    with reverts_with("ERC20InsufficientAllowance"):
        stage.escrow.depositWithPermit(stranger, 7, FAR, v, r, s, {"from": stranger})


def test_a_fallback_is_no_permit(deployer: Any, treasury: Any, consumer: Any) -> None:
    """Case 20: WETH's fallback swallows the call; without an allowance nothing is credited."""
    from brownie import FallbackToken

    token = deployer.deploy(FallbackToken, consumer, TALLY)
    escrow, _, _ = deploy_neighbours(deployer, token, treasury)
    with reverts_with("ERC20InsufficientAllowance"):
        escrow.depositWithPermit(
            consumer, TALLY, FAR, 27, b"\1" * 32, b"\1" * 32, {"from": consumer}
        )
    assert int(escrow.accountOf(consumer)[0]) == 0


# ---------------------------------------------------------------------- authorization

SALT = b"\7" * 32


def test_with_authorization_anyone_sends_it(stage: Stage, stranger: Any) -> None:
    nonce = stage.escrow.authorizationNonce(stage.consumer, SALT)
    v, r, s = authorization(stage, stage.consumer, nonce, 7)
    arguments = (stage.consumer, stage.consumer, 7, 0, FAR, SALT, v, r, s)
    stage.escrow.depositWithAuthorization(*arguments, {"from": stranger})
    assert stage.account(stage.consumer)[0] == 1_000 * TALLY + 7
    with reverts_with("ERC3009UsedAuthorization"):
        stage.escrow.depositWithAuthorization(*arguments, {"from": stranger})


def test_with_authorization_no_relayer_redirects_it(stage: Stage, stranger: Any) -> None:
    """The nonce binds the account: another account means another nonce, which nobody signed."""
    nonce = stage.escrow.authorizationNonce(stage.consumer, SALT)
    v, r, s = authorization(stage, stage.consumer, nonce, 7)
    with reverts_with("ERC3009InvalidSignature"):
        stage.escrow.depositWithAuthorization(
            stage.consumer, stranger, 7, 0, FAR, SALT, v, r, s, {"from": stranger}
        )


def permit(stage: Stage, owner: Any, value: int) -> tuple[int, bytes, bytes]:
    return typed_signature(
        stage,
        owner,
        "Permit",
        [
            ("owner", "address", owner.address),
            ("spender", "address", stage.escrow.address),
            ("value", "uint256", value),
            ("nonce", "uint256", int(stage.token.nonces(owner))),
            ("deadline", "uint256", FAR),
        ],
    )


def authorization(stage: Stage, owner: Any, nonce: Any, value: int) -> tuple[int, bytes, bytes]:
    return typed_signature(
        stage,
        owner,
        "ReceiveWithAuthorization",
        [
            ("from", "address", owner.address),
            ("to", "address", stage.escrow.address),
            ("value", "uint256", value),
            ("validAfter", "uint256", 0),
            ("validBefore", "uint256", FAR),
            ("nonce", "bytes32", bytes(nonce)),
        ],
    )


def typed_signature(
    stage: Stage, signer: Any, name: str, values: list[tuple[str, str, Any]]
) -> tuple[int, bytes, bytes]:
    message = encode_typed_data(
        domain_data={
            "name": str(stage.token.name()),
            "version": "1",
            "chainId": stage.domain.chain_id,
            "verifyingContract": stage.token.address,
        },
        message_types={name: [{"name": field, "type": kind} for field, kind, _ in values]},
        message_data={field: value for field, _, value in values},
    )
    signed = Account.sign_message(message, signer.private_key)
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
