"""Calls as the gateway writes them down, with receipts and vouchers that are really signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tallystick.protocol import messages
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest
from tallystick.protocol.call_bodies import CallAnswerBody
from tallystick.protocol.calls import (
    CallAnswer,
    CallId,
    CallRequest,
    CallRun,
    Link,
    next_receipt,
)
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import Channel
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, Digest, to_address
from tallystick_backend.store.tables import CallRow, ChannelRow, ManifestRow
from tests.backend.api.world import DEPLOYMENT, Consumer, World
from tests.support.anvil import OPERATOR, PROVIDER, STRANGER, Person, person

SESSION = person("session key")
DOMAIN = DEPLOYMENT.domain
APP = "0x" + "a9" * 32
PRICE = Price(flat=5, fee_per_call=10, rate_per_gpu_second=366)
SIGNERS = {PROVIDER.address: OPERATOR.key, STRANGER.address: STRANGER.key}
"""Who signs a provider's receipts."""


def manifest(**changes: Any) -> AppManifest:
    fields: dict[str, Any] = {
        "version": 1,
        "name": "echo",
        "concurrency": 4,
        "image": "registry.example/echo@sha256:" + "1a" * 32,
        "handler": {"kind": "function", "entry": "app:echo"},
        "resources": {
            "gpu_class": "gpu1",
            "gpus": 1,
            "gpu_memory_mib": 0,
            "cpu_milli": 1000,
            "memory_mib": 512,
            "disk_mib": 512,
        },
    }
    return AppManifest.model_validate(fields | changes)


@dataclass
class PaidChannel:
    """One channel of a payer, and how far its receipts have come."""

    payer: str
    provider: Person = PROVIDER
    salt: int = 7
    link: Link = field(default_factory=Link)
    voucher: SignedVoucher | None = None

    @property
    def channel(self) -> Channel:
        return Channel(to_address(self.payer), SESSION.address, self.provider.address, self.salt)

    @property
    def id(self) -> str:
        return messages.channel_id(self.channel)

    def row(self, *, deposited: int, claimed: int = 0, **changes: Any) -> ChannelRow:
        fields: dict[str, Any] = {
            "channel_id": self.id,
            "payer": self.payer.lower(),
            "signer": SESSION.address.lower(),
            "provider": self.provider.address.lower(),
            "salt": self.salt,
            "opened_at_s": 1_600_000_000,
            "deposited": deposited,
            "claimed": claimed,
        }
        return ChannelRow(**(fields | changes))

    def call(
        self,
        call_id: str,
        *,
        at_ms: int,
        price: Price = PRICE,
        gpu_ms: int = 10_000,
        app_id: str = APP,
        version: int = 1,
        result: bytes = b'"hello"',
        **changes: Any,
    ) -> CallRow:
        """A completed call on it, its receipt countersigned."""
        request = CallRequest(
            CallId(call_id), AppId(Digest(app_id)), version, price, 60, digest_of(b"{}")
        )
        elapsed_ms = max(gpu_ms, 1)
        run = CallRun(at_ms, at_ms + elapsed_ms, gpu_ms, digest_of(result))
        receipt = next_receipt(self.channel, self.link, request, run)
        key = SIGNERS[self.provider.address]
        signed = SignedReceipt(receipt, messages.sign(DOMAIN, receipt, key))
        digest = messages.digest(DOMAIN, receipt)
        charge = receipt.total - self.link.total
        self.link = Link(receipt.seq, digest, receipt.total)
        sign = partial(messages.sign, DOMAIN, private_key=SESSION.key)
        voucher = self.channel.voucher(receipt.total, digest)
        self.voucher = SignedVoucher(voucher, sign(voucher))
        answer: CallAnswerBody = CallAnswer(signed).to_body(
            number=receipt.seq, call_id=request.call_id, balance=0
        )
        fields: dict[str, Any] = {
            "call_id": call_id,
            "account": self.payer.lower(),
            "app_id": app_id,
            "version": version,
            "provider": self.provider.address.lower(),
            "gpu_class": "gpu1" if gpu_ms else "",
            "gpus": 1 if gpu_ms else 0,
            "channel_id": self.id,
            "state": "completed",
            "attempts": 1,
            "asked_at_ms": at_ms,
            "ended_at_ms": at_ms + elapsed_ms,
            "queued_ms": 3,
            "cold_start_ms": 2,
            "run_ms": elapsed_ms,
            "gpu_ms": gpu_ms,
            "flat": price.flat,
            "fee_per_call": price.fee_per_call,
            "rate_per_gpu_second": price.rate_per_gpu_second,
            "charge": charge,
            "seq": receipt.seq,
            "total": receipt.total,
            "request": request.to_body().model_dump(mode="json"),
            "answer": answer.model_dump(mode="json"),
            "voucher": self.voucher.to_body().model_dump(mode="json"),
            "media_type": "application/json",
            "result_bytes": len(result),
        }
        return CallRow(**(fields | changes))


def unpaid_call(account: str, call_id: str, *, at_ms: int, state: str = "failed") -> CallRow:
    return CallRow(
        call_id=call_id,
        account=account.lower(),
        app_id=APP,
        version=1,
        state=state,
        asked_at_ms=at_ms,
        queued_ms=0,
        cold_start_ms=0,
        run_ms=0,
        gpu_ms=0,
        result_bytes=0,
        request={},
        problem={
            "type": "urn:tallystick:problem:no_worker",
            "title": "No worker",
            "status": 503,
            "detail": "Nobody serves it now.",
            "code": "no_worker",
        }
        if state == "failed"
        else None,
    )


async def manifest_kept(world: World) -> str:
    """A manifest handed in; answers its digest."""
    app = manifest()
    digest = app_manifest_digest(app)
    row = ManifestRow(
        digest=digest, text=canonical_json(app).decode(), created_at_ms=world.clock.now_ms()
    )
    await world.write(row)
    return digest


async def pages(consumer: Consumer, path: str, **params: str | int) -> list[dict[str, Any]]:
    """All pages of two items each."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {**params, "limit": 2, **({} if cursor is None else {"cursor": cursor})}
        answer = await consumer.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found
