"""settle
├── next_step: a table from what chain and journal say to what is done
├── with acceptance: settled at once, from a created task and from a signed order
├── alone: patience, then proven inside the lease; created first when the order was not; final
│   after the window, or at once with a late acceptance
├── somebody else was faster: done, no second payment
├── stuck: dearer on the same nonce; nonce taken: planned anew; pointless: the nonce is freed
└── a payment that a reorganisation takes back is made again
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.contracts import AcceptedProof, Call, Usage
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import Acceptance, TaskTerms, sign
from tallystick.protocol.pricing import split_charge_down
from tallystick.protocol.types import Address, Digest, Signature, TaskId
from tallystick.protocol.web3 import close, connect
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import SettlementError
from tallystick_provider.journal import Journal, Lease, Signed
from tallystick_provider.ledger import ChainLedger, Proven, Settled, TaskOnChain
from tallystick_provider.settle import RECHECK_SECONDS, Over, Send, Settler, Wait, next_step
from tests.provider.orders import DAY_S, DOMAIN, NOW_S, offer_of
from tests.provider.settling import Finished, accept, finish, open_market
from tests.provider.test_journal import receipt_of, sign_it
from tests.support.anvil import (
    CONSUMER,
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    STRANGER,
    LocalChain,
    market_of,
    send,
)

OPEN = TaskOnChain(
    status="open", nonce_used=True, end_s=NOW_S + 500, available=0, block=1, now_s=NOW_S
)
NONE = replace(OPEN, status="none", nonce_used=False)
GONE = replace(OPEN, status="none", nonce_used=True)
OTHER = Digest("0x" + "99" * 32)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_S * 1000)


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    clock.at_ms = 0  # the chain's time is not ours: no lease here is older than the journal
    journal = Journal(tmp_path / "journal.sqlite", clock)
    clock.at_ms = NOW_S * 1000
    yield journal
    journal.close()


@pytest.fixture
def ours(journal: Journal) -> tuple[Lease, Signed]:
    lease = journal.accept(offer_of(), ("GPU-0",), 1)
    signed = sign_it(journal, lease, receipt_of(lease))
    held = journal.lease(lease.task_id, lease.fence)
    assert held is not None
    return held, signed


def proven(signed: Signed, receipt: Digest | None = None, charge: int | None = None) -> TaskOnChain:
    work = Proven(
        PROVIDER.address,
        1,
        signed.receipt.total if charge is None else charge,
        receipt or signed.digest,
        NOW_S + 100,
    )
    return replace(OPEN, status="proven", proven=work)


def accepted(lease: Lease, signed: Signed, total: int | None = None) -> Lease:
    acceptance = Acceptance(
        lease.task_id, signed.receipt.total if total is None else total, signed.digest
    )
    return replace(
        lease, acceptance=acceptance, acceptance_signature=sign(DOMAIN, acceptance, CONSUMER.key)
    )


def step(lease: Lease, signed: Signed, chain: TaskOnChain, now_s: int = NOW_S) -> Any:
    return next_step(lease, signed, chain, now_s, 15)


def test_accepted_work_is_proven_from_open_and_from_nothing(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    assert step(accepted(lease, signed), signed, OPEN) == Send("prove")
    assert step(accepted(lease, signed), signed, NONE) == Send("prove")


def test_patience_ends_with_the_wait_or_with_the_lease(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    assert isinstance(step(lease, signed, OPEN), Wait)
    assert step(lease, signed, OPEN, NOW_S + 15) == Send("prove_alone")
    patient = next_step(lease, signed, OPEN, NOW_S + 19, 3600)
    assert isinstance(patient, Wait)
    assert next_step(lease, signed, OPEN, NOW_S + 20, 3600) == Send("prove_alone")


def test_a_short_lease_renewed_for_long_does_not_end_the_wait(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    given = lease.offer.assignment.model_copy(update={"lease_until": NOW_S + 6})
    short = replace(
        lease,
        offer=lease.offer.model_copy(update={"assignment": given}),
        assignment=replace(lease.assignment, lease_from=NOW_S - 3600, lease_until=NOW_S + 6),
    )
    assert isinstance(next_step(short, signed, OPEN, NOW_S + 1, 3600), Wait)
    assert next_step(short, signed, OPEN, NOW_S + 5, 3600) == Send("prove_alone")


def as_order(lease: Lease) -> Lease:
    """The same lease, over a signed order that nobody created."""
    return replace(lease, offer=lease.offer.model_copy(update={"secured": False}))


def test_an_order_that_is_not_on_chain_is_created_first(ours: tuple[Lease, Signed]) -> None:
    lease, signed = as_order(ours[0]), ours[1]
    assert step(lease, signed, NONE, NOW_S + 15) == Send("create")
    bare = replace(lease, offer=lease.offer.model_copy(update={"terms_signature": None}))
    assert isinstance(step(bare, signed, NONE, NOW_S + 15), Wait)


def test_a_creation_that_was_reorganised_away_is_not_made_again(
    ours: tuple[Lease, Signed],
) -> None:
    lease, signed = ours
    assert isinstance(step(lease, signed, NONE, NOW_S + 15), Wait)
    assert step(accepted(lease, signed), signed, NONE, NOW_S + 15) == Send("prove")


def test_after_the_lease_only_acceptance_helps(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    late = NOW_S + 31
    assert isinstance(step(lease, signed, replace(OPEN, now_s=late), late), Wait)
    assert step(accepted(lease, signed), signed, replace(OPEN, now_s=late), late) == Send("prove")


def test_after_the_end_nothing_is_owed(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    ended = replace(OPEN, now_s=OPEN.end_s + 1)
    for held in (lease, accepted(lease, signed)):
        over = step(held, signed, ended, ended.now_s)
        assert isinstance(over, Over)
        assert over.outcome == "unpaid"


def test_an_acceptance_of_another_sum_is_none(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    wrong = accepted(lease, signed, signed.receipt.total + 1)
    assert isinstance(step(wrong, signed, OPEN), Wait)


def test_a_proof_waits_for_its_window_or_an_acceptance_of_what_it_is_cut_to(
    ours: tuple[Lease, Signed],
) -> None:
    lease, signed = ours
    chain = proven(signed, charge=1)
    assert isinstance(step(lease, signed, chain), Wait)
    assert isinstance(step(accepted(lease, signed), signed, chain), Wait)
    assert step(accepted(lease, signed, 1), signed, chain) == Send("finalize")
    assert isinstance(step(lease, signed, replace(chain, now_s=NOW_S + 100)), Wait)
    assert step(lease, signed, replace(chain, now_s=NOW_S + 101)) == Send("finalize")


def test_anothers_proof_or_payment_ends_it(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    other = step(lease, signed, proven(signed, OTHER))
    assert isinstance(other, Over)
    assert other.outcome == "unpaid"
    settled = Settled(OTHER_PROVIDER.address, 5, OTHER, "0x")
    over = step(lease, signed, replace(GONE, settled=settled))
    assert isinstance(over, Over)
    assert over.outcome == "unpaid"


def test_our_payment_ends_it_whoever_sent_it(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    settled = Settled(PROVIDER.address, 3, signed.digest, "0xabc")
    over = step(lease, signed, replace(GONE, settled=settled))
    assert isinstance(over, Over)
    assert over.outcome == "paid"


def test_a_node_behind_its_own_logs_is_waited_for(ours: tuple[Lease, Signed]) -> None:
    lease, signed = ours
    assert isinstance(step(lease, signed, GONE), Wait)
    assert isinstance(step(lease, signed, replace(OPEN, status="proven")), Wait)


# --- on a real chain --------------------------------------------------------------------------


@pytest.fixture
async def ledger(chain: LocalChain, deployment: Deployment) -> AsyncIterator[ChainLedger]:
    open_market(chain, deployment)
    web3 = connect(chain.url)
    yield ChainLedger(web3, deployment, OPERATOR.key)
    await close(web3)


@pytest.fixture
def settler(journal: Journal, ledger: ChainLedger, clock: ManualClock) -> Settler:
    return Settler(journal, ledger, clock, acceptance_wait_s=15, stuck_s=60)


async def credit_of(ledger: ChainLedger, provider: Address = PROVIDER.address) -> int:
    return (await ledger._escrow.payee(provider)).credit


async def settle(settler: Settler, passes: int = 4) -> None:
    for _ in range(passes):
        await settler.pass_once()
        if settler._journal.in_flight() is not None:
            await asyncio.sleep(0.05)  # the node mines by itself, beside us


def outcome(journal: Journal, done: Finished) -> str | None:
    lease = journal.lease(done.lease.task_id, done.lease.fence)
    assert lease is not None
    return lease.outcome


def due(done: Finished) -> int:
    return split_charge_down(done.terms, done.signed.receipt.total).provider


@pytest.mark.parametrize("secured", [True, False], ids=["created task", "signed order"])
async def test_accepted_work_is_paid_once(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
    secured: bool,
) -> None:
    done = finish(chain, deployment, journal, clock, secured=secured)
    await settle(settler)
    assert journal.intents(done.lease.task_id) == ()
    accept(deployment, journal, done)
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done) > 0
    await settle(settler)
    (intent,) = journal.intents(done.lease.task_id)
    assert (intent.verb, intent.state) == ("prove", "mined")


@pytest.mark.parametrize("secured", [True, False], ids=["created task", "signed order"])
async def test_a_silent_consumer_pays_after_the_window(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
    secured: bool,
) -> None:
    done = finish(chain, deployment, journal, clock, secured=secured)
    clock.advance_ms(16_000)
    await settle(settler)
    verbs = [intent.verb for intent in journal.intents(done.lease.task_id)]
    assert verbs == (["prove_alone"] if secured else ["create", "prove_alone"])
    assert outcome(journal, done) is None
    assert await credit_of(ledger) == 0
    chain.wait(DAY_S + 1)  # by the chain's clock alone: this machine's may be slow
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done)


async def test_what_was_refused_is_told_again_once_the_chain_has_the_proof(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    settler: Settler,
) -> None:
    """The backend takes it then, and the consumer needs the result before the window closes."""

    def lease() -> Lease:
        found = journal.lease(done.lease.task_id, done.lease.fence)
        assert found is not None
        return found

    done = finish(chain, deployment, journal, clock)
    journal.reported(lease(), "the result came too late")
    await settle(settler)
    assert lease().refused
    clock.advance_ms(16_000)
    await settle(settler)
    assert (lease().stage, lease().reason, lease().outcome) == ("signed", "", None)
    journal.reported(lease())
    await settle(settler)
    assert lease().stage == "reported"


async def test_an_open_window_is_looked_at_now_and_then(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = finish(chain, deployment, journal, clock)
    clock.advance_ms(16_000)
    await settle(settler)
    looks: list[str] = []
    look = ledger.task

    async def counted(task_id: TaskId, terms: TaskTerms, from_block: int) -> TaskOnChain:
        looks.append(task_id)
        return await look(task_id, terms, from_block)

    monkeypatch.setattr(ledger, "task", counted)
    await settle(settler)
    assert looks == []
    clock.advance_ms(RECHECK_SECONDS * 1000)
    await settle(settler)
    assert len(looks) == 1
    accept(deployment, journal, done)
    await settle(settler)
    assert outcome(journal, done) == "paid"


async def test_a_late_acceptance_ends_the_window(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    clock.advance_ms(16_000)
    await settle(settler)
    accept(deployment, journal, done)
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done)


async def test_what_others_settled_is_done(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    _, signature = accept(deployment, journal, done)
    proof = AcceptedProof(
        done.terms, Usage.of(done.signed.receipt), "", done.signed.signature, signature
    )
    send(chain, STRANGER, market_of(deployment).prove(proof))
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert journal.intents(done.lease.task_id) == ()
    assert await credit_of(ledger) == due(done)


async def test_a_refusal_is_named_and_costs_nothing(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    acceptance, _ = accept(deployment, journal, done)
    forged = sign(deployment.domain, acceptance, STRANGER.key)
    journal.keep_acceptance(acceptance, forged, 1)
    await settle(settler, 1)
    assert "the acceptance should be signed by" in settler.problem
    assert await ledger.nonce() == 0
    assert outcome(journal, done) is None


async def test_a_stuck_transaction_is_raised_on_its_nonce(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    accept(deployment, journal, done)
    chain.rpc("evm_setAutomine", False)
    try:
        await settle(settler, 2)
        clock.advance_ms(61_000)
        await settle(settler, 1)
        (intent,) = journal.intents(done.lease.task_id)
        assert len(intent.versions) == 2
        assert intent.versions[1].max_fee_wei > intent.versions[0].max_fee_wei * 112 // 100
        chain.mine()
        await settle(settler)
    finally:
        chain.rpc("evm_setAutomine", True)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done)
    assert await ledger.nonce() == 1


async def test_a_fee_is_not_raised_for_ever(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    accept(deployment, journal, done)
    chain.rpc("evm_setAutomine", False)
    try:
        for _ in range(30):
            await settle(settler, 1)
            clock.advance_ms(61_000)
        (intent,) = journal.intents(done.lease.task_id)
        assert intent.latest.max_fee_wei < intent.versions[0].max_fee_wei * 13
        chain.mine()
    finally:
        chain.rpc("evm_setAutomine", True)
    await settle(settler)
    assert outcome(journal, done) == "paid"


async def test_a_nonce_that_somebody_took_is_planned_anew(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    accept(deployment, journal, done)

    class Lossy(ChainLedger):
        async def broadcast(self, raw: bytes) -> None:
            raise SettlementError("the node lost it")

    web3 = connect(chain.url)
    lossy = Settler(
        journal,
        Lossy(web3, deployment, OPERATOR.key),
        clock,
        acceptance_wait_s=15,
        stuck_s=60,
    )
    await settle(lossy, 1)
    assert "the node lost it" in lossy.problem
    await close(web3)
    send(chain, OPERATOR, Call(STRANGER.address, b""))  # by hand, with the same key
    await settle(settler)
    states = [(i.nonce, i.state) for i in journal.intents(done.lease.task_id)]
    assert states == [(0, "displaced"), (1, "mined")]
    assert await credit_of(ledger) == due(done)


async def test_a_pointless_transaction_frees_its_nonce(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    acceptance, signature = accept(deployment, journal, done)
    lease = journal.lease(done.lease.task_id, 1)
    assert lease is not None
    chain.rpc("evm_setAutomine", False)
    try:
        await settle(settler, 1)
        chain.rpc("anvil_dropAllTransactions")
    finally:
        chain.rpc("evm_setAutomine", True)
    proof = AcceptedProof(
        done.terms, Usage.of(done.signed.receipt), "", done.signed.signature, signature
    )
    send(chain, STRANGER, market_of(deployment).prove(proof))
    clock.advance_ms(61_000)
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await ledger.nonce() == 1
    assert await credit_of(ledger) == due(done)
    assert acceptance.total == done.signed.receipt.total


async def test_a_reorganised_payment_is_made_again(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = finish(chain, deployment, journal, clock)
    accept(deployment, journal, done)
    before = chain.snapshot()
    await settle(settler)
    assert outcome(journal, done) == "paid"
    chain.revert(before)  # the payment's block never was
    assert await credit_of(ledger) == 0
    clock.advance_ms(61_000)
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done)


async def test_a_reorganisation_below_what_is_in_flight_holds_nothing_up(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    """Case 86. The first is mined and the second waits; the first one's block goes. However dear
    the second is, its nonce is not the next: the first has to go out again."""
    first = finish(chain, deployment, journal, clock)
    second = finish(chain, deployment, journal, clock)
    before = chain.snapshot()
    accept(deployment, journal, first)
    await settle(settler)
    assert outcome(journal, first) == "paid"
    accept(deployment, journal, second)
    chain.rpc("evm_setAutomine", False)
    try:
        await settle(settler, 1)
        [waiting] = journal.intents(second.lease.task_id)
        assert waiting.nonce == 1
        chain.revert(before)
        chain.rpc("anvil_dropAllTransactions")
    finally:
        chain.rpc("evm_setAutomine", True)
    for _ in range(3):
        clock.advance_ms(61_000)
        await settle(settler)
    assert outcome(journal, first) == outcome(journal, second) == "paid"
    assert await credit_of(ledger) == due(first) + due(second)
    assert await ledger.nonce() == 2


async def test_one_false_answer_gives_nothing_up(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 77: a block's time far in the future, told once, made work look too late to be paid."""
    done = finish(chain, deployment, journal, clock)
    accept(deployment, journal, done)
    read, reads = ledger.task, 0

    async def lies_once(*args: Any) -> TaskOnChain:
        nonlocal reads
        reads += 1
        said = await read(*args)
        return replace(said, now_s=2**63) if reads == 1 else said

    monkeypatch.setattr(ledger, "task", lies_once)
    await settle(settler)
    assert outcome(journal, done) == "paid"
    assert await credit_of(ledger) == due(done)


async def test_many_tasks_keep_their_nonces_in_order(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: ManualClock,
    ledger: ChainLedger,
    settler: Settler,
) -> None:
    done = [finish(chain, deployment, journal, clock) for _ in range(5)]
    for task in done:
        accept(deployment, journal, task)
    await settle(settler, 6)
    assert [outcome(journal, task) for task in done] == ["paid"] * 5
    nonces = [i.nonce for task in done for i in journal.intents(task.lease.task_id)]
    assert sorted(nonces) == list(range(5))
    assert await credit_of(ledger) == sum(map(due, done))


async def test_the_signature_of_an_acceptance_survives_the_journal(
    chain: LocalChain, deployment: Deployment, journal: Journal, clock: ManualClock
) -> None:
    done = finish(chain, deployment, journal, clock, secured=False)
    acceptance, signature = accept(deployment, journal, done)
    lease = journal.lease(done.lease.task_id, 1)
    assert lease is not None
    assert (lease.acceptance, lease.acceptance_signature) == (acceptance, Signature(signature))
