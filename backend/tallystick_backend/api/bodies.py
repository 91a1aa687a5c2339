"""From rows to the bodies people read. Pure."""

from __future__ import annotations

from typing import Any

from tallystick.protocol.pricing import Price
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import (
    AccountBody,
    Announcement,
    AppBody,
    AppPriceBody,
    AppVersionBody,
    ChannelBody,
    ChannelView,
    DiscountBody,
    GpuListing,
    LeaseBody,
    Manifest,
    PricePointBody,
    Progress,
    ProviderBody,
    QuoteBody,
    ReceiptBody,
    ReceiptView,
    SealedKeyRequest,
    TaskBody,
    TaskTermsBody,
)
from tallystick_backend.store import facts
from tallystick_backend.store.repositories.apps import Moment, list_price
from tallystick_backend.store.repositories.views import ProviderView, TaskView
from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChannelRow,
    LeaseRow,
    ReceiptRow,
)
from tallystick_backend.tasks import LIVE_LEASES, TaskState


def state_of(view: TaskView, now_s: int) -> TaskState:
    return facts.state_of(view.order, view.chain, view.work, now_s)


def task_body(view: TaskView, now_s: int) -> TaskBody:
    order, chain, work = view.order, view.chain, view.work
    return TaskBody(
        id=order.task_id,
        name=order.name,
        state=state_of(view, now_s),
        consumer=to_address(order.consumer),
        terms=TaskTermsBody.model_validate(order.terms),
        manifest=Manifest.model_validate(order.manifest),
        secured=order.secured,
        created_at_ms=order.created_at_ms,
        progress=progress(view, now_s),
        lease=_lease(view),
        attempts=0 if work is None else work.attempts,
        failure=None if work is None else work.failure,
        charge=_charge(view),
        receipt_digest=view.receipt.digest if view.receipt is not None else _proven(view),
        created_tx=None if chain is None else chain.created_tx,
        proven_tx=None if chain is None else chain.proven_tx,
        settled_tx=None if chain is None else chain.settled_tx,
        needs_key=_needs_key(view, now_s),
    )


def progress(view: TaskView, now_s: int) -> Progress:
    """What the provider last said, while its word counts; else only the state."""
    state, lease = state_of(view, now_s), view.lease
    if lease is None or lease.state not in LIVE_LEASES | {"finished"}:
        return Progress(state=state, stage="", updated_at_ms=view.order.created_at_ms)
    return Progress(
        state=state,
        stage=lease.stage,
        percent=lease.percent,
        eta_seconds=lease.eta_seconds,
        message=lease.message,
        updated_at_ms=lease.updated_at_ms,
    )


def receipt_view(view: TaskView, receipt: ReceiptRow) -> ReceiptView:
    accepted = view.acceptance
    return ReceiptView(
        receipt=ReceiptBody.model_validate(receipt.receipt),
        signature=receipt.signature,
        digest=receipt.digest,
        fence=receipt.fence,
        exit_code=receipt.exit_code,
        result_digest=receipt.result_digest,
        result_bytes=receipt.result_bytes,
        energy_mj=receipt.energy_mj,
        simulated=receipt.simulated,
        runtime=receipt.runtime,
        accepted=accepted is not None and accepted.receipt_digest == receipt.digest,
    )


def provider_body(view: ProviderView, *, seen_since_ms: int) -> ProviderBody:
    row, announced = view.provider, view.announcement
    said = None if announced is None else Announcement.model_validate(announced.body)
    return ProviderBody(
        address=to_address(row.address),
        online=announced is not None and announced.last_seen_ms >= seen_since_ms,
        last_seen_ms=None if announced is None else announced.last_seen_ms,
        stake=row.stake,
        unbonding=row.unbonding,
        gpus_registered=row.gpus_registered,
        operator_keys=tuple(to_address(key.key) for key in view.keys if key.retired_at_s is None),
        runtime=None if announced is None else announced.runtime,
        agent_version=None if announced is None else announced.agent_version,
        draining=announced is not None and announced.draining,
        simulated=said is not None and any(gpu.simulated for gpu in said.gpus),
        hpke_key=None if announced is None else announced.hpke_key,
        hpke_signature=None if said is None else said.hpke_signature,
        rate_per_gpu_second={} if said is None else said.rate_per_gpu_second,
        gpus=() if said is None else said.gpus,
        tasks_settled=row.tasks_settled,
    )


def gpu_listings(view: ProviderView, *, seen_since_ms: int) -> list[GpuListing]:
    """The provider's cards by id. A lease says how many cards of a class it holds, not which: as
    many are shown busy."""
    if view.announcement is None:
        return []
    said = Announcement.model_validate(view.announcement.body)
    busy_left = dict(view.gpus_leased)
    listed: list[GpuListing] = []
    for gpu in sorted(said.gpus, key=lambda card: card.gpu_id):
        busy = busy_left.get(gpu.gpu_class, 0) > 0
        if busy:
            busy_left[gpu.gpu_class] -= 1
        listed.append(
            GpuListing(
                provider=to_address(view.provider.address),
                gpu=gpu,
                rate_per_gpu_second=said.rate_per_gpu_second.get(gpu.gpu_class, 0),
                busy=busy,
                online=view.announcement.last_seen_ms >= seen_since_ms,
            )
        )
    return listed


def account_body(row: AccountRow, block: int) -> AccountBody:
    return AccountBody(
        address=to_address(row.address),
        available=row.available or 0,
        locked=row.locked or 0,
        credit=row.credit or 0,
        block=block,
    )


def app_body(row: AppRow, latest: AppVersionRow, moment: Moment | None, now_s: int) -> AppBody:
    """`moment` is the latest version's, now."""
    has_price = moment is not None and (row.retired_at_s is None or now_s < row.retired_at_s)
    return AppBody(
        id=row.app_id,
        publisher=to_address(row.publisher),
        salt=row.salt,
        royalty_to=to_address(row.royalty_to),
        royalty_bps=row.royalty_bps,
        published_at=row.published_at_s,
        versions=row.versions,
        latest=app_version_body(latest),
        price=price_body(moment.price_at(now_s)) if moment is not None and has_price else None,
        discount_bps=moment.history.discount_at(now_s) if moment is not None and has_price else 0,
        retired_at=row.retired_at_s,
        permanent=row.permanent,
    )


def app_version_body(row: AppVersionRow) -> AppVersionBody:
    return AppVersionBody(
        version=row.version,
        image_digest=row.image_digest,
        manifest_digest=row.manifest_digest,
        manifest_uri=row.manifest_uri,
        published_at=row.published_at_s,
    )


def quote_body(moment: Moment, version: int, at_s: int) -> QuoteBody:
    return QuoteBody(
        app_id=moment.history.app_id,
        version=version,
        at=at_s,
        price=price_body(moment.price_at(at_s)),
        list_price=price_body(moment.list_price),
        discount_bps=moment.history.discount_at(at_s),
    )


def price_point_body(row: AppPriceRow) -> PricePointBody:
    return PricePointBody(
        version=row.version, takes_effect_at=row.from_s, price=price_body(list_price(row))
    )


def discount_body(row: AppDiscountRow) -> DiscountBody:
    return DiscountBody(
        bps=row.bps, start=row.start_s, end=row.end_s, announced_at=row.announced_at_s
    )


def price_body(price: Price) -> AppPriceBody:
    return AppPriceBody(
        flat=price.flat,
        fee_per_call=price.fee_per_call,
        rate_per_gpu_second=price.rate_per_gpu_second,
    )


def channel_view(row: ChannelRow, block: int) -> ChannelView:
    unclaimed = row.deposited - row.claimed
    return ChannelView(
        id=row.channel_id,
        channel=ChannelBody(
            payer=to_address(row.payer),
            signer=to_address(row.signer),
            provider=to_address(row.provider),
            salt=row.salt,
        ),
        state="closing" if row.close_at_s is not None else "open" if unclaimed else "empty",
        deposited=row.deposited,
        claimed=row.claimed,
        close_at=row.close_at_s,
        receipt=row.receipt_digest,
        opened_at=row.opened_at_s,
        redeemed_at=row.redeemed_at_s,
        block=block,
    )


def _lease(view: TaskView) -> LeaseBody | None:
    lease = view.lease
    if lease is None:
        return None
    runtime, simulated = _ran_on(view, lease)
    return LeaseBody(
        fence=lease.fence,
        provider=to_address(lease.provider),
        state=lease.state,
        lease_from=lease.lease_from_s,
        lease_until=lease.lease_until_s,
        simulated=simulated,
        runtime=runtime,
    )


def _ran_on(view: TaskView, lease: LeaseRow) -> tuple[str, bool]:
    """The receipt says what it was; before it, the provider's announcement."""
    if view.receipt is not None and view.receipt.fence == lease.fence:
        return view.receipt.runtime, view.receipt.simulated
    announced = view.announcements.get(lease.provider)
    if announced is None:
        return "", False
    gpus: list[dict[str, Any]] = announced.body.get("gpus", [])
    mine = [gpu for gpu in gpus if gpu.get("gpu_class") == lease.gpu_class]
    return announced.runtime, any(gpu.get("simulated", False) for gpu in mine)


def _charge(view: TaskView) -> int | None:
    """What the chain took; before that, what the receipt asks."""
    if view.chain is not None and view.chain.state in ("proven", "disputed", "settled"):
        return view.chain.charge
    return None if view.receipt is None else int(view.receipt.receipt["total"])


def _proven(view: TaskView) -> str | None:
    return None if view.chain is None else view.chain.receipt_digest


def _needs_key(view: TaskView, now_s: int) -> SealedKeyRequest | None:
    work = view.work
    if work is None or work.needs_key_provider is None:
        return None
    announced = view.announcements.get(work.needs_key_provider)
    if announced is None or state_of(view, now_s) not in ("ordered", "funded"):
        return None
    return SealedKeyRequest(
        provider=to_address(announced.provider),
        hpke_key=announced.hpke_key,
        hpke_signature=announced.body["hpke_signature"],
        fence=work.fence + 1,
    )
