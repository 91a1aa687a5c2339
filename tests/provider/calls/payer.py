"""A gateway's side of the bus, for tests: publishes apps, funds channels, asks, checks, pays."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nats
from nats.aio.msg import Msg

from tallystick.protocol import messages, wire
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest, image_digest
from tallystick.protocol.apps import AppHistory, app_id, history
from tallystick.protocol.call_bodies import (
    AppBody,
    AppReplyBody,
    CallAnswerBody,
    CallRefusalBody,
    CancelBody,
    LoadBody,
)
from tallystick.protocol.call_frames import PIECE, REFUSAL, REQUEST, pack, unpack
from tallystick.protocol.calls import (
    CallAnswer,
    CallId,
    CallLimits,
    CallRequest,
    result_digest,
)
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.contracts import Escrow, Registry
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import Channel
from tallystick.protocol.paying import PayingChannel
from tallystick.protocol.pricing import Price
from tallystick.protocol.serving import Ask
from tallystick.protocol.types import AppId, to_digest
from tallystick.protocol.wire import Ack, parse
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    deposit,
    emitted_apps,
    fund,
    person,
    send,
)

SESSION = person("session key")
PRICE = Price(flat=0, fee_per_call=10, rate_per_gpu_second=366)
NO_WEB3: Any = None
ANSWER_S = 60
JSON = "application/json"


@dataclass(slots=True)
class Reply:
    """All frames of one answer."""

    answer: CallAnswerBody | None = None
    refusal: CallRefusalBody | None = None
    content: bytes = b""
    pieces: list[bytes] = field(default_factory=list)

    @property
    def code(self) -> str:
        return "" if self.refusal is None else self.refusal.code


def publish(
    chain: LocalChain,
    deployment: Deployment,
    manifest: AppManifest,
    price: Price = PRICE,
) -> AppHistory:
    salt = to_digest(secrets.token_bytes(32))
    call = Registry(NO_WEB3, deployment.registry).publish(
        salt,
        image_digest(manifest.image),
        app_manifest_digest(manifest),
        "http://127.0.0.1:9/manifest",
        price,
    )
    receipt = send(chain, APP_OWNER, call)
    app = history(emitted_apps(chain, deployment, receipt))
    assert app.app_id == app_id(deployment.chain_id, deployment.registry, APP_OWNER.address, salt)
    return app


def open_channel(
    chain: LocalChain, deployment: Deployment, amount: int = TOKEN, salt: int | None = None
) -> Channel:
    """Funded by the consumer, signed for by the session key."""
    fund(chain, deployment, CONSUMER, amount)
    deposit(chain, deployment, CONSUMER, amount)
    channel = Channel(
        CONSUMER.address,
        SESSION.address,
        PROVIDER.address,
        secrets.randbits(90) if salt is None else salt,
    )
    send(chain, CONSUMER, Escrow(NO_WEB3, deployment.escrow).fund(channel, amount))
    return channel


class Payer:
    """One channel's paying end over one line."""

    def __init__(
        self,
        line: Any,
        deployment: Deployment,
        channel: Channel,
        deposited: int,
        app: AppHistory,
        manifest: AppManifest,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        credit_calls: int = 1,
    ) -> None:
        self.line = line
        self.domain = deployment.domain
        self.channel = channel
        self.app = app
        self.manifest = manifest
        self.limits = CallLimits.of(manifest)
        self.now_ms = now_ms
        self.end = PayingChannel.opened(
            self.domain,
            channel,
            ChannelState(deposited, 0, 0),
            now_s=now_ms() // 1000,
            credit_calls=credit_calls,
        ).channel
        self.sign = partial(messages.sign, self.domain, private_key=SESSION.key)

    def subject(self, verb: str) -> str:
        return f"tallystick.provider.{PROVIDER.address.lower()}.{verb}"

    async def bring(self) -> AppReplyBody:
        body = AppBody(
            app_id=self.app.app_id,
            version=1,
            manifest=canonical_json(self.manifest).decode(),
        )
        reply = await self.line.request(
            self.subject("app"), body.model_dump_json().encode(), timeout=ANSWER_S
        )
        return parse(AppReplyBody, reply.data)

    def request(self, content: bytes, **changes: Any) -> CallRequest:
        price = self.app.price_at(self.app.versions[0].prices[-1].from_s, version=1)
        values: dict[str, Any] = {
            "call_id": CallId(secrets.token_hex(12)),
            "app_id": AppId(self.app.app_id),
            "version": 1,
            "price": price,
            "max_seconds": self.manifest.timeout_s,
            "input": digest_of(content),
        }
        return CallRequest(**{**values, **changes})

    def begin(self, content: bytes, **changes: Any) -> Ask:
        step = self.end.ask(self.request(content, **changes), self.limits, now_ms=self.now_ms())
        self.end = step.channel
        assert isinstance(step.reply, Ask)
        return step.reply

    async def send(
        self, ask: Ask, content: bytes, *, stream: bool = False, media_type: str = JSON
    ) -> Reply:
        """The raw exchange; nothing of it is believed yet."""
        body = ask.to_body(self.channel).model_copy(
            update={"stream": stream, "media_type": media_type}
        )
        inbox = self.line.new_inbox()
        heard = await self.line.subscribe(inbox)
        try:
            data = pack(REQUEST, body, content)
            await self.line.publish(self.subject("call"), data, reply=inbox)
            reply = Reply()
            while True:
                message = await heard.next_msg(ANSWER_S)
                frame = unpack(message.data)
                if frame.kind == PIECE:
                    reply.pieces.append(frame.content)
                    continue
                if frame.kind == REFUSAL:
                    reply.refusal = parse(CallRefusalBody, frame.body)
                else:
                    reply.answer = parse(CallAnswerBody, frame.body)
                    reply.content = b"".join(reply.pieces) + frame.content
                return reply
        finally:
            await heard.unsubscribe()

    def take(self, reply: Reply) -> SignedVoucher:
        """Checks the receipt as a gateway must, and signs the voucher."""
        assert reply.answer is not None, reply.refusal
        step = self.end.take(
            CallAnswer.from_body(reply.answer),
            result=result_digest(reply.content),
            limits=self.limits,
            app=self.app,
            operator_keys={OPERATOR.address},
            now_ms=self.now_ms(),
            sign=self.sign,
        )
        self.end = step.channel
        assert self.end.voucher is not None
        return self.end.voucher

    async def pay(self, voucher: SignedVoucher) -> Ack | CallRefusalBody:
        data = voucher.to_body().model_dump_json().encode()
        reply = await self._ask("voucher", data)
        if b'"code"' in reply.data:
            return parse(CallRefusalBody, reply.data)
        return parse(Ack, reply.data)

    async def call(self, content: bytes, *, stream: bool = False, media_type: str = JSON) -> Reply:
        """A whole round: asked, checked, paid for. A refused one is given up."""
        ask = self.begin(content)
        reply = await self.send(ask, content, stream=stream, media_type=media_type)
        if reply.refusal is not None:
            self.end = self.end.give_up(ask.number).channel
            return reply
        paid = await self.pay(self.take(reply))
        assert isinstance(paid, Ack), paid
        assert paid.ok
        return reply

    async def cancel(self, ask: Ask) -> Ack:
        body = CancelBody(channel=self.channel.to_body(), number=ask.number)
        data = body.model_dump_json().encode()
        return parse(Ack, (await self._ask("cancel", data)).data)

    async def load(self) -> LoadBody:
        return parse(LoadBody, (await self._ask("load", b"{}")).data)

    async def _ask(self, verb: str, data: bytes) -> Msg:
        return await self.line.request(self.subject(verb), data, timeout=ANSWER_S)


HANDLERS = """
import asyncio, os, sys, time
from pathlib import Path
from tallystick.app import Answer, InputRefused, handler


@handler
async def act(do: str = "echo", what: str = "", seconds: float = 0, size: int = 0):
    if do == "echo":
        return {"echo": what}
    if do == "pid":
        return {"pid": os.getpid()}
    if do == "sleep":
        await asyncio.sleep(seconds)
        return {"slept": seconds}
    if do == "block":
        await asyncio.to_thread(time.sleep, seconds)
        return {"blocked": seconds}
    if do == "big":
        return Answer(b"x" * size, "application/octet-stream")
    if do == "fail":
        raise RuntimeError("a secret of the handler")
    if do == "refuse":
        raise InputRefused("not this one")
    if do == "die":
        os._exit(3)
    if do in ("stream", "broken stream"):
        async def pieces():
            for number in range(3):
                yield {"piece": number}
                await asyncio.sleep(0.02)
            if do == "broken stream":
                raise RuntimeError("in the middle")
        return pieces()
"""


def write_app(folder: Path, name: str = "acts", **manifest: Any) -> AppManifest:
    """A project for the development runtime, in the folder where the provider looks."""
    values: dict[str, Any] = {
        "name": name,
        "image": "process",
        "handler": {"kind": "function", "entry": "handler:act"},
        "resources": {"cpu_milli": 100, "memory_mib": 1024, "disk_mib": 16},
        "concurrency": 1,
        "timeout_s": 20,
        "ready_timeout_s": 60,
        "scaling": {"max_workers": 2, "cooldown_s": 600},
    }
    made = AppManifest.model_validate({**values, **manifest})
    project = folder / name
    project.mkdir(parents=True, exist_ok=True)
    (project / "handler.py").write_text(HANDLERS)
    lines = [
        f'name = "{name}"',
        f"concurrency = {made.concurrency}",
        f"timeout_s = {made.timeout_s}",
        f"max_request_bytes = {made.max_request_bytes}",
        f"max_response_bytes = {made.max_response_bytes}",
        "[handler]",
        'kind = "function"',
        'entry = "handler:act"',
    ]
    (project / "tallystick.toml").write_text("\n".join(lines) + "\n")
    return made


async def _answer(told: bytes, message: Any) -> None:
    await message.respond(told)


@contextlib.asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Any]:
    """A backend that hears the agent out, has no work for it, and lets one ask it."""
    line = await nats.connect(url)
    me = PROVIDER.address.lower()
    for verb, told in (
        ("announce", wire.AnnouncementReply(heartbeat_seconds=1, lease_seconds=30)),
        ("heartbeat", wire.HeartbeatReply(leases=())),
    ):
        answer = partial(_answer, told.model_dump_json().encode())
        await line.subscribe(f"tallystick.backend.{me}.{verb}", cb=answer)
    await line.flush()
    await line.flush()  # the first PING goes ahead of the subscriptions
    try:
        yield line
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(line.close(), 5)
