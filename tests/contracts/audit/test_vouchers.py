"""What a payer, a provider or a thief with the other's papers tries on a channel.

laws
├── L4 collected = min(highest valid total, funded), and never falls (cases 34, 42 and 43)
├── L5 what a session key can spend is capped, and ends (cases 40 and 41)
├── L6 money that secures nobody leaves at once; the rest after the period (cases 8, 9 and 44)
└── L12 a stolen key pays nobody but the provider it signed for
contract and kernel judge a voucher alike, whatever bit of it is turned (cases 35, 39 and 48)
a voucher of another chain, another deployment, or from before a fork (case 37)
nothing of before the fork keeps the payer's money: close and release ask for no signature
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.contracts import ChannelState
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Channel, Voucher
from tallystick.protocol.types import Address, Digest, to_address
from tests.contracts.channels import DEPOSIT, Row, Till, channel_id, fields, forked, row_of
from tests.contracts.stage import CLOSE_S, TALLY, Stage, digest_of, reverts_with

# ---------------------------------------------------------------------- parity

BATCHES = 20
ROWS = 100
GAS = 1_000_000


def voucher_of(row: Row, provider: str) -> tuple[Voucher, str]:
    payer_and_salt, total, receipt, r, vs = row
    payer = to_address(f"0x{payer_and_salt >> 96:040x}")
    salt = payer_and_salt % 2**96
    voucher = Voucher(payer, Address(provider), salt, total, Digest(receipt))
    return voucher, "0x" + (r + vs).hex()


def bent(row: Row, bit: int) -> Row:
    """One bit of the 160 bytes turned."""
    payer_and_salt, total, receipt, r, vs = row
    words = [
        payer_and_salt.to_bytes(32, "big"),
        total.to_bytes(32, "big"),
        bytes.fromhex(receipt[2:]),
        r,
        vs,
    ]
    word = int.from_bytes(words[bit // 256], "big") ^ (1 << bit % 256)
    words[bit // 256] = word.to_bytes(32, "big")
    return (
        int.from_bytes(words[0], "big"),
        int.from_bytes(words[1], "big"),
        "0x" + words[2].hex(),
        words[3],
        words[4],
    )


def test_contract_and_kernel_agree_on_two_thousand_vouchers(
    stage: Stage, till: Till, people: list[Any]
) -> None:
    """Case 48, and 35 and 39 with it: half of the rows are bent in one bit, of any field or of the
    signature; both sides find the same channel, or none, and the same amount."""
    chance = random.Random(48)
    channels = [
        till.open(till.channel(salt=salt, signer=people[salt % 10].address), 1 + salt * TALLY)
        for salt in range(12)
    ]
    states = {channel_id(channel): till.state(channel) for channel in channels}
    paying = 0
    for _ in range(BATCHES):
        rows, expected = [], []
        claimed: dict[str, int] = {}
        for _ in range(ROWS):
            channel = chance.choice(channels)
            total = chance.choice([0, 1, TALLY, chance.getrandbits(64), 2**128 - 1])
            row = till.row(channel, total, by=people[channel.salt % 10])
            # The bits of a total above its type cannot be sent by an honest encoder.
            if chance.random() < 0.5:
                row = bent(row, chance.choice([*range(256, 384), *range(512, 1280), *range(256)]))
            rows.append(row)
            expected.append(due(stage, row, states, claimed))
        assert till.redeemable(*rows) == expected
        paying += sum(1 for amount in expected if amount)
    # Both kinds occurred, or the test says nothing.
    assert 100 < paying < BATCHES * ROWS // 2


def due(
    stage: Stage,
    row: Row,
    states: dict[Digest, tuple[int, int, int]],
    claimed: dict[str, int],
) -> int:
    """What the kernel says that the row pays, after those before it in the batch."""
    voucher, signature = voucher_of(row, stage.provider.address)
    try:
        channel = messages.channel_of(stage.domain, voucher, signature)
    except ProtocolError:
        return 0
    key = channel_id(channel)
    deposited, before, close_at = states.get(key, (0, 0, 0))
    amount = ChannelState(deposited, before + claimed.get(key, 0), close_at).due(voucher.total)
    claimed[key] = claimed.get(key, 0) + amount
    return amount


# ---------------------------------------------------------------------- chains and deployments


def test_a_voucher_for_another_chain_or_deployment_pays_nothing(stage: Stage, till: Till) -> None:
    """Case 37."""
    channel = till.open()
    voucher = till.voucher(channel, TALLY)
    for domain in (
        replace(stage.domain, chain_id=1),
        replace(stage.domain, escrow=Address(stage.market.address)),
    ):
        row = row_of(voucher, messages.sign(domain, voucher, till.signer.private_key))
        assert till.redeemable(row) == [0]


def test_after_a_fork_old_vouchers_are_void_and_the_exits_open(
    stage: Stage, till: Till, stranger: Any
) -> None:
    """Case 37, and 44: the payer leaves by the period, the provider can let it go at once."""
    channel, other = till.open(), till.open(till.channel(salt=8))
    voucher = till.voucher(channel, TALLY)
    old = till.row(channel, TALLY)
    stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    stage.at(stage.now() + CLOSE_S)
    redeem = stage.escrow.redeem.encode_input(stage.provider, [old])
    with forked(stage):
        domain = replace(stage.domain, chain_id=stage.domain.chain_id + 1)
        send(stage, stranger, redeem)
        new = row_of(voucher, messages.sign(domain, voucher, till.signer.private_key))
        send(stage, stranger, stage.escrow.redeem.encode_input(stage.provider, [new]))
        send(stage, stranger, stage.escrow.close.encode_input(fields(channel)))
        send(stage, stage.provider, stage.escrow.release.encode_input(fields(other), DEPOSIT))
    assert till.state(channel) == (TALLY, TALLY, 0)
    assert till.money(other) == (0, 0)
    assert stage.account(stage.consumer) == (999 * TALLY, 0)
    assert stage.payee(stage.provider) == (TALLY, 0)


def send(stage: Stage, sender: Any, data: str) -> None:
    from brownie import web3

    web3.provider.make_request("anvil_impersonateAccount", [sender.address])
    tx_hash = web3.eth.send_transaction(
        {"from": sender.address, "to": stage.escrow.address, "data": data, "gas": GAS}
    )
    assert web3.eth.get_transaction_receipt(tx_hash)["status"] == 1


# ---------------------------------------------------------------------- thieves


def test_a_stolen_session_key_pays_nobody_but_the_provider(
    stage: Stage, till: Till, stranger: Any
) -> None:
    """Laws 5 and 12: its vouchers reach the deposits that wait for the provider, and no more."""
    channel = till.open()
    to_itself = till.voucher(till.channel(provider=stranger.address), 2**128 - 1)
    row = row_of(to_itself, stage.signed(to_itself, till.signer))
    assert till.redeemable(row, provider=stranger) == [0]
    till.redeem(till.row(channel, 2**128 - 1), by=stranger)
    assert stage.payee(stage.provider)[0] == DEPOSIT
    assert stage.account(stage.consumer) == (1_000 * TALLY - DEPOSIT, 0)


def test_the_payer_cannot_pull_a_deposit_back_early(
    stage: Stage, till: Till, stranger: Any
) -> None:
    """Case 11: no other verb, order or party leads around the period."""
    channel = till.open()
    with reverts_with("InsufficientAvailable"):
        stage.escrow.withdraw(1_000 * TALLY, stage.consumer, {"from": stage.consumer})
    with reverts_with("OnlyProvider"):
        stage.escrow.release(fields(channel), 1, {"from": stage.consumer})
    with reverts_with("CloseNotRequested"):
        stage.escrow.close(fields(channel), {"from": stage.consumer})
    # Funding a channel with itself as provider moves its own available money only.
    own = till.open(till.channel(provider=stage.consumer.address), TALLY)
    stage.escrow.release(fields(own), TALLY, {"from": stage.consumer})
    assert till.money(channel) == (DEPOSIT, 0)
    stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    stage.escrow.cancelClose(fields(channel), {"from": stage.consumer})
    stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    stage.at(till.state(channel)[2] - 2)
    with reverts_with("ClosePeriodNotOver"):
        stage.escrow.close(fields(channel), {"from": stranger})


def test_the_market_reaches_no_channel_and_no_credit(stage: Stage, till: Till) -> None:
    """Section 0: even the market, impersonated, moves only an account's two halves."""
    from brownie import accounts, web3

    channel = till.open(amount=1_000 * TALLY)
    till.redeem(till.row(channel, TALLY))
    web3.provider.make_request("anvil_impersonateAccount", [stage.market.address])
    web3.provider.make_request("anvil_setBalance", [stage.market.address, hex(10**18)])
    market = accounts.at(stage.market.address, force=True)
    with reverts_with("InsufficientAvailable"):
        stage.escrow.lockAvailable(stage.consumer, 1, {"from": market})
    with reverts_with("InsufficientLocked"):
        stage.escrow.unlock(stage.consumer, 1, {"from": market})
    nobody = "0x" + "00" * 20
    with reverts_with("InsufficientAvailable"):
        stage.escrow.payProviderFrom(
            stage.consumer, 0, 1, stage.provider, nobody, 0, nobody, 0, {"from": market}
        )
    assert till.money(channel) == (1_000 * TALLY, TALLY)


def test_front_run_in_every_order_the_provider_gets_the_same(
    stage: Stage, till: Till, stranger: Any
) -> None:
    """Case 5 and 12: who redeems, how rows are cut and in which order changes nothing."""
    sums = set()
    rows = [till.row(till.channel(), total * TALLY) for total in (3, 9, 6)]
    for plan in ([rows], [[rows[0]], [rows[1], rows[2]]], [[rows[2]], [rows[1]], [rows[0]]]):
        stage.chain.snapshot()
        till.open()
        for batch in plan:
            till.redeem(*batch, by=stranger)
        sums.add(stage.payee(stage.provider)[0])
        stage.chain.revert()
    assert sums == {9 * TALLY}


def test_solvent_after_gifts_of_tokens(stage: Stage, till: Till) -> None:
    """Case 18: what is sent without a deposit belongs to no channel."""
    channel = till.open()
    stage.token.transfer(stage.escrow, 5 * TALLY, {"from": stage.consumer})
    till.redeem(till.row(channel, 2**128 - 1))
    assert stage.payee(stage.provider)[0] == DEPOSIT
    assert till.money(channel) == (DEPOSIT, DEPOSIT)


@pytest.mark.parametrize("key", ["retired", "of another"])
def test_no_other_providers_key_releases(
    stage: Stage, till: Till, operator: Any, other_provider: Any, key: str
) -> None:
    channel = till.open()
    if key == "retired":
        stage.staking.retireOperatorKey(operator, {"from": stage.provider})
        by = operator
    else:
        by = other_provider
    with reverts_with("OnlyProvider", stage.provider, by):
        stage.escrow.release(fields(channel), 1, {"from": by})


def test_a_redemption_touches_one_word_of_the_channel(stage: Stage, till: Till) -> None:
    """And one of the payee; closeAt is a word of its own that only closing reads."""
    from brownie import web3

    channel = till.open()
    data = stage.escrow.redeem.encode_input(stage.provider, [till.row(channel, TALLY)])
    call = {"from": stage.dispatcher.address, "to": stage.escrow.address, "data": data}
    found = web3.provider.make_request("eth_createAccessList", [call, "latest"])["result"]
    (escrow,) = (
        entry
        for entry in found["accessList"]
        if entry["address"].lower() == stage.escrow.address.lower()
    )
    assert len(set(escrow["storageKeys"])) == 2


def test_channel_ids_are_of_four_words_and_collide_with_nothing(till: Till) -> None:
    """Moving bits from one field to the next gives another id."""
    channel = till.channel()
    shifted: list[Channel] = [
        channel,
        replace(channel, payer=channel.signer, signer=channel.payer),
        replace(channel, signer=channel.provider, provider=channel.signer),
        replace(channel, salt=channel.salt << 8),
    ]
    assert len({channel_id(one) for one in shifted}) == 4
    assert digest_of("") not in {channel_id(one) for one in shifted}
