"""Commands at the root: login, whoami, estimate, version, completion."""

from __future__ import annotations

import platform
from typing import Annotated, Literal

import typer
from typer._completion_shared import get_completion_script

from tallystick import __version__
from tallystick.cli.command import Act, command
from tallystick.prices import estimate as estimated


def register(app: typer.Typer) -> None:
    command(app, "login")(login)
    command(app, "whoami")(whoami)
    command(app, "estimate")(estimate)
    command(app, "version")(version)
    command(app, "completion")(completion)


def login(act: Act) -> None:
    """Check that the backend knows this wallet. Every command logs in by itself when it has to."""
    address = act.client.login()
    act.out.data({"address": address, "url": act.client.config.url})
    act.out.say(f"Logged in at {act.client.config.url} as {address}.")


def whoami(act: Act) -> None:
    """The wallet and the market that commands use now."""
    config = act.client.config
    deployment = act.client.deployment()
    told = {
        "address": act.client.address,
        "context": config.context,
        "url": config.url,
        "chain_id": deployment.chain_id,
        "escrow": deployment.escrow,
        "token": deployment.token_symbol,
    }
    act.out.data(told)
    act.out.facts(told)


def estimate(
    act: Act,
    gpus: Annotated[int, typer.Argument(metavar="GPUS", help="How many at once.")],
    price: Annotated[str, typer.Argument(metavar="PRICE", help="Tokens per GPU and hour.")],
    time: Annotated[str, typer.Argument(metavar="TIME", help="How long: 4h.")],
) -> None:
    """What so many GPUs cost for so long: GPUS x PRICE x TIME, exact."""
    cost = format(estimated(gpus, price, time), "f")
    if "." in cost:
        cost = cost.rstrip("0").rstrip(".")
    act.out.data({"gpus": gpus, "price_per_gpu_hour": price, "time": time, "cost": cost})
    act.out.raw(f"{cost}\n")


def version(act: Act) -> None:
    """The version of this program."""
    act.out.data({"version": __version__, "python": platform.python_version()})
    act.out.raw(f"tallystick {__version__}\n")


def completion(
    act: Act,
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(help="Shell to complete in.")
    ] = "bash",
) -> None:
    """Print the completion script of a shell; `eval "$(tallystick completion bash)"` uses it."""
    script = get_completion_script(
        prog_name="tallystick", complete_var="_TALLYSTICK_COMPLETE", shell=shell
    )
    act.out.data({"shell": shell, "script": script})
    act.out.raw(script + "\n")
