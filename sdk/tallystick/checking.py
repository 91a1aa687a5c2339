"""A call's receipt, checked without believing the backend.

    verdict = client.verify_receipt(call_id)
    verdict.ok, verdict.checks

What the backend sends is what the parties signed; everything else is read from the chain, through
an endpoint and a deployment that the caller named: the app's price in that second and its
manifest's digest, whose the signing key is, what the channel has paid. A manifest that does not
hash to that digest counts for nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tallystick.jobs import Money
from tallystick.protocol import messages, signatures
from tallystick.protocol.app_manifest import read_app_manifest
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_views import CallReceiptView
from tallystick.protocol.calls import CallAnswer, CallLimits, CallRequest, Check
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.messages import Channel, Domain
from tallystick.protocol.types import Address, AppId, Digest, to_address
from tallystick.protocol.verifying import ShownCall, verify_call

if TYPE_CHECKING:
    from tallystick.chain import Chain
    from tallystick.session import Session

_NEED_MANIFEST: Final = frozenset({"ended_at_ms", "gpu_ms", "gpu_set"})
"""Checks that nobody can make without the manifest's limits."""


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """What every check of one call came to."""

    call_id: str
    charge: Money
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong; what was not shown is `open`."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if check.ok is False)

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if check.ok is None)

    def to_json(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "ok": self.ok,
            "charge": self.charge.to_json(),
            "checks": [
                {
                    "name": check.name,
                    "result": result_of(check),
                    "expected": str(check.expected),
                    "found": str(check.found),
                }
                for check in self.checks
            ],
        }


def result_of(check: Check) -> str:
    return "open" if check.ok is None else "ok" if check.ok else "failed"


async def verify(
    session: Session,
    receipt: CallReceiptView,
    *,
    call_id: str | None,
    content: bytes | None,
    sent: Digest | None,
) -> CallVerdict:
    """`content` is the result as delivered, `sent` the digest of the input; without them the checks
    that need them stay open."""
    chain = await session.need_chain()
    domain = await session.domain()
    shown_first = list(_identity(session, domain, receipt, call_id, sent))
    shown, manifest = await _shown(chain, domain, receipt, content)
    checks = [*shown_first, manifest]
    for check in verify_call(shown):
        unknown = manifest.ok is not True and check.name in _NEED_MANIFEST and check.ok
        checks.append(replace(check, ok=None) if unknown else check)
    return CallVerdict(receipt.call_id, await session.money(receipt.charge), tuple(checks))


def _identity(
    session: Session,
    domain: Domain,
    receipt: CallReceiptView,
    call_id: str | None,
    sent: Digest | None,
) -> Iterator[Check]:
    """It is of this deployment, of the call that was meant, and somebody else did not pay."""
    here = (domain.chain_id, domain.escrow)
    there = (receipt.chain_id, to_address(receipt.escrow))
    yield Check("deployment", here == there, here, there)
    asked = receipt.call_id if call_id is None else call_id
    yield Check("call", receipt.request.call_id == asked, asked, receipt.request.call_id)
    payer = to_address(receipt.channel.payer)
    if session.has_wallet:
        mine = session.wallet.address
        yield Check("payer", payer == mine, mine, payer)
    else:
        yield Check("payer", None, "your wallet", payer)
    if sent is None:
        yield Check("input", None, "the digest of what was sent", receipt.request.input)
    else:
        yield Check("input", sent == receipt.request.input, sent, receipt.request.input)


async def _shown(
    chain: Chain, domain: Domain, receipt: CallReceiptView, content: bytes | None
) -> tuple[ShownCall, Check]:
    request, channel = CallRequest.from_body(receipt.request), Channel.from_body(receipt.channel)
    signed = SignedReceipt.from_body(receipt.signed)
    started_s = signed.receipt.started_at_ms // 1000
    app = await chain.app_at(AppId(Digest(request.app_id)), request.version, started_s)
    limits, manifest = _limits(receipt, app, request)
    before = None if receipt.before is None else SignedReceipt.from_body(receipt.before)
    keys: set[Address] = set()
    for one in (signed, before):
        if one is not None:
            keys |= await _keys(chain, domain, one)
    shown = ShownCall(
        domain=domain,
        channel=channel,
        request=request,
        answer=CallAnswer(
            signed,
            receipt.gpu_ids,
            tuple(UsageSample(one.at_ms, one.gpu_id, one.energy_mj) for one in receipt.usage),
        ),
        limits=limits,
        app=app,
        operator_keys=frozenset(keys),
        result=None if content is None else digest_of(content),
        before=before,
        later=tuple(map(SignedReceipt.from_body, receipt.later)),
        voucher=None if receipt.voucher is None else SignedVoucher.from_body(receipt.voucher),
        chain=await chain.channel_state(channel),
    )
    return shown, manifest


async def _keys(chain: Chain, domain: Domain, signed: SignedReceipt) -> set[Address]:
    """The signer, if it is an operator key of the provider's that was not retired by then."""
    with contextlib.suppress(ProtocolError):
        digest = messages.digest(domain, signed.receipt)
        signer = signatures.recover_digest(bytes.fromhex(digest[2:]), signed.signature)
        key = await chain.bound_key(signer)
        started_s = signed.receipt.started_at_ms // 1000
        retired = key.retired_at and key.retired_at < started_s
        if key.provider == signed.receipt.provider and not retired:
            return {signer}
    return set()


def _limits(
    receipt: CallReceiptView, app: AppHistory, request: CallRequest
) -> tuple[CallLimits, Check]:
    """By the manifest, if it is the one that the registry names."""
    signed = receipt.signed.receipt
    elapsed_ms = max(1, signed.ended_at_ms - signed.started_at_ms)
    # Nothing is judged by these: the checks that use them are open then.
    unknown = CallLimits(-(-signed.gpu_ms // elapsed_ms), bool(receipt.gpu_ids), 2**32)
    if len(app.versions) < request.version:
        expected = f"version {request.version} of {request.app_id}, with a price"
        return unknown, Check("app", False, expected, "none in the registry")
    expected = app.versions[request.version - 1].manifest_digest
    if receipt.manifest is None:
        return unknown, Check("manifest", None, expected, "none shown")
    file = receipt.manifest.encode()
    try:
        manifest = read_app_manifest(file, expected=expected)
    except ProtocolError:
        return unknown, Check("manifest", False, expected, digest_of(file))
    return CallLimits.of(manifest), Check("manifest", True, expected, expected)
