"""Who comes onto a real message bus, and what it can do there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tallystick.protocol import wire
from tallystick.protocol.login import make_proof
from tallystick.protocol.messages import Domain
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import AnnouncementReply, Heartbeat, HeartbeatReply, LeaseBeat
from tallystick_backend.clock import ManualClock, SystemClock
from tallystick_backend.dispatch import jwt, nats_config
from tallystick_backend.dispatch.assign import KeySigner
from tallystick_backend.dispatch.bus import NatsBus, offer_subject
from tallystick_backend.dispatch.callout import AuthCallout
from tallystick_backend.dispatch.errors import (
    BusClosed,
    BusError,
    LoginRefused,
    NoAnswer,
    NoListener,
)
from tallystick_backend.dispatch.loop import Dispatcher
from tallystick_backend.dispatch.nats_config import BusKeys
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import LoginProofRow, OperatorKeyRow, ProviderRow
from tests.backend.dispatch.market import (
    DISPATCHER_KEY,
    DOMAIN,
    UNIT,
    Market,
    TestProvider,
    Urls,
    key,
)
from tests.support.nats import NatsServer, planned

KEYS = BusKeys.from_issuer_seed(nats_config.new_issuer_seed())


def _server(folder: Path) -> NatsServer:
    """nats-server under the configuration we ship, but that nobody waits for long."""
    return planned(
        folder, lambda port: nats_config.render(KEYS, port=port).replace("timeout: 5", "timeout: 3")
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = _server(tmp_path_factory.mktemp("nats"))
    with server.runs():
        yield server


@pytest.fixture
def clock() -> ManualClock:
    """Stands at the time of the test: the server hangs up by its own clock."""
    return ManualClock(SystemClock().now_ms())


@pytest.fixture
async def market(database: Database, clock: ManualClock) -> Market:
    return Market(database, clock, DispatchSettings(stake_unit=UNIT, poll_ms=20))


@pytest.fixture
async def callout(server: NatsServer, market: Market) -> AsyncIterator[None]:
    stop = asyncio.Event()
    bus = NatsBus(server.url, KEYS.callout_seed, "callout")
    running = asyncio.create_task(
        AuthCallout(market.database, bus, KEYS, DOMAIN, market.settings, market.clock).run(stop)
    )
    await _until(lambda: bus.serving)
    yield
    stop.set()
    await asyncio.wait_for(running, 10)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - nothing here to wait on
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def logged_in(
    server: NatsServer, provider: TestProvider, token: str, errors: list[str] | None = None
) -> AsyncIterator[Client]:
    """As the agent does: its own inbox, no reconnecting with a used proof."""

    async def note(failure: Exception) -> None:
        if errors is not None:
            errors.append(str(failure))

    client = Client()
    try:
        await client.connect(
            server.url,
            token=token,
            inbox_prefix=f"_INBOX.{provider.id}",
            allow_reconnect=False,
            connect_timeout=5,
            error_cb=note,
        )
        yield client
    finally:
        await client.close()


def proof(
    market: Market,
    provider: TestProvider,
    *,
    domain: Domain = DOMAIN,
    age_s: int = 0,
    signing_key: bytes | None = None,
) -> str:
    signing_key = signing_key or provider.operator_key
    now_s = market.clock.now_ms() // 1000 - age_s
    return make_proof(domain, provider.address, address_of(signing_key), now_s, signing_key)


async def refused(server: NatsServer, provider: TestProvider, token: str) -> bool:
    """Nobody is told why: only that the server does not let it in."""
    try:
        async with logged_in(server, provider, token) as client:
            await client.flush(timeout=5)
    except (nats.errors.Error, OSError, TimeoutError):
        return True
    return False


# --- who comes in -----------------------------------------------------------------------------


@pytest.mark.usefixtures("callout")
async def test_a_good_proof_comes_in(server: NatsServer, market: Market) -> None:
    provider = await market.provider()
    async with logged_in(server, provider, proof(market, provider)) as client:
        await client.flush(timeout=5)
        assert client.is_connected
    own_key = proof(market, provider, signing_key=provider.key)
    async with logged_in(server, provider, own_key) as client:
        assert client.is_connected


Spoil = Callable[[Market, TestProvider], Awaitable[str]]


async def _old(market: Market, provider: TestProvider) -> str:
    return proof(market, provider, age_s=61)


async def _from_the_future(market: Market, provider: TestProvider) -> str:
    return proof(market, provider, age_s=-61)


async def _replayed(market: Market, provider: TestProvider) -> str:
    token = proof(market, provider)
    encoded = token.partition(".")[0]
    nonce = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))["nonce"]
    async with market.database.transaction() as session:
        session.add(LoginProofRow(nonce=nonce, at_ms=market.clock.now_ms()))
    return token


async def _strange_key(market: Market, provider: TestProvider) -> str:
    return proof(market, provider, signing_key=key(99))


async def _anothers_key(market: Market, provider: TestProvider) -> str:
    other = await market.provider(2)
    return proof(market, provider, signing_key=other.operator_key)


async def _retired_key(market: Market, provider: TestProvider) -> str:
    async with market.database.transaction() as session:
        await session.merge(
            OperatorKeyRow(key=provider.operator.lower(), provider=provider.id, retired_at_s=1)
        )
    return proof(market, provider)


async def _unstaked(market: Market, provider: TestProvider) -> str:
    async with market.database.transaction() as session:
        await session.merge(ProviderRow(address=provider.id, stake=UNIT - 1))
    return proof(market, provider)


async def _other_chain(market: Market, provider: TestProvider) -> str:
    return proof(market, provider, domain=Domain(1, DOMAIN.escrow))


async def _other_deployment(market: Market, provider: TestProvider) -> str:
    return proof(market, provider, domain=Domain(DOMAIN.chain_id, to_address("0x" + "01" * 20)))


async def _tampered(market: Market, provider: TestProvider) -> str:
    other = TestProvider(9, market.clock)
    content, _, _ = proof(market, provider).partition(".")
    _, _, signature = proof(market, other).partition(".")
    return f"{content}.{signature}"


async def _empty(market: Market, provider: TestProvider) -> str:
    return ""


async def _garbage(market: Market, provider: TestProvider) -> str:
    return "x" * 5_000


@pytest.mark.usefixtures("callout")
@pytest.mark.parametrize(
    "spoil",
    [
        _old,
        _from_the_future,
        _replayed,
        _strange_key,
        _anothers_key,
        _retired_key,
        _unstaked,
        _other_chain,
        _other_deployment,
        _tampered,
        _empty,
        _garbage,
    ],
    ids=lambda spoil: spoil.__name__.strip("_").replace("_", " "),
)
async def test_any_other_proof_stays_out(server: NatsServer, market: Market, spoil: Spoil) -> None:
    """Cases 119 and 120."""
    provider = await market.provider(online=False)
    assert await refused(server, provider, await spoil(market, provider))


@pytest.mark.usefixtures("callout")
async def test_a_proof_is_good_once(server: NatsServer, market: Market) -> None:
    provider = await market.provider()
    token = proof(market, provider)
    tries = await asyncio.gather(*[refused(server, provider, token) for _ in range(4)])
    assert sorted(tries) == [False, True, True, True]


async def test_nobody_comes_in_while_the_backend_is_away(
    server: NatsServer, market: Market
) -> None:
    provider = await market.provider()
    assert await refused(server, provider, proof(market, provider))


async def test_old_proofs_are_forgotten(market: Market) -> None:
    provider = await market.provider()
    callout = _Silent.callout(market)
    async with market.database.transaction() as session:
        session.add(LoginProofRow(nonce="old", at_ms=market.clock.now_ms() - 200_000))
        session.add(LoginProofRow(nonce="new", at_ms=market.clock.now_ms() - 1_000))
    await callout._check(proof(market, provider))
    async with market.database.read() as session:
        assert await session.get(LoginProofRow, "old") is None
        assert await session.get(LoginProofRow, "new") is not None


# --- what it may do there ---------------------------------------------------------------------


@pytest.mark.usefixtures("callout")
async def test_a_provider_may_use_its_own_subjects_and_no_others(
    server: NatsServer, market: Market
) -> None:
    """Case 129, by the server itself."""
    provider, other = await market.provider(1), await market.provider(2)
    backend = NatsBus(server.url, KEYS.backend_seed, "backend")
    await backend.connect(asyncio.Event())
    heard: list[str] = []

    async def hear(subject: str, payload: bytes) -> bytes | None:
        heard.append(subject)
        return b"{}"

    await backend.serve("tallystick.backend.>", "backend", hear)
    errors: list[str] = []
    async with logged_in(server, provider, proof(market, provider), errors) as client:
        own = f"tallystick.backend.{provider.id}.announce"
        await client.request(own, b"{}", timeout=5)
        for subject in (
            f"tallystick.backend.{other.id}.announce",
            f"tallystick.provider.{other.id}.offer",
            f"tallystick.provider.{provider.id}.offer",
            "tallystick.backend",
            f"_INBOX.{other.id}.x",
            "$SYS.REQ.USER.AUTH",
        ):
            await client.publish(subject, b"{}")
        await client.flush(timeout=5)
        await _until(lambda: len(errors) == 6)
        assert all("permissions violation for publish" in error.lower() for error in errors)
        assert heard == [own]

        errors.clear()

        async def swallow(message: Msg) -> None:
            heard.append(message.subject)

        for subject in (
            ">",
            "tallystick.>",
            "tallystick.provider.*.offer",
            f"tallystick.provider.{other.id}.offer",
            "tallystick.backend.>",
            "_INBOX.>",
            "$SYS.>",
        ):
            with contextlib.suppress(nats.errors.Error):
                await client.subscribe(subject, cb=swallow)
        await client.flush(timeout=5)
        await _until(lambda: len(errors) == 7)
        assert all("permissions violation for subscription" in error.lower() for error in errors)
        with pytest.raises(NoListener):
            await backend.request(offer_subject(other.id), b"{}", 2)
        assert heard == [own]
    await backend.close()


@pytest.mark.usefixtures("callout")
async def test_an_offer_goes_there_and_its_answer_comes_back(
    server: NatsServer, market: Market
) -> None:
    provider = await market.provider()
    backend = NatsBus(server.url, KEYS.backend_seed, "backend")
    await backend.connect(asyncio.Event())
    with pytest.raises(NoListener):
        await backend.request(offer_subject(provider.id), b"hello", 2)
    async with logged_in(server, provider, proof(market, provider)) as client:

        async def answer(message: Msg) -> None:
            if message.data == b"hello":
                await message.respond(b"welcome")
                with contextlib.suppress(nats.errors.Error):
                    await message.respond(b"once more")

        await client.subscribe(f"tallystick.provider.{provider.id}.>", cb=answer)
        await client.flush(timeout=5)
        await client.flush(timeout=5)  # the first PING goes ahead of the subscription
        assert await backend.request(offer_subject(provider.id), b"hello", 5) == b"welcome"
        with pytest.raises(NoAnswer):
            await backend.request(offer_subject(provider.id), b"silence", 0.2)
    await backend.close()


@pytest.mark.usefixtures("callout")
async def test_a_task_goes_round_over_the_bus(server: NatsServer, market: Market) -> None:
    provider = await market.provider(online=False)
    task = await market.order()
    stop = asyncio.Event()
    bus = NatsBus(server.url, KEYS.backend_seed, "backend")
    dispatcher = Dispatcher(
        market.database,
        bus,
        KeySigner(DOMAIN, DISPATCHER_KEY),
        Urls(),
        market.settings,
        market.clock,
    )
    running = asyncio.create_task(dispatcher.run(stop))
    await _until(lambda: bus.serving)
    async with logged_in(server, provider, proof(market, provider)) as client:

        async def hear(message: Msg) -> None:
            reply = provider.listen(message.subject.split(".")[3], message.data)
            if reply is not None:
                await message.respond(reply)

        async def say(kind: str, body: wire.WireModel) -> bytes:
            subject = f"tallystick.backend.{provider.id}.{kind}"
            reply = await client.request(subject, body.model_dump_json().encode(), timeout=5)
            data: bytes = reply.data
            return data

        await client.subscribe(f"tallystick.provider.{provider.id}.>", cb=hear)
        await client.flush(timeout=5)
        await client.flush(timeout=5)  # the first PING goes ahead of the subscription
        announced = wire.parse(AnnouncementReply, await say("announce", provider.announcement()))
        assert announced.problem is None
        await asyncio.wait_for(provider.offered.wait(), 10)
        beat = Heartbeat(leases=(LeaseBeat(task_id=task, fence=1, stage="running"),))
        answers = wire.parse(HeartbeatReply, await say("heartbeat", beat))
        assert answers.leases[0].verdict == "renewed"
        await say("finished", provider.finished(provider.offers[task]))
        await market.accept(task)
        await _until(lambda: "acceptance" in provider.heard)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert (await market.work(task)).state == "finished"


async def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    server = _server(tmp_path)
    bus, asker = (
        NatsBus(server.url, KEYS.backend_seed, name, reconnect_seconds=0.05) for name in "ab"
    )

    async def hear(subject: str, payload: bytes) -> bytes | None:
        return payload + b" heard"

    with server.runs():
        await bus.connect(asyncio.Event())
        await asker.connect(asyncio.Event())
        await bus.serve("tallystick.backend.>", "backend", hear)
        assert await asker.request("tallystick.backend.x.y", b"1", 5) == b"1 heard"
    await _until(lambda: not bus.connected and not asker.connected)
    with pytest.raises(BusClosed):
        await asker.request("tallystick.backend.x.y", b"2", 1)
    with server.runs():
        answer = b""
        async with asyncio.timeout(10):
            while not answer:
                # Connected again comes a moment before subscribed again.
                with contextlib.suppress(NoListener, NoAnswer, BusClosed):
                    answer = await asker.request("tallystick.backend.x.y", b"3", 1)
                await asyncio.sleep(0.01)
        assert answer == b"3 heard"
        await bus.close()
        await asker.close()


async def test_connecting_gives_up_when_told_to_stop() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bus = NatsBus(f"nats://127.0.0.1:{taken.getsockname()[1]}", KEYS.backend_seed, "backend")
        stop = asyncio.Event()
        connecting = asyncio.create_task(bus.connect(stop))
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.wait_for(connecting, 5)
        assert not bus.connected


# --- tokens and keys --------------------------------------------------------------------------


class _Silent:
    """A callout without a server, for what the server never sends."""

    @staticmethod
    def callout(market: Market) -> AuthCallout:
        return AuthCallout(market.database, market.bus, KEYS, DOMAIN, market.settings, market.clock)


async def test_answers_nobody_but_the_server(market: Market) -> None:
    """A forged request would be answered with a token signed by us."""
    callout = _Silent.callout(market)
    provider = await market.provider()
    said = {
        "aud": "nats-authorization-request",
        "nats": {
            "server_id": {"id": "N" + "A" * 55},
            "user_nkey": KEYS.backend,
            "connect_opts": {"auth_token": proof(market, provider)},
        },
    }
    forged = jwt.encode(said, KEYS.backend_seed)
    for payload in (forged.encode(), forged.encode()[:-4], b"", b"a.b.c", b"\xff", b"x" * 70_000):
        assert await callout.handle("$SYS.REQ.USER.AUTH", payload) is None


def test_a_token_says_what_was_signed() -> None:
    token = jwt.encode({"sub": "x", "nats": {"type": "user"}}, KEYS.issuer_seed)
    claims = jwt.decode(token.encode())
    assert (claims["iss"], claims["sub"]) == (KEYS.issuer, "x")
    header, content, signature = token.split(".")
    _, other, other_signature = jwt.encode({"sub": "y"}, KEYS.issuer_seed).split(".")
    for wrong in (f"{header}.{other}.{signature}", f"{header}.{content}.{other_signature}"):
        with pytest.raises(LoginRefused):
            jwt.decode(wrong.encode())


def test_one_seed_gives_the_same_keys_and_shows_none() -> None:
    again = BusKeys.from_issuer_seed(KEYS.issuer_seed)
    assert again == KEYS
    assert (KEYS.issuer[0], KEYS.backend[0], KEYS.callout[0]) == ("A", "U", "U")
    shown = nats_config.render(KEYS) + repr(KEYS)
    for seed in (KEYS.issuer_seed, KEYS.backend_seed, KEYS.callout_seed):
        assert seed not in shown


@pytest.mark.parametrize(
    "seed", ["", "SA", "x" * 58, KEYS.backend_seed], ids=["empty", "cut", "noise", "a user's"]
)
def test_a_seed_that_is_no_accounts_is_refused_without_showing_it(seed: str) -> None:
    with pytest.raises(BusError) as refusal:
        BusKeys.from_issuer_seed(seed)
    assert not seed or seed not in str(refusal.value).replace("SA...", "")
