"""A task by hand: without dispatcher, backend or agent, out of what was signed.

    brownie run task create task.json --network tallystick        lock its ceiling
    brownie run task prove task.json --network tallystick         accepted: paid at once
    brownie run task prove one.json two.json --network tallystick     a batch; bad ones are skipped
    brownie run task prove_alone task.json --network tallystick   no acceptance, inside the lease
    brownie run task finalize 0xTask --network tallystick         proven, and the window is over
    brownie run task cancel 0xTask --network tallystick           the consumer: it ends sooner
    brownie run task reclaim 0xTask --network tallystick          nobody proved it: money back
    brownie run task show 0xTask --network tallystick

Anyone may send all but `cancel`; the money goes where the signatures say. The file is JSON, each
message as the API of the backend writes it (numbers of amounts as decimal strings):

    {"terms": {"consumer": "0x..", ...}, "terms_signature": "0x..",
     "receipt": {...}, "receipt_signature": "0x..",
     "acceptance_signature": "0x..",
     "assignment": {...}, "assignment_signature": "0x.."}

`create` needs terms, and their signature if another than the consumer sends it; `prove` receipt,
acceptance and, for an order that was not created, the signature on the terms unless the consumer
itself signed the acceptance; `prove_alone` receipt and assignment. What is named by its id is read
from the chain's events (task_logs.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scripts.support import (
    Deployment,
    ScriptError,
    chain_time,
    command,
    deployment,
    domain_of,
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
from tallystick.protocol import messages
from tallystick.protocol.contracts import AcceptedProof, LeasedProof, TaskStatus, Usage
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Receipt, TaskTerms
from tallystick.protocol.wire import (
    AssignmentBody,
    ReceiptBody,
    SignatureHex,
    TaskTermsBody,
    WireModel,
)


class TaskFile(WireModel):
    terms: TaskTermsBody
    terms_signature: SignatureHex | None = None
    receipt: ReceiptBody | None = None
    receipt_signature: SignatureHex | None = None
    acceptance_signature: SignatureHex | None = None
    assignment: AssignmentBody | None = None
    assignment_signature: SignatureHex | None = None


@command
def create(file: str = "") -> None:
    content, terms = read(file, "create task.json")
    market, sender = deployment(), signer()
    task_id = messages.task_id(domain_of(market), terms)
    if sender.address != terms.consumer and content.terms_signature is None:
        raise ScriptError(
            f"the terms are of {terms.consumer} and this is {sender}: add `terms_signature`"
        )
    available, _ = market.escrow.accountOf(terms.consumer)
    if available < terms.max_charge:
        raise ScriptError(
            f"{terms.consumer} has {shown(available, market.token)} available in the escrow, and"
            f" the ceiling is {shown(terms.max_charge, market.token)}: it deposits the rest by"
            " `brownie run account deposit`"
        )
    require_gas_money(sender)
    send(sender, market_of(market).create_task(terms, content.terms_signature or ""))
    print(f"task {task_id} is open: {shown(terms.max_charge, market.token)} are locked until")
    print(f"{when(terms.deadline)} at the latest")


@command
def prove(*files: str) -> None:
    if not files:
        raise ScriptError("which task? `brownie run task prove task.json`")
    market, sender = deployment(), signer()
    proofs = [accepted(file) for file in files]
    require_gas_money(sender)
    if len(proofs) > 1:
        sent = send(sender, market_of(market).prove_many(proofs))
        tell_skipped(sent, files)
    elif state_of(market, task_of(market, proofs[0].terms)).status is TaskStatus.NONE:
        sent = send(sender, market_of(market).prove_order(proofs[0]))
    else:
        sent = send(sender, market_of(market).prove(proofs[0]))
    tell_settled(market, sent)


@command
def prove_alone(file: str = "") -> None:
    content, terms = read(file, "prove_alone task.json")
    market, sender = deployment(), signer()
    receipt = receipt_in(content, file)
    assignment = content.assignment
    if assignment is None or not content.assignment_signature or not content.receipt_signature:
        raise ScriptError(
            f"{file} lacks `receipt_signature`, `assignment` or `assignment_signature`, which a"
            " proof without acceptance needs"
        )
    proof = LeasedProof(
        terms,
        Usage.of(receipt),
        assignment.lease_from,
        assignment.lease_until,
        content.receipt_signature,
        content.assignment_signature,
    )
    require_gas_money(sender)
    sent = send(sender, market_of(market).prove_alone(proof))
    told = sent.events["TaskProven"]
    charge, ends = shown(told["charge"], market.token), when(told["challengeEndsAt"])
    print(f"task {task_of(market, terms)} is proven: {charge} wait for {told['provider']}")
    print(f"until {ends}, then `brownie run task finalize` pays them")


@command
def finalize(task: str = "") -> None:
    task_id = task_id_of(task, "task finalize 0xTask")
    market, sender = deployment(), signer()
    window_ends = require_status(market, task_id, TaskStatus.PROVEN)
    if chain_time() <= window_ends:
        raise ScriptError(f"the challenge window is open until {when(window_ends)}")
    require_gas_money(sender)
    terms, proven = terms_of(market, task_id), proven_of(market, task_id)
    tell_settled(market, send(sender, market_of(market).finalize(terms, proven)))


@command
def cancel(task: str = "") -> None:
    task_id = task_id_of(task, "task cancel 0xTask")
    market, consumer = deployment(), signer()
    cancelled_at = require_status(market, task_id, TaskStatus.OPEN)
    if cancelled_at:
        raise ScriptError(f"the task was cancelled at {when(cancelled_at)} already")
    terms = terms_of(market, task_id)
    if terms.consumer != consumer.address:
        raise ScriptError(f"only its consumer {terms.consumer} can cancel it; this is {consumer}")
    require_gas_money(consumer)
    sent = send(consumer, market_of(market).cancel(terms))
    print(
        f"cancelled: what was used until now can be proven until"
        f" {when(sent.events['TaskCancelled']['end'])},"
    )
    print(f"then `brownie run task reclaim {task_id}` brings the rest back")


@command
def reclaim(task: str = "") -> None:
    task_id = task_id_of(task, "task reclaim 0xTask")
    market, sender = deployment(), signer()
    cancelled_at = require_status(market, task_id, TaskStatus.OPEN)
    terms = terms_of(market, task_id)
    ends = terms.deadline
    if cancelled_at:
        ends = min(ends, cancelled_at + market.market.cancelSeconds())
    if chain_time() <= ends:
        raise ScriptError(
            f"it can be proven until {when(ends)}: wait, or cancel it (`brownie run task cancel`)"
        )
    require_gas_money(sender)
    sent = send(sender, market_of(market).reclaim(terms))
    amount = sent.events["TaskRefunded"]["amount"]
    print(f"{shown(amount, market.token)} available to {terms.consumer} again")


@command
def show(task: str = "") -> None:
    task_id = task_id_of(task, "task show 0xTask")
    market = deployment()
    state = state_of(market, task_id)
    print(f"task               {task_id}")
    print(f"                   {STATUS[state.status]}")
    if state.status is TaskStatus.NONE:
        return
    terms = terms_of(market, task_id)
    print(f"consumer           {terms.consumer}")
    print(f"ceiling            {shown(terms.max_charge, market.token)}")
    print(f"deadline           {when(terms.deadline)}")
    if state.status is TaskStatus.OPEN:
        if state.time_s:
            print(f"cancelled          {when(state.time_s)}")
        return
    proven = proven_of(market, task_id)
    print(f"charge             {shown(proven.charge, market.token)} for {proven.provider}")
    if state.status is TaskStatus.PROVEN:
        print(f"challenge window   until {when(state.time_s)}")


# --- what is meant ----------------------------------------------------------------------------


def read(file: str, usage: str) -> tuple[TaskFile, TaskTerms]:
    if not file:
        raise ScriptError(f"which task? `brownie run task {usage}`")
    try:
        content = TaskFile.model_validate_json(Path(file).read_bytes())
        return content, TaskTerms.from_body(content.terms)
    except OSError as error:
        raise ScriptError(f"{file} cannot be read ({error.strerror}): name another") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ScriptError(f"{file}: {place}: {first['msg']}") from None
    except ProtocolError as error:
        raise ScriptError(f"{file}: {error}") from None


def receipt_in(content: TaskFile, file: str) -> Receipt:
    if content.receipt is None:
        raise ScriptError(f"{file} lacks `receipt`: it says what was used")
    try:
        return Receipt.from_body(content.receipt)
    except ProtocolError as error:
        raise ScriptError(f"{file}: {error}") from None


def accepted(file: str) -> AcceptedProof:
    content, terms = read(file, "prove task.json")
    receipt = receipt_in(content, file)
    if content.acceptance_signature is None:
        raise ScriptError(
            f"{file} lacks `acceptance_signature`: without acceptance it is `prove_alone`"
        )
    return AcceptedProof(
        terms,
        Usage.of(receipt),
        content.terms_signature or "",
        content.receipt_signature or "",
        content.acceptance_signature,
    )


def task_of(market: Deployment, terms: TaskTerms) -> Any:
    return messages.task_id(domain_of(market), terms)


def tell_skipped(sent: Any, files: tuple[str, ...]) -> None:
    from tallystick.protocol.contract_errors import decode_error

    for event in sent.events:
        if event.name == "ProofSkipped":
            reason = decode_error(str(event["reason"]))
            print(f"{files[int(event['row'])]} is left out: {reason}")


def tell_settled(market: Deployment, sent: Any) -> None:
    for event in sent.events:
        if event.name == "TaskSettled":
            shares = event["dispatcherShare"] + event["royaltyShare"]
            print(
                f"task {event['taskId']} is settled: charge {shown(event['charge'], market.token)},"
                f" {shown(event['charge'] - shares, market.token)} of it credit of"
                f" {event['provider']}"
            )
