"""fundWithAllowance, revokeAllowance: a session key opens its own channels, up to a cap.

fundWithAllowance
├── by the allowance's signer only, into channels of that payer and signer (case 40)
├── sum over the allowance's life <= cap, whatever channels and providers (case 40)
├── until expiresAt, that second included; not after (cases 30 and 41)
├── any field changed, another chain, another deployment: reverts (cases 37 and 39)
├── the event carries purpose, digest and what is spent
├── a payer that is a contract answers for itself; a bad one is refused (cases 17 and 46)
├── code put on the payer later voids nothing it signed (case 52)
└── reverts beyond available, for zero, for a provider that can never be paid
revokeAllowance
├── by the payer, at once, for the future; open channels stay (case 41)
├── before the first use too; a second time reverts
└── by anybody else: touches nothing but their own
"""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.messages import ChannelAllowance, as_tuple
from tallystick.protocol.types import Address
from tests.contracts.channels import SALT, Till, channel_id, fields, forked
from tests.contracts.stage import (
    TALLY,
    ZERO,
    Stage,
    at_time,
    digest_of,
    reverts_with,
    two_words,
)


def use(
    till: Till,
    allowance: ChannelAllowance,
    amount: int,
    *,
    signature: str | None = None,
    by: Any = None,
    provider: Any = None,
    salt: int = SALT,
) -> Any:
    if signature is None:
        signature = till.stage.signed(allowance, till.stage.consumer)
    return till.escrow.fundWithAllowance(
        as_tuple(allowance),
        signature,
        provider or till.stage.provider,
        salt,
        amount,
        {"from": by or till.signer},
    )


def spent(till: Till, allowance: ChannelAllowance) -> tuple[int, bool]:
    found = till.escrow.allowanceOf(allowance.payer, till.stage.digest(allowance))
    return int(found[0]), bool(found[1])


def test_opens_a_channel_with_the_payers_money(stage: Stage, till: Till) -> None:
    allowance = till.allowance(purpose=digest_of("app"))
    sent = use(till, allowance, 60 * TALLY)
    channel = till.channel()
    assert till.state(channel) == (60 * TALLY, 0, 0)
    assert stage.account(stage.consumer) == (940 * TALLY, 0)
    used = sent.events["AllowanceUsed"]
    assert (used["allowance"], used["purpose"]) == (stage.digest(allowance), digest_of("app"))
    assert (used["payer"], used["channelId"]) == (stage.consumer, channel_id(channel))
    assert (used["amount"], used["spent"]) == (60 * TALLY, 60 * TALLY)
    assert sent.events["ChannelFunded"]["channelId"] == channel_id(channel)


def test_the_cap_is_over_all_channels_and_for_life(
    stage: Stage, till: Till, other_provider: Any
) -> None:
    """Case 40: what comes back out of a channel is no new allowance."""
    allowance = till.allowance(cap=100 * TALLY)
    use(till, allowance, 60 * TALLY)
    use(till, allowance, 30 * TALLY, provider=other_provider, salt=2**96 - 1)
    stage.escrow.release(fields(till.channel()), 60 * TALLY, {"from": stage.provider})
    with reverts_with("AllowanceExceeded", 100 * TALLY, 101 * TALLY):
        use(till, allowance, 11 * TALLY)
    use(till, allowance, 10 * TALLY)
    assert spent(till, allowance) == (100 * TALLY, False)
    with reverts_with("AllowanceExceeded", 100 * TALLY, 100 * TALLY + 1):
        use(till, allowance, 1)
    # Another nonce is another allowance.
    use(till, replace(allowance, nonce=1), 1)


def test_a_huge_amount_does_not_wrap(stage: Stage, till: Till) -> None:
    """Case 6."""
    allowance = till.allowance(cap=2**128 - 1)
    use(till, allowance, 1)
    with reverts_with("AllowanceExceeded", 2**128 - 1, 2**128):
        use(till, allowance, 2**128 - 1)


def test_reverts_for_anybody_but_its_signer(stage: Stage, till: Till, stranger: Any) -> None:
    """Case 14: neither the payer nor who saw the signature."""
    allowance = till.allowance()
    for person in (stage.consumer, stage.provider, stranger):
        with reverts_with("OnlySigner", till.signer, person):
            use(till, allowance, 1, by=person)
    # Naming oneself is another allowance, which nobody signed.
    signature = stage.signed(allowance, stage.consumer)
    mine = replace(allowance, signer=Address(stranger.address))
    with reverts_with("InvalidAllowanceSignature", stage.consumer):
        use(till, mine, 1, by=stranger, signature=signature)


def test_until_its_last_second(stage: Stage, till: Till) -> None:
    """Case 30: until t includes t."""
    allowance = till.allowance()
    with at_time(stage, allowance.expires_at):
        use(till, allowance, 1)
    with (
        at_time(stage, allowance.expires_at + 1),
        reverts_with("AllowanceExpired", allowance.expires_at, allowance.expires_at + 1),
    ):
        use(till, allowance, 1)


@pytest.mark.parametrize("field", [field.name for field in dataclass_fields(ChannelAllowance)])
def test_any_field_changed_is_another_allowance(
    stage: Stage, till: Till, stranger: Any, field: str
) -> None:
    """Case 39."""
    allowance = till.allowance()
    signature = stage.signed(allowance, stage.consumer)
    other: dict[str, Any] = {
        "payer": Address(stranger.address),
        "signer": Address(stranger.address),
        "purpose": digest_of("another"),
    }
    value = other[field] if field in other else getattr(allowance, field) + 1
    changed = replace(allowance, **{field: value})
    by = stranger if field == "signer" else till.signer
    with reverts_with("InvalidAllowanceSignature", changed.payer):
        use(till, changed, 1, signature=signature, by=by)


def test_reverts_on_another_chain_and_for_another_deployment(stage: Stage, till: Till) -> None:
    """Case 37."""
    from brownie import web3

    allowance = till.allowance()
    domains = [
        replace(stage.domain, chain_id=stage.domain.chain_id + 1),
        replace(stage.domain, escrow=Address(stage.market.address)),
    ]
    for domain in domains:
        signature = messages.sign(domain, allowance, stage.consumer.private_key)
        with reverts_with("InvalidAllowanceSignature", stage.consumer):
            use(till, allowance, 1, signature=signature)
    # After a fork, what was signed before it is void.
    signature = stage.signed(allowance, stage.consumer)
    data = stage.escrow.fundWithAllowance.encode_input(
        as_tuple(allowance), signature, stage.provider, SALT, 1
    )
    call = {"from": till.signer.address, "to": stage.escrow.address, "data": data}
    assert "result" in web3.provider.make_request("eth_call", [call, "latest"])
    with forked(stage):
        assert "error" in web3.provider.make_request("eth_call", [call, "latest"])


def test_both_forms_of_a_signature_are_good(stage: Stage, till: Till) -> None:
    """Case 35: 65 bytes or EIP-2098, and nothing else."""
    allowance = till.allowance()
    signature = stage.signed(allowance, stage.consumer)
    short = "0x" + b"".join(two_words(signature)).hex()
    use(till, allowance, 1, signature=signature)
    use(till, allowance, 1, signature=short)
    for bad in ("0x", signature + "00", signature[:-4], "0x" + "00" * 65):
        with reverts_with("InvalidAllowanceSignature", stage.consumer):
            use(till, allowance, 1, signature=bad)


def test_reverts_when_the_money_is_not_there(stage: Stage, till: Till) -> None:
    allowance = till.allowance(cap=2_000 * TALLY)
    with reverts_with("InsufficientAvailable", 1_001 * TALLY, 1_000 * TALLY):
        use(till, allowance, 1_001 * TALLY)
    with reverts_with("ZeroAmount"):
        use(till, allowance, 0)
    for nobody in (ZERO, stage.escrow.address):
        with reverts_with("InvalidRecipient", nobody):
            use(till, allowance, 1, provider=nobody)
    assert spent(till, allowance) == (0, False)


# ---------------------------------------------------------------------- contract wallets


def test_a_payer_that_is_a_contract(stage: Stage, till: Till, wallet: Any) -> None:
    allowance = till.allowance(payer=Address(wallet.address))
    use(till, allowance, 40 * TALLY)
    channel = till.channel(payer=Address(wallet.address))
    assert till.money(channel) == (40 * TALLY, 0)
    till.redeem(till.row(channel, TALLY))
    assert stage.payee(stage.provider)[0] == TALLY
    wallet.call(
        stage.escrow,
        stage.escrow.revokeAllowance.encode_input(stage.digest(allowance)),
        {"from": stage.consumer},
    )
    with reverts_with("AllowanceWasRevoked"):
        use(till, allowance, 1)


@pytest.mark.parametrize("mood", range(1, 8))
def test_a_wallet_that_behaves_badly_is_refused(
    stage: Stage, till: Till, wallet: Any, mood: int
) -> None:
    """Cases 17 and 46: refuses, reverts, burns gas, floods, answers short or wrong, writes."""
    wallet.setMood(mood, {"from": stage.consumer})
    allowance = till.allowance(payer=Address(wallet.address))
    with reverts_with("InvalidAllowanceSignature", wallet):
        use(till, allowance, 1)
    assert spent(till, allowance) == (0, False)


def test_a_wallet_costs_at_most_its_fixed_gas(stage: Stage, till: Till, wallet: Any) -> None:
    """Case 17: burning all it gets costs the sender 100,000 and no more."""
    from brownie import web3
    from brownie.exceptions import VirtualMachineError

    allowance = till.allowance(payer=Address(wallet.address))
    wallet.setMood(3, {"from": stage.consumer})
    with pytest.raises(VirtualMachineError) as refused:
        use(till, allowance, 1)
    gas_used = web3.eth.get_transaction_receipt(refused.value.txid)["gasUsed"]
    assert gas_used < 105_000 + 60_000


def test_code_put_on_the_payer_later_voids_nothing_it_signed(stage: Stage, till: Till) -> None:
    """Case 52: EIP-7702; its key still signs, even where the code says no."""
    from brownie import web3

    allowance = till.allowance()
    code = "0x00000000000000000000000000000000000c0DE2"
    web3.provider.make_request("anvil_setCode", [code, "0x5b5f56"])
    delegated = "0xef0100" + code[2:]
    web3.provider.make_request("anvil_setCode", [stage.consumer.address, delegated])
    use(till, allowance, 1)
    assert till.money(till.channel()) == (1, 0)


# ---------------------------------------------------------------------- revoking


def test_revoked_at_once_for_the_future(stage: Stage, till: Till) -> None:
    """Case 41: the open channel stays, and its vouchers are good until it is closed."""
    allowance = till.allowance()
    digest = stage.digest(allowance)
    use(till, allowance, 10)
    sent = stage.escrow.revokeAllowance(digest, {"from": stage.consumer})
    event = sent.events["AllowanceRevoked"]
    assert (event["allowance"], event["payer"]) == (digest, stage.consumer)
    assert spent(till, allowance) == (10, True)
    with reverts_with("AllowanceWasRevoked", digest):
        use(till, allowance, 1)
    till.redeem(till.row(till.channel(), 10))
    assert stage.payee(stage.provider)[0] == 10
    with reverts_with("AllowanceWasRevoked", digest):
        stage.escrow.revokeAllowance(digest, {"from": stage.consumer})


def test_revoked_before_its_first_use(stage: Stage, till: Till) -> None:
    allowance = till.allowance()
    stage.escrow.revokeAllowance(stage.digest(allowance), {"from": stage.consumer})
    with reverts_with("AllowanceWasRevoked"):
        use(till, allowance, 1)


def test_a_stranger_revokes_nothing(stage: Stage, till: Till, stranger: Any) -> None:
    allowance = till.allowance()
    for person in (stranger, stage.provider, till.signer):
        stage.escrow.revokeAllowance(stage.digest(allowance), {"from": person})
    use(till, allowance, 1)
    assert spent(till, allowance) == (1, False)
