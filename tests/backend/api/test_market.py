"""What is public: offers, providers, cards, accounts, health and figures."""

from __future__ import annotations

from tallystick_backend.store.tables import BooksRow
from tests.backend.api.order import RATE
from tests.backend.api.world import DEPLOYMENT, Consumer, World
from tests.support.anvil import OTHER_PROVIDER, PROVIDER


async def test_offers_say_who_could_and_why_not(world: World) -> None:
    await world.has_provider()
    params = {"gpu_class": "gpu1", "gpus": 2, "seconds": 3600}
    offers = (await world.http.get("/v1/offers", params=params)).json()
    assert [(offer["eligible"], offer["gpus_free"]) for offer in offers] == [(True, 2)]
    dear = params | {"rate_per_gpu_second": str(RATE - 1)}
    refused = (await world.http.get("/v1/offers", params=dear)).json()
    assert refused[0]["reason"] == "price_above_ceiling"
    full = params | {"disk_mib": 65_000, "max_output_mib": 537}
    (short,) = (await world.http.get("/v1/offers", params=full)).json()
    assert (short["reason"], "65537 (65000 and 537" in short["detail"]) == ("disk_too_small", True)
    misspelt = await world.http.get("/v1/offers", params={"gpu": "gpu1"})
    assert misspelt.status_code == 422


async def test_providers_are_listed_page_by_page(world: World) -> None:
    await world.has_provider()
    await world.has_provider(OTHER_PROVIDER, last_seen_ms=0)
    first = (await world.http.get("/v1/providers", params={"limit": 1})).json()
    rest = (
        await world.http.get("/v1/providers", params={"limit": 1, "cursor": first["next_cursor"]})
    ).json()
    found = first["items"] + rest["items"]
    assert {item["address"] for item in found} == {PROVIDER.address, OTHER_PROVIDER.address}
    assert rest["next_cursor"] is None
    online = (await world.http.get("/v1/providers", params={"online": "true"})).json()
    assert [item["address"] for item in online["items"]] == [PROVIDER.address]
    offline = (await world.http.get("/v1/providers", params={"online": "false"})).json()
    assert [item["address"] for item in offline["items"]] == [OTHER_PROVIDER.address]


async def test_one_provider(world: World) -> None:
    await world.has_provider()
    for address in (PROVIDER.address, PROVIDER.address.lower()):
        body = (await world.http.get(f"/v1/providers/{address}")).json()
        assert (body["online"], body["simulated"], body["stake"]) == (True, True, "1000")
    missing = await world.http.get("/v1/providers/0x" + "11" * 20)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_provider")


async def test_as_many_cards_are_busy_as_leases_hold(world: World, consumer: Consumer) -> None:
    await world.has_provider()
    await world.leased(await world.ordered(consumer))
    seen, cursor = [], None
    while True:
        params = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = (await world.http.get("/v1/gpus", params=params)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [(item["gpu"]["gpu_id"], item["busy"]) for item in seen] == [
        ("GPU-0", True),
        ("GPU-1", False),
    ]
    none = (await world.http.get("/v1/gpus", params={"gpu_class": "gpu9"})).json()
    assert none["items"] == []


async def test_an_account_the_escrow_never_saw_is_empty(world: World) -> None:
    await world.is_indexed(block=7, head=7)
    body = (await world.http.get(f"/v1/accounts/{PROVIDER.address}")).json()
    assert body == {
        "address": PROVIDER.address,
        "available": "0",
        "locked": "0",
        "credit": "0",
        "block": 7,
    }


async def test_the_deployment_is_read_once(world: World) -> None:
    for _ in range(3):
        said = (await world.http.get("/v1/deployment")).json()
    assert (said["token_symbol"], said["token_decimals"]) == ("TALLY", 18)
    asked = ["symbol", "decimals", "eip712Domain", "name"]
    assert world.chain.asked == ["eth_call"] * len(asked)


# --- health -----------------------------------------------------------------------------------


async def test_ready_only_when_all_is_well(world: World) -> None:
    assert (await world.http.get("/readyz")).json()["checks"]["chain"] == "nothing indexed yet"
    await world.is_indexed(block=10, head=10)
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    await world.is_indexed(block=10, head=100)
    behind = await world.http.get("/readyz")
    assert behind.status_code == 503
    assert behind.json()["checks"]["chain"] == "the index is 90 blocks behind"
    await world.is_indexed(degraded="a reorganisation of 70 blocks")
    stopped = (await world.http.get("/readyz")).json()
    assert stopped["checks"]["chain"] == "the index stopped: a reorganisation of 70 blocks"


async def test_rows_that_differ_from_the_contracts_are_named(world: World) -> None:
    """Case 89."""
    await world.is_indexed(block=10, head=10)
    assert (await world.http.get("/readyz")).json()["checks"]["books"] == "ok"
    wrong = {"entity": "account:0x1", "what": "credit", "here": "5", "there": "4"}
    await world.write(BooksRow(id=1, block_number=10, at_ms=1, differences=[wrong, wrong]))
    answer = await world.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["books"] == (
        "the rows differ from the contracts: account:0x1 credit is 5 and should be 4, and 1 more"
    )
    page = (await world.http.get("/metrics")).text
    assert "tallystick_books_differences 2.0" in page
    assert "tallystick_books_block 10.0" in page


async def test_a_database_that_is_gone_is_named(world: World) -> None:
    async with world.database.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE cursor")
    body = (await world.http.get("/readyz")).json()
    assert body["checks"]["database"].startswith("cannot be read")
    assert "cursor" not in str(body)


async def test_figures(world: World, consumer: Consumer) -> None:
    await world.is_indexed(block=8, head=10)
    await world.has_provider()
    task = await world.ordered(consumer)
    await world.on_chain(task)
    await world.leased(task)
    await consumer.get(f"/v1/tasks/{task['id']}")
    page = (await world.http.get("/metrics")).text
    for line in (
        'tallystick_tasks{source="chain",state="open"} 1.0',
        'tallystick_tasks{source="work",state="running"} 1.0',
        'tallystick_leases{state="running"} 1.0',
        "tallystick_orders 1.0",
        "tallystick_providers_online 1.0",
        "tallystick_index_lag_blocks 2.0",
    ):
        assert line in page
    assert 'route="/v1/tasks/{task_id}"' in page
    assert task["id"] not in page
    assert consumer.token not in page


async def test_what_a_page_needs_to_begin(world: World) -> None:
    config = (await world.http.get("/v1/config")).json()

    assert (config["chain_id"], config["network_name"]) == (31337, "Chain 31337")
    assert config["token"] == {
        "address": DEPLOYMENT.token,
        "symbol": "TALLY",
        "decimals": 18,
        "name": "TALLY",
        "version": "1",
    }
    assert config["escrow"] == DEPLOYMENT.escrow
    assert (config["rpc_url"], config["explorer_url"]) == ("", "")
    assert (config["protocol_fee_bps"], config["dispatcher_bps"]) == (100, 500)
