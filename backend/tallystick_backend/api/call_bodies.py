"""From rows to the bodies about calls, beside `tallystick_backend.call_view`, which the gateway
shows as well. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tallystick.protocol import messages
from tallystick.protocol.call_bodies import CallAnswerBody, CallBody, SignedReceiptBody
from tallystick.protocol.call_views import (
    AppTermsView,
    CallReceiptView,
    SpendLimitBody,
)
from tallystick.protocol.messages import Domain, Receipt, Voucher
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import (
    ChannelBody,
    SignedVoucherBody,
)
from tallystick_backend.api import bodies
from tallystick_backend.gateway.orders import Due
from tallystick_backend.store.tables import (
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    CallRow,
    ChannelRow,
    SpendLimitRow,
)


def receipt_view(
    row: CallRow,
    answer: CallAnswerBody,
    domain: Domain,
    paid_on: ChannelBody,
    *,
    channel: ChannelRow | None,
    block: int,
    before: CallRow | None,
    later: Sequence[CallRow],
    app: AppTermsView | None,
    manifest: str | None,
    operator_keys: Iterable[str],
) -> CallReceiptView:
    """`answer` is the row's own, `paid_on` what `channel_of` found."""
    request = CallBody.model_validate(row.request)
    return CallReceiptView(
        call_id=row.call_id,
        chain_id=domain.chain_id,
        escrow=domain.escrow,
        request=request,
        channel=paid_on,
        signed=answer.signed,
        gpu_ids=answer.gpu_ids,
        usage=answer.usage,
        charge=row.charge,
        before=None if before is None else _signed(before),
        later=tuple(signed for one in later if (signed := _signed(one)) is not None),
        voucher=_voucher(row),
        on_chain=None if channel is None else bodies.channel_view(channel, block),
        app=app,
        manifest=manifest,
        operator_keys=tuple(map(to_address, operator_keys)),
    )


def channel_of(domain: Domain, row: CallRow, channel: ChannelRow | None) -> ChannelBody | None:
    """The four fields as indexed; before that they stand in the voucher, whose signer is the
    channel's."""
    if channel is not None:
        return bodies.channel_view(channel, 0).channel
    signed = _voucher(row)
    if signed is None:
        return None
    found = messages.channel_of(domain, Voucher.from_body(signed.voucher), signed.signature)
    return found.to_body()


def due_of(domain: Domain, row: CallRow) -> Due | None:
    """What its consumer has still to sign for a call."""
    answer = answer_of(row)
    if not row.signer or row.voucher is not None or answer is None:
        return None
    receipt = Receipt.from_body(answer.signed.receipt)
    return Due(row.channel_id, receipt.total, messages.digest(domain, receipt))


def app_terms(
    app: AppRow,
    version: AppVersionRow,
    prices: Iterable[AppPriceRow],
    discounts: Iterable[AppDiscountRow],
) -> AppTermsView:
    return AppTermsView(
        publisher=to_address(app.publisher),
        royalty_to=to_address(app.royalty_to),
        royalty_bps=app.royalty_bps,
        retired_at=app.retired_at_s,
        permanent=app.permanent,
        version=bodies.app_version_body(version),
        prices=tuple(map(bodies.price_point_body, prices)),
        discounts=tuple(map(bodies.discount_body, discounts)),
    )


def spend_limit_body(row: SpendLimitRow, spent: int | None) -> SpendLimitBody:
    return SpendLimitBody.model_validate(
        {
            "id": row.id,
            "scope": row.scope,
            "subject": row.subject,
            "period": row.period,
            "limit": row.limit_units,
            "spent": spent,
            "created_at_ms": row.created_at_ms,
        }
    )


def answer_of(row: CallRow) -> CallAnswerBody | None:
    return None if row.answer is None else CallAnswerBody.model_validate(row.answer)


def _signed(row: CallRow) -> SignedReceiptBody | None:
    answer = answer_of(row)
    return None if answer is None else answer.signed


def _voucher(row: CallRow) -> SignedVoucherBody | None:
    return None if row.voucher is None else SignedVoucherBody.model_validate(row.voucher)
