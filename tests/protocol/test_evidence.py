"""What two signed receipts prove, before anybody pays gas to say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import codec, merkle, messages
from tallystick.protocol.contracts import Call, Court, SignedReceipt, Vote
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import MessageError
from tallystick.protocol.evidence import (
    BrokenChain,
    GpuSoldTwice,
    TwoHistories,
    call_of,
    commitment,
    fault_of,
    offence_of_gpu,
    offence_of_route,
    offence_of_silence,
    offence_of_task,
    signers_of,
    vote_of,
    vote_salt,
)
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.messages import Channel, Domain, Receipt
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import ZERO_DIGEST, Digest, TaskId, to_address
from tests.support.anvil import LocalChain, read

KEY = "0x" + "11" * 32
PROVIDER = address_of(KEY)
OTHERS = address_of("0x" + "22" * 32)
DOMAIN = Domain(31_337, to_address("0x" + "e5" * 20))
CHANNEL = Channel(OTHERS, OTHERS, PROVIDER, 7)
ROUTE = messages.channel_id(CHANNEL)
DAY_MS = 86_400_000
GPUS = ["GPU-a", "GPU-b", "GPU-c"]
COURT = Court(None, to_address("0x" + "c0" * 20))  # type: ignore[arg-type]


def digest(number: int) -> Digest:
    return Digest(f"0x{number:064x}")


def receipt(**changes: Any) -> Receipt:
    ended_at_ms = 20_000 * DAY_MS
    made = Receipt(
        provider=PROVIDER,
        route=ROUTE,
        seq=3,
        prev=digest(2),
        request=digest(10),
        result=digest(11),
        gpu_set=ZERO_DIGEST,
        started_at_ms=ended_at_ms - 60_000,
        ended_at_ms=ended_at_ms,
        calls=1,
        gpu_ms=60_000,
        usage_root=digest(12),
        total=300,
    )
    return replace(made, **changes)


def signed(made: Receipt) -> SignedReceipt:
    return SignedReceipt(made, messages.sign(DOMAIN, made, KEY))


def after(made: Receipt, **changes: Any) -> Receipt:
    follows = replace(made, seq=made.seq + 1, prev=messages.digest(DOMAIN, made), total=400)
    return replace(follows, **changes)


def test_two_receipts_for_one_place() -> None:
    one, other = signed(receipt()), signed(receipt(result=digest(99)))
    fault = fault_of(DOMAIN, one, other)
    assert fault == TwoHistories(one, other)
    assert signers_of(DOMAIN, fault) == (PROVIDER, PROVIDER)
    assert call_of(COURT, fault).data[:4] == selector("reportTwoHistories")


@pytest.mark.parametrize(
    "change",
    [{"prev": digest(77)}, {"prev": ZERO_DIGEST}, {"total": 299}],
    ids=["names another", "names none", "its total fell"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_chain_that_breaks(change: dict[str, Any], turned: bool) -> None:
    """Whichever of the two is shown first."""
    earlier = receipt()
    pair = signed(earlier), signed(after(earlier, **change))
    shown = pair[::-1] if turned else pair
    fault = fault_of(DOMAIN, *shown, channel=CHANNEL)
    assert fault == BrokenChain(CHANNEL, *pair)
    assert call_of(COURT, fault).data[:4] == selector("reportBrokenChain")
    assert len(signers_of(DOMAIN, fault)) == 2


def test_one_gpu_sold_twice() -> None:
    one = signed(receipt(gpu_set=merkle.gpu_set_root(GPUS)))
    other = signed(receipt(route=digest(5), gpu_set=merkle.gpu_set_root(GPUS[2:])))
    fault = fault_of(DOMAIN, one, other, gpus_one=GPUS, gpus_other=GPUS[2:])
    assert isinstance(fault, GpuSoldTwice)
    assert fault.gpu_id == merkle.gpu_id_digest("GPU-c")
    leaf = bytes.fromhex(fault.gpu_id[2:])
    assert merkle.verify(one.receipt.gpu_set, leaf, fault.proof_one)
    assert merkle.verify(other.receipt.gpu_set, leaf, fault.proof_other)
    # Both end at midnight: the day is the one in which they ran.
    assert fault.day == 19_999
    assert call_of(COURT, fault).data[:4] == selector("reportGpuSoldTwice")


OTHER_SET = {"route": digest(5), "gpu_set": merkle.gpu_set_root(GPUS)}
LATER = {"started_at_ms": 20_000 * DAY_MS - 2_000, "ended_at_ms": 20_001 * DAY_MS}


@pytest.mark.parametrize(
    ("other", "given", "reason"),
    [
        ({"provider": OTHERS}, {}, "two providers"),
        ({}, {}, "twice the same receipt"),
        ({"seq": 5}, {"channel": CHANNEL}, "seq 3 and 5"),
        ({"seq": 4}, {}, "on a channel only"),
        ({"seq": 4}, {"channel": replace(CHANNEL, salt=8)}, "give the payer, signer and salt"),
        ({"seq": 4}, {"channel": replace(CHANNEL, provider=OTHERS)}, "give the payer"),
        ({"route": digest(5)}, {}, "no GPU exclusively"),
        (OTHER_SET, {"gpus_one": GPUS, "gpus_other": GPUS[:2]}, "give all ids"),
        ({**OTHER_SET, **LATER}, {"gpus_one": GPUS, "gpus_other": GPUS}, "overlap by 2000 ms"),
    ],
)
def test_what_is_no_fault(other: dict[str, Any], given: dict[str, Any], reason: str) -> None:
    one = receipt(gpu_set=merkle.gpu_set_root(GPUS) if "gpus_one" in given else ZERO_DIGEST)
    with pytest.raises(MessageError, match=reason):
        fault_of(DOMAIN, signed(one), signed(replace(one, **other)), **given)


def test_a_chain_that_holds_is_no_fault() -> None:
    earlier = receipt()
    for total in (300, 301):
        later = after(earlier, total=total)
        with pytest.raises(MessageError, match="follows the earlier as it should"):
            fault_of(DOMAIN, signed(earlier), signed(later), channel=CHANNEL)


def test_two_sets_without_a_card_in_common_are_no_fault() -> None:
    one = receipt(gpu_set=merkle.gpu_set_root(GPUS[:1]))
    other = receipt(route=digest(5), gpu_set=merkle.gpu_set_root(GPUS[1:]))
    with pytest.raises(MessageError, match="no GPU in common"):
        fault_of(DOMAIN, signed(one), signed(other), gpus_one=GPUS[:1], gpus_other=GPUS[1:])


def test_commitments_bind_vote_salt_checker_and_task() -> None:
    task = TaskId(digest(1))
    base = commitment(Vote.RIGHT, digest(9), PROVIDER, task)
    others = [
        commitment(Vote.WRONG, digest(9), PROVIDER, task),
        commitment(Vote.RIGHT, digest(8), PROVIDER, task),
        commitment(Vote.RIGHT, digest(9), OTHERS, task),
        commitment(Vote.RIGHT, digest(9), PROVIDER, TaskId(digest(2))),
    ]
    assert len({base, *others}) == 5


def test_offences_are_named_by_provider() -> None:
    assert offence_of_route(PROVIDER, ROUTE) != offence_of_route(OTHERS, ROUTE)
    assert offence_of_gpu(PROVIDER, ROUTE, 1) != offence_of_gpu(PROVIDER, ROUTE, 2)


def test_a_salt_follows_from_the_key_and_nothing_else_has_to_be_kept() -> None:
    task = TaskId(digest(1))
    salt = vote_salt(KEY, DOMAIN, task, 1, PROVIDER)
    assert salt == vote_salt(bytes.fromhex(KEY[2:]), DOMAIN, task, 1, PROVIDER)
    others = {
        vote_salt("0x" + "22" * 32, DOMAIN, task, 1, PROVIDER),
        vote_salt(KEY, replace(DOMAIN, chain_id=1), task, 1, PROVIDER),
        vote_salt(KEY, replace(DOMAIN, escrow=OTHERS), task, 1, PROVIDER),
        vote_salt(KEY, DOMAIN, TaskId(digest(2)), 1, PROVIDER),
        vote_salt(KEY, DOMAIN, task, 2, PROVIDER),
        vote_salt(KEY, DOMAIN, task, 1, OTHERS),
    }
    assert len(others | {salt}) == 7
    for vote in (Vote.RIGHT, Vote.WRONG, Vote.NO_INPUT, Vote.NO_RESULT):
        assert vote_of(commitment(vote, salt, PROVIDER, task), salt, PROVIDER, task) is vote
    for other in others:
        committed = commitment(Vote.RIGHT, salt, PROVIDER, task)
        assert vote_of(committed, other, PROVIDER, task) is None


def test_words_and_offences_are_the_courts(chain: LocalChain, deployment: Deployment) -> None:
    task = TaskId(digest(1))

    def court(function: str, *values: Any) -> Digest:
        call = Call(deployment.court, codec.encode_call("DisputeCourt", function, *values))
        (answer,) = codec.decode_answer("DisputeCourt", function, read(chain, call))
        return Digest(answer)

    assert court("offenceOfTask", task) == offence_of_task(task)
    assert court("offenceOfSilence", task, PROVIDER, 2) == offence_of_silence(task, PROVIDER, 2)
    assert court("offenceOfRoute", PROVIDER, ROUTE) == offence_of_route(PROVIDER, ROUTE)
    assert court("offenceOfGpu", PROVIDER, ROUTE, 5) == offence_of_gpu(PROVIDER, ROUTE, 5)
    for vote in Vote:
        expected = commitment(vote, digest(9), PROVIDER, task)
        assert court("commitmentOf", int(vote), digest(9), PROVIDER, task) == expected


def selector(function: str) -> bytes:
    for entry in codec.abi("DisputeCourt"):
        if entry.get("name") == function:
            kinds = [_kind(value) for value in entry["inputs"]]
            return keccak256(f"{function}({','.join(kinds)})".encode())[:4]
    raise AssertionError(function)


def _kind(value: dict[str, Any]) -> str:
    kind: str = value["type"]
    if not kind.startswith("tuple"):
        return kind
    parts = ",".join(_kind(part) for part in value["components"])
    return f"({parts}){kind.removeprefix('tuple')}"
