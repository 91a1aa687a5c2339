"""reportGpuSoldTwice: one card, held exclusively for two at one time.

reportGpuSoldTwice
├── two tasks, two channels, or one of each: a unit is slashed, a fifth of it the reporter's
├── once for a GPU and a UTC day (case 69)
│   ├── an overlap over midnight has one day: the one in which both first ran
│   └── another GPU, another day, another provider: another offence
├── reverts for an overlap of two seconds or less (case 30), or none at all
├── reverts for receipts of one route
├── reverts for a GPU that is not in both sets (case 26)
│   ├── an inner node shown as a leaf, a leaf hashed once, a proof that is short, long or shuffled
│   └── a set of none, as shared GPUs have
└── reverts for a signature that is not the provider's, and for receipts that are too old
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import merkle
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.messages import Receipt
from tallystick.protocol.types import Digest
from tests.contracts.courtroom import Courtroom
from tests.contracts.stage import DAY_S, UNIT, Stage, digest_of, reverts_with

GPUS = ["GPU-a", "GPU-b", "GPU-c", "GPU-d", "GPU-e"]
MS = 1_000
DAY_MS = DAY_S * MS
NONE = Digest("0x" + "00" * 32)


def leaf(gpu: str) -> bytes:
    return bytes.fromhex(merkle.gpu_id_digest(gpu)[2:])


def proof(gpus: list[str], gpu: str) -> list[bytes]:
    leaves = [leaf(one) for one in gpus]
    return [bytes.fromhex(node[2:]) for node in merkle.proof(leaves, leaf(gpu))]


@pytest.fixture
def pair(room: Courtroom) -> tuple[Receipt, Receipt]:
    """A minute on five GPUs for one, and on the last two of them for another."""
    ended_at_ms = room.stage.now() * MS
    one = room.call_receipt(
        digest_of("one"),
        gpu_set=merkle.gpu_set_root(GPUS),
        started_at_ms=ended_at_ms - 60 * MS,
        ended_at_ms=ended_at_ms,
    )
    other = replace(one, route=digest_of("other"), gpu_set=merkle.gpu_set_root(GPUS[3:]))
    return one, other


def report(room: Courtroom, pair: tuple[Receipt, Receipt], gpu: str, **by: Any) -> Any:
    one, other = pair
    return room.court.reportGpuSoldTwice(
        room.signed(one),
        room.signed(other),
        leaf(gpu),
        proof(GPUS, gpu),
        proof(GPUS[3:], gpu),
        {"from": by.get("by", room.deployer)},
    )


def test_costs_a_unit(
    room: Courtroom, stage: Stage, pair: tuple[Receipt, Receipt], stranger: Any
) -> None:
    """Case 65."""
    sent = report(room, pair, "GPU-d", by=stranger)
    event = sent.events["GpuSoldTwiceShown"]
    assert (event["provider"], event["reporter"]) == (stage.provider, stranger)
    assert event["gpuId"] == merkle.gpu_id_digest("GPU-d")
    day = pair[0].started_at_ms // DAY_MS
    assert (event["day"], event["slashed"]) == (day, UNIT)
    assert event["offenceId"] == room.court.offenceOfGpu(stage.provider, event["gpuId"], day)
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


def test_by_a_task_and_a_channel(room: Courtroom, stage: Stage, stranger: Any) -> None:
    """A task's receipt and a channel's share one type, and one card."""
    usage = stage.usage(gpu_set=merkle.gpu_set_root(["GPU-a", "GPU-b"]))
    task = stage.receipt(stage.terms(), usage)
    call = room.call_receipt(
        digest_of("channel"),
        gpu_set=merkle.gpu_set_root(["GPU-a"]),
        started_at_ms=usage.ended_at_ms - 2_001,
        ended_at_ms=usage.ended_at_ms + 5_000,
    )
    room.court.reportGpuSoldTwice(
        room.signed(task),
        room.signed(call, stage.provider),
        leaf("GPU-a"),
        proof(["GPU-a", "GPU-b"], "GPU-a"),
        [],
        {"from": stranger},
    )
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


def test_once_a_gpu_and_a_day(
    room: Courtroom, stage: Stage, pair: tuple[Receipt, Receipt], stranger: Any
) -> None:
    """Case 69: neither the other way round nor with a third receipt of that day."""
    report(room, pair, "GPU-d")
    with reverts_with("AlreadyPunished"):
        report(room, pair, "GPU-d")
    one, other = pair
    with reverts_with("AlreadyPunished"):
        room.court.reportGpuSoldTwice(
            room.signed(other),
            room.signed(one),
            leaf("GPU-d"),
            proof(GPUS[3:], "GPU-d"),
            proof(GPUS, "GPU-d"),
        )
    third = replace(other, route=digest_of("third"), ended_at_ms=other.ended_at_ms - 1)
    with reverts_with("AlreadyPunished"):
        report(room, (one, third), "GPU-d")
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)

    report(room, pair, "GPU-e")
    assert stage.stake_of(stage.provider) == (2 * UNIT, 0)
    tomorrow = [
        replace(
            receipt,
            started_at_ms=receipt.started_at_ms + DAY_MS,
            ended_at_ms=receipt.ended_at_ms + DAY_MS,
        )
        for receipt in pair
    ]
    report(room, (tomorrow[0], tomorrow[1]), "GPU-d")
    assert stage.stake_of(stage.provider) == (UNIT, 0)


def test_one_overlap_over_midnight_is_one_offence(
    room: Courtroom, stage: Stage, pair: tuple[Receipt, Receipt]
) -> None:
    """Case 69: both ran from the evening to the next but one morning. Who reports cannot choose
    the day."""
    today = stage.now() // DAY_S
    evening_ms = today * DAY_MS - 60 * MS
    one, other = (
        replace(receipt, started_at_ms=evening_ms, ended_at_ms=(today + 1) * DAY_MS + 1)
        for receipt in pair
    )
    one = replace(one, started_at_ms=evening_ms - 3 * DAY_MS)
    sent = report(room, (one, other), "GPU-d")
    assert sent.events["GpuSoldTwiceShown"]["day"] == today - 1
    with reverts_with("AlreadyPunished"):
        report(room, (one, other), "GPU-d")
    assert stage.stake_of(stage.provider) == (3 * UNIT, 0)


@pytest.mark.parametrize("overlap_ms", [-1, 0, 1, 2_000, 2_001])
def test_two_seconds_are_allowed(
    room: Courtroom, pair: tuple[Receipt, Receipt], overlap_ms: int
) -> None:
    """Case 30: the hand-over of a card from one to the next."""
    one, other = pair
    other = replace(
        other,
        started_at_ms=one.ended_at_ms - overlap_ms,
        ended_at_ms=one.ended_at_ms + 60 * MS,
    )
    if overlap_ms > 2_000:
        report(room, (one, other), "GPU-d")
        return
    with reverts_with("OverlapTooShort", 2_001, max(0, overlap_ms)):
        report(room, (one, other), "GPU-d")


def test_a_receipt_that_ended_before_it_began_overlaps_with_nothing(
    room: Courtroom, pair: tuple[Receipt, Receipt]
) -> None:
    one, other = pair
    other = replace(other, started_at_ms=one.ended_at_ms, ended_at_ms=one.started_at_ms)
    with reverts_with("OverlapTooShort", 2_001, 0):
        report(room, (one, other), "GPU-d")


def test_reverts_for_one_route(room: Courtroom, pair: tuple[Receipt, Receipt]) -> None:
    """The next call on the same channel, or the next fence of the same task."""
    one, other = pair
    with reverts_with("SameRoute"):
        report(room, (one, replace(other, route=one.route, seq=2)), "GPU-d")


def test_reverts_for_a_gpu_of_one_set_only(
    room: Courtroom, pair: tuple[Receipt, Receipt]
) -> None:
    """Case 26."""
    one, other = pair
    with reverts_with("GpuNotInSet"):
        room.court.reportGpuSoldTwice(
            room.signed(one), room.signed(other), leaf("GPU-a"), proof(GPUS, "GPU-a"), []
        )


def test_reverts_for_shared_gpus(room: Courtroom, pair: tuple[Receipt, Receipt]) -> None:
    """Calls of many on the same cards name none: the root is zero."""
    one, other = (replace(receipt, gpu_set=NONE) for receipt in pair)
    for shown in (leaf("GPU-d"), bytes(32)):
        with reverts_with("GpuNotInSet"):
            room.court.reportGpuSoldTwice(room.signed(one), room.signed(other), shown, [], [])


def test_reverts_for_bent_proofs(room: Courtroom, pair: tuple[Receipt, Receipt]) -> None:
    """Case 26: nothing but a leaf is a GPU, and nothing but its own proof proves it."""
    one, other = pair
    good = proof(GPUS, "GPU-d")
    once = keccak256(leaf("GPU-d"))
    hashed = merkle.leaf_hash(leaf("GPU-d"))
    inner = keccak256(b"".join(sorted([hashed, good[0]])))
    bent: list[tuple[bytes, list[bytes]]] = [
        (leaf("GPU-d"), []),
        (leaf("GPU-d"), good[:-1]),
        (leaf("GPU-d"), [*good, good[-1]]),
        (leaf("GPU-d"), good[::-1]),
        (leaf("GPU-d"), proof(GPUS, "GPU-e")),
        (leaf("GPU-x"), good),
        (once, good),
        (hashed, good),
        (inner, good[1:]),
        (good[0], [hashed, *good[1:]]),
        (bytes.fromhex(one.gpu_set[2:]), []),
    ]
    for gpu_id, nodes in bent:
        with reverts_with("GpuNotInSet"):
            room.court.reportGpuSoldTwice(
                room.signed(one), room.signed(other), gpu_id, nodes, nodes
            )


def test_every_gpu_of_sets_of_every_size(room: Courtroom, pair: tuple[Receipt, Receipt]) -> None:
    """Python's proofs are OpenZeppelin's."""
    chance = random.Random(26)
    for size in (1, 2, 3, 4, 7, 8, 9, 33):
        gpus = [f"GPU-{size}-{number}" for number in range(size)]
        one, other = (replace(receipt, gpu_set=merkle.gpu_set_root(gpus)) for receipt in pair)
        gpu = chance.choice(gpus)
        slashed = room.court.reportGpuSoldTwice.call(
            room.signed(one), room.signed(other), leaf(gpu), proof(gpus, gpu), proof(gpus, gpu)
        )
        assert slashed == UNIT


def test_reverts_for_a_signature_of_somebody_else(
    room: Courtroom, stage: Stage, pair: tuple[Receipt, Receipt], other_provider: Any
) -> None:
    one, other = pair
    arguments = (leaf("GPU-d"), proof(GPUS, "GPU-d"), proof(GPUS[3:], "GPU-d"))
    with reverts_with("NotAnswerable", stage.provider, other_provider):
        room.court.reportGpuSoldTwice(
            room.signed(one), room.signed(other, other_provider), *arguments
        )
    theirs = replace(other, provider=other_provider.address)
    with reverts_with("DifferentProviders", stage.provider, other_provider):
        room.court.reportGpuSoldTwice(
            room.signed(one), room.signed(theirs, other_provider), *arguments
        )


def test_reverts_for_receipts_that_are_too_old(
    room: Courtroom, stage: Stage, pair: tuple[Receipt, Receipt]
) -> None:
    """Case 58."""
    room.later(21 * DAY_S + 1)
    with reverts_with("ReceiptTooOld"):
        report(room, pair, "GPU-d")
