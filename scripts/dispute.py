"""Doubt a result, have it checked, and bring the verdict to the money.

    brownie run dispute main 0xTask --network tallystick       the consumer, with a bond
    brownie run dispute draw 0xTask --network tallystick       who checks; anyone
    brownie run dispute conclude 0xTask --network tallystick   the verdict, once it is heard; anyone
    brownie run dispute end 0xTask --network tallystick        the court's time is over; anyone
    brownie run dispute show 0xTask --network tallystick       where it stands

Only a task whose terms ask for verification can be disputed, inside its challenge window. The bond
comes out of what is available in the escrow (`brownie run account deposit`). Right: it pays the
checkers and the provider. Wrong: charge and bond are the consumer's again, and the provider loses a
unit of stake. No verdict: the task settles, and the bond comes back. After `draw`, the consumer
hands the input, and the provider the result, to the three who were drawn; they vote by `brownie run
vote`. Terms and proof are read from the chain's events (task_logs.py).
"""

from __future__ import annotations

from typing import Any

from scripts.support import (
    ZERO_ADDRESS,
    Deployment,
    ScriptError,
    chain_time,
    command,
    deployment,
    number,
    require_gas_money,
    send,
    shown,
    signer,
)
from scripts.task_logs import (
    STATUS,
    market_of,
    proven_of,
    require_status,
    state_of,
    task_id_of,
    terms_of,
)
from scripts.unstake import when
from tallystick.protocol.contracts import Court, DisputeState, TaskStatus, Verdict, Vote
from tallystick.protocol.types import TaskId, to_address

CHECKERS = 3
SAID = {
    Vote.RIGHT: "right",
    Vote.WRONG: "wrong",
    Vote.NO_INPUT: "got no input",
    Vote.NO_RESULT: "got no result",
}


@command
def main(task: str = "") -> None:
    task_id = task_id_of(task, "dispute main 0xTask")
    market, consumer = deployment(), signer()
    window_ends = require_status(market, task_id, TaskStatus.PROVEN)
    terms, proven = terms_of(market, task_id), proven_of(market, task_id)
    if terms.consumer != consumer.address:
        raise ScriptError(f"only its consumer {terms.consumer} can dispute it; this is {consumer}")
    if terms.verification == 0:
        raise ScriptError("the terms ask for no verification: this result cannot be disputed")
    if chain_time() > window_ends:
        raise ScriptError(f"the challenge window was open until {when(window_ends)}")
    token, bond = market.token, market.market.bondOf(terms.verification, proven.charge)
    available, _ = market.escrow.accountOf(consumer)
    if available < bond:
        raise ScriptError(
            f"the bond is {shown(bond, token)} and {shown(available, token)} are available in the"
            f" escrow: `brownie run account deposit {number(bond - available, token)}`"
        )
    require_gas_money(consumer)
    send(consumer, market_of(market).dispute(terms, proven))
    print(f"disputed; the bond of {shown(bond, token)} and the charge wait for the court")
    describe(market, task_id)


@command
def draw(task: str = "") -> None:
    from brownie import web3

    task_id = task_id_of(task, "dispute draw 0xTask")
    market, sender = deployment(), signer()
    require_status(market, task_id, TaskStatus.DISPUTED)
    dispute = dispute_of(market, task_id)
    if dispute["state"] is not DisputeState.DRAWING:
        raise ScriptError(
            "the checkers of this round are drawn already: `brownie run dispute show`"
        )
    last_draw, _, _ = market.court.timesOf(task_id)
    if chain_time() > last_draw:
        raise ScriptError(
            f"the last draw could be made at {when(last_draw)}: `brownie run dispute conclude`"
        )
    # Gas is estimated as of the newest block: it must be past the draw block itself.
    ahead = dispute["draw_block"] - int(web3.eth.block_number)
    if ahead >= 0:
        raise ScriptError(
            f"too early: draw in {ahead + 1} blocks, after block {dispute['draw_block']}"
        )
    require_gas_money(sender)
    send(sender, court_of(market).draw(terms_of(market, task_id)))
    describe(market, task_id)


@command
def conclude(task: str = "") -> None:
    task_id = task_id_of(task, "dispute conclude 0xTask")
    market, sender = deployment(), signer()
    require_status(market, task_id, TaskStatus.DISPUTED)
    dispute = dispute_of(market, task_id)
    last_draw, _, reveal_ends = market.court.timesOf(task_id)
    now = chain_time()
    if dispute["state"] is DisputeState.DRAWING and now <= last_draw:
        raise ScriptError("the checkers are not drawn yet: `brownie run dispute draw`")
    silent = [
        seat
        for seat, vote, _ in checkers_of(market, task_id, dispute["round"])
        if vote is Vote.NONE
    ]
    if dispute["state"] is DisputeState.SWORN and silent and now <= reveal_ends:
        raise ScriptError(
            f"{len(silent)} of the checkers may still speak, until {when(reveal_ends)}"
        )
    require_gas_money(sender)
    terms, proven = terms_of(market, task_id), proven_of(market, task_id)
    sent = send(sender, court_of(market).conclude(terms, proven))
    if "DisputeConcluded" not in sent.events:
        print("no two agree: three others are drawn")
        describe(market, task_id)
        return
    concluded, resolved = sent.events["DisputeConcluded"], sent.events["DisputeResolved"]
    tell_outcome(market, resolved)
    if concluded["slashed"]:
        print(
            f"{concluded['provider']} lost {shown(concluded['slashed'], market.staking_token)},"
            " a fifth of it for the checkers (`brownie run claim_rewards bounty`)"
        )


@command
def end(task: str = "") -> None:
    task_id = task_id_of(task, "dispute end 0xTask")
    market, sender = deployment(), signer()
    since = require_status(market, task_id, TaskStatus.DISPUTED)
    over = since + market.market.courtSeconds()
    if chain_time() <= over:
        raise ScriptError(f"the court has until {when(over)}: `brownie run dispute show`")
    require_gas_money(sender)
    terms, proven = terms_of(market, task_id), proven_of(market, task_id)
    sent = send(sender, market_of(market).end_dispute(terms, proven))
    tell_outcome(market, sent.events["DisputeResolved"])


@command
def show(task: str = "") -> None:
    task_id = task_id_of(task, "dispute show 0xTask")
    describe(deployment(), task_id)


def describe(market: Deployment, task_id: TaskId) -> None:
    state = state_of(market, task_id)
    print(f"task               {task_id}")
    print(f"                   {STATUS[state.status]}")
    if state.status is not TaskStatus.DISPUTED:
        return
    dispute = dispute_of(market, task_id)
    last_draw, commit_ends, reveal_ends = market.court.timesOf(task_id)
    over = state.time_s + market.market.courtSeconds()
    print(f"provider           {dispute['provider']}")
    print(f"                   settles by itself after {when(over)} (`brownie run dispute end`)")
    if dispute["state"] is DisputeState.DRAWING:
        print(
            f"round {dispute['round']}            to be drawn after block {dispute['draw_block']},"
            f" until {when(last_draw)}"
        )
        return
    print(
        f"round {dispute['round']}            votes are committed until {when(commit_ends)},"
        f" revealed until {when(reveal_ends)}"
    )
    for seat, vote, committed in checkers_of(market, task_id, dispute["round"]):
        says = SAID.get(vote, "committed" if committed else "has not committed")
        print(f"  {seat}: {says}")


def tell_outcome(market: Deployment, resolved: Any) -> None:
    verdict, bond = Verdict(int(resolved["verdict"])), shown(resolved["bond"], market.token)
    consumer, provider = resolved["consumer"], resolved["provider"]
    if verdict is Verdict.WRONG:
        print(f"wrong: the charge and the bond of {bond} are available to {consumer} again")
    elif verdict is Verdict.RIGHT:
        each = shown(resolved["perChecker"], market.token)
        print(f"right: settled; of the bond of {bond}, {each} for each checker that said so, the")
        print(f"rest for {provider}")
    else:
        print(f"no verdict: settled, and the bond of {bond} is available to {consumer} again")


def dispute_of(market: Deployment, task_id: TaskId) -> dict[str, Any]:
    provider, opened_at, round_, state, draw_block, drawn_at = market.court.disputeOf(task_id)
    return {
        "provider": provider,
        "opened_at": int(opened_at),
        "round": int(round_),
        "state": DisputeState(int(state)),
        "draw_block": int(draw_block),
        "drawn_at": int(drawn_at),
    }


def checkers_of(
    market: Deployment, task_id: TaskId, round_: int
) -> list[tuple[str, Vote, str | None]]:
    """Seat, vote and commitment of each that was drawn."""
    found = market.court.checkersOf(task_id, round_)
    return [
        (str(seat), Vote(int(vote)), str(committed) if int(str(committed), 16) else None)
        for seat, vote, committed in found
        if seat != ZERO_ADDRESS
    ]


def court_of(market: Deployment) -> Court:
    """For calldata: it has no connection to read with."""
    return Court(None, to_address(market.court.address))  # type: ignore[arg-type]
