"""A court with seats in it, and disputes that reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from tallystick.protocol.messages import Receipt, TaskTerms, as_tuple
from tallystick.protocol.types import Address, Digest
from tests.contracts.stage import DAY_S, UNIT, Stage, Usage, digest_of, two_words

SALT = digest_of("salt")
DRAW_BLOCKS = 9
"""Blocks to mine until a draw that was just called can be made."""

EQUAL = 1
"""The rule of verification under which results must be equal."""


class Vote(IntEnum):
    NONE = 0
    RIGHT = 1
    WRONG = 2
    NO_INPUT = 3
    NO_RESULT = 4


class Verdict(IntEnum):
    UNDECIDED = 0
    RIGHT = 1
    WRONG = 2


def verification(share_bps: int, rule: int = EQUAL) -> int:
    return rule + 256 * share_bps


@dataclass(frozen=True, slots=True)
class Case:
    """A proof that stands, or that its consumer doubts."""

    terms: TaskTerms
    usage: Usage
    task_id: str
    proven: tuple[Any, ...]
    charge: int
    bond: int

    @property
    def row(self) -> tuple[Any, ...]:
        return as_tuple(self.terms)


class Courtroom:
    def __init__(self, stage: Stage, court: Any, deployer: Any) -> None:
        self.stage = stage
        self.court = court
        self.deployer = deployer

    # ------------------------------------------------------------------ seats

    def newcomer(self, units: int = 1) -> Any:
        """Somebody with stake of so many units and no seat."""
        from brownie import accounts

        person = accounts.add()
        self.deployer.transfer(person, 10**18)
        stage = self.stage
        if units:
            stage.token.transfer(person, units * UNIT, {"from": self.deployer})
            stage.token.approve(stage.staking, units * UNIT, {"from": person})
            stage.staking.stake(units * UNIT, {"from": person})
        return person

    def seated(self, count: int, units: int = 2) -> list[Any]:
        """So many newcomers with a listed seat each."""
        people = [self.newcomer(units) for _ in range(count)]
        for person in people:
            self.court.takeSeat({"from": person})
        self.later(DAY_S)
        for person in people:
            self.court.listSeat(person, {"from": self.deployer})
        # Blocks of a test may share a second, and a seat listed in a dispute's second is too late.
        self.later(1)
        return people

    # ------------------------------------------------------------------ disputes

    def proven(self, share_bps: int = 1_000, **changes: Any) -> Case:
        """A task that its provider proved alone, under terms that let a tenth be repeated."""
        stage = self.stage
        terms = stage.terms(verification=verification(share_bps), **changes)
        stage.create(terms)
        usage = stage.usage()
        stage.market.proveAlone(stage.leased(terms, usage), {"from": self.deployer})
        proven = stage.proven(terms, usage)
        bond = int(stage.market.bondOf(terms.verification, proven[1]))
        return Case(terms, usage, stage.task_id(terms), proven, proven[1], bond)

    def dispute(self, case: Case) -> Any:
        return self.stage.market.dispute(case.row, case.proven, {"from": self.stage.consumer})

    def disputed(self, **changes: Any) -> Case:
        case = self.proven(**changes)
        self.dispute(case)
        return case

    def draw(self, case: Case) -> list[Any]:
        """The three, as accounts that can send."""
        from brownie import accounts

        self.mine(DRAW_BLOCKS)
        sent = self.court.draw(case.row, {"from": self.deployer})
        return [accounts.at(who) for who in sent.events["CheckersDrawn"]["checkers"]]

    def commit(self, case: Case, checkers: Sequence[Any], votes: Sequence[Vote]) -> None:
        for checker, vote in zip(checkers, votes, strict=True):
            if vote is not Vote.NONE:
                commitment = self.court.commitmentOf(vote, SALT, checker, case.task_id)
                self.court.commit(case.task_id, checker, commitment, {"from": checker})

    def reveal(self, case: Case, checkers: Sequence[Any], votes: Sequence[Vote]) -> None:
        self.later(DAY_S + 1)
        for checker, vote in zip(checkers, votes, strict=True):
            if vote is not Vote.NONE:
                self.court.reveal(case.task_id, checker, vote, SALT, {"from": self.deployer})

    def vote(self, case: Case, votes: Sequence[Vote]) -> list[Any]:
        """Draw, commit and reveal; `NONE` is silent, and then the reveal is over."""
        checkers = self.draw(case)
        self.commit(case, checkers, votes)
        self.reveal(case, checkers, votes)
        if Vote.NONE in votes:
            self.later(DAY_S + 1)
        return checkers

    def conclude(self, case: Case) -> Any:
        return self.court.conclude(case.row, case.proven, {"from": self.deployer})

    # ------------------------------------------------------------------ receipts

    def call_receipt(self, channel_id: str, seq: int = 1, **changes: Any) -> Receipt:
        """Of a call on a channel, served on GPUs that others use too: ten seconds until now."""
        ended_at_ms = self.stage.now() * 1000
        receipt = Receipt(
            provider=Address(self.stage.provider.address),
            route=Digest(channel_id),
            seq=seq,
            prev=digest_of("receipt before") if seq > 1 else Digest("0x" + "00" * 32),
            request=digest_of("request"),
            result=digest_of("result"),
            gpu_set=Digest("0x" + "00" * 32),
            started_at_ms=ended_at_ms - 10_000,
            ended_at_ms=ended_at_ms,
            calls=1,
            gpu_ms=10_000,
            usage_root=digest_of("samples"),
            total=100 * seq,
        )
        return replace(receipt, **changes)

    def signed(self, receipt: Receipt, by: Any = None) -> tuple[Any, ...]:
        """`SignedReceipt`, by the operator key."""
        signature = self.stage.signed(receipt, by or self.stage.operator)
        return (as_tuple(receipt), *two_words(signature))

    # ------------------------------------------------------------------ time

    def mine(self, blocks: int) -> None:
        """All at once."""
        from brownie import web3

        web3.provider.make_request("anvil_mine", [hex(blocks)])

    def later(self, seconds: int) -> None:
        self.stage.at(self.stage.now() + seconds)

    def lost(self, person: Any, before: tuple[int, int]) -> int:
        """Stake gone since `before`."""
        return sum(before) - sum(self.stage.stake_of(person))


def channel_of(payer: str, signer: str, provider: str, salt: int) -> str:
    from eth_abi.abi import encode
    from web3 import Web3

    words = encode(["address", "address", "address", "uint96"], [payer, signer, provider, salt])
    return str(Web3.keccak(words).to_0x_hex())
