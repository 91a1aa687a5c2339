"""Vote on a disputed result: for whoever has a seat in the court and was drawn.

    brownie run vote commit 0xTask wrong --network tallystick    right, wrong, no-input, no-result
    brownie run vote reveal 0xTask --network tallystick          when the commit is over
    brownie run dispute show 0xTask --network tallystick         who is drawn, and until when

Sends from the checker's own account or its operator key (support.py says how it is chosen). What is
committed hides the vote behind a salt that follows from that key, the task and the round
(`tallystick.protocol.evidence.vote_salt`): there is no file to keep or to lose, and `reveal` finds
the vote again by itself. Reveal with the key that committed. It is `no-input` when the consumer
hands you nothing to check, `no-result` when the provider does not: the first speaks for the
provider, the second against it. A checker that says nothing, where no two of the others agree,
loses a tenth of a unit and goes to jail.
"""

from __future__ import annotations

from typing import Any

from scripts.dispute import SAID, checkers_of, dispute_of
from scripts.support import (
    ZERO_ADDRESS,
    Deployment,
    ScriptError,
    chain_time,
    command,
    deployment,
    domain_of,
    own_key,
    require_gas_money,
    signer,
)
from scripts.task_logs import require_status, task_id_of
from scripts.unstake import when
from tallystick.protocol.contracts import DisputeState, TaskStatus, Vote
from tallystick.protocol.evidence import commitment, vote_of, vote_salt
from tallystick.protocol.types import Address, Digest, TaskId, to_address, to_digest

WORDS = {
    "right": Vote.RIGHT,
    "wrong": Vote.WRONG,
    "no-input": Vote.NO_INPUT,
    "no-result": Vote.NO_RESULT,
}


@command
def commit(task: str = "", vote: str = "") -> None:
    task_id = task_id_of(task, "vote commit 0xTask wrong")
    if vote not in WORDS:
        raise ScriptError(f"{vote!r} is no vote: say {', '.join(WORDS)}")
    market, sender = deployment(), signer()
    checker, round_, committed, _ = required_place(market, task_id, sender)
    if committed is not None:
        raise ScriptError(f"{checker} has committed already: `brownie run vote reveal {task_id}`")
    _, commit_ends, reveal_ends = market.court.timesOf(task_id)
    if chain_time() > commit_ends:
        raise ScriptError(f"votes were committed until {when(commit_ends)}: it is too late")
    salt = salt_of(market, sender, task_id, round_, checker)
    require_gas_money(sender)
    sealed = commitment(WORDS[vote], salt, checker, task_id)
    market.court.commit(task_id, checker, sealed, {"from": sender})
    print(f"{checker} has committed; reveal it after {when(commit_ends)} and until")
    print(f"{when(reveal_ends)}, with this same key: `brownie run vote reveal {task_id}`")


@command
def reveal(task: str = "") -> None:
    task_id = task_id_of(task, "vote reveal 0xTask")
    market, sender = deployment(), signer()
    checker, round_, committed, known = required_place(market, task_id, sender)
    if known is not Vote.NONE:
        print(f"{checker} has said already: {SAID[known]}")
        return
    if committed is None:
        raise ScriptError(f"{checker} has committed no vote: there is nothing to reveal")
    _, commit_ends, reveal_ends = market.court.timesOf(task_id)
    if chain_time() <= commit_ends:
        raise ScriptError(f"votes are revealed after {when(commit_ends)}: others still commit")
    if chain_time() > reveal_ends:
        raise ScriptError(f"votes were revealed until {when(reveal_ends)}: it is too late")
    salt = salt_of(market, sender, task_id, round_, checker)
    vote = vote_of(committed, salt, checker, task_id)
    if vote is None:
        raise ScriptError(
            f"what {checker} committed is not of this key ({sender}): reveal with the key that"
            " committed"
        )
    require_gas_money(sender)
    market.court.reveal(task_id, checker, int(vote), salt, {"from": sender})
    print(f"{checker} says: {SAID[vote]}")


def required_place(
    market: Deployment, task_id: TaskId, sender: Any
) -> tuple[Address, int, Digest | None, Vote]:
    """The drawn seat that the sender votes for, its own or its provider's: with the round, what it
    committed and what it said."""
    require_status(market, task_id, TaskStatus.DISPUTED)
    dispute = dispute_of(market, task_id)
    round_ = dispute["round"]
    if dispute["state"] is not DisputeState.SWORN:
        raise ScriptError("the checkers are not drawn yet: `brownie run dispute draw`")
    drawn = {seat: place for seat, *place in checkers_of(market, task_id, round_)}
    provider, _ = market.staking.operatorKey(sender)
    for seat in (sender.address, provider):
        if seat in drawn:
            vote, committed = drawn[seat]
            sealed = to_digest(committed) if committed else None
            return to_address(str(seat)), round_, sealed, vote
    who = sender.address if provider == ZERO_ADDRESS else provider
    raise ScriptError(
        f"{who} is not drawn for round {round_} of {task_id}: `brownie run dispute show`"
    )


def salt_of(
    market: Deployment, sender: Any, task_id: TaskId, round_: int, checker: Address
) -> Digest:
    return vote_salt(own_key(sender), domain_of(market), task_id, round_, checker)
