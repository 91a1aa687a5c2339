"""`tallystick app warm`: keep an app warm, at a price that is shown first."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tallystick.cli import exits
from tallystick.cli.calls import money_text, time_text
from tallystick.cli.command import Act, command
from tallystick.errors import InvalidRequest
from tallystick.protocol.call_views import KeepWarmView
from tallystick.protocol.wire import DeploymentBody

START = "start"


class _StartsByApp(TyperGroup):
    """`app warm APP` is `app warm start APP`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [START, *args]
        return super().parse_args(ctx, args)


group = typer.Typer(
    name="warm",
    help="Keep an app warm: `tallystick app warm APP` starts it; what is kept warm, and its end.",
    no_args_is_help=True,
    cls=_StartsByApp,
)


@command(group, START)
def start(
    act: Act,
    app: Annotated[
        str,
        typer.Argument(
            metavar="APP", help="Its id, its name (yours of that name first), or PUBLISHER/NAME."
        ),
    ],
    max_per_hour: Annotated[
        str, typer.Option("--max-per-hour", metavar="TOKENS", help="The most to spend in an hour.")
    ],
    time: Annotated[str, typer.Option("--for", metavar="TIME", help="So long: 2h, 7d.")] = "1h",
    every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Between two calls; a little less than a worker stays if none."
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="This version; the latest if none.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the price and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Keep an app warm for a time. Shows what that costs, and asks first."""
    if act.out.as_json and not (yes or dry_run):
        raise InvalidRequest(
            "With --json nobody is asked.", next_step="Say --yes to begin, or --dry-run to look."
        )
    app_id = act.client.find_app(app)
    if app_id != app.lower():
        act.out.say(f"{app} is {app_id}.")
    quoted = act.client.keep_warm(
        app_id, time, max_per_hour=max_per_hour, every=every, version=version, dry_run=True
    )
    deployment = act.client.deployment()
    act.out.facts(_price(quoted, deployment))
    if dry_run:
        act.out.data(quoted)
        return
    if not yes:
        _ask()
    made = act.client.keep_warm(
        app_id, time, max_per_hour=max_per_hour, every=every, version=version
    )
    act.out.data(made)
    act.out.say(
        f"Kept warm until {time_text(made.until_ms)} UTC, for at most "
        f"{money_text(made.max_charge_per_hour, deployment)} an hour. "
        f"`tallystick app warm stop {made.id}` ends it."
    )


@command(group, "list")
def list_warm(act: Act) -> None:
    """What you keep warm, at what price, and what it cost so far."""
    found = act.client.warm_list()
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("ID", "APP", "STATE", "UNTIL", "CALLS/H", "PRICE/H", "MOST/H", "SPENT", "NEXT", "FAILURE"),
        [
            (
                one.id,
                one.app_id,
                one.state,
                time_text(one.until_ms),
                one.calls_per_hour,
                _money(one.charge_per_hour, deployment),
                money_text(one.max_charge_per_hour, deployment),
                money_text(one.spent, deployment),
                None if one.next_at_ms is None else time_text(one.next_at_ms),
                None if one.failure is None else one.failure.code,
            )
            for one in found
        ],
        empty="Nothing is kept warm. Begin: tallystick app warm APP --for 2h --max-per-hour 1",
    )


@command(group, "stop")
def stop(
    act: Act,
    warm_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
) -> None:
    """Keep it warm no longer, at once."""
    ended = act.client.stop_warm(warm_id)
    act.out.data(ended)
    spent = money_text(ended.spent, act.client.deployment())
    act.out.say(f"{ended.id} is {ended.state}: {ended.calls} calls cost {spent}.")


def _price(quoted: KeepWarmView, deployment: DeploymentBody) -> dict[str, str]:
    return {
        "calls": f"{quoted.calls_per_hour} an hour, one every {quoted.every_seconds} s",
        "price of one": f"{_money(quoted.charge_per_call, deployment)} if it takes "
        f"{quoted.run_ms} ms, at most {_money(quoted.most_per_call, deployment)}",
        "price now": f"{_money(quoted.charge_per_hour, deployment)} an hour",
        "at most": f"{_money(quoted.most_per_hour, deployment)} an hour",
        "until": f"{time_text(quoted.until_ms)} UTC",
    }


def _money(units: int | None, deployment: DeploymentBody) -> str:
    return "no price" if units is None else money_text(units, deployment)


def _ask() -> None:
    try:
        agreed = typer.confirm("Keep it warm?", err=True)
    except typer.Abort:
        raise InvalidRequest(
            "Nobody answered, and nothing was begun.", next_step="Say --yes to begin."
        ) from None
    if not agreed:
        typer.echo("Nothing was begun.", err=True)
        raise typer.Exit(exits.REFUSED)
