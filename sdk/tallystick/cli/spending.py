"""`tallystick limit` and `tallystick allowance`: up to what calls may cost, and who may pay."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tallystick.cli.calls import money_text, time_text
from tallystick.cli.command import Act, command
from tallystick.errors import InvalidRequest
from tallystick.protocol.call_views import AllowanceView, LimitScope

limits = typer.Typer(name="limit", help="The most that calls may cost.", no_args_is_help=True)
allowances = typer.Typer(
    name="allowance",
    help="What the gateway's session key may spend of your account.",
    no_args_is_help=True,
)


@command(limits, "list")
def list_limits(act: Act) -> None:
    """Your limits, and what was spent of each."""
    found = act.client.spend_limits()
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("ID", "FOR", "PERIOD", "LIMIT", "SPENT"),
        [
            (
                one.id,
                "the workspace" if one.scope == "workspace" else f"{one.scope} {one.subject}",
                one.period,
                money_text(one.limit, deployment),
                None if one.spent is None else money_text(one.spent, deployment),
            )
            for one in found
        ],
        empty="No limits. Set one: tallystick limit set 5 --period day",
    )


@command(limits, "set")
def set_limit(
    act: Act,
    amount: Annotated[str, typer.Argument(metavar="TOKENS", help="The most to spend.")],
    period: Annotated[
        Literal["call", "day", "total"], typer.Option(help="For each call, a day (UTC), or ever.")
    ] = "day",
    app_id: Annotated[
        str | None, typer.Option("--app", metavar="APP", help="Of this app alone.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Of this API key alone, by its id.")
    ] = None,
) -> None:
    """Set a limit, or change it: of all calls together, of one app's or one key's."""
    if app_id is not None and key is not None:
        raise InvalidRequest(
            "A limit is an app's or a key's.", next_step="Set two limits: both hold then."
        )
    scope: LimitScope = "app" if app_id is not None else "key" if key is not None else "workspace"
    made = act.client.set_spend_limit(amount, scope, app_id or key or "", period)
    deployment = act.client.deployment()
    act.out.data(made)
    act.out.say(f"Limit {made.id}: {money_text(made.limit, deployment)} per {made.period}.")


@command(limits, "remove")
def remove_limit(
    act: Act,
    limit_id: Annotated[str, typer.Argument(metavar="ID", help="As `limit list` shows it.")],
) -> None:
    """Take a limit away, at once."""
    act.client.remove_spend_limit(limit_id)
    act.out.data({"id": limit_id, "removed": True})
    act.out.say(f"Limit {limit_id} is removed.")


@command(allowances, "grant")
def grant(
    act: Act,
    cap: Annotated[str, typer.Argument(metavar="TOKENS", help="The most it may ever spend.")],
    time: Annotated[str, typer.Option(metavar="TIME", help="Until when: 30d, 12h.")] = "30d",
) -> None:
    """Let the session key pay for your calls, up to a cap and until a time."""
    made = act.client.grant_allowance(cap, time)
    deployment = act.client.deployment()
    act.out.data(made)
    cap = money_text(made.allowance.cap, deployment)
    act.out.say(
        f"The session key {made.allowance.signer} may spend {cap} of {made.allowance.payer} on "
        f"calls until {time_text(made.expires_at * 1000)} UTC."
    )
    act.out.raw(f"{made.digest}\n")


@command(allowances, "list")
def list_allowances(act: Act) -> None:
    """What you allowed, and what is left of it."""
    found = act.client.allowances()
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("ALLOWANCE", "STATE", "CAP", "LEFT", "UNTIL", "SESSION KEY"),
        [
            (
                one.digest,
                _state(one),
                money_text(one.allowance.cap, deployment),
                money_text(one.left, deployment),
                time_text(one.expires_at * 1000),
                one.allowance.signer,
            )
            for one in found
        ],
        empty="No allowance. Grant one: tallystick allowance grant 5",
    )


@command(allowances, "revoke")
def revoke(
    act: Act,
    digest: Annotated[str, typer.Argument(metavar="ALLOWANCE", help="As `list` shows it.")],
) -> None:
    """End an allowance on chain, at once. What is in channels stays until they are closed."""
    sent = act.client.revoke_allowance(digest)
    act.out.data(sent.to_json())
    act.out.say(f"Revoked in transaction {sent.tx}. `tallystick channel close` brings money back.")


def _state(one: AllowanceView) -> str:
    return "revoked" if one.revoked else "in force" if one.left else "used up or over"
