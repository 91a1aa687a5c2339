"""Calls in the market in memory: apps that are Python functions, receipts and vouchers that are
really signed, one channel with one provider.

    app = market.calls.publish(lambda input: {"hello": input["name"]}, price=Price(0, 10, 0))
"""

from __future__ import annotations

import inspect
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from tallystick.protocol import messages, signatures
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory, app_salt
from tallystick.protocol.call_bodies import CallBody, SignedReceiptBody
from tallystick.protocol.call_views import (
    BALANCE_HEADER,
    CALL_ID_HEADER,
    CHARGE_HEADER,
    MAX_CHARGE_HEADER,
    SIGNER_HEADER,
    TOTAL_HEADER,
    AllowanceList,
    AllowanceView,
    CallPage,
    CallReceiptView,
    CallView,
    ManifestView,
    SessionKeyView,
    SignedAllowanceBody,
    UnsignedView,
)
from tallystick.protocol.calls import CallId, CallRequest, CallRun, Link, next_receipt
from tallystick.protocol.channels import ChannelState, SignedReceipt
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import Channel, ChannelAllowance
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, Digest, to_address
from tallystick.protocol.wire import (
    AppBody,
    AppPage,
    AppPriceBody,
    AppVersionBody,
    ChannelPage,
    ChannelView,
    SignedVoucherBody,
)

if TYPE_CHECKING:
    from tallystick.testing.market import InMemoryMarket

JSON = "application/json"
PROBLEM = "application/problem+json"
SALT = 1


class CallRefused(Exception):
    def __init__(self, status: int, code: str, detail: str, next_step: str = "") -> None:
        super().__init__(detail)
        self.status, self.code, self.next_step = status, code, next_step


@dataclass(frozen=True)
class _App:
    id: AppId
    publisher: Address
    handler: Callable[[Any], Any]
    price: Price
    manifest: AppManifest


@dataclass
class _Call:
    id: str
    account: str
    app: _App
    input: bytes
    asked_at_ms: int
    state: str = "queued"
    looked: int = 0
    ended_at_ms: int | None = None
    content: bytes = b""
    channel: Channel | None = None
    """One whose key the consumer keeps; None: the market's own."""
    kept: bool = False
    charge: int = 0
    total: int = 0
    gpu_ms: int = 0
    request: CallBody | None = None
    signed: SignedReceiptBody | None = None
    before: SignedReceiptBody | None = None
    voucher: SignedVoucherBody | None = None
    problem: dict[str, Any] | None = None


@dataclass
class _Book:
    """The end of one channel's chain of receipts."""

    link: Link = field(default_factory=Link)
    last: SignedReceiptBody | None = None
    voucher: SignedVoucherBody | None = None
    unsigned: _Call | None = None
    """The consumer has not signed for it."""


@dataclass
class InMemoryCalls:
    market: InMemoryMarket
    gpu_ms: int = 0
    """What every run uses of one GPU."""
    session_key: str = field(default_factory=lambda: "0x" + secrets.token_hex(32))
    made: dict[str, _Call] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    """Handed in, by digest."""
    _apps: dict[str, _App] = field(default_factory=dict)
    _allowances: list[AllowanceView] = field(default_factory=list)
    _books: dict[str, _Book] = field(default_factory=dict)

    def publish(
        self,
        handler: Callable[[Any], Any],
        *,
        price: Price | None = None,
        name: str = "in-memory",
        publisher: Address = ZERO_ADDRESS,
    ) -> str:
        """An app that answers with what the function returns; what it yields is streamed."""
        sheet = price or Price(fee_per_call=10)
        manifest = AppManifest.model_validate(
            {
                "name": name,
                "image": "process",
                "handler": {"kind": "function", "entry": "app:handle"},
                "concurrency": 64,
                "resources": {
                    "gpu_class": "gpu1" if self.gpu_ms else "",
                    "gpus": 1 if self.gpu_ms else 0,
                    "gpu_memory_mib": 0,
                    "cpu_milli": 1000,
                    "memory_mib": 512,
                    "disk_mib": 512,
                },
            }
        )
        app_id = AppId(digest_of(b"in-memory app %d" % len(self._apps)))
        app = self._apps[app_id] = _App(app_id, publisher, handler, sheet, manifest)
        digest = app_manifest_digest(manifest)
        version = VersionHistory(digest, digest, "urn:in-memory", (PricePoint(0, sheet),))
        self.market.chain.apps[app_id] = AppHistory(app_id, publisher, ZERO_ADDRESS, 0, (version,))
        return app.id

    @property
    def channel(self) -> Channel:
        return Channel(
            signatures.address_of(self.market.consumer_key),
            signatures.address_of(self.session_key),
            self.market.providers[0].address,
            SALT,
        )

    def redeem(self) -> None:
        """The provider turns its last voucher into credit."""
        place = messages.channel_id(self.channel)
        state = self.market.chain.channels[place]
        claimed = min(state.deposited, self._book(self.channel).link.total)
        self.market.chain.channels[place] = ChannelState(state.deposited, claimed, state.close_at)

    def routes(self) -> tuple[tuple[str, str, Callable[..., Any]], ...]:
        one = r"/v1/calls/(?P<id>[\w-]{8,64})"
        channel = r"/v1/channels/(?P<id>0x[0-9a-f]{64})"
        return (
            ("GET", "/v1/apps", self._list_apps),
            ("POST", r"/v1/apps/(?P<id>0x[0-9a-f]{64})/calls", self._call),
            ("GET", "/v1/calls", self._list),
            ("GET", one, self._show),
            ("GET", one + "/result", self._result),
            ("GET", one + "/receipt", self._receipt),
            ("DELETE", one, self._cancel),
            ("GET", "/v1/channels", self._list_channels),
            ("GET", channel, self._show_channel),
            ("GET", channel + "/unsigned", self._unsigned),
            ("POST", channel + "/vouchers", self._take_voucher),
            ("GET", "/v1/session-key", self._session_key),
            ("POST", "/v1/allowances", self._allow),
            ("GET", "/v1/allowances", lambda call, match: self._allowed(call)),
            ("PUT", r"/v1/manifests/(?P<id>0x[0-9a-f]{64})", self._manifest),
        )

    def _list_apps(self, call: Any, match: re.Match[str]) -> AppPage:
        name, publisher = call.query.get("name"), call.query.get("publisher")
        return AppPage(
            items=tuple(
                self._app_body(app)
                for app in self._apps.values()
                if name in (None, app.manifest.name)
                and (publisher is None or publisher.lower() == app.publisher.lower())
            )
        )

    def _app_body(self, app: _App) -> AppBody:
        digest, price = app_manifest_digest(app.manifest), app.price
        return AppBody(
            id=app.id,
            publisher=app.publisher,
            salt=app_salt(app.manifest.name),
            royalty_to=ZERO_ADDRESS,
            royalty_bps=0,
            published_at=0,
            versions=1,
            latest=AppVersionBody(
                version=1,
                image_digest=digest,
                manifest_digest=digest,
                manifest_uri="urn:in-memory",
                published_at=0,
            ),
            price=AppPriceBody(
                flat=price.flat,
                fee_per_call=price.fee_per_call,
                rate_per_gpu_second=price.rate_per_gpu_second,
            ),
            discount_bps=0,
            retired_at=None,
            permanent=False,
        )

    # --- calling -------------------------------------------------------------------------------

    def _call(self, call: Any, match: re.Match[str]) -> httpx.Response:
        account, asked = self._caller(call), call.request.headers
        app = self._apps.get(match["id"])
        if app is None:
            raise CallRefused(404, "unknown_app", "No such app was published.")
        channel = self._own_channel(app, asked.get(SIGNER_HEADER), account)
        self._require_funds(app, asked.get(MAX_CHARGE_HEADER), channel)
        made = _Call(
            id="c_" + secrets.token_hex(8),
            account=account,
            app=app,
            input=call.body,
            asked_at_ms=self._now_ms(),
            channel=channel,
            kept=channel is not None,
        )
        self.made[made.id] = made
        if "respond-async" in asked.get("Prefer", ""):
            made.kept = True
            location = {
                "Location": f"/v1/calls/{made.id}",
                CALL_ID_HEADER: made.id,
                "Content-Type": JSON,
            }
            body = self._view(made).model_dump_json()
            return httpx.Response(202, headers=location, content=body.encode())
        return self._answer(made, as_events="text/event-stream" in asked.get("Accept", ""))

    def _answer(self, made: _Call, *, as_events: bool) -> httpx.Response:
        events: list[bytes] = []
        kind = JSON
        try:
            output = made.app.handler(json.loads(made.input))
            if inspect.isgenerator(output):
                kind = "text/event-stream"
                pieces = list(output)
                events = [_event("output", piece) for piece in pieces]
                if not as_events:
                    kind, output = JSON, pieces
        except Exception as failure:
            made.state, made.ended_at_ms = "failed", self._now_ms()
            made.problem = {
                "type": "urn:tallystick:problem:handler_failed",
                "title": "The app failed",
                "status": 502,
                "detail": f"The handler raised {type(failure).__name__}: {failure}.",
                "code": "handler_failed",
                "next_step": "Correct the input, or tell the app's publisher.",
            }
            content = json.dumps(made.problem).encode()
            return httpx.Response(502, headers={"Content-Type": PROBLEM}, content=content)
        if kind == JSON:
            made.content = json.dumps(output, separators=(",", ":")).encode()
        else:
            made.content = b"".join([*events, _event("completed", {"pieces": len(events)})])
        self._pay(made)
        headers = {
            "Content-Type": kind,
            CALL_ID_HEADER: made.id,
            CHARGE_HEADER: str(made.charge),
            TOTAL_HEADER: str(made.total),
            BALANCE_HEADER: str(self._state(made.channel or self.channel).deposited - made.total),
            "Server-Timing": "queue;dur=1, cold;dur=0, run;dur=2.5, gateway;dur=0.5",
        }
        return httpx.Response(200, headers=headers, content=made.content)

    def _pay(self, made: _Call) -> None:
        """The provider's receipt, and the session key's voucher for it, if it is here."""
        channel, now_ms = made.channel or self.channel, self._now_ms()
        book = self._book(channel)
        request = CallRequest(
            CallId(made.id), made.app.id, 1, made.app.price, 60, digest_of(made.input)
        )
        run = CallRun(now_ms, now_ms + self.gpu_ms, self.gpu_ms, digest_of(made.content))
        receipt = next_receipt(channel, book.link, request, run)
        key = self.market.providers[0].operator_key
        sign = partial(messages.sign, self.market.domain)
        signed = SignedReceipt(receipt, sign(receipt, key))
        digest = messages.digest(self.market.domain, receipt)
        made.charge, made.total = receipt.total - book.link.total, receipt.total
        made.request, made.gpu_ms = request.to_body(), self.gpu_ms
        made.before, made.signed = book.last, signed.to_body()
        book.link, book.last = Link(receipt.seq, digest, receipt.total), made.signed
        if made.channel is None:
            voucher = channel.voucher(receipt.total, digest)
            made.voucher = SignedVoucherBody(
                voucher=voucher.to_body(), signature=sign(voucher, self.session_key)
            )
        else:
            book.unsigned = made
        made.state, made.ended_at_ms = "completed", now_ms + self.gpu_ms

    def _require_funds(self, app: _App, most: str | None, own: Channel | None) -> None:
        ceiling = max_charge_up(app.price, 1 if self.gpu_ms else 0, 60)
        if most is not None and int(most) < ceiling:
            raise CallRefused(
                422, "max_charge_too_low", f"It may cost {ceiling}, and {most} is set."
            )
        if own is not None:
            if self._state(own).deposited - self._book(own).link.total < ceiling:
                raise CallRefused(402, "paused_funds", "State paused_funds: top the channel up.")
            return
        if not self._allowances:
            raise CallRefused(
                402,
                "no_allowance",
                "No allowance lets the session key pay for this call.",
                "Sign a ChannelAllowance for GET /v1/session-key and POST /v1/allowances.",
            )
        chain, state = self.market.chain, self._state(self.channel)
        if state.deposited - self._book(self.channel).link.total >= ceiling:
            return
        held = chain.held(self.channel.payer)
        amount = min(self._allowances[-1].allowance.cap - state.deposited, held.available)
        if amount <= 0:
            raise CallRefused(402, "paused_funds", "State paused_funds: the allowance is used up.")
        held.available -= amount
        place = messages.channel_id(self.channel)
        chain.channels[place] = ChannelState(state.deposited + amount, state.claimed, 0)

    # --- afterwards ----------------------------------------------------------------------------

    def _list(self, call: Any, match: re.Match[str]) -> CallPage:
        account = self._caller(call)
        mine = [made for made in reversed(self.made.values()) if made.account == account]
        wanted = call.query.get("state")
        views = [self._view(made) for made in mine if wanted in (None, made.state)]
        return CallPage(items=tuple(views[: int(call.query.get("limit", "50"))]))

    def _show(self, call: Any, match: re.Match[str]) -> CallView:
        """A call that waits is run after it was looked at twice."""
        made = self._mine(call, match)
        shown = self._view(made)
        made.looked += 1
        if made.state == "queued" and made.looked > 1:
            self._answer(made, as_events=False)
        return shown

    def _result(self, call: Any, match: re.Match[str]) -> httpx.Response:
        made = self._mine(call, match)
        if not made.kept or made.state != "completed":
            raise CallRefused(404, "result_not_there", "There is no result.")
        return httpx.Response(200, headers={"Content-Type": JSON}, content=made.content)

    def _cancel(self, call: Any, match: re.Match[str]) -> httpx.Response:
        made = self._mine(call, match)
        if made.state == "queued":
            made.state, made.ended_at_ms = "canceled", self._now_ms()
        return httpx.Response(204)

    def _receipt(self, call: Any, match: re.Match[str]) -> CallReceiptView:
        made = self._mine(call, match)
        if made.signed is None or made.request is None:
            raise CallRefused(404, "no_receipt", f"The call is {made.state} and has no receipt.")
        return CallReceiptView(
            call_id=made.id,
            chain_id=self.market.deployment.chain_id,
            escrow=self.market.deployment.escrow,
            request=made.request,
            channel=(made.channel or self.channel).to_body(),
            signed=made.signed,
            gpu_ids=(),
            usage=(),
            charge=made.charge,
            before=made.before,
            later=(),
            voucher=made.voucher,
            on_chain=None,
            app=None,
            manifest=canonical_json(made.app.manifest).decode(),
            operator_keys=(),
        )

    def _view(self, made: _Call) -> CallView:
        price = made.app.price
        return CallView.model_validate(
            {
                "call_id": made.id,
                "state": made.state,
                "app_id": made.app.id,
                "version": 1,
                "provider": (made.channel or self.channel).provider if made.signed else "",
                "attempts": 1,
                "asked_at_ms": made.asked_at_ms,
                "ended_at_ms": made.ended_at_ms,
                "queued_ms": 1,
                "cold_start_ms": 0,
                "run_ms": self.gpu_ms,
                "gpu_ms": made.gpu_ms,
                "price": AppPriceBody(
                    flat=price.flat,
                    fee_per_call=price.fee_per_call,
                    rate_per_gpu_second=price.rate_per_gpu_second,
                ),
                "charge": made.charge,
                "total": made.total,
                "channel_id": messages.channel_id(made.channel or self.channel)
                if made.signed
                else "",
                "seq": made.signed.receipt.seq if made.signed else None,
                "media_type": JSON if made.signed else "",
                "result_bytes": len(made.content),
                "result": f"/v1/calls/{made.id}/result" if made.kept and made.signed else None,
                "webhook_state": "",
                "problem": made.problem,
            }
        )

    # --- who pays ------------------------------------------------------------------------------

    def _session_key(self, call: Any, match: re.Match[str]) -> SessionKeyView:
        return SessionKeyView(
            account=to_address(self._caller(call)),
            signer=signatures.address_of(self.session_key),
            created_at_ms=0,
        )

    def _allow(self, call: Any, match: re.Match[str]) -> AllowanceView:
        account = self._caller(call)
        body = SignedAllowanceBody.model_validate_json(call.body)
        allowance = ChannelAllowance.from_body(body.allowance)
        signed_by = messages.recover(self.market.domain, allowance, body.signature)
        if not signed_by.lower() == allowance.payer.lower() == account.lower():
            raise CallRefused(422, "allowance_refused", "The payer did not sign it.")
        view = AllowanceView(
            digest=messages.digest(self.market.domain, allowance),
            allowance=body.allowance,
            spent=0,
            left=allowance.cap,
            revoked=False,
            expires_at=allowance.expires_at,
            created_at_ms=self._now_ms(),
        )
        self._allowances.append(view)
        return view

    def _allowed(self, call: Any) -> AllowanceList:
        self._caller(call)
        revoked = self.market.chain.revoked
        items = (
            view.model_copy(update={"revoked": view.digest in revoked})
            for view in reversed(self._allowances)
        )
        return AllowanceList(items=tuple(items))

    def _manifest(self, call: Any, match: re.Match[str]) -> ManifestView:
        digest = Digest(match["id"])
        if digest_of(call.body) != digest:
            raise CallRefused(422, "manifest_refused", "These bytes have another digest.")
        self.manifests[digest] = call.body
        return ManifestView(digest=digest, bytes=len(call.body))

    def _caller(self, call: Any) -> str:
        if call.caller is None:
            raise CallRefused(401, "not_logged_in", "Log in first.")
        return str(call.caller)

    def _mine(self, call: Any, match: re.Match[str]) -> _Call:
        account, made = self._caller(call), self.made.get(match["id"])
        if made is None or made.account != account:
            raise CallRefused(404, "unknown_call", f"There is no call {match['id']}.")
        return made

    # --- channels whose key the consumer keeps --------------------------------------------------

    def _own_channel(self, app: _App, signer: str | None, account: str) -> Channel | None:
        if signer is None:
            return None
        mine = [
            one
            for one in self.market.chain.funded.values()
            if (one.payer.lower(), one.signer) == (account.lower(), signer)
        ]
        if not mine:
            provider = self.market.providers[0].address
            raise CallRefused(
                402, "no_own_channel", "No channel of yours is open.", f"Open one with {provider}."
            )
        waiting = self._book(mine[-1]).unsigned
        if waiting is not None:
            raise CallRefused(409, "voucher_due", f"Sign the voucher for call {waiting.id} first.")
        return mine[-1]

    def _unsigned(self, call: Any, match: re.Match[str]) -> UnsignedView:
        channel, book = self._funded(call, match)
        if book.unsigned is None:
            return UnsignedView(channel=channel.to_body(), last=book.voucher)
        return UnsignedView(
            channel=channel.to_body(),
            call_id=book.unsigned.id,
            seq=book.link.seq,
            voucher=channel.voucher(book.link.total, book.link.digest).to_body(),
            last=book.voucher,
        )

    def _take_voucher(self, call: Any, match: re.Match[str]) -> SignedVoucherBody:
        channel, book = self._funded(call, match)
        body = SignedVoucherBody.model_validate_json(call.body)
        voucher = channel.voucher(book.link.total, book.link.digest)
        signer = messages.recover(self.market.domain, voucher, body.signature)
        if body.voucher != voucher.to_body() or signer != channel.signer:
            raise CallRefused(422, "voucher_refused", "It is not the voucher that is due.")
        book.voucher = body
        if book.unsigned is not None:
            book.unsigned.voucher, book.unsigned = body, None
        return body

    def _funded(self, call: Any, match: re.Match[str]) -> tuple[Channel, _Book]:
        account, channel = self._caller(call), self.market.chain.funded.get(match["id"])
        if channel is None or channel.payer.lower() != account.lower():
            raise CallRefused(404, "unknown_own_channel", "You pay no such channel.")
        return channel, self._book(channel)

    def _list_channels(self, call: Any, match: re.Match[str]) -> ChannelPage:
        payer = call.query.get("payer", "").lower()
        found = self.market.chain.funded.values()
        return ChannelPage(
            items=tuple(self._channel_view(c) for c in found if c.payer.lower() == payer)
        )

    def _show_channel(self, call: Any, match: re.Match[str]) -> ChannelView:
        channel = self.market.chain.funded.get(match["id"])
        if channel is None:
            raise CallRefused(404, "unknown_channel", "No money ever came into it.")
        return self._channel_view(channel)

    def _channel_view(self, channel: Channel) -> ChannelView:
        state = self._state(channel)
        return ChannelView(
            id=messages.channel_id(channel),
            channel=channel.to_body(),
            state="open",
            deposited=state.deposited,
            claimed=state.claimed,
            close_at=None,
            receipt=None,
            opened_at=0,
            redeemed_at=None,
            block=0,
        )

    def _book(self, channel: Channel) -> _Book:
        return self._books.setdefault(messages.channel_id(channel), _Book())

    def _state(self, channel: Channel) -> ChannelState:
        place = messages.channel_id(channel)
        return self.market.chain.channels.get(place, ChannelState(0, 0, 0))

    def _now_ms(self) -> int:
        return int(self.market.now() * 1000)


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
