"""Which apps a provider serves, and what it says to the others
├── a table of manifests and settings that do not go together, each with its sentence
├── price: even the longest call earns the floor
├── it is remembered, and given up when the price falls or the app is retired
└── what is kept warm comes up without a call, and is replaced when it dies
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

import pytest

from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory
from tallystick.protocol.contracts import Registry
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId
from tallystick_provider.calls.apps import require_worth
from tallystick_provider.errors import AppRefused
from tests.provider.calls.conftest import World
from tests.provider.calls.payer import NO_WEB3, publish
from tests.provider.orders import settings_of
from tests.provider.waiting import until
from tests.support.anvil import APP_OWNER, CONSUMER, digest_of_word, send

ECHO = b'{"what":"hi"}'
HTTP = {"kind": "http"}


class TestRefused:
    @pytest.mark.parametrize(
        ("manifest", "settings", "reason"),
        [
            pytest.param({}, {"apps": "none"}, "serves other apps only", id="none wanted"),
            pytest.param(
                {}, {"apps": "0x" + "ab" * 32}, "serves other apps only", id="another one wanted"
            ),
            pytest.param(
                {"image": "sha256:" + "ab" * 32}, {}, "does not run on the process", id="an image"
            ),
            pytest.param(
                {"handler": {**HTTP, "port": 8000}},
                {},
                "a worker has no network",
                id="a port, which nobody could reach",
            ),
            pytest.param(
                {"handler": {**HTTP, "socket": "/run/app/a.sock"}},
                {},
                "functions only",
                id="a server of its own, without a container",
            ),
            pytest.param(
                {"environment": ["TOKEN"]}, {}, "expects the variables TOKEN", id="variables"
            ),
            pytest.param({"name": "../x"}, {}, "no name of a folder", id="a name that leads away"),
            pytest.param(
                {"resources": {"memory_mib": 65_536}}, {}, "memory (MiB)", id="too large for it"
            ),
            pytest.param(
                {"resources": {"gpus": 9, "gpu_class": "gpu1", "cpu_milli": 100}},
                {"memory_mib": 9999},
                "9 GPUs of class",
                id="more cards than there are",
            ),
            pytest.param(
                {"resources": {"gpus": 1, "gpu_class": "gpu7", "cpu_milli": 100}},
                {"memory_mib": 9999},
                "GPUs of class 'gpu7'",
                id="a class that it does not have",
            ),
        ],
    )
    async def test_with_a_sentence(
        self, world: World, manifest: dict[str, Any], settings: dict[str, Any], reason: str
    ) -> None:
        await world.start(**settings)
        world.manifest()
        values = json.loads(world.manifest().model_dump_json())
        made = AppManifest.model_validate({**values, **manifest})
        app = publish(world.chain, world.deployment, made)
        told = await world.payer_of(None, app, made).bring()
        assert not told.accepted
        assert reason in told.reason

    async def test_another_file_than_the_registrys(self, world: World) -> None:
        await world.start()
        made = world.manifest()
        app = publish(world.chain, world.deployment, made)
        other = made.model_copy(update={"timeout_s": 19})
        told = await world.payer_of(None, app, other).bring()
        assert "digest" in told.reason

    async def test_an_app_that_is_not_published(self, world: World) -> None:
        await world.start()
        made = world.manifest()
        app = AppHistory(AppId(digest_of_word(9)), CONSUMER.address, ZERO_ADDRESS, 0)
        told = await world.payer_of(None, app, made).bring()
        assert "no app 0x" in told.reason


@pytest.mark.parametrize(
    ("gpus", "price", "good"),
    [
        pytest.param(0, Price(0, 0, 0), True, id="without a card any price will do"),
        pytest.param(2, Price(0, 0, 5), True, id="the floor per second"),
        pytest.param(2, Price(0, 0, 4), False, id="below it"),
        pytest.param(2, Price(0, 600, 0), True, id="a fee that pays for the longest call"),
        pytest.param(2, Price(0, 599, 0), False, id="one that does not"),
        pytest.param(2, Price(300, 0, 3), True, id="both together"),
    ],
)
def test_worth(tmp_path: Any, gpus: int, price: Price, good: bool) -> None:
    manifest = AppManifest.model_validate(
        {
            "image": "process",
            "handler": {"kind": "function", "entry": "a:b"},
            "resources": {"gpus": gpus, "gpu_class": "gpu1"},
            "timeout_s": 60,
        }
    )
    word = digest_of_word(1)
    version = VersionHistory(word, word, "", (PricePoint(100, price),))
    app = AppHistory(AppId(word), CONSUMER.address, ZERO_ADDRESS, 0, (version,))
    settings = settings_of(tmp_path, rate={"gpu1": 5, "": 0})
    if good:
        require_worth(manifest, app, 1, 100, settings)
    else:
        with pytest.raises(AppRefused, match="the floor for its"):
            require_worth(manifest, app, 1, 100, settings)


class TestRemembered:
    async def test_after_a_restart_calls_need_no_bringing(self, world: World) -> None:
        end = await world.start()
        payer = await world.payer()
        await payer.call(ECHO)
        await end()
        await world.start()
        reply = await payer.call(ECHO)
        assert reply.answer is not None, reply.refusal
        assert reply.answer.cold_start_ms > 0

    async def test_a_retired_app_is_served_until_its_notice_is_over(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        await payer.call(ECHO)
        registry = Registry(NO_WEB3, world.deployment.registry)
        send(world.chain, APP_OWNER, registry.retire(payer.app.app_id))
        assert (await payer.call(ECHO)).answer is not None

    async def test_a_discount_changes_what_is_asked(self, world: World) -> None:
        await world.start()
        payer = await world.payer(price=Price(0, 10, 0))
        await payer.call(ECHO)
        registry = Registry(NO_WEB3, world.deployment.registry)
        start_s = int(time.time()) + 5  # a start must lie ahead when it is mined
        call = registry.set_discount(payer.app.app_id, 5_000, start_s, start_s + 600)
        send(world.chain, APP_OWNER, call)

        async def changed() -> bool:
            return (await payer.call(ECHO)).code == "price_changed"

        await until(changed, what="the new price")


class TestKeptWarm:
    async def test_comes_up_without_a_call_and_again_when_it_dies(self, world: World) -> None:
        await world.start(warm_workers=1)
        payer = await world.payer(world.manifest(scaling={"min_workers": 1, "max_workers": 2}))

        async def warm() -> bool:
            return (await payer.load()).apps[0].state == "warm"

        await until(warm, what="the warm worker")
        reply = await payer.call(b'{"do":"pid"}')
        assert reply.answer is not None
        assert reply.answer.cold_start_ms == 0
        os.kill(json.loads(reply.content)["pid"], signal.SIGKILL)
        other = b'{"do":"pid"}'

        async def replaced() -> bool:
            return (await payer.call(other)).content not in (b"", reply.content)

        await until(replaced, what="the next worker")

    async def test_not_more_than_the_provider_goes_along_with(self, world: World) -> None:
        await world.start()
        payer = await world.payer(world.manifest(scaling={"min_workers": 2}))
        await asyncio.sleep(0.3)
        assert (await payer.load()).apps[0].state == "cold"


class TestRoom:
    async def test_scales_out_and_in_again(self, world: World) -> None:
        await world.start()
        manifest = world.manifest(
            scaling={"max_workers": 2, "target_queue_delay_ms": 50, "cooldown_s": 1}
        )
        payer = await world.payer(manifest)
        other = world.another(payer)
        content = b'{"do":"sleep","seconds":3}'
        replies = await asyncio.gather(payer.call(content), other.call(content))
        assert all(reply.answer for reply in replies)

        async def gone() -> bool:
            (app,) = (await payer.load()).apps
            left = list((world.home / "data" / "workers").iterdir())
            return (app.workers, app.state, left) == (0, "cold", [])

        await until(gone, what="the scaling in")

    async def test_without_room_a_call_goes_elsewhere_at_once(self, world: World) -> None:
        await world.start(memory_mib=1024)
        payer = await world.payer()
        await payer.call(ECHO)
        second = world.manifest(name="others")
        other = await world.payer(second)
        reply = await other.call(ECHO)
        assert reply.code == "no_worker"
        assert reply.refusal is not None
        assert "memory (MiB): 1024 asked, 0 of 1024 free" in reply.refusal.detail
