"""How finished work becomes money, and survives kill -9 at any line.

`next_step` decides from what the chain and the journal say; it is pure. `Settler` carries it out
through the outbox: 1 simulate and sign, 2 bind the account's nonce and keep the signed bytes on
disk, 3 broadcast, 4 wait for the chain. After a crash the same bytes go out again, which changes
nothing if they had gone out before. One transaction is in flight at a time, so nonces have no gaps.

There is no message "I was paid": a lease is paid when the chain says `TaskSettled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from tallystick.protocol.contracts import Call
from tallystick.protocol.errors import ContractError, ProtocolError
from tallystick.protocol.transactions import Fees, SignedTransaction
from tallystick.protocol.types import Signature
from tallystick_provider.clock import Clock
from tallystick_provider.errors import ProviderError, SettlementError
from tallystick_provider.journal import (
    ERRAND,
    Intent,
    Journal,
    Lease,
    Outcome,
    Signed,
    Subject,
    Version,
)
from tallystick_provider.ledger import Ledger, Proof, TaskOnChain

LEASE_MARGIN_SECONDS = 10
"""A lease that is not renewed is used up before its end; renewed ones never come this close."""
REORG_WATCH_SECONDS = 900
RECHECK_SECONDS = 60
FEE_STEP_PERCENT = 25
"""Nodes take a replacement from 10 % more on."""
FEE_CEILING = 10
"""Times the market's fee. What no longer gets in at that is not held up by its fee, and one that
grows for ever is soon more than the account holds: then no node takes it."""
PLAIN_TRANSFER_GAS = 21_000

Verb = Literal["create", "prove", "prove_alone", "finalize", "redeem"]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""

    why: str


@dataclass(frozen=True, slots=True)
class Over:
    """The chain has decided."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Send:
    verb: Verb


@dataclass(frozen=True, slots=True)
class Rest:
    """A lease whose proof waits for its challenge window: when it is looked at again."""

    until_ms: int
    window_ends_at: int
    """By the chain's clock, which need not be this machine's."""
    acceptance: Signature | None
    """The one known when the rest began; another one ends it."""


def next_step(
    lease: Lease, signed: Signed, chain: TaskOnChain, now_s: int, acceptance_wait_s: int
) -> Wait | Over | Send:
    """What brings this receipt nearer to its pay. Pure; asked again after every change."""
    if chain.settled is not None:
        if chain.settled.receipt == signed.digest:
            return Over("paid", f"settled with {chain.settled.charge} in {chain.settled.tx_hash}")
        return Over("unpaid", f"the task was settled for {chain.settled.provider}")
    if chain.status == "none" and chain.nonce_used:
        if chain.now_s > lease.terms.deadline:
            return Over("unpaid", "the task was refunded or its nonce used for another order")
        return Wait("the task is closed on chain; its event is not visible yet")
    if chain.status == "proven":
        return _after_proof(lease, signed, chain)
    if chain.status == "disputed":
        return Wait("the consumer disputes the result: the court, or its time, settles the task")
    if _accepted(lease, signed.receipt.total, signed):
        if chain.now_s > chain.end_s:
            return Over("unpaid", f"accepted, but the task ended on chain at {chain.end_s}")
        return Send("prove")
    if chain.now_s > chain.end_s:
        return Over("unpaid", f"the task ended on chain at {chain.end_s} without acceptance")
    return _alone(lease, chain, now_s, acceptance_wait_s)


def _after_proof(lease: Lease, signed: Signed, chain: TaskOnChain) -> Wait | Over | Send:
    proven = chain.proven
    if proven is None:
        return Wait("the task is proven on chain; its event is not visible yet")
    if proven.receipt != signed.digest:
        return Over("unpaid", f"the task was proven by {proven.provider} with fence {proven.fence}")
    if chain.now_s > proven.challenge_ends_at or _accepted(lease, proven.charge, signed):
        return Send("finalize")
    return Wait(f"the challenge window is open until {proven.challenge_ends_at}")


def _alone(
    lease: Lease, chain: TaskOnChain, now_s: int, acceptance_wait_s: int
) -> Wait | Over | Send:
    """Without the consumer: patience first, but never past the lease."""
    until = lease.assignment.lease_until
    if now_s > until or chain.now_s > until:
        return Wait(f"the lease ended at {until}; only an acceptance helps, until {chain.end_s}")
    # As long as it was first given for: `lease_from` stays where it was when a lease is renewed.
    length_s = lease.offer.assignment.lease_until - lease.offer.assignment.lease_from
    margin = min(LEASE_MARGIN_SECONDS, length_s // 3)
    signed_s = (lease.signed_at_ms or 0) // 1000
    if now_s < min(signed_s + acceptance_wait_s, until - margin):
        return Wait(f"the consumer may accept until {signed_s + acceptance_wait_s}")
    if chain.status == "none":
        if lease.offer.secured:
            # A reorganisation took the creation away. Locking the money again is the consumer's
            # own decision; a signed order, in contrast, is meant to be created by who needs it.
            return Wait("the task's creation is gone from the chain; it may come back")
        if lease.offer.terms_signature is None:
            return Wait("the order is not on chain and carries no signature to create it with")
        return Send("create")
    return Send("prove_alone")


def _accepted(lease: Lease, charge: int, signed: Signed) -> bool:
    given = lease.acceptance
    return (
        given is not None
        and lease.acceptance_signature is not None
        and given.receipt == signed.digest
        and given.total == charge
    )


async def _nothing() -> Call | None:
    return None


class Settler:
    """One pass looks at the transaction in flight, then at each unpaid receipt."""

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        *,
        acceptance_wait_s: int,
        stuck_s: int,
        on_over: Callable[[Lease], None] = lambda _: None,
        redemption: Callable[[], Awaitable[Call | None]] = _nothing,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`redemption` answers the vouchers of calls that should go to the chain now: its
        transactions have the same account and take their turn. `reached` is told the name of each
        step; the kill tests end the process there."""
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._acceptance_wait_s = acceptance_wait_s
        self._stuck_s = stuck_s
        self._on_over = on_over
        self._redemption = redemption
        self._reached = reached
        self._woken = asyncio.Event()
        self._complaints: list[str] = []
        self._resting: dict[str, Rest] = {}
        self.problem = ""
        """Why money waits, in words; shown by `status`."""

    def wake(self) -> None:
        """Something changed: look now."""
        self._woken.set()

    async def run(self, stop: asyncio.Event, pause_s: float) -> None:
        while not stop.is_set():
            self._woken.clear()
            try:
                await self.pass_once()
            except (ProviderError, ProtocolError) as error:
                if self.problem != str(error):
                    log.warning("settlement_waits", problem=str(error))
                self.problem = str(error)
            waits = [asyncio.ensure_future(e.wait()) for e in (stop, self._woken)]
            await asyncio.wait(waits, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def pass_once(self) -> None:
        self._complaints = []
        try:
            await self._pass()
        finally:
            self.problem = "; ".join(self._complaints)

    async def _pass(self) -> None:
        if not await self._land_in_flight():
            return
        chain_s = (await self._ledger.head())[1] if self._resting else 0
        for lease in self._journal.open_leases():
            signed = self._journal.signed(lease.task_id, lease.fence)
            if signed is None or not lease.reached("signed") or self._may_rest(lease, chain_s):
                continue
            await self._advance(lease, signed)
            if not await self._land_in_flight():
                return
        call = await self._redemption()
        if call is not None:
            await self._send(ERRAND, "redeem", call)
            if not await self._land_in_flight():
                return
        await self._recheck_paid()

    def _may_rest(self, lease: Lease, chain_s: int) -> bool:
        """Nothing but time or an acceptance moves a lease whose challenge window is open."""
        rest = self._resting.get(lease.name)
        return (
            rest is not None
            and self._now() < rest.until_ms
            and chain_s <= rest.window_ends_at
            and lease.acceptance_signature == rest.acceptance
        )

    def _rest(self, lease: Lease, signed: Signed, chain: TaskOnChain) -> None:
        """Never longer than RECHECK_SECONDS: a reorganisation can take the proof back."""
        proven = chain.proven
        if proven is None or proven.receipt != signed.digest:
            return
        if chain.now_s <= proven.challenge_ends_at:
            self._resting[lease.name] = Rest(
                self._now() + RECHECK_SECONDS * 1000,
                proven.challenge_ends_at,
                lease.acceptance_signature,
            )

    async def _advance(self, lease: Lease, signed: Signed) -> None:
        chain = await self._ledger.task(lease.task_id, lease.terms, lease.accepted_block)
        self._reached("read")
        if lease.refused and chain.vouches_for(signed.digest):
            # What the chain has proven the backend takes, however late; the consumer needs it.
            lease = self._journal.tell_again(lease)
        step = self._next_step(lease, signed, chain)
        if isinstance(step, Over) and step.outcome == "unpaid":
            # For good: one false answer of the node, as a block's time, must not be enough.
            chain = await self._ledger.task(lease.task_id, lease.terms, lease.accepted_block)
            again = self._next_step(lease, signed, chain)
            step = again if isinstance(again, Over) else Wait("the node contradicts itself")
        self._resting.pop(lease.name, None)
        if isinstance(step, Wait):
            self._rest(lease, signed, chain)
        elif isinstance(step, Over):
            self._reached("decided")
            closed = self._journal.close_lease(lease, step.outcome, step.reason)
            log.info("lease_closed", task=lease.task_id, outcome=step.outcome, why=step.reason)
            self._reached("closed")
            self._on_over(closed)
        elif isinstance(step, Send):
            await self._send(lease, step.verb, self._call(lease, signed, chain, step.verb))

    def _next_step(self, lease: Lease, signed: Signed, chain: TaskOnChain) -> Wait | Over | Send:
        now_s = self._clock.now_ms() // 1000
        return next_step(lease, signed, chain, now_s, self._acceptance_wait_s)

    def _call(self, lease: Lease, signed: Signed, chain: TaskOnChain, verb: Verb) -> Call:
        proof = Proof(
            lease.task_id,
            lease.terms,
            _signature(lease.offer.terms_signature),
            signed.receipt,
            signed.signature,
        )
        if verb == "create":
            return self._ledger.create_task(proof)
        if verb == "prove":
            assert lease.acceptance_signature is not None
            return self._ledger.prove(
                proof, lease.acceptance_signature, created=chain.status != "none"
            )
        if verb == "prove_alone":
            return self._ledger.prove_alone(proof, lease.assignment, lease.assignment_signature)
        assert chain.proven is not None
        early = chain.now_s <= chain.proven.challenge_ends_at
        return self._ledger.finalize(
            proof, chain.proven, lease.acceptance_signature if early else None
        )

    async def _send(self, lease: Subject, verb: Verb, call: Call) -> None:
        nonce, fees = await self._ledger.nonce(), await self._ledger.fees()
        held = self._journal.holder(self._ledger.account, nonce)
        if held is not None:
            # Mined once, and its block was reorganised away: the same bytes are good again.
            log.warning("transaction_reorganised_away", verb=held.verb, nonce=nonce)
            self._journal.land(held, "sent", None)
            await self._broadcast(held)
            return
        try:
            signed = await self._ledger.sign(call, nonce, fees)
        except ContractError as error:
            # Somebody else was faster, or the moment is wrong; the next pass reads the chain anew.
            self._complain(f"{verb} of {lease.task_id} would be refused: {error.sentence}")
            return
        self._reached("signed")
        intent = self._journal.put_out(
            lease, verb, self._ledger.account, nonce, call, self._version(signed)
        )
        self._reached("bound")
        log.info("transaction_sent", task=lease.task_id, verb=verb, nonce=nonce, tx=signed.tx_hash)
        await self._broadcast(intent)
        self._reached("broadcast")

    def _version(self, signed: SignedTransaction) -> Version:
        fees = signed.fees
        return Version(
            signed.tx_hash, signed.raw, signed.gas, fees.max_fee_wei, fees.tip_wei, self._now()
        )

    async def _land_in_flight(self) -> bool:
        """True when no transaction of ours is on its way."""
        while (intent := self._journal.in_flight()) is not None:
            if not await self._land(intent):
                return False
        return True

    async def _land(self, intent: Intent) -> bool:
        """True when the chain has decided on it."""
        for version in reversed(intent.versions):
            mined = await self._ledger.mined(version.tx_hash)
            if mined is not None:
                self._reached("mined")
                state = "mined" if mined.succeeded else "reverted"
                self._journal.land(intent, state, version.tx_hash)
                self._reached("landed")
                log.info("transaction_landed", verb=intent.verb, state=state, tx=version.tx_hash)
                return True
        nonce = await self._ledger.nonce()
        if nonce > intent.nonce and not await self._any_mined(intent):
            self._journal.land(intent, "displaced", None, "another transaction took the nonce")
            return True
        if nonce < intent.nonce:
            intent = self._first_missing(intent, nonce)
        if self._now() - intent.latest.at_ms > self._stuck_s * 1000:
            intent = await self._raise_fee(intent)
        await self._broadcast(intent)
        return False

    def _first_missing(self, intent: Intent, nonce: int) -> Intent:
        """A reorganisation took transactions back that were mined before this one: until they are
        there again, in their order, it cannot be mined however dear it is."""
        held = self._journal.holder(self._ledger.account, nonce)
        if held is None:
            self._complain(
                f"{intent.verb} of {intent.task_id} waits with nonce {intent.nonce}, and the "
                f"account's next is {nonce}: send any transaction with that nonce"
            )
            return intent
        log.warning("transaction_reorganised_away", verb=held.verb, nonce=nonce)
        self._journal.land(held, "sent", None)
        return held

    async def _any_mined(self, intent: Intent) -> bool:
        """Asked again after the nonce moved: it may have been ours that moved it."""
        return any([await self._ledger.mined(v.tx_hash) is not None for v in intent.versions])

    async def _raise_fee(self, intent: Intent) -> Intent:
        """The same call on the same nonce, dearer: only one of them can ever be mined."""
        now_fees, last = await self._ledger.fees(), intent.latest
        if last.max_fee_wei >= FEE_CEILING * now_fees.max_fee_wei:
            return intent
        raised = Fees(last.max_fee_wei, last.tip_wei).raised(FEE_STEP_PERCENT)
        fees = Fees(
            max(now_fees.max_fee_wei, raised.max_fee_wei), max(now_fees.tip_wei, raised.tip_wei)
        )
        call, gas = intent.call, last.gas
        try:
            await self._ledger.simulate_mined(call)
        except ContractError as error:
            # Pointless by now, but its nonce holds up all others: an empty transfer goes instead.
            self._complain(f"{intent.verb} of {intent.task_id} would now fail: {error.sentence}")
            call, gas = Call(self._ledger.account, b""), PLAIN_TRANSFER_GAS
        signed = await self._ledger.sign(call, intent.nonce, fees, gas)
        intent = self._journal.add_version(intent, self._version(signed))
        self._reached("raised")
        log.warning("fee_raised", verb=intent.verb, nonce=intent.nonce, tx=signed.tx_hash)
        return intent

    async def _broadcast(self, intent: Intent) -> None:
        try:
            await self._ledger.broadcast(intent.latest.raw)
        except SettlementError as error:
            # Kept and sent again: a node that refuses today may have lost its own memory.
            self._complain(f"{intent.verb} of {intent.task_id} is not taken: {error}")

    async def _recheck_paid(self) -> None:
        """A reorganisation can take a payment back; for a while it is looked at again."""
        now = self._now()
        for lease in self._journal.paid_since(now - REORG_WATCH_SECONDS * 1000):
            if now - (lease.checked_at_ms or 0) < RECHECK_SECONDS * 1000:
                continue
            chain = await self._ledger.task(lease.task_id, lease.terms, lease.accepted_block)
            self._journal.checked(lease)
            if chain.settled is None:
                log.warning("payment_reorganised_away", task=lease.task_id)
                self._journal.reopen(lease)

    def _complain(self, problem: str) -> None:
        """Said once in the log, shown by `status` as long as it lasts."""
        if problem not in self.problem:
            log.warning("settlement_waits", problem=problem)
        self._complaints.append(problem)

    def _now(self) -> int:
        return self._clock.now_ms()


def _signature(text: str | None) -> Signature | None:
    return None if text is None else Signature(text)
