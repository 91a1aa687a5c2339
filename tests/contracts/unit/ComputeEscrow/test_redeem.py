"""redeem: vouchers become credit, by anyone; what pays nothing is skipped.

redeem
├── pays min(deposited, total) - claimed and tells the receipt
├── the same voucher twice, an older one, a newer one: nothing / nothing / the difference (case 34)
├── two rows of one channel in one batch: together the newest total, in either order
├── total above the deposit: pays the deposit; after a top-up the same voucher pays on (case 43)
├── skips, and leaves as it was
│   ├── a signature of another key, of nobody, over another field (cases 36 and 39)
│   ├── s in the upper half, r or vs of garbage (case 35)
│   ├── a channel without money, another provider's, another payer's
│   └── a total wider than its type
├── a payer that signs for itself is a signer like another
├── channels that differ in salt, signer, payer or provider share nothing
├── a channel closed and funded again counts on: old vouchers are dead (case 42)
├── nothing to pay at all: succeeds, changes nothing
└── each row costs the same however many strangers have channels (case 8)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.channels import DEPOSIT, Till, channel_id, fields, row_of
from tests.contracts.stage import CLOSE_S, TALLY, ZERO, Stage, digest_of

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_a_voucher_becomes_credit(stage: Stage, till: Till, stranger: Any) -> None:
    channel = till.open()
    sent = till.redeem(till.row(channel, 7 * TALLY), by=stranger)
    assert stage.payee(stage.provider) == (7 * TALLY, 0)
    assert till.money(channel) == (DEPOSIT, 7 * TALLY)
    assert int(sent.return_value) == 7 * TALLY
    event = sent.events["VoucherRedeemed"]
    assert event["channelId"] == channel_id(channel)
    assert (event["payer"], event["provider"]) == (stage.consumer, stage.provider)
    assert (event["amount"], event["claimed"]) == (7 * TALLY, 7 * TALLY)
    assert event["receipt"] == digest_of(f"receipt {7 * TALLY}")


def test_repeated_older_and_newer(stage: Stage, till: Till) -> None:
    """Case 34: totals, never increments."""
    channel = till.open()
    older, newer = till.row(channel, 5 * TALLY), till.row(channel, 9 * TALLY)
    till.redeem(older)
    assert till.redeemable(older) == [0]
    till.redeem(older)
    assert stage.payee(stage.provider)[0] == 5 * TALLY
    till.redeem(newer)
    assert stage.payee(stage.provider)[0] == 9 * TALLY
    assert not till.redeem(older, newer).events


@pytest.mark.parametrize("order", [(5, 9), (9, 5), (9, 9), (5, 9, 5, 9)], ids=str)
def test_rows_of_one_channel_pay_the_newest_total_once(
    stage: Stage, till: Till, order: tuple[int, ...]
) -> None:
    """Duplicates in one batch are no second payment; the view counts them the same way."""
    channel = till.open()
    rows = [till.row(channel, total * TALLY) for total in order]
    told = till.redeemable(*rows)
    sent = till.redeem(*rows)
    assert sum(told) == int(sent.return_value) == 9 * TALLY
    assert [int(event["amount"]) for event in sent.events["VoucherRedeemed"]] == [
        amount for amount in told if amount
    ]
    assert stage.payee(stage.provider)[0] == 9 * TALLY


def test_above_the_deposit_the_rest_waits_for_a_top_up(stage: Stage, till: Till) -> None:
    """Case 43: escrow 60, voucher 100; top-up 40."""
    channel = till.open(amount=60 * TALLY)
    row = till.row(channel, 100 * TALLY)
    till.redeem(row)
    assert stage.payee(stage.provider)[0] == 60 * TALLY
    stage.escrow.fund(fields(channel), 40 * TALLY, {"from": stage.consumer})
    assert till.redeemable(row) == [40 * TALLY]
    till.redeem(row)
    assert stage.payee(stage.provider)[0] == 100 * TALLY
    assert till.money(channel) == (100 * TALLY, 100 * TALLY)


def test_bad_rows_are_skipped_and_good_ones_paid(
    stage: Stage, till: Till, stranger: Any, other_provider: Any
) -> None:
    """Cases 5, 35, 36 and 39: a row that does not hold stops nobody else's."""
    channel = till.open()
    good = till.row(channel, TALLY)
    payer_and_salt, total, receipt, r, vs = good
    high_s = (ORDER - int.from_bytes(vs, "big") % 2**255).to_bytes(32, "big")
    bad = [
        till.row(channel, TALLY, by=stranger),
        till.row(channel, TALLY, by=stage.consumer),
        (payer_and_salt, total, receipt, bytes(32), bytes(32)),
        (payer_and_salt, total, receipt, b"\xff" * 32, vs),
        (payer_and_salt, total, receipt, r, b"\xff" * 32),
        (payer_and_salt, total, receipt, r, high_s),
        (payer_and_salt, total, receipt, r, (int.from_bytes(vs, "big") ^ 1 << 255).to_bytes(32)),
        (payer_and_salt, total + 1, receipt, r, vs),
        (payer_and_salt + 1, total, receipt, r, vs),
        (payer_and_salt ^ 1 << 96, total, receipt, r, vs),
        (payer_and_salt, total, digest_of("another receipt"), r, vs),
        till.row(replace(channel, provider=other_provider.address), TALLY),
        till.row(replace(channel, payer=stranger.address), TALLY),
        till.row(replace(channel, salt=8), TALLY),
    ]
    assert till.redeemable(*bad, good) == [0] * len(bad) + [TALLY]
    sent = till.redeem(*bad, good)
    assert len(sent.events["VoucherRedeemed"]) == 1
    assert stage.payee(stage.provider)[0] == TALLY


def test_a_total_wider_than_its_type_is_skipped(stage: Stage, till: Till) -> None:
    """Nobody can have signed such a voucher in a wallet; the batch goes on."""
    from brownie import web3

    channel = till.open()
    data = bytearray.fromhex(
        stage.escrow.redeem.encode_input(
            stage.provider, [till.row(channel, 5), till.row(channel, 4)]
        )[2:]
    )
    total_at = 4 + 3 * 32 + 32
    data[total_at] = 1
    # Signed all the same, over the wide word.
    words = bytes(data[4 + 3 * 32 : 4 + 5 * 32])
    struct = web3.keccak(
        web3.keccak(
            text="Voucher(address payer,address provider,uint96 salt,uint128 total,bytes32 receipt)"
        )
        + bytes.fromhex(channel.payer[2:]).rjust(32, b"\0")
        + bytes.fromhex(channel.provider[2:]).rjust(32, b"\0")
        + channel.salt.to_bytes(32, "big")
        + words[32:]
        + bytes(data[4 + 5 * 32 : 4 + 6 * 32])
    )
    separator = bytes(stage.escrow.domainSeparator())
    digest = web3.keccak(b"\x19\x01" + separator + struct).to_0x_hex()
    raw = bytes.fromhex(stage.signed_digest(digest, till.signer)[2:])
    vs = bytes([raw[32] | (raw[64] - 27) << 7]) + raw[33:64]
    data[4 + 6 * 32 : 4 + 8 * 32] = raw[:32] + vs
    stage.dispatcher.transfer(stage.escrow, data="0x" + data.hex())
    assert till.money(channel)[1] == 4 == stage.payee(stage.provider)[0]


def test_a_payer_may_sign_for_itself(stage: Stage, till: Till) -> None:
    channel = till.open(till.channel(signer=stage.consumer.address))
    till.redeem(till.row(channel, TALLY, by=stage.consumer))
    assert stage.payee(stage.provider)[0] == TALLY
    # The session key's channel of the same payer and salt is another one, and empty.
    assert till.redeemable(till.row(till.channel(), TALLY)) == [0]


def test_channels_share_nothing(
    stage: Stage, till: Till, stranger: Any, other_provider: Any
) -> None:
    """Case 45: what one provider was promised is nobody else's."""
    own = till.open()
    others = [
        till.open(till.channel(salt=8)),
        till.open(till.channel(signer=stranger.address)),
        till.open(till.channel(provider=other_provider.address)),
    ]
    till.redeem(till.row(own, DEPOSIT))
    assert till.money(own) == (DEPOSIT, DEPOSIT)
    for other in others:
        assert till.money(other) == (DEPOSIT, 0)
    # Given to another provider's batch, the row names a channel that does not exist.
    assert till.redeemable(till.row(own, DEPOSIT), provider=other_provider) == [0]


def test_a_channel_funded_again_counts_on(stage: Stage, till: Till) -> None:
    """Case 42: claimed never falls, so a voucher of before does not pay twice."""
    channel = till.open()
    old = till.row(channel, 10 * TALLY)
    till.redeem(old)
    stage.escrow.requestClose(fields(channel), {"from": stage.consumer})
    stage.at(stage.now() + CLOSE_S)
    stage.escrow.close(fields(channel), {"from": stage.consumer})
    assert till.state(channel) == (10 * TALLY, 10 * TALLY, 0)
    till.open(channel)
    assert till.redeemable(old) == [0]
    assert till.redeemable(till.row(channel, 11 * TALLY)) == [TALLY]


def test_with_nothing_to_pay_succeeds_and_changes_nothing(stage: Stage, till: Till) -> None:
    channel = till.channel()
    for rows in ((), (till.row(channel, TALLY),)):
        sent = till.redeem(*rows)
        assert int(sent.return_value) == 0
        assert not sent.events
    assert till.state(channel) == (0, 0, 0)
    assert stage.payee(stage.provider) == (0, 0)


def test_for_nobody_pays_nobody(stage: Stage, till: Till) -> None:
    """The zero address has no channel, whoever signs (case 36)."""
    till.open()
    nobody = till.voucher(till.channel(provider=ZERO), TALLY)
    rows = [
        row_of(nobody, stage.signed(nobody, till.signer)),
        (0, TALLY, digest_of("x"), bytes(32), bytes(32)),
    ]
    assert till.redeemable(*rows, provider=ZERO) == [0, 0]
    assert not till.redeem(*rows, provider=ZERO).events


def test_strangers_channels_cost_the_provider_nothing(
    stage: Stage, till: Till, people: list[Any]
) -> None:
    """Case 8: its own slot is all that a row reads and writes."""
    channel = till.open()
    till.redeem(till.row(channel, TALLY))
    alone = till.redeem(till.row(channel, 2 * TALLY)).gas_used
    for salt in range(20):
        dust = till.channel(salt=100 + salt, signer=people[salt % 10].address)
        till.open(dust, 1)
    crowded = till.redeem(till.row(channel, 3 * TALLY)).gas_used
    assert abs(crowded - alone) <= alone * 5 // 100


def test_a_batch_of_a_hundred_holds_the_bar(stage: Stage, till: Till) -> None:
    """At most 15,000 gas and 162 bytes a row."""
    channels = [till.open(till.channel(salt=salt), TALLY) for salt in range(100)]
    till.redeem(*[till.row(channel, 1) for channel in channels])
    sent = till.redeem(*[till.row(channel, 2) for channel in channels])
    assert stage.payee(stage.provider)[0] == 200
    assert sent.gas_used / 100 <= 15_000
    assert len(bytes.fromhex(sent.input[2:])) == 4 + 3 * 32 + 100 * 160
