"""inbox, on a real nats-server
├── logs in with a proof, announces, is asked and answers
├── malformed messages are answered with what is wrong, and nothing else happens
├── out of reach: Offline, never an exception of the library
├── a server that goes away and comes back is found again, with a fresh proof
└── stopped or cancelled at any moment it ends at once and leaves no socket open
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import nats
import pytest
import structlog

from tallystick.protocol import wire
from tallystick.protocol.login import check_proof
from tallystick_provider.backend import Offline
from tallystick_provider.clock import ManualClock
from tallystick_provider.inbox import Inbox
from tests.provider.orders import DOMAIN, NOW_S, offer_of
from tests.provider.waiting import until
from tests.support.anvil import OPERATOR, PROVIDER
from tests.support.nats import NatsServer, nats_server

ME = PROVIDER.address.lower()
ZEROS = "0x" + "00" * 32


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with nats_server() as started:
        yield started


@dataclass
class Desk:
    """What the agent would do."""

    inbox: Inbox
    connected: int = 0
    offers: list[wire.Offer] = field(default_factory=list)

    async def on_connected(self) -> None:
        self.connected += 1

    async def on_offer(self, offer: wire.Offer) -> wire.OfferReply:
        self.offers.append(offer)
        return wire.OfferReply(accepted=True)

    async def on_stop(self, stop: wire.Stop) -> wire.Ack:
        return wire.Ack(reason=stop.reason)

    async def on_acceptance(self, notice: wire.AcceptanceNotice) -> wire.Ack:
        return wire.Ack()


@pytest.fixture
async def desk(server: NatsServer) -> AsyncIterator[Desk]:
    inbox = inbox_at(server.url)
    desk, stop = Desk(inbox), asyncio.Event()
    running = asyncio.create_task(inbox.run(stop, desk))
    await until(lambda: desk.connected == 1)
    yield desk
    stop.set()
    await running


@pytest.fixture
async def backend(server: NatsServer) -> AsyncIterator[Any]:
    line = await nats.connect(server.url)
    yield line
    await line.close()


def inbox_at(url: str) -> Inbox:
    return Inbox(url, DOMAIN, PROVIDER.address, OPERATOR.key, ManualClock(NOW_S * 1000))


async def ask(backend: Any, verb: str, data: bytes) -> Any:
    reply = await backend.request(f"tallystick.provider.{ME}.{verb}", data, timeout=5)
    return json.loads(reply.data)


async def test_is_asked_and_answers(desk: Desk, backend: Any) -> None:
    offer = offer_of()
    assert (await ask(backend, "offer", offer.model_dump_json().encode()))["accepted"] is True
    assert desk.offers == [offer]
    stop = wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="cancelled")
    assert (await ask(backend, "stop", stop.model_dump_json().encode()))["reason"] == "cancelled"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\x00", b'{"fence": "' + b"9" * 9999])
async def test_nonsense_is_answered_and_changes_nothing(
    desk: Desk, backend: Any, data: bytes
) -> None:
    answer = await ask(backend, "offer", data)
    assert answer["accepted"] is False
    assert "not a well-formed Offer" in answer["reason"]
    assert (await ask(backend, "stop", data))["ok"] is False
    assert desk.offers == []


async def test_tells_the_backend_and_reads_its_answer(desk: Desk, backend: Any) -> None:
    async def answer(message: Any) -> None:
        assert wire.Heartbeat.model_validate_json(message.data).leases == ()
        await message.respond(wire.HeartbeatReply(leases=()).model_dump_json().encode())

    await backend.subscribe(f"tallystick.backend.{ME}.heartbeat", cb=answer)
    await backend.flush()
    await backend.flush()  # the first PING goes ahead of the subscription
    assert await desk.inbox.heartbeat(wire.Heartbeat(leases=())) == wire.HeartbeatReply(leases=())


async def test_nobody_there_or_nonsense_back_is_offline(desk: Desk, backend: Any) -> None:
    failed = wire.Failed(task_id=ZEROS, fence=1, reason="x", blame="task")
    with pytest.raises(Offline, match="did not answer failed"):
        await desk.inbox.failed(failed)

    async def answer(message: Any) -> None:
        await message.respond(b"<html>")

    await backend.subscribe(f"tallystick.backend.{ME}.failed", cb=answer)
    await backend.flush()
    await backend.flush()  # the first PING goes ahead of the subscription
    with pytest.raises(Offline, match="not understood"):
        await desk.inbox.failed(failed)


async def test_a_server_that_comes_back_is_found_again(desk: Desk, server: NatsServer) -> None:
    server.end()
    await until(lambda: not desk.inbox.connected)
    with pytest.raises(Offline):
        await desk.inbox.heartbeat(wire.Heartbeat(leases=()))
    server.start()
    await until(lambda: desk.connected == 2, 30, "the second log-in")
    assert desk.inbox.problem == ""


async def test_every_log_in_carries_a_fresh_proof_of_the_operator_key() -> None:
    """A server that writes down what it is told, and hangs up."""
    tokens: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1000000}\r\n')
        while line := await reader.readline():
            if line.startswith(b"CONNECT "):
                tokens.append(json.loads(line.removeprefix(b"CONNECT "))["auth_token"])
                break
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    clock = ManualClock(NOW_S * 1000)
    inbox = Inbox(f"nats://127.0.0.1:{port}", DOMAIN, PROVIDER.address, OPERATOR.key, clock)
    stop = asyncio.Event()
    running = asyncio.create_task(inbox.run(stop, Desk(inbox)))
    await until(lambda: len(tokens) >= 2, 30, "two log-ins")
    stop.set()
    await running
    listener.close()
    proofs = [check_proof(token, DOMAIN, NOW_S, 60) for token in tokens]
    assert {(proof.provider, proof.key) for proof in proofs} == {
        (PROVIDER.address, OPERATOR.address)
    }
    assert len({proof.nonce for proof in proofs}) == len(proofs)
    assert "no log-in" in inbox.problem


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a `__del__` complained of."""
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_value))
    return lost


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """Takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()
    for writer in writers:
        writer.close()


def nobody_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"nats://127.0.0.1:{free.getsockname()[1]}"


async def test_stops_at_once_when_nobody_is_there() -> None:
    """The library by itself would try for ever, and the agent would outlive its SIGTERM."""
    inbox, stop = inbox_at(nobody_url()), asyncio.Event()
    running = asyncio.create_task(inbox.run(stop, Desk(inbox)))
    await until(lambda: "Connect call failed" in inbox.problem)
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_what_the_bus_address_hides_is_told_nobody() -> None:
    """Case 136: the problem is shown by `status` and in the log."""
    inbox, stop = inbox_at(nobody_url().replace("//", "//user:SECRET@")), asyncio.Event()
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(inbox.run(stop, Desk(inbox)))
        await until(lambda: "Connect call failed" in inbox.problem)
        stop.set()
        await asyncio.wait_for(running, 5)
    assert "at nats://127.0.0.1:" in inbox.problem
    assert "SECRET" not in inbox.problem + str(logs)


async def test_stops_at_once_in_the_middle_of_a_log_in(silent_url: str, lost: list[Any]) -> None:
    inbox, stop = inbox_at(silent_url), asyncio.Event()
    running = asyncio.create_task(inbox.run(stop, Desk(inbox)))
    await asyncio.sleep(0.1)
    stop.set()
    await asyncio.wait_for(running, 4)
    gc.collect()
    assert lost == []


async def test_cancelled_in_the_middle_of_a_log_in(silent_url: str, lost: list[Any]) -> None:
    inbox = inbox_at(silent_url)
    running = asyncio.create_task(inbox.run(asyncio.Event(), Desk(inbox)))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    del running
    gc.collect()
    assert lost == []


async def test_cancelled_while_connected_hangs_up(server: NatsServer, lost: list[Any]) -> None:
    inbox = inbox_at(server.url)
    desk = Desk(inbox)
    running = asyncio.create_task(inbox.run(asyncio.Event(), desk))
    await until(lambda: desk.connected == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not inbox.connected
    del running
    gc.collect()
    assert lost == []
