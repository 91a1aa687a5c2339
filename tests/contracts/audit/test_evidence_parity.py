"""The kernel's words about faults are the contract's: ids, commitments, bonds, channels.

Case 38: what is hashed on both sides is hashed alike. Case 26: so are the leaves of a gpuSet.
"""

from __future__ import annotations

import random
from typing import Any

from tallystick.protocol import evidence, messages
from tallystick.protocol.contracts import SignedReceipt, Vote
from tallystick.protocol.messages import Channel, Receipt
from tallystick.protocol.pricing import bond_up
from tallystick.protocol.types import Address, Digest, TaskId
from tests.contracts.courtroom import Courtroom, channel_of
from tests.contracts.stage import BOND_FLOOR, UNIT, Stage, digest_of


def test_ids_and_commitments(stage: Stage, court: Any) -> None:
    provider = Address(stage.provider.address)
    for number in range(20):
        some, other = digest_of(f"some {number}"), digest_of(f"other {number}")
        assert court.offenceOfRoute(provider, some) == evidence.offence_of_route(provider, some)
        assert court.offenceOfGpu(provider, some, number * 999) == evidence.offence_of_gpu(
            provider, some, number * 999
        )
        vote = Vote(number % 5)
        assert court.commitmentOf(vote, some, provider, other) == evidence.commitment(
            vote, some, provider, TaskId(other)
        )


def test_bonds(stage: Stage) -> None:
    """To the wei, over shares and charges of any size."""
    chance = random.Random(7)
    for _ in range(100):
        terms = stage.terms(verification=1 + 256 * chance.randrange(10_001))
        charge = chance.randrange(1 << chance.randrange(1, 126))
        assert stage.market.bondOf(terms.verification, charge) == bond_up(terms, charge, BOND_FLOOR)


def test_a_channel_is_the_escrows(stage: Stage, stranger: Any) -> None:
    consumer, provider = stage.consumer.address, stage.provider.address
    channel = Channel(Address(consumer), Address(stranger.address), Address(provider), 7)
    expected = messages.channel_id(channel)
    assert channel_of(consumer, stranger.address, provider, 7) == expected
    assert stage.escrow.channelIdOf((consumer, stranger.address, provider, 7)) == expected


def test_what_the_kernel_calls_a_fault_the_court_punishes(
    stage: Stage, court: Any, deployer: Any, stranger: Any
) -> None:
    """The calldata of `evidence.call_of`, sent as it is."""
    from tallystick.protocol.contracts import Court

    room = Courtroom(stage, court, deployer)
    channel = Channel(
        Address(stage.consumer.address),
        Address(stranger.address),
        Address(stage.provider.address),
        3,
    )
    route = messages.channel_id(channel)

    def signed(receipt: Receipt) -> SignedReceipt:
        return SignedReceipt(receipt, stage.signed(receipt, stage.operator))

    earlier = room.call_receipt(route, 4)
    later = room.call_receipt(route, 5)
    broken = evidence.fault_of(stage.domain, signed(later), signed(earlier), channel=channel)
    other_route = Digest(digest_of("another route"))
    one = room.call_receipt(other_route, 4)
    twice = evidence.fault_of(
        stage.domain, signed(one), signed(room.call_receipt(other_route, 4, total=1))
    )
    typed = Court(None, Address(court.address))  # type: ignore[arg-type]
    for fault in (broken, twice):
        assert evidence.signers_of(stage.domain, fault) == (stage.operator, stage.operator)
        call = evidence.call_of(typed, fault)
        stranger.transfer(to=call.to, amount=0, data="0x" + call.data.hex())
    assert stage.stake_of(stage.provider) == (2 * UNIT, 0)
