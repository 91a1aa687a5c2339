"""Sealed bundles: whole, with the right digest, within limits, to those who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.protocol.hashing import digest_of
from tallystick_backend.access import CapabilityUrls, Seals
from tallystick_backend.clock import ManualClock
from tallystick_backend.settings import MIB
from tallystick_backend.store.session import Database
from tests.backend.api.world import PUBLIC_URL, Consumer, World, make_world


def files(world: World) -> list[Path]:
    return [path for path in world.backend.blobs.directory.rglob("*") if path.is_file()]


def urls(world: World) -> CapabilityUrls:
    return CapabilityUrls(world.backend.seals, PUBLIC_URL, world.clock)


async def test_a_bundle_comes_back_as_it_went(world: World, consumer: Consumer) -> None:
    content = bytes(range(256)) * 9000  # larger than what is written at once
    digest = await world.uploaded(consumer, content)
    answer = await consumer.get(f"/v1/blobs/{digest}")
    assert answer.content == content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert await world.uploaded(consumer, content) == digest
    assert len(files(world)) == 1


async def test_other_bytes_than_the_digest_leave_nothing(world: World, consumer: Consumer) -> None:
    digest = digest_of(b"right")
    answer = await consumer.put(f"/v1/blobs/{digest}", content=b"wrong")
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert (await consumer.get(f"/v1/blobs/{digest}")).status_code == 404
    assert files(world) == []


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
async def test_too_many_bytes_leave_nothing(
    database: Database, clock: ManualClock, tmp_path: Path, declared: bool
) -> None:
    world = await make_world(database, clock, tmp_path, max_blob_mib=1)
    consumer = await world.consumer()
    content = b"x" * (MIB + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    answer = await consumer.put(
        f"/v1/blobs/{digest_of(content)}", content=content if declared else pieces()
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "blob_too_large")
    assert files(world) == []
    await world.http.aclose()


async def test_one_consumer_cannot_fill_the_disk(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    world = await make_world(database, clock, tmp_path, max_stored_mib=1)
    consumer = await world.consumer()
    await world.uploaded(consumer, b"a" * MIB)
    answer = await consumer.put(f"/v1/blobs/{digest_of(b'b')}", content=b"b")
    assert (answer.status_code, answer.json()["code"]) == (413, "storage_full")
    await world.http.aclose()


async def test_a_broken_connection_leaves_nothing(world: World, consumer: Consumer) -> None:
    content = b"half of it"
    answers = []

    async def receive() -> dict[str, object]:
        if not answers:
            answers.append(None)
            return {"type": "http.request", "body": content, "more_body": True}
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        answers.append(message)  # type: ignore[arg-type]

    path = f"/v1/blobs/{digest_of(content + content)}"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"authorization", f"Bearer {consumer.token}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await world.app(scope, receive, send)  # type: ignore[arg-type]
    assert files(world) == []


async def test_half_written_bundles_of_before_are_cleared_away(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    left = tmp_path / "blobs" / "partial" / "left"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    world = await make_world(database, clock, tmp_path)
    assert files(world) == []
    await world.http.aclose()


async def test_a_bundle_is_its_owners(world: World, consumer: Consumer, stranger: Consumer) -> None:
    digest = await world.uploaded(consumer)
    for reader in (stranger, world.nobody()):
        answer = await reader.get(f"/v1/blobs/{digest}")
        assert answer.status_code == (404 if reader is stranger else 401)


async def test_a_provider_fetches_the_input_and_leaves_a_result(
    world: World, consumer: Consumer
) -> None:
    digest = await world.uploaded(consumer)
    task = await world.ordered(consumer, input_digest=digest)
    await world.leased(task)
    fetched = await world.http.get(urls(world).input_url(task["id"], 1, digest))
    assert fetched.content == b"sealed"
    left = urls(world).result_url(task["id"], 1).format(digest=digest_of(b"result"))
    assert (await world.http.put(left, content=b"result")).status_code == 201
    assert (await world.http.put(left, content=b"result")).status_code == 201
    assert (await consumer.get(f"/v1/blobs/{digest_of(b'result')}")).status_code == 404


async def test_a_result_is_limited_by_the_manifest(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer, max_output_mib=1)
    await world.leased(task)
    content = b"x" * (2 * MIB + 1)
    url = urls(world).result_url(task["id"], 1).format(digest=digest_of(content))
    answer = await world.http.put(url, content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "blob_too_large")


async def test_a_lease_cannot_fill_the_disk(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer, max_output_mib=1)
    await world.leased(task)
    for number in range(5):
        content = bytes([number]) * 2 * MIB
        url = urls(world).result_url(task["id"], 1).format(digest=digest_of(content))
        answer = await world.http.put(url, content=content)
        assert answer.status_code == (201 if number < 4 else 413)


async def test_refuses_links_for_anything_else(world: World, consumer: Consumer) -> None:
    digest = await world.uploaded(consumer)
    other = await world.uploaded(consumer, b"other")
    task = await world.ordered(consumer, input_digest=digest)
    await world.leased(task)
    good = urls(world).input_url(task["id"], 1, digest)
    cap = good.partition("cap=")[2]
    result_cap = urls(world).result_url(task["id"], 1).partition("cap=")[2]
    flipped = cap[:-1] + ("A" if cap[-1] != "A" else "B")
    parts = cap.split(".")
    later = ".".join((parts[0], parts[1], str(int(parts[2]) + 1), parts[3]))
    higher = ".".join((parts[0], "2", *parts[2:]))
    forger = CapabilityUrls(Seals(b"another key"), PUBLIC_URL, world.clock)
    forged = forger.input_url(task["id"], 1, digest)
    for text in (flipped, later, higher, result_cap, "", "a.b.c.d", "...", "é.1.1.x", forged[-43:]):
        answer = await world.http.get(f"/v1/blobs/{digest}", params={"cap": text})
        assert (answer.status_code, answer.json()["code"]) == (403, "capability_refused"), text
    for path, method in ((f"/v1/blobs/{other}", "GET"), (f"/v1/blobs/{digest}", "PUT")):
        answer = await world.http.request(method, path, params={"cap": cap}, content=b"sealed")
        assert answer.status_code == 403
    assert (await world.http.get(good)).status_code == 200


@pytest.mark.parametrize("ended", ["declined", "failed", "lost"])
async def test_a_link_ends_with_its_lease(world: World, consumer: Consumer, ended: str) -> None:
    digest = await world.uploaded(consumer)
    task = await world.ordered(consumer, input_digest=digest)
    await world.leased(task, work_state="waiting", lease_state=ended)
    answer = await world.http.get(urls(world).input_url(task["id"], 1, digest))
    assert answer.status_code == 403


async def test_a_link_stays_good_for_what_the_chain_has_a_proof_of(
    world: World, consumer: Consumer
) -> None:
    """The provider proved alone while the backend was away, and brings the result now."""
    task = await world.ordered(consumer)
    await world.leased(task, fence=1, work_state="waiting", lease_state="lost")
    url = urls(world).result_url(task["id"], 1).format(digest=digest_of(b"late"))
    assert (await world.http.put(url, content=b"late")).status_code == 403
    await world.on_chain(task, "proven", fence=1, receipt_digest=digest_of(b"receipt"))
    assert (await world.http.put(url, content=b"late")).status_code == 201
    await world.leased(task, fence=2)
    assert (await world.http.put(url, content=b"late")).status_code == 201


async def test_a_link_ends_with_the_next_fence(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    await world.leased(task, fence=1)
    url = urls(world).result_url(task["id"], 1).format(digest=digest_of(b"late"))
    await world.leased(task, fence=2)
    assert (await world.http.put(url, content=b"late")).status_code == 403


async def test_a_link_expires(world: World, consumer: Consumer) -> None:
    digest = await world.uploaded(consumer)
    task = await world.ordered(consumer, input_digest=digest)
    await world.leased(task)
    url = urls(world).input_url(task["id"], 1, digest)
    world.clock.advance(seconds=86_401)
    answer = await world.http.get(url)
    assert "expired" in answer.json()["detail"]
