"""Every route that names an object, asked by somebody it does not belong to.

The routes come from the OpenAPI document, so a new one is in here by itself: it must be on the list
of the public ones, or refuse.
"""

from __future__ import annotations

import re
from typing import Any

from tallystick_backend.__main__ import openapi_text
from tallystick_backend.store.tables import AppRow, KeepWarmRow
from tests.backend.api.called import PaidChannel
from tests.backend.api.test_apps import MINE, has_channel, publish
from tests.backend.api.world import Consumer, World

PUBLIC = {
    "createLoginNonce",
    "login",
    "getDeployment",
    "getConfig",
    "getAgentSettings",
    "getManifest",
    "listGpuPrices",
    "listPaidPrices",
    "searchCards",
    "getNetworkTotals",
    "getProviderSummary",
    "getEarned",
    "getAppLoad",
    "listDelegations",
    "listChainEvents",
    "streamChainEvents",
    "getChainTask",
    "search",
    "listEmbeddedGpus",
    "getEmbeddedTask",
    "listOffers",
    "listProviders",
    "getProvider",
    "listGpus",
    "getAccount",
    "listApps",
    "getApp",
    "listAppVersions",
    "getAppPrice",
    "listAppPrices",
    "listAppDiscounts",
    "listChannels",
    "getChannel",
    "getLiveness",
    "getReadiness",
    "getMetrics",
}
ABSENT = {"getProvider", "getProviderSummary", "getManifest", "getChainTask", "getEmbeddedTask"}
OWN_ONLY = {
    "logout",
    "getCaller",
    "createApiKey",
    "listApiKeys",
    "createTask",
    "listTasks",
    "listCalls",
    "listSummaries",
    "listSpendLimits",
    "setSpendLimit",
    "keepWarm",
    "listKeepWarm",
    "getSessionKey",
    "createAllowance",
    "listAllowances",
    "getWebhookSecret",
    "callApp",
    "putManifest",
    "getOverview",
    "streamOverview",
    "getServing",
}
"""No object of somebody's in the path: they act on the caller itself, or on what is published."""

BODIES: dict[str, Any] = {
    "addSealedKey": {"provider": "0x" + "11" * 20, "fence": 1, "sealed": "0x00"},
    "acceptTask": {
        "acceptance": {
            "task_id": "0x" + "5a" * 32,
            "total": "1",
            "receipt": "0x" + "3f" * 32,
        },
        "signature": "0x" + "1b" * 65,
    },
    "handInVoucher": {
        "voucher": {
            "payer": MINE.payer,
            "provider": MINE.provider,
            "salt": str(MINE.salt),
            "total": "1",
            "receipt": "0x" + "3f" * 32,
        },
        "signature": "0x" + "1b" * 65,
    },
}


def operations() -> list[tuple[str, str, str]]:
    import json

    paths = json.loads(openapi_text())["paths"]
    return [
        (operation["operationId"], method.upper(), path)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


async def _prepared(world: World, consumer: Consumer) -> dict[str, str]:
    """One object of every kind, all of them the consumer's."""
    digest = await world.uploaded(consumer)
    task = await world.ordered(consumer, input_digest=digest)
    await world.finished(task)
    await world.wrote(task, "a secret line")
    key = (await consumer.post("/v1/keys", json={"name": "mine"})).json()
    wanted = {"scope": "workspace", "period": "day", "limit": "5"}
    limit = (await consumer.put("/v1/spend-limits", json=wanted)).json()
    paid = PaidChannel(consumer.address)
    await world.write(paid.call("call-0001", at_ms=world.clock.now_ms()))
    warm = KeepWarmRow(
        id="ab" * 8,
        account=consumer.address.lower(),
        app_id="0x" + "a9" * 32,
        every_s=54,
        until_ms=world.clock.now_ms() + 1,
        created_at_ms=world.clock.now_ms(),
    )
    await world.write(warm)
    return {
        "warm_id": warm.id,
        "task_id": task["id"],
        "digest": digest,
        "key_id": key["id"],
        "limit_id": limit["id"],
        "call_id": "call-0001",
        "channel": await has_channel(world, MINE, 1),
        "app": await _published(world, consumer),
    }


async def _published(world: World, consumer: Consumer) -> str:
    app_id = "0x" + "a9" * 32
    row = AppRow(
        app_id=app_id,
        publisher=consumer.address.lower(),
        salt="0x",
        royalty_to=consumer.address.lower(),
        royalty_bps=0,
        published_at_s=1,
        versions=1,
        manifest_uri="urn:any",
    )
    await world.write(row)
    return app_id


async def test_nobody_reaches_what_belongs_to_another(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    objects = await _prepared(world, consumer)
    tried = 0
    for name, method, path in operations():
        if name in PUBLIC | OWN_ONLY:
            continue
        missing = set(re.findall(r"{(\w+)}", path)) - set(objects)
        assert not missing, f"{name}: add an object for {missing} to this test"
        content = {"content": b"sealed"} if name == "putBlob" else {"json": BODIES.get(name)}
        if BODIES.get(name) is None and name != "putBlob":
            content = {}
        url = path.format(**objects)
        answer = await stranger.http.request(method, url, headers=stranger.headers, **content)
        if name == "putBlob":
            # Naming bytes that one holds is no access: nothing changes hands.
            assert answer.status_code == 201
            assert (await stranger.get(url)).status_code == 404
        else:
            assert answer.status_code in (403, 404), f"{name}: {answer.status_code} {answer.text}"
        anonymous = await world.http.request(method, url, **content)
        assert anonymous.status_code == 401, name
        tried += 1
    assert tried >= 14
    assert (await consumer.get(f"/v1/tasks/{objects['task_id']}")).json()["state"] == "finished"
    assert len((await consumer.get("/v1/keys")).json()) == 1


async def test_lists_hold_the_callers_own_only(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    await _prepared(world, consumer)
    assert (await stranger.get("/v1/tasks")).json()["items"] == []
    assert (await stranger.get("/v1/keys")).json() == []
    for path in ("/v1/calls", "/v1/keep-warm", "/v1/spend-limits", "/v1/summaries"):
        assert (await stranger.get(path)).json()["items"] == []
        assert len((await consumer.get(path)).json()["items"]) == 1


async def test_the_public_ones_ask_for_nothing(world: World) -> None:
    await world.is_indexed()
    await world.has_provider()
    named = {
        "address": "0x" + "11" * 20,
        "app": await publish(world, 1),
        "channel": await has_channel(world, MINE, 1),
    }
    named |= {"task_id": "0x" + "5a" * 32, "digest": "0x" + "3f" * 32}
    for name, method, path in operations():
        # A stream does not end; what nobody made is not there, and asks for no log-in either.
        if name not in PUBLIC or name in ("login", "streamChainEvents"):
            continue
        query = {"q": "0x"} if name == "search" else {}
        answer = await world.http.request(method, path.format(**named), params=query)
        absent = name in ABSENT
        assert answer.status_code == (404 if absent else 200), f"{name}: {answer.text}"
