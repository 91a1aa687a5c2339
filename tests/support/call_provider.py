"""A provider on the bus for tests of the gateway: the real serving end of each channel, a real key,
real frames, and instead of containers a Python function that answers. What goes wrong with it is
said in its fields.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from tallystick.protocol import call_frames, call_journal, messages
from tallystick.protocol.app_manifest import AppManifest, read_app_manifest
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_bodies import (
    AppBody,
    AppLoadBody,
    AppReplyBody,
    CallRefusalBody,
    CallRequestBody,
    CancelBody,
    LoadBody,
    RefusalCode,
    is_warm,
)
from tallystick.protocol.call_journal import Served
from tallystick.protocol.calls import CallLimits, CallRun, result_digest
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel, Domain, channel_id
from tallystick.protocol.serving import Ask, Go, Refusal, ServingChannel
from tallystick.protocol.types import Digest
from tallystick.protocol.wire import Ack, SignedVoucherBody, parse
from tests.support.anvil import OPERATOR, PROVIDER, Person

Handler = Callable[[bytes], Awaitable[bytes]]


async def echo(content: bytes) -> bytes:
    return content


async def ready(content: bytes) -> bytes:
    return b'{"status":"ready"}'


@dataclass
class TestProvider:
    __test__ = False

    url: str
    domain: Domain
    app: AppHistory
    """As it reads the registry; may differ from what the gateway knows."""
    chain: Callable[[Channel], Awaitable[ChannelState]]
    manifest_digest: Digest
    person: Person = PROVIDER
    operator: Person = OPERATOR
    credit_calls: int = 1
    handler: Handler = echo
    gpu_ms: int = 0
    serves: bool = True
    pieces: list[bytes] = field(default_factory=list)
    """What a stream consists of."""

    refuse: list[tuple[RefusalCode, str]] = field(default_factory=list)
    """Said instead of beginning, one for each request."""
    lose_answers: int = 0
    """So many answers are signed and never arrive."""
    lose_vouchers: bool = False
    silent: bool = False
    """Hears nothing, like a process that was killed."""
    forge: Callable[[bytes], bytes] | None = None
    """Changes an answer's content after it was signed for."""

    asked: Counter[str] = field(default_factory=Counter)
    ran: list[str] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)
    """Warm calls, which no handler heard of."""
    canceled: list[int] = field(default_factory=list)
    vouchers: dict[str, list[SignedVoucher]] = field(default_factory=dict)
    """Every good one that came, by channel."""
    shown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = Client()
        self._channels: dict[str, ServingChannel] = {}
        self._journals: dict[str, list[bytes]] = {}
        self._results: dict[tuple[str, int], bytes] = {}
        self._manifest: AppManifest | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._since_s = int(time.time()) - 60
        self._sign = partial(messages.sign, self.domain, private_key=self.operator.key)

    @property
    def name(self) -> str:
        return self.person.address.lower()

    async def start(self) -> None:
        # Named by the URL's user: the server's own log-in is tested elsewhere.
        await self._client.connect(self.url, max_reconnect_attempts=2)
        await self._client.subscribe(f"tallystick.provider.{self.name}.*", cb=self._receive)
        await self._client.flush()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def restart(self) -> None:
        """What ran is lost; what was journalled is read again."""
        for task in tuple(self._tasks):
            task.cancel()
        self._channels = {}

    def end_of(self, channel: str) -> ServingChannel:
        return self._channels[channel]

    async def _receive(self, message: Msg) -> None:
        if self.silent:
            return
        verb = message.subject.rpartition(".")[2]
        self.asked[verb] += 1
        if verb == "call":
            # In the order of arrival up to the decision; the runs overlap.
            await self._call(message)
            return
        reply = await getattr(self, f"_on_{verb}")(message.data)
        if reply is not None and message.reply:
            await message.respond(reply.model_dump_json().encode())

    async def _on_app(self, data: bytes) -> AppReplyBody:
        body = parse(AppBody, data)
        self.shown.append(body.app_id)
        if not self.serves:
            return AppReplyBody(accepted=False, reason="not here")
        self._manifest = read_app_manifest(body.manifest.encode(), expected=self.manifest_digest)
        return AppReplyBody(accepted=True)

    async def _on_load(self, data: bytes) -> LoadBody:
        apps: tuple[AppLoadBody, ...] = ()
        if self._manifest is not None:
            apps = (
                AppLoadBody(
                    app_id=self.app.app_id,
                    version=1,
                    state="warm",
                    workers=1,
                    max_workers=4,
                    places=8,
                    running=len(self._tasks),
                    queued=0,
                    delay_ms=0,
                    cold_start_ms=0,
                ),
            )
        return LoadBody(at_ms=_now_ms(), credit_calls=self.credit_calls, apps=apps)

    async def _on_voucher(self, data: bytes) -> Ack | CallRefusalBody | None:
        if self.lose_vouchers:
            return None
        signed = SignedVoucher.from_body(parse(SignedVoucherBody, data))
        channel = messages.channel_of(self.domain, signed.voucher, signed.signature)
        name = channel_id(channel)
        if name not in self._channels:
            return Ack(ok=False, reason="unknown channel")
        step = self._channels[name].accept_voucher(signed)
        self._keep(name, step)
        if isinstance(step.reply, Refusal):
            return step.reply.to_body()
        self._note(name, signed)
        return Ack()

    async def _on_cancel(self, data: bytes) -> Ack:
        self.canceled.append(parse(CancelBody, data).number)
        return Ack()

    async def _call(self, message: Msg) -> None:
        frame = call_frames.unpack(message.data)
        body = parse(CallRequestBody, frame.body)
        ask = Ask.from_body(body)
        if self.refuse:
            code, detail = self.refuse.pop(0)
            await self._refuse(message, Refusal(code, detail, ask.number))
            return
        if self._manifest is None:
            await self._refuse(message, Refusal("unknown_app", "never shown", ask.number))
            return
        assert digest_of(frame.content) == body.call.input or not frame.content
        channel = Channel.from_body(body.channel)
        name = channel_id(channel)
        end = await self._end(channel)
        if ask.voucher is not None:
            self._note(name, ask.voucher)
        step = end.may_serve(ask, CallLimits.of(self._manifest), self.app, now_ms=_now_ms())
        self._keep(name, step)
        match step.reply:
            case Refusal() as refusal:
                await self._refuse(message, refusal)
            case Served() as served:
                await self._answer(message, name, served)
            case Go() as go:
                warm = is_warm(body.media_type, frame.content)
                (self.warmed if warm else self.ran).append(ask.request.call_id)
                handler = ready if warm else self.handler
                task = asyncio.create_task(
                    self._run(message, name, go.running.number, frame.content, body.stream, handler)
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run(
        self,
        message: Msg,
        name: str,
        number: int,
        content: bytes,
        stream: bool,
        handler: Handler,
    ) -> None:
        started_ms = _now_ms()
        try:
            if stream and self.pieces:
                for piece in self.pieces:
                    await message.respond(call_frames.pack(call_frames.PIECE, None, piece))
                result = b"".join(self.pieces)
            else:
                result = await handler(content)
        except HandlerError as failure:
            self._channels[name] = self._channels[name].failed(number)
            await self._refuse(message, Refusal(failure.code, str(failure), number))
            return
        ended_ms = max(_now_ms(), started_ms + self.gpu_ms)
        run = CallRun(started_ms, ended_ms, self.gpu_ms, result_digest(result))
        step = self._channels[name].serve(number, run, self.app, self._sign)
        self._keep(name, step)
        served = step.reply
        assert isinstance(served, Served)
        self._results[(name, served.receipt.seq)] = result
        await self._answer(message, name, served, streamed=stream and bool(self.pieces))

    async def _answer(
        self, message: Msg, name: str, served: Served, *, streamed: bool = False
    ) -> None:
        if self.lose_answers:
            self.lose_answers -= 1
            return
        content = self._results[(name, served.receipt.seq)]
        body = served.answer.to_body(
            number=served.number,
            call_id=served.request.call_id,
            balance=self._channels[name].balance,
        )
        if self.forge is not None:
            content = self.forge(content)
        data = call_frames.pack(call_frames.ANSWER, body, b"" if streamed else content)
        if not self._client.is_closed:
            await message.respond(data)

    async def _refuse(self, message: Msg, refusal: Refusal) -> None:
        await message.respond(call_frames.pack(call_frames.REFUSAL, refusal.to_body()))

    async def _end(self, channel: Channel) -> ServingChannel:
        name = channel_id(channel)
        chain = await self.chain(channel)
        if name not in self._channels:
            lines = self._journals.get(name)
            if lines:
                records: list[Any] = [call_journal.from_json(line) for line in lines]
                step = ServingChannel.rebuilt(
                    self.domain, chain, records, credit_calls=self.credit_calls
                )
            else:
                step = ServingChannel.opened(
                    self.domain,
                    channel,
                    chain,
                    funded_at_s=self._since_s + 1,
                    journal_since_s=self._since_s,
                    now_s=int(time.time()),
                    credit_calls=self.credit_calls,
                )
            self._keep(name, step)
        self._keep(name, self._channels[name].observe(chain))
        return self._channels[name]

    def _keep(self, name: str, step: Any) -> None:
        self._channels[name] = step.channel
        lines = [call_journal.to_json(record) for record in step.records]
        self._journals.setdefault(name, []).extend(lines)

    def _note(self, name: str, signed: SignedVoucher) -> None:
        self.vouchers.setdefault(name, []).append(signed)


class HandlerError(Exception):
    def __init__(self, code: RefusalCode, detail: str = "") -> None:
        super().__init__(detail)
        self.code: RefusalCode = code


def json_of(content: bytes) -> Any:
    return json.loads(content)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
