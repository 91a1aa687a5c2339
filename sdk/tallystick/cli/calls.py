"""`tallystick call`, `calls`, `receipt` and `summary`: call an app, look at calls afterwards, check
what they cost."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from pydantic import ValidationError

from tallystick.calls import CallResult
from tallystick.checking import CallVerdict, result_of
from tallystick.cli import exits
from tallystick.cli.command import Act, OwnKeyFile, command
from tallystick.cli.output import clean
from tallystick.errors import InvalidRequest
from tallystick.inputs import call_input
from tallystick.jobs import Money
from tallystick.protocol.call_views import (
    CallReceiptView,
    CallView,
    Grouping,
    SummaryPage,
    SummaryRow,
)
from tallystick.protocol.wire import DeploymentBody

calls = typer.Typer(
    name="calls", help="Calls made so far: what they answered and cost.", no_args_is_help=True
)
receipts = typer.Typer(
    name="receipt", help="Check what a call cost, believing nobody.", no_args_is_help=True
)

CallIdArgument = Annotated[str, typer.Argument(metavar="CALL", help="The call's id.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="A part of the input, as JSON or text; name=@file for a file's content, @file for the "
        "whole input.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the answer's bytes here."),
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Wait no longer: 30s, 10m.")
]


def call(
    act: Act,
    app: Annotated[
        str,
        typer.Argument(
            metavar="APP", help="Its id, its name (yours of that name first), or PUBLISHER/NAME."
        ),
    ],
    inputs: Inputs = None,
    later: Annotated[
        bool, typer.Option("--async", help="Do not wait; `calls result` has the answer.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the pieces of the answer as they come.")
    ] = False,
    max_charge: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="The most that this call may cost.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Of the app; the latest if none.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --async: who is told when the call is over."),
    ] = None,
    timeout: Timeout = None,
    output: Output = None,
    own_key: OwnKeyFile = None,
) -> None:
    """Call an app. The answer goes to stdout, what it cost to stderr."""
    act.own_key = own_key
    if later and stream:
        raise InvalidRequest(
            "A call is either streamed or answered later.", next_step="Give --async or --stream."
        )
    if webhook is not None and not later:
        raise InvalidRequest("Only a call with --async has a webhook.", next_step="Add --async.")
    content = call_input(inputs or ())
    app_id = act.client.find_app(app)
    if app_id != app.lower():
        act.out.say(f"{app} is {app_id}.")
    if later:
        made = act.client.submit_call(
            app_id, content, version=version, max_charge=max_charge, webhook=webhook
        )
        act.out.data(made)
        act.out.raw(f"{made.call_id}\n")
        act.out.say(f"Call {made.call_id} is {made.state}; `tallystick calls result` waits for it.")
    elif stream:
        _stream(act, app_id, content, version, max_charge)
    else:
        answer = act.client.call(
            app_id, content, version=version, max_charge=max_charge, timeout=timeout
        )
        _show_answer(act, answer, output)


def _stream(
    act: Act, app_id: str, content: Any, version: int | None, max_charge: str | None
) -> None:
    pieces = act.client.stream_call(app_id, content, version=version, max_charge=max_charge)
    for piece in pieces:
        act.out.line({"output": piece})
        act.out.raw(_text(piece))
    info = act.client.call_info(pieces.call_id)
    act.out.line({"call": info.model_dump(mode="json")})
    deployment = act.client.deployment()
    act.out.say(
        f"Charged {money_text(info.charge, deployment)} for call {info.call_id}: {_spent_on(info)}."
    )


def _show_answer(act: Act, answer: CallResult, output: Path | None) -> None:
    if output is not None:
        _write(output, answer.content)
    act.out.data(answer.to_json())
    if output is None and not act.out.as_json:
        value = answer.output
        if isinstance(value, bytes):
            if sys.stdout.isatty():
                raise InvalidRequest(
                    f"The answer is {len(value)} bytes of {answer.media_type}.",
                    next_step="Give --output FILE, or send it to a pipe. The call was charged: "
                    f"`tallystick receipt verify {answer.call_id}`.",
                )
            sys.stdout.buffer.write(value)
            sys.stdout.buffer.flush()
        else:
            act.out.raw(_text(value))
    balance = "" if answer.balance is None else f", {answer.balance} left in the channel"
    times = ", ".join(
        f"{name} {value:g} ms"
        for name, value in (
            ("queued", answer.times.queued_ms),
            ("cold start", answer.times.cold_start_ms),
            ("run", answer.times.run_ms),
        )
        if value
    )
    act.out.say(
        f"Charged {answer.charge} for call {answer.call_id}{balance}"
        + (f" ({times})." if times else ".")
    )


# --- calls afterwards --------------------------------------------------------------------------


@command(calls, "list")
def list_calls(
    act: Act,
    app_id: Annotated[str | None, typer.Option("--app", metavar="APP", help="Only its.")] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Only those that it answered.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only those of this API key.")
    ] = None,
    state: Annotated[
        Literal["queued", "running", "completed", "failed", "canceled"] | None,
        typer.Option(help="Only those in this state."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Asked for then or later: 2026-03-29T12:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Asked for before.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 50,
) -> None:
    """Your calls, newest first, with what each cost."""
    found = act.client.calls(
        app=app_id,
        provider=provider,
        key=key,
        state=state,
        from_ms=_time_ms(since),
        until_ms=_time_ms(until),
        limit=limit,
    )
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("CALL", "STATE", "ASKED", "CHARGE", "RUN", "COLD START", "APP", "PROVIDER"),
        [
            (
                c.call_id,
                c.state,
                time_text(c.asked_at_ms),
                money_text(c.charge, deployment),
                f"{c.run_ms} ms",
                f"{c.cold_start_ms} ms",
                c.app_id,
                c.provider,
            )
            for c in found
        ],
        empty="No calls yet; `tallystick app list` shows what can be called.",
    )


@command(calls, "show")
def show_call(act: Act, call_id: CallIdArgument) -> None:
    """One call: where it stands, what it cost, where the time went."""
    found = act.client.call_info(call_id)
    deployment = act.client.deployment()
    act.out.data(found)
    problem = found.problem or {}
    act.out.facts(
        {
            "call": found.call_id,
            "state": found.state,
            "why": problem.get("detail"),
            "app": f"{found.app_id}, version {found.version}",
            "provider": found.provider,
            "asked": time_text(found.asked_at_ms),
            "ended": None if found.ended_at_ms is None else time_text(found.ended_at_ms),
            "time": _spent_on(found),
            "charge": money_text(found.charge, deployment),
            "channel": found.channel_id,
            "its place there": found.seq,
            "result": f"{found.result_bytes} bytes of {found.media_type}" if found.seq else None,
        }
    )


@command(calls, "result")
def result(
    act: Act,
    call_id: CallIdArgument,
    timeout: Timeout = None,
    output: Output = None,
    own_key: OwnKeyFile = None,
) -> None:
    """The answer of a call made with --async; waits until it is over."""
    act.own_key = own_key
    _show_answer(act, act.client.call_result(call_id, timeout), output)


@command(calls, "cancel")
def cancel(act: Act, call_id: CallIdArgument) -> None:
    """Stop a call that is not answered yet. It costs nothing."""
    found = act.client.cancel_call(call_id)
    act.out.data(found)
    act.out.say(f"Call {found.call_id} is {found.state}.")


# --- receipts ----------------------------------------------------------------------------------


@command(receipts, "show")
def show_receipt(act: Act, call_id: CallIdArgument) -> None:
    """Everything to check a call by, as JSON: keep it, and verify it whenever you like."""
    found = act.client.call_receipt(call_id)
    act.out.data(found)
    act.out.raw(json.dumps(found.model_dump(mode="json"), indent=2) + "\n")


@command(receipts, "verify")
def verify(
    act: Act,
    call: Annotated[
        str,
        typer.Argument(metavar="CALL", help="The call's id, or a file of `receipt show`."),
    ],
    inputs: Inputs = None,
    content: Annotated[
        Path | None,
        typer.Option("--content", metavar="FILE", help="The answer's bytes, as `call -o` wrote."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A check that stays open fails, too.")
    ] = False,
) -> None:
    """Check signatures, price, place and payment of a call against the chain. Needs
    TALLYSTICK_RPC_URL and, on a chain that this package does not know, TALLYSTICK_DEPLOYMENT."""
    saved = Path(call)
    shown = _saved(saved) if saved.suffix or saved.is_file() else call
    verdict = act.client.verify_receipt(
        shown,
        content=None if content is None else _read(content),
        input=call_input(inputs) if inputs else None,
    )
    act.out.data(verdict.to_json())
    act.out.table(
        ("CHECK", "RESULT", "EXPECTED", "FOUND"),
        [
            (
                check.name,
                result_of(check),
                "" if check.ok else _short(check.expected),
                "" if check.ok else _short(check.found),
            )
            for check in verdict.checks
        ],
        empty="No checks.",
    )
    _conclude(act, verdict, strict=strict)


def _conclude(act: Act, verdict: CallVerdict, *, strict: bool) -> None:
    good = sum(check.ok is True for check in verdict.checks)
    if verdict.wrong:
        act.out.say(
            f"Call {verdict.call_id} is not as it must be: {', '.join(verdict.wrong)}. Keep "
            "`receipt show`: who signed it can be held to it."
        )
        raise typer.Exit(exits.FAILED)
    still = f", {len(verdict.open)} open: {', '.join(verdict.open)}" if verdict.open else ""
    act.out.say(f"{good} checks are good{still}. The call cost {verdict.charge}.")
    if strict and verdict.open:
        raise typer.Exit(exits.FAILED)


# --- sums --------------------------------------------------------------------------------------


def summary(
    act: Act,
    by: Annotated[Literal["hour", "day"], typer.Option(help="One row for each.")] = "day",
    group: Annotated[
        list[str] | None,
        typer.Option(help="A row for each app, provider, gpu, key or channel; repeatable."),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Whose days: Europe/Berlin.")
    ] = "UTC",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on; 30 days if none, or one.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until then; now.")] = None,
    app_id: Annotated[str | None, typer.Option("--app", metavar="APP", help="Only its.")] = None,
    provider: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Only its.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only this API key's.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="Tasks, too, where settled.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """What your calls came to, by the hour or the day; with `--tasks` tasks, too."""
    options: dict[str, Any] = {
        "time_zone": time_zone,
        "group": _groups(group or []),
        "from_ms": _time_ms(since),
        "until_ms": _time_ms(until),
        "app": app_id,
        "provider": provider,
        "key": key,
        "kinds": ("call", "task") if tasks else ("call",),
    }
    if as_csv:
        text = act.client.summaries_csv(by, **options)
        act.out.data({"csv": text})
        act.out.raw(text.replace("\r\n", "\n"))
        return
    page = act.client.summaries(by, **options)
    deployment = act.client.deployment()
    act.out.data(page)
    act.out.table(
        (
            by.upper(),
            *(["KIND"] if tasks else []),
            *(name.upper() for name in page.group),
            "COUNT" if tasks else "CALLS",
            "FAILED",
            "GPU TIME",
            "COST",
        ),
        [_row(item, page, deployment) for item in page.items],
        empty=f"No calls{' and no tasks' if tasks else ''} in that time.",
    )
    if page.items:
        counts = f"{page.sums.calls} calls" + (f", {page.sums.tasks} tasks" if tasks else "")
        act.out.say(f"{counts}, {money_text(page.sums.charge, deployment)} together.")


def _row(item: SummaryRow, page: SummaryPage, deployment: DeploymentBody) -> tuple[object, ...]:
    named = {
        "app": item.app_id,
        "provider": item.provider,
        "gpu": item.gpu_class,
        "key": item.key_id,
        "channel": item.channel_id,
    }
    start = item.start[:10] if page.by == "day" else item.start[:16].replace("T", " ")
    return (
        start,
        *([item.kind] if "task" in page.kinds else []),
        *(named[name] or "-" for name in page.group),
        item.calls + item.tasks,
        item.failed,
        f"{item.gpu_ms / 1000:.1f} s",
        money_text(item.charge, deployment),
    )


def _groups(given: list[str]) -> tuple[Grouping, ...]:
    known: dict[str, Grouping] = {name: name for name in get_args(Grouping)}
    wrong = [name for name in given if name not in known]
    if wrong:
        raise InvalidRequest(
            f"Calls cannot be grouped by {wrong[0]!r}.", next_step=f"Use: {', '.join(known)}."
        )
    return tuple(known[name] for name in given)


# --- helpers -----------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if value.endswith("\n") else value + "\n"
    if isinstance(value, bytes):
        return f"{len(value)} bytes\n"
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _spent_on(view: CallView) -> str:
    return (
        f"{view.queued_ms} ms in the queue, {view.cold_start_ms} ms of them cold start; "
        f"{view.run_ms} ms run, {view.gpu_ms} GPU-ms charged"
    )


def money_text(units: int, deployment: DeploymentBody) -> str:
    return str(Money(units, deployment.token_decimals, deployment.token_symbol))


def time_text(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return str(at_ms)


def _time_ms(text: str | None) -> int | None:
    """A date or a time; without an offset it is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as problem:
        raise InvalidRequest(
            f"{text!r} is no time.", next_step="Write 2026-03-29 or 2026-03-29T12:00+02:00."
        ) from problem
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0, round(at.timestamp() * 1000))


def _short(value: object) -> str:
    text = clean(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _saved(file: Path) -> CallReceiptView:
    document = _read(file)
    try:
        return CallReceiptView.model_validate_json(document)
    except ValidationError as problem:
        raise InvalidRequest(
            f"The file {file} holds no receipt.",
            next_step="`tallystick receipt show CALL > FILE` writes one.",
        ) from problem


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as problem:
        raise InvalidRequest(
            f"The file {file} cannot be read: {problem.strerror}.", next_step="Correct its name."
        ) from problem


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as problem:
        raise InvalidRequest(
            f"The file {file} cannot be written: {problem.strerror}.",
            next_step="The call was answered and charged; name another file.",
        ) from problem
