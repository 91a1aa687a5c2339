"""`tallystick dev`: the whole market on this machine, from a checkout of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import psutil
import typer

from tallystick.cli.command import Act, command
from tallystick.config import read_config_file, with_context, write_config_file
from tallystick.devnet.market import (
    LocalMarket,
    MarketPlan,
    ProviderPlan,
    end,
    start_service,
    state_of,
    stop_service,
)
from tallystick.devnet.processes import DevnetError, Running
from tallystick.devnet.scripts import checkout

app = typer.Typer(help="A local market to try things on.", no_args_is_help=True)

CONTEXT = "local"

Directory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="PATH", help="Keys, logs and databases; default build/market."),
]


@command(app, "up")
def up(
    act: Act,
    directory: Directory = None,
    providers: Annotated[int, typer.Option(min=1, max=10, help="How many providers.")] = 2,
    gpus: Annotated[int, typer.Option(min=1, max=64, help="Simulated GPUs of each.")] = 4,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="docker|process", help="Default: docker where an engine answers."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Backend; 0 takes a free one.")] = 0,
    rpc_port: Annotated[int, typer.Option(min=0, max=65_535, help="Chain; 0 takes one.")] = 0,
    lease_seconds: Annotated[
        int, typer.Option(min=3, max=600, help="How long a provider may be silent about a task.")
    ] = 12,
    while_pid: Annotated[
        int | None,
        typer.Option(metavar="PID", help="End the market when this process ends, however it does."),
    ] = None,
) -> None:
    """Start chain, contracts, bus, backend and providers, and leave them running."""
    owner = None if while_pid is None else _process(while_pid)
    plan = MarketPlan(
        _directory(directory),
        providers=(ProviderPlan(gpus=gpus),) * providers,
        runtime=_runtime(runtime),
        backend_port=port,
        rpc_port=rpc_port,
        lease_seconds=lease_seconds,
    )
    market = LocalMarket(plan, report=lambda step, detail: act.out.say(f"{step:<14} {detail}"))
    market.up()
    market.leave(owner)
    settings = {
        "url": market.url,
        "rpc_url": market.rpc_url,
        "key_file": market.consumer_environment()["TALLYSTICK_KEY_FILE"],
        "image": market.image,
        "deployment": str(market.deployment_file),
    }
    write_config_file(with_context(read_config_file(), CONTEXT, settings))
    act.out.data({**settings, "context": CONTEXT, "directory": str(plan.directory)})
    act.out.say(f"\nThe market is up: {market.url}")
    act.out.say(f"The context {CONTEXT!r} is current; try: tallystick wallet deposit 100")
    act.out.say("End it with `make down`.")
    if market.has_dapp:
        act.out.say(f"\nOpen {market.url} in a browser.")


@command(app, "down")
def down(act: Act, directory: Directory = None) -> None:
    """End what `up` started. Logs and databases stay until the next `up`."""
    ended = end(_directory(directory))
    act.out.data({"ended": ended})
    act.out.say(f"Ended: {', '.join(ended) or 'nothing was running any more'}.")


@command(app, "status")
def status(act: Act, directory: Directory = None) -> None:
    """What runs, where it listens, and where its log is."""
    place = _directory(directory)
    state = state_of(place)
    if state is None:
        raise DevnetError(f"No market is up in {place}.", next_step="Start one with `make up`.")
    for service in state["services"].values():
        del service["env"]  # keys are no business of a screen
    act.out.data(state)
    act.out.facts({key: state[key] for key in ("url", "rpc_url", "nats_url", "runtime")})
    act.out.table(
        ("service", "pid", "running", "log"),
        [
            (name, service["pid"], "yes" if service["alive"] else "no", f"{place}/logs/{name}.log")
            for name, service in state["services"].items()
        ],
        empty="Nothing was started.",
    )


Name = Annotated[str, typer.Argument(metavar="SERVICE", help="As `status` names it: backend.")]


@command(app, "stop")
def stop(act: Act, service: Name, directory: Directory = None) -> None:
    """End one program of the market, to see how the others do without it."""
    stop_service(_directory(directory), service)
    act.out.data({"stopped": service})
    act.out.say(f"Ended: {service}. Start it again with `tallystick dev start {service}`.")


@command(app, "start")
def start(act: Act, service: Name, directory: Directory = None) -> None:
    """Start a program of the market again, with the settings and data that it had."""
    start_service(_directory(directory), service)
    act.out.data({"started": service})
    act.out.say(f"Runs again: {service}.")


def _directory(given: Path | None) -> Path:
    return (given or checkout() / "build" / "market").resolve()


def _process(pid: int) -> Running:
    try:
        return Running.of(pid)
    except psutil.NoSuchProcess:
        raise DevnetError(
            f"There is no process {pid}.", next_step="Give the pid of one that runs."
        ) from None


def _runtime(given: str | None) -> Literal["docker", "process"] | None:
    if given in ("docker", "process", None):
        return given  # type: ignore[return-value]  # mypy does not narrow through `in`
    raise DevnetError(
        f"There is no runtime called {given!r}.",
        next_step="Use docker or process, or leave it out.",
    )
