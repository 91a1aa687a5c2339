"""Change what an app costs: after the notice, or off for a limited time.

    brownie run set_price main llama 1 flat=0 call=0.002 gpu-hour=0.5 --network tallystick
                                        version 1 costs that once the notice is over
    brownie run set_price discount llama 25 1h 7d --network tallystick
                                        every version 25 % off, from in an hour on, for 7 days
    brownie run set_price discount llama 25 2026-12-01T00:00 2026-12-08T00:00 --network tallystick
                                        the same between two times (UTC)
    brownie run set_price show llama --network tallystick
    brownie run set_price show llama 2026-12-01T00:00 --network tallystick
                                        what it costs now, or at any time since; needs no key for an
                                        app id

The app is an app id, or the name that the sender published it under. Prices are in whole tokens of
the deployment: `flat`, `call` (the fee per call) and `gpu-hour`; name all three. What is announced
cannot be taken back: a second price follows the first, and a discount can only be bettered until it
is over.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from scripts.support import (
    ZERO_ADDRESS,
    Deployment,
    ScriptError,
    amount_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)
from scripts.unstake import when
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.money import parse_duration
from tallystick.protocol.pricing import Price, price_per_gpu_hour, rate_per_gpu_second_down
from tallystick.protocol.types import Digest, to_digest

PARTS = ("flat", "call", "gpu-hour")


@command
def main(app: str = "", version: str = "", *prices: str) -> None:
    market = deployment()
    registry = registry_of(market)
    publisher = signer()
    app_id, state = app_of(market, publisher, app)
    number = version_of(version, state)
    price = price_of(market, prices)
    require_publisher(state, publisher)
    require_gas_money(publisher)
    sent = registry.setPrice(app_id, number, row(price), {"from": publisher})
    event = sent.events["PriceAnnounced"]
    print(
        f"version {number} of {app} costs {told(market, price)} from"
        f" {when(event['takesEffectAt'])} on"
    )


@command
def discount(app: str = "", percent: str = "", start: str = "", end: str = "") -> None:
    from brownie import web3

    market = deployment()
    registry = registry_of(market)
    publisher = signer()
    app_id, state = app_of(market, publisher, app)
    bps = amount_of(percent or "missing", 2, "percent")
    if bps > 10_000:
        raise ScriptError(f"{percent} % is more than the whole: give at most 100")
    # The chain's own time decides.
    present = int(web3.eth.get_block("latest")["timestamp"])
    start_s = time_of(start, present, "start")
    end_s = time_of(end, start_s, "end")
    require_publisher(state, publisher)
    require_gas_money(publisher)
    sent = registry.setDiscount(app_id, bps, start_s, end_s, {"from": publisher})
    event = sent.events["DiscountAnnounced"]
    print(
        f"{app}: {event['bps'] / 100:g} % off from {when(event['start'])} to {when(event['end'])}"
    )


@command
def show(app: str = "", time: str = "") -> None:
    from brownie import web3

    market = deployment()
    registry = registry_of(market)
    app_id, state = app_of(market, None if app.startswith("0x") else signer(), app)
    present = int(web3.eth.get_block("latest")["timestamp"])
    at = time_of(time, present, "time") if time else present
    print(f"app                {app_id}")
    print(f"publisher          {state['publisher']}")
    if state["royaltyBps"]:
        print(f"royalty            {state['royaltyBps'] / 100:g} % to {state['royaltyTo']}")
    if state["permanent"]:
        print("                   permanent: nobody can change it")
    if state["retiredAt"]:
        print(f"                   retired from {when(state['retiredAt'])} on")
    if present < state["pricesSettleAt"]:
        print(f"                   a price change takes effect at {when(state['pricesSettleAt'])}")
    bps, start, end = registry.discountOf(app_id)
    if present <= end:
        print(f"discount           {bps / 100:g} % from {when(start)} to {when(end)}")
    for number in range(1, state["versions"] + 1):
        image, manifest, published_at = registry.versionOf(app_id, number)
        print(f"version {number:<10} image {image}, manifest {manifest}")
        if state["retiredAt"] and at >= state["retiredAt"]:
            price = "no price: retired"
        elif at < published_at:
            price = "no price: not published yet"
        else:
            price = told(market, Price(*map(int, registry.priceAt(app_id, number, at))))
        print(f"  at {when(at)}: {price}")


# --- what is meant ----------------------------------------------------------------------------


def registry_of(market: Deployment) -> Any:
    if market.registry is None:
        raise ScriptError(
            f"the deployment on chain {market.chain_id} has no app registry: it is from before"
            " there was one"
        )
    return market.registry


def salt_of(name: str) -> Digest:
    """Publisher and name make the app id."""
    return digest_of(name.encode())


def app_of(market: Deployment, publisher: Any, app: str) -> tuple[str, dict[str, Any]]:
    """Id and state of an app that is there."""
    if not app:
        raise ScriptError("which app? give its id, or the name you published it under")
    registry = registry_of(market)
    if app.startswith("0x"):
        try:
            app_id = str(to_digest(app))
        except ProtocolError as error:
            raise ScriptError(f"app id: {error}") from None
    else:
        app_id = str(registry.appIdOf(publisher, salt_of(app)))
    names = ("publisher", "versions", "retiredAt", "royaltyTo", "royaltyBps", "pricesSettleAt")
    state = dict(zip((*names, "permanent"), registry.appOf(app_id), strict=True))
    if state["publisher"] == ZERO_ADDRESS:
        by = "" if app.startswith("0x") else f" by {publisher} under the name {app!r}"
        raise ScriptError(f"no app {app_id} is published{by}: `brownie run publish_app` publishes")
    return app_id, state


def require_publisher(state: dict[str, Any], sender: Any) -> None:
    if state["publisher"] != sender:
        raise ScriptError(
            f"the app is {state['publisher']}'s, which alone may change it; this is {sender}"
        )


def version_of(text: str, state: dict[str, Any]) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= state["versions"]:
        raise ScriptError(f"version {text!r}: the app has the versions 1 to {state['versions']}")
    return int(text)


def price_of(market: Deployment, words: tuple[str, ...]) -> Price:
    """`flat=1 call=0.002 gpu-hour=0.5`, each named once."""
    named = dict(word.split("=", 1) for word in words if "=" in word)
    if len(words) != len(PARTS) or set(named) != set(PARTS):
        raise ScriptError(
            f"prices {' '.join(words) or 'missing'!r}: name flat=, call= and gpu-hour= in whole"
            " tokens, 0 for none"
        )
    decimals = market.token.decimals()
    flat, call = (units_of(named[part], decimals, part) for part in ("flat", "call"))
    try:
        rate = rate_per_gpu_second_down(named["gpu-hour"], decimals)
    except ProtocolError as error:
        raise ScriptError(f"gpu-hour: {error}") from None
    return Price(flat, call, rate)


def units_of(text: str, decimals: int, name: str) -> int:
    return 0 if text == "0" else amount_of(text, decimals, name)


def row(price: Price) -> tuple[int, int, int]:
    return price.flat, price.fee_per_call, price.rate_per_gpu_second


def told(market: Deployment, price: Price) -> str:
    hour = Decimal(price_per_gpu_hour(price.rate_per_gpu_second, market.token.decimals()))
    return (
        f"{shown(price.flat, market.token)} flat, {shown(price.fee_per_call, market.token)} a call,"
        f" {hour:f} {market.token.symbol()} a GPU-hour"
    )


def time_of(text: str, since: int, name: str) -> int:
    """A time (UTC), or so long after `since`."""
    if not text:
        raise ScriptError(f"no {name}: write 2026-12-01T00:00 (UTC), or 1h, 7d from now")
    try:
        return since + parse_duration(text)
    except ProtocolError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ScriptError(
            f"{name} {text!r} is no time: write 2026-12-01T00:00 (UTC), or 1h, 7d from now"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())
