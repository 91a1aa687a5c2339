"""`tallystick-provider`: the command line, and the place where the agent's parts are joined."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import structlog
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from tallystick.protocol.contracts import verify_deployment
from tallystick.protocol.deployments import load
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.log_stream import LogStream, strike_secrets, without_secrets
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import to_address
from tallystick.protocol.web3 import close, connect
from tallystick_provider import __version__, join, keys
from tallystick_provider.agent import DRAINING, Agent
from tallystick_provider.calls.parts import Calls
from tallystick_provider.cards import Cards
from tallystick_provider.clock import SystemClock
from tallystick_provider.doctor import examine, examine_running, runtime_of
from tallystick_provider.errors import (
    JournalUnavailable,
    ProviderError,
    RuntimeUnsafe,
    SettingsError,
)
from tallystick_provider.gpus import open_source
from tallystick_provider.inbox import Inbox
from tallystick_provider.journal import Journal, Lease
from tallystick_provider.ledger import ChainLedger
from tallystick_provider.runtime import Finding, Runtime
from tallystick_provider.settings import Settings, from_environment
from tallystick_provider.settle import Settler
from tallystick_provider.work import Tools, drop_result

EXIT_FAILED = 1
EXIT_USAGE = 2
TRANSFER_SECONDS = 120.0
PROBLEMS = "problems"
LOCK_WAIT_S = 3.0
"""A program that an agent was starting when it was killed holds its lock for a moment more."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
log = structlog.get_logger()
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for programs.")]


@app.callback()
def common(
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="Settings that `join` wrote; the environment wins."
        ),
    ] = None,
) -> None:
    """Earn from idle GPUs: take tasks, run them in containers, be paid by the chain."""
    if settings is None:
        return
    try:
        found = join.read_settings_file(settings)
    except SettingsError as error:
        _refuse(str(error), EXIT_USAGE)
    for name, value in found.items():
        os.environ.setdefault(name, value)


@app.command("join")
def join_market(
    market: Annotated[str, typer.Argument(metavar="URL", help="The market's address.")],
    provider: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The account that stakes and is paid.")
    ],
    rate: Annotated[
        str,
        typer.Option(
            metavar="CLASS=PRICE,...", help="Floor price, smallest unit per GPU-second, by class."
        ),
    ],
    gpus: Annotated[
        str, typer.Option(help="nvml, none, or simulated:<count>x<class>:<memory_mib>.")
    ] = "nvml",
    runtime: Annotated[
        str, typer.Option(help="docker; or process, which isolates nothing: development only.")
    ] = "docker",
    rpc: Annotated[
        str, typer.Option(metavar="URL", help="A node you trust, instead of the market's.")
    ] = "",
    nats: Annotated[
        str, typer.Option(metavar="URL", help="The message bus, where the market names none.")
    ] = "",
    folder: Annotated[
        Path, typer.Option("--dir", metavar="FOLDER", help="Keys, settings and journal.")
    ] = Path("~/.tallystick/provider"),
    only_prepare: Annotated[
        bool, typer.Option("--only-prepare", help="Write everything, print the line, and end.")
    ] = False,
) -> None:
    """Set up this machine, print the line to register it with, and serve once it is registered.

    The operator key is made here and never leaves. Said again, it goes on with the same key.
    """
    _set_up_log(as_json=False)
    os.umask(0o022)
    try:
        wish = join.Wish(
            market=market,
            provider=to_address(provider),
            rate=rate,
            folder=folder.expanduser().resolve(),
            gpus=gpus,
            runtime=runtime,
            rpc_url=rpc,
            nats_url=nats,
        )
        settings, told = asyncio.run(_prepare_to_join(wish))
        print(told, flush=True)
        if only_prepare:
            return
        asyncio.run(_wait_for_the_chain(settings))
        with _only_one(settings.data_dir):
            uvloop.run(serve(settings))
    except (ProviderError, ProtocolError) as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_FAILED) from None


async def _prepare_to_join(wish: join.Wish) -> tuple[Settings, str]:
    async with httpx.AsyncClient(timeout=20.0) as http:
        set_up = await join.prepare(wish, http)
    settings = from_environment(set_up.environment)
    cards = open_source(settings.gpus, settings.address, settings.gpu_classes, SystemClock()).read()
    line = join.line(wish.provider, set_up, tuple(card.gpu_id for card in cards))
    again = f"tallystick-provider --settings {set_up.settings_file} start"
    return settings, (
        f"{len(cards)} cards, operator key {address_of(set_up.key)}.\n"
        f"Paste this line into the provider page of {wish.market}:\n\n{line}\n\n"
        f"It holds no secret. This program waits for the chain and then serves;"
        f" to start it again later:\n  {again}"
    )


async def _wait_for_the_chain(settings: Settings) -> None:
    clock = SystemClock()
    provider = to_address(settings.address)
    cards = len(open_source(settings.gpus, settings.address, settings.gpu_classes, clock).read())
    deployment = _deployment(settings)
    web3 = connect(settings.rpc_url)
    try:
        await verify_deployment(web3, deployment)
        ledger = ChainLedger(web3, deployment, keys.operator_key(settings.key_file))
        await join.until_registered(ledger, provider, cards)
    finally:
        await close(web3)


@app.command()
def start(
    log_json: Annotated[bool, typer.Option(help="Log lines as JSON.")] = not sys.stderr.isatty(),
) -> None:
    """Serve until stopped. Containers go on when the agent stops; the next start finds them."""
    _set_up_log(log_json)
    os.umask(0o022)  # containers run as another user and must read their inputs
    settings = _settings()
    try:
        with _only_one(settings.data_dir):
            uvloop.run(serve(settings))
    except (ProviderError, ProtocolError) as error:
        _refuse(str(error))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at everything a provider needs; each problem comes with its fix."""

    async def collect() -> list[Finding]:
        return [finding async for finding in examine(os.environ, SystemClock())]

    _set_up_log(as_json=False, level=logging.ERROR)
    found = asyncio.run(collect())
    if as_json:
        print(json.dumps({"ok": all(f.ok for f in found), "findings": [_plain(f) for f in found]}))
    else:
        _print_findings(found)
    raise typer.Exit(0 if all(finding.ok for finding in found) else EXIT_FAILED)


@app.command()
def status(as_json: AsJson = False) -> None:
    """What the agent has in hand and what it was paid, from its journal."""
    settings = _settings()
    journal = _journal(settings)
    leases = journal.recent_leases(50)
    facts = {
        "provider": settings.address,
        "agent_version": __version__,
        "running": _is_running(settings.data_dir),
        "draining": journal.meta(DRAINING) == "1",
        "problems": json.loads(journal.meta(PROBLEMS) or "[]"),
        "tasks": [_task(journal, lease) for lease in leases],
    }
    journal.close()
    if as_json:
        print(json.dumps(facts))
        return
    _print_status(facts)


@app.command()
def drain(
    wait: Annotated[bool, typer.Option(help="Return only when nothing runs any more.")] = False,
    undo: Annotated[bool, typer.Option(help="Take offers again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take no new tasks; finish those in hand. The next `start` takes offers again."""
    settings = _settings()
    journal = _journal(settings)
    journal.set_meta(DRAINING, "0" if undo else "1")
    while wait and not undo and _in_hand(journal) and _is_running(settings.data_dir):
        time.sleep(0.5)
    left = _in_hand(journal)
    journal.close()
    if as_json:
        print(json.dumps({"draining": not undo, "in_hand": left}))
    elif undo:
        print("taking offers again")
    else:
        print(f"draining: {left} tasks in hand" if left else "drained: nothing runs")


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Joins the parts and runs them until a signal, or `stop`."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(which, stop.set)
    clock = SystemClock()
    key = keys.operator_key(settings.key_file)
    deployment = _deployment(settings)
    provider = to_address(settings.address)
    gpus = open_source(settings.gpus, settings.address, settings.gpu_classes, clock)
    runtime = runtime_of(settings)
    web3 = connect(settings.rpc_url)
    journal = Journal(settings.journal_path, clock)
    try:
        await verify_deployment(web3, deployment)
        await _require_safe(runtime)
        ledger = ChainLedger(web3, deployment, key)
        cards = Cards(gpus)
        calls = await Calls.open(
            settings,
            web3=web3,
            deployment=deployment,
            key=key,
            journal=journal,
            runtime=runtime,
            cards=cards,
            gpus_simulated=gpus.simulated,
            clock=clock,
            draining=lambda: journal.meta(DRAINING) == "1",
        )
        inbox = Inbox(
            settings.nats_url, deployment.domain, provider, key, clock, lines=calls.lines()
        )
        async with httpx.AsyncClient(timeout=TRANSFER_SECONDS) as http:
            tools = Tools(
                provider=provider,
                key=key,
                domain=deployment.domain,
                sealing=keys.sealing_key(settings.data_dir / "sealing.key"),
                journal=journal,
                runtime=runtime,
                gpus=gpus,
                cards=cards,
                backend=inbox,
                http=http,
                clock=clock,
                data_dir=settings.data_dir,
                poll_s=settings.poll_seconds,
                stop_grace_s=settings.stop_grace_seconds,
            )
            settler = Settler(
                journal,
                ledger,
                clock,
                acceptance_wait_s=settings.acceptance_wait_seconds,
                stuck_s=settings.stuck_seconds,
                on_over=lambda lease: drop_result(settings.data_dir, lease),
                redemption=calls.redemption,
            )
            agent = Agent(
                settings,
                tools,
                ledger,
                settler.wake,
                calls,
                doctor=lambda: examine_running(settings, clock, runtime),
            )
            journal.set_meta(DRAINING, "0")
            try:
                # Its workers go first: they may sit on cards that the agent wants to clear.
                await calls.resume()
                await agent.resume()
                _keep_what_was_loaded()
                log.info(
                    "agent_started", provider=provider, key=address_of(key), version=__version__
                )
                await _together(
                    inbox.run(stop, agent),
                    agent.run(stop),
                    settler.run(stop, settings.settle_seconds),
                    calls.run(stop, settler.wake),
                    _note_problems(stop, journal, inbox, agent, settler, calls),
                )
            finally:
                await agent.close()
                calls.close()
            log.info("agent_stopped")
    finally:
        journal.close()
        await runtime.close()
        await close(web3)


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Until all have ended. One that ends with a reason of ours ends the agent with that reason:
    whatever keeps it running starts it again."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except ExceptionGroup as ended:
        known, other = ended.split((ProviderError, ProtocolError))
        if known is None or other is not None:
            raise
        raise known.exceptions[0] from ended


def _keep_what_was_loaded() -> None:
    """Modules and their tables stay for ever: the collector need not look through them again and
    again while calls make its work."""
    gc.collect()
    gc.freeze()


async def _require_safe(runtime: Runtime) -> None:
    unsafe = [finding for finding in (await runtime.probe()).findings if not finding.ok]
    if unsafe:
        raise RuntimeUnsafe(
            "this machine cannot hold a stranger's program: "
            + "; ".join(f"{f.name}: {f.found} (fix: {f.fix})" for f in unsafe)
        )


async def _note_problems(
    stop: asyncio.Event,
    journal: Journal,
    inbox: Inbox,
    agent: Agent,
    settler: Settler,
    calls: Calls,
) -> None:
    """For `status`, which reads the journal and asks nobody."""
    noted = None
    while not stop.is_set():
        cards = agent.tools.cards
        told = (inbox.problem, agent.problem, settler.problem, cards.problem, calls.problem)
        problems = json.dumps([problem for problem in told if problem])
        if problems != noted:
            with suppress(JournalUnavailable):
                journal.set_meta(PROBLEMS, problems)
                noted = problems
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await stop.wait()


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Two agents on one journal would answer for each other."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    until_s = time.monotonic() + LOCK_WAIT_S
    with (data_dir / "agent.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise SettingsError(
                        f"an agent already runs on {data_dir}; stop it, or give this one its own "
                        "TALLYSTICK_PROVIDER_DATA_DIR"
                    ) from None
            time.sleep(0.05)
        yield


def _is_running(data_dir: Path) -> bool:
    try:
        with (data_dir / "agent.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _settings() -> Settings:
    try:
        return from_environment(os.environ)
    except SettingsError as error:
        _refuse(str(error), EXIT_USAGE)


def _journal(settings: Settings) -> Journal:
    if not settings.journal_path.exists():
        _refuse(f"no journal at {settings.journal_path}; run tallystick-provider start first")
    return Journal(settings.journal_path, SystemClock())


def _deployment(settings: Settings) -> Any:
    if not settings.deployment:
        raise SettingsError(
            "TALLYSTICK_PROVIDER_DEPLOYMENT is not set; give the deployment's JSON file, or a "
            "chain id"
        )
    chosen = settings.deployment
    return load(int(chosen) if chosen.isascii() and chosen.isdigit() else chosen)


def _refuse(message: str, code: int = EXIT_FAILED) -> NoReturn:
    message = without_secrets(message)
    Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _in_hand(journal: Journal) -> int:
    return sum(1 for lease in journal.open_leases() if not lease.reached("reported"))


def _task(journal: Journal, lease: Lease) -> dict[str, Any]:
    signed = journal.signed(lease.task_id, lease.fence)
    return {
        "task_id": lease.task_id,
        "fence": lease.fence,
        "stage": lease.stage,
        "outcome": lease.outcome,
        "reason": lease.reason,
        "gpus": list(lease.gpu_ids),
        "exit_code": lease.exit_code,
        "charge": None if signed is None else str(signed.receipt.total),
        "receipt": None if signed is None else signed.digest,
        "lease_until": lease.assignment.lease_until,
        "transactions": [
            {"verb": i.verb, "nonce": i.nonce, "state": i.state, "tx": i.latest.tx_hash}
            for i in journal.intents(lease.task_id)
        ],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "ok": finding.ok,
        "found": finding.found,
        "fix": finding.fix if not finding.ok else "",
        "advice": finding.fix if finding.ok else "",
    }


def _print_findings(found: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found", "do"):
        table.add_column(title, overflow="fold")
    for finding in found:
        advice = finding.ok and finding.fix
        mark = "[yellow]![/]" if advice else "[green]ok[/]" if finding.ok else "[red]no[/]"
        table.add_row(
            mark, finding.name, finding.found, "" if finding.ok and not advice else finding.fix
        )
    Console().print(table)


def _print_status(facts: dict[str, Any]) -> None:
    console = Console()
    state = "running" if facts["running"] else "not running"
    console.print(
        f"provider {facts['provider']}: {state}{', draining' if facts['draining'] else ''}",
        highlight=False,
    )
    for problem in facts["problems"] if facts["running"] else ():
        console.print(f"problem: {problem}", style="yellow", markup=False)
    table = Table(box=None, pad_edge=False)
    for title in ("task", "fence", "stage", "outcome", "charge", "transactions", "note"):
        table.add_column(title, overflow="fold")
    for task in facts["tasks"]:
        sent = ", ".join(f"{t['verb']} {t['state']}" for t in task["transactions"])
        table.add_row(
            task["task_id"][:12],
            str(task["fence"]),
            task["stage"],
            task["outcome"] or "open",
            task["charge"] or "",
            sent,
            task["reason"],
        )
    console.print(table)


def _set_up_log(as_json: bool, level: int = logging.INFO) -> None:
    """To stderr; names of events first, ids as fields, never a key and never a payload."""
    stream: Any = LogStream(sys.stderr)
    render: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        # The rich one prints local variables, and with them every secret in reach.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            strike_secrets,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def main() -> None:
    app()


if __name__ == "__main__":
    main()
