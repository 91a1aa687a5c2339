"""`tallystick app` and `tallystick channel`: what can be called, at what price, and the money that
waits for providers. Looking needs no key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from tallystick.cli.command import Act, OwnKeyFile, command
from tallystick.cli.key_files import write_new_key
from tallystick.cli.output import price as shown_price
from tallystick.jobs import Money
from tallystick.protocol.pricing import price_per_gpu_hour
from tallystick.protocol.wire import AppBody, AppPriceBody, ChannelView, DeploymentBody

app = typer.Typer(
    name="app",
    help="Apps: write one, try it here, publish it; what there is, and what a call costs.",
    no_args_is_help=True,
)
channels = typer.Typer(
    name="channel", help="Money that waits for a provider.", no_args_is_help=True
)

Limit = Annotated[int, typer.Option(min=1, help="Most to show.")]


@command(app, "list")
def list_apps(
    act: Act,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT]", help="Part of the manifest's address, or of the id."),
    ] = None,
    publisher: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Only this account's.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only apps of this name.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Retired ones, too.")] = False,
    limit: Limit = 50,
) -> None:
    """Apps, last published first, with what a call costs now."""
    found = act.client.apps(
        publisher=publisher, name=name, text=text, retired=None if show_all else False, limit=limit
    )
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("APP", "VERSION", "FLAT", "PER CALL", "PRICE/GPU-H", "STATE", "PUBLISHER", "MANIFEST"),
        [
            (
                a.id,
                a.versions,
                *_prices(a.price, deployment),
                _state(a),
                a.publisher,
                a.latest.manifest_uri,
            )
            for a in found
        ],
        empty="No such apps; `tallystick app init` writes one, `app deploy` publishes it.",
    )


@command(app, "show")
def show_app(
    act: Act,
    app: Annotated[str, typer.Argument(metavar="APP", help="Its id, its name, or PUBLISHER/NAME.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Whose price; without it the latest's.")
    ] = None,
    at: Annotated[
        int | None, typer.Option(min=0, metavar="SECONDS", help="Unix time of the price.")
    ] = None,
) -> None:
    """One app: versions, and what a call costs that starts now or at a time."""
    app_id = act.client.find_app(app)
    found = act.client.app(app_id)
    # A retired app has no price now, and is shown all the same.
    asked = version is not None or at is not None
    quote = act.client.app_price(app_id, version, at) if asked or found.price else None
    versions = act.client.app_versions(app_id)
    deployment = act.client.deployment()
    act.out.data({"app": found, "quote": quote, "versions": versions})
    facts: dict[str, object] = {
        "app": found.id,
        "publisher": found.publisher,
        "state": _state(found),
        "published": _time(found.published_at),
        "retired": _time(found.retired_at),
        "royalty": f"{found.royalty_bps / 100:g} % to {found.royalty_to}"
        if found.royalty_bps
        else "none",
    }
    if quote is not None:
        flat, per_call, per_gpu_hour = _prices(quote.price, deployment)
        symbol = deployment.token_symbol
        facts |= {
            "price of": f"version {quote.version} at {_time(quote.at)}",
            "flat": f"{flat} {symbol}",
            "per call": f"{per_call} {symbol}",
            "per GPU-hour": f"{per_gpu_hour} {symbol}",
            "discount": f"{quote.discount_bps / 100:g} %" if quote.discount_bps else "none",
        }
    act.out.facts(facts)
    act.out.table(
        ("VERSION", "PUBLISHED", "IMAGE", "MANIFEST", "AT"),
        [
            (v.version, _time(v.published_at), v.image_digest, v.manifest_digest, v.manifest_uri)
            for v in versions
        ],
        empty="No versions.",
    )


@command(channels, "list")
def list_channels(
    act: Act,
    payer: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Who pays; without any filter your own wallet."),
    ] = None,
    provider: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who is paid.")] = None,
    limit: Limit = 50,
) -> None:
    """Channels, last opened first: what is in them, and what was redeemed."""
    whose = act.client.address if payer is None and provider is None else payer
    found = act.client.channels(payer=whose, provider=provider, limit=limit)
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.table(
        ("CHANNEL", "STATE", "DEPOSITED", "CLAIMED", "LEFT", "PAYER", "PROVIDER"),
        [
            (
                c.id,
                _channel_state(c),
                _money(c.deposited, deployment),
                _money(c.claimed, deployment),
                _money(c.deposited - c.claimed, deployment),
                c.channel.payer,
                c.channel.provider,
            )
            for c in found
        ],
        empty="No channels; `tallystick channel open` opens one.",
    )


@command(channels, "open")
def open_channel(
    act: Act,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Who is paid.")],
    amount: Annotated[str, typer.Argument(metavar="TOKENS", help="Out of your account.")],
    signer: Annotated[
        str,
        typer.Option(metavar="own|ADDRESS", help="Who signs: the key of --own-key, or another."),
    ] = "own",
    own_key: OwnKeyFile = None,
) -> None:
    """Open a channel with a provider, for calls that you sign for yourself. A key file that is not
    there yet is made, readable by you alone."""
    if own_key is not None and signer == "own" and not own_key.expanduser().exists():
        write_new_key(own_key.expanduser())
        act.out.say(f"Made a session key in {own_key}. It can spend what is in its channels.")
    act.own_key = own_key
    made, sent = act.client.open_channel(provider, amount, None if signer == "own" else signer)
    act.out.data({"channel": made, "sent": sent.to_json()})
    act.out.say(f"Opened in transaction {sent.tx}.")
    act.out.raw(f"{made}\n")


@command(channels, "fund")
def fund_channel(
    act: Act,
    channel_id: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.")],
    amount: Annotated[str, typer.Argument(metavar="TOKENS", help="Out of your account.")],
) -> None:
    """Top a channel of yours up."""
    sent = act.client.fund_channel(channel_id, amount)
    act.out.data({"channel": channel_id, "sent": sent.to_json()})
    act.out.say(f"Topped up in transaction {sent.tx}.")


@command(channels, "sign")
def sign_vouchers(
    act: Act,
    own_key: OwnKeyFile = None,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Calls, too, that this key's notes do not know."),
    ] = False,
) -> None:
    """Sign for calls that were answered and not signed for, after a program was killed."""
    act.own_key = own_key
    signed = act.client.sign_vouchers(unseen=unseen)
    deployment = act.client.deployment()
    act.out.data([one.to_json() for one in signed])
    act.out.table(
        ("CALL", "CHANNEL", "TOTAL"),
        [(one.call_id, one.channel, _money(one.total, deployment)) for one in signed],
        empty="Nothing waits for your signature.",
    )


@command(channels, "show")
def show_channel(
    act: Act,
    channel_id: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.")],
) -> None:
    """One channel, as the chain has it."""
    found = act.client.channel(channel_id)
    deployment = act.client.deployment()
    act.out.data(found)
    act.out.facts(
        {
            "channel": found.id,
            "state": _channel_state(found),
            "payer": found.channel.payer,
            "signer": found.channel.signer,
            "provider": found.channel.provider,
            "salt": found.channel.salt,
            "deposited": _money(found.deposited, deployment),
            "claimed": _money(found.claimed, deployment),
            "left": _money(found.deposited - found.claimed, deployment),
            "opened": _time(found.opened_at),
            "redeemed": _time(found.redeemed_at),
            "last receipt": found.receipt,
            "as of block": found.block,
        }
    )


@command(channels, "close")
def close_channel(
    act: Act,
    channel_id: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.")],
) -> None:
    """Ask for a channel's close; after the close period, again to bring what is left. Until then
    the provider may redeem what it is owed, and serves no more calls on it."""
    sent, close_at = act.client.close_channel(channel_id)
    act.out.data({"sent": sent.to_json(), "close_at": close_at or None})
    if close_at:
        act.out.say(
            f"Requested in transaction {sent.tx}. From {_time(close_at)} on, give the same command "
            "again."
        )
    else:
        act.out.say(f"Closed in transaction {sent.tx}: what was left is available in the escrow.")


def _prices(price: AppPriceBody | None, deployment: DeploymentBody) -> tuple[str, str, str]:
    """In whole tokens: flat, per call, per hour of one GPU."""
    if price is None:
        return "-", "-", "-"
    per_hour = price_per_gpu_hour(price.rate_per_gpu_second, deployment.token_decimals)
    flat, per_call = (
        Money(units, deployment.token_decimals, deployment.token_symbol).text
        for units in (price.flat, price.fee_per_call)
    )
    return flat, per_call, shown_price(per_hour)


def _state(found: AppBody) -> str:
    if found.retired_at is not None:
        return "retired" if found.price is None else f"retires {_time(found.retired_at)}"
    return "permanent" if found.permanent else "live"


def _channel_state(found: ChannelView) -> str:
    if found.close_at is None:
        return found.state
    return f"closing, {_time(found.close_at)}"


def _money(units: int, deployment: DeploymentBody) -> str:
    return str(Money(units, deployment.token_decimals, deployment.token_symbol))


def _time(unix_s: int | None) -> str | None:
    """Strangers choose times on chain, up to 2^64 - 1: what no calendar has stays a number."""
    if unix_s is None:
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return str(unix_s)
