"""What a publisher does with the registry, with honest defaults that a test changes by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tallystick.protocol.events import AppEvent, decode_app_log, raw_log
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import Address
from tests.contracts.stage import TALLY, ZERO, digest_of

PRICE = Price(flat=TALLY, fee_per_call=TALLY // 10, rate_per_gpu_second=TALLY // 100)
DEARER = Price(flat=2 * TALLY, fee_per_call=TALLY // 5, rate_per_gpu_second=TALLY // 50)
URI = "ipfs://bafy-manifest"


def row(price: Price) -> tuple[int, int, int]:
    return price.flat, price.fee_per_call, price.rate_per_gpu_second


class Apps:
    """The registry as its publisher uses it."""

    def __init__(self, registry: Any, publisher: Any) -> None:
        from brownie import chain

        self.chain = chain
        self.registry = registry
        self.publisher = publisher

    # ------------------------------------------------------------------ time

    def now(self) -> int:
        return int(self.chain[-1].timestamp)

    @contextmanager
    def at(self, timestamp: int) -> Iterator[None]:
        """The next transaction's block has this time."""
        from brownie import web3

        web3.provider.make_request("evm_setNextBlockTimestamp", [timestamp])
        yield

    # ------------------------------------------------------------------ verbs

    def publish(self, salt: str = "app", by: Any = None, **changes: Any) -> str:
        sent = self.publish_sent(salt, by, **changes)
        return str(sent.events["AppPublished"]["appId"])

    def publish_sent(self, salt: str = "app", by: Any = None, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "image": digest_of("image"),
            "manifest": digest_of("manifest"),
            "uri": URI,
            "price": PRICE,
            "royalty_to": ZERO,
            "royalty_bps": 0,
        }
        values |= changes
        values["price"] = row(values["price"])
        return self.registry.publish(
            digest_of(salt), *values.values(), {"from": by or self.publisher}
        )

    def add_version(self, app_id: str, by: Any = None, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "image": digest_of("image 2"),
            "manifest": digest_of("manifest 2"),
            "uri": URI,
            "price": DEARER,
        }
        values |= changes
        values["price"] = row(values["price"])
        return self.registry.addVersion(app_id, *values.values(), {"from": by or self.publisher})

    def set_price(self, app_id: str, price: Price, version: int = 1, by: Any = None) -> Any:
        return self.registry.setPrice(app_id, version, row(price), {"from": by or self.publisher})

    def set_discount(self, app_id: str, bps: int, start: int, end: int, by: Any = None) -> Any:
        return self.registry.setDiscount(app_id, bps, start, end, {"from": by or self.publisher})

    def retire(self, app_id: str, by: Any = None) -> Any:
        return self.registry.retire(app_id, {"from": by or self.publisher})

    def renounce(self, app_id: str, by: Any = None) -> Any:
        return self.registry.renounce(app_id, {"from": by or self.publisher})

    # ------------------------------------------------------------------ reading

    def price_at(self, app_id: str, time: int, version: int = 1) -> Price:
        return Price(*(int(part) for part in self.registry.priceAt(app_id, version, time)))

    def discount(self, app_id: str) -> tuple[int, int, int]:
        bps, start, end = self.registry.discountOf(app_id)
        return int(bps), int(start), int(end)

    def app(self, app_id: str) -> dict[str, Any]:
        """By the names of `IAppRegistry.App`."""
        names = ("publisher", "versions", "retiredAt", "royaltyTo", "royaltyBps")
        app = self.registry.appOf(app_id)
        return dict(zip((*names, "pricesSettleAt", "permanent"), app, strict=True))

    def told(self, app_id: str) -> list[AppEvent]:
        """Every event of the app, as the kernel reads them."""
        from brownie import web3

        logs = web3.eth.get_logs(
            {"fromBlock": 0, "address": self.registry.address, "topics": [None, app_id]}
        )
        deployment: Any = _At(Address(self.registry.address))
        found = []
        for log in logs:
            time = web3.eth.get_block(log["blockNumber"])["timestamp"]
            event = decode_app_log(raw_log(log), deployment, time)
            assert event is not None
            found.append(event)
        return found


class _At:
    """As much of a deployment as reading the registry's logs takes."""

    def __init__(self, registry: Address) -> None:
        self.registry = registry
