"""Submitting a task: ask the market, choose a price, seal, sign, send, lock the money."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import RootModel

from tallystick import funding, sealing_keys
from tallystick.errors import ChainError, ConfigurationError, InvalidRequest, TallystickError
from tallystick.jobs import Job, MarketOffer
from tallystick.orders import Order, Wish, domain_of, make_order
from tallystick.prices import Price, checked_price, choose_rate
from tallystick.protocol.pricing import price_per_gpu_hour, rate_per_gpu_second_down
from tallystick.protocol.wire import (
    BlobBody,
    CreateTask,
    DeploymentBody,
    OfferBody,
    TaskBody,
)
from tallystick.session import Session


class OfferList(RootModel[tuple[OfferBody, ...]]):
    """The answer of GET /v1/offers: every provider of the class, best first."""


async def submit(
    session: Session,
    wish: Wish,
    *,
    max_price: Price | None,
    secured: bool,
    auto_deposit: bool,
) -> Job:
    """Returns as soon as the order is in (and its ceiling locked, when secured)."""
    wallet = session.wallet
    deployment = await session.deployment()
    ceiling = _ceiling(max_price, deployment.token_decimals)
    offers = await list_offers(
        session,
        wish.gpu_class,
        wish.gpus,
        wish.max_seconds,
        image=wish.image or session.config.image or "",
        gpu_memory_mib=wish.gpu_memory_mib,
        cpu_milli=wish.cpu_milli,
        memory_mib=wish.memory_mib,
        disk_mib=wish.disk_mib,
        max_output_mib=wish.max_output_mib,
    )
    unsealed: tuple[str, ...] = ()
    if wish.files:
        offers, unsealed = await sealing_keys.split(session, offers)
    order = await asyncio.to_thread(  # reads, packs and encrypts what may be gigabytes
        make_order,
        wish,
        rate_per_gpu_second=choose_rate(offers, ceiling, str(max_price)),
        offers=offers,
        deployment=deployment,
        wallet=wallet,
        image=_image(wish, offers, session.config.image),
        nonce=session.nonces.next(),
        now_s=session.now_s,
    )
    await funding.cover(session, order.terms.max_charge, auto_deposit=auto_deposit)
    if secured:
        await session.need_chain()  # a missing endpoint shows before anything is sent
    await _send(session, order, deployment, secured)
    created_tx = await _lock(session, order) if secured else None
    return Job(
        id=order.task_id,
        name=wish.name,
        gpu_class=wish.gpu_class,
        gpus=wish.gpus,
        max_seconds=wish.max_seconds,
        price_per_gpu_hour=price_per_gpu_hour(
            order.terms.rate_per_gpu_second, deployment.token_decimals
        ),
        max_charge=await session.money(order.terms.max_charge),
        secured=secured,
        created_tx=created_tx,
        terms=order.terms.to_body(),
        not_sealed_to=unsealed,
    )


async def list_offers(
    session: Session,
    gpu_class: str,
    gpus: int,
    seconds: int,
    rate_ceiling: int | None = None,
    **more: str | int,
) -> tuple[MarketOffer, ...]:
    """Every provider of the class as the matcher sees it, best first."""
    deployment = await session.deployment()
    params: dict[str, str | int | None] = {
        "gpu_class": gpu_class,
        "gpus": gpus,
        "seconds": seconds,
        "rate_per_gpu_second": None if rate_ceiling is None else str(rate_ceiling),
        **{key: value for key, value in more.items() if value},
    }
    page = await session.connection.get("/v1/offers", OfferList, public=True, params=params)
    return tuple(MarketOffer.from_body(body, deployment.token_decimals) for body in page.root)


async def _send(
    session: Session, order: Order, deployment: DeploymentBody, secured: bool
) -> TaskBody:
    if order.sealed_bundle is not None:
        path = f"/v1/blobs/{order.manifest.input_digest}"
        await session.connection.put_bytes(path, order.sealed_bundle, BlobBody)
    body = CreateTask(
        terms=order.terms.to_body(),
        signature=session.wallet.sign(domain_of(deployment), order.terms),
        manifest=order.manifest,
        sealed_keys=order.sealed_keys,
        secured=secured,
    )
    return await session.connection.post("/v1/tasks", body, TaskBody)


async def _lock(session: Session, order: Order) -> str:
    """Locks the ceiling on chain. When that fails, the order is withdrawn again: an order whose
    money is not there would wait for ever."""
    chain = await session.need_chain()
    try:
        sent = await chain.create_task(session.wallet, order.terms)
    except ChainError as problem:
        try:
            await session.connection.post_and_forget(f"/v1/tasks/{order.task_id}/cancel")
        except TallystickError:
            problem.values["order_withdrawn"] = False
        raise
    return sent.tx


def _ceiling(max_price: Price | None, decimals: int) -> int | None:
    if max_price is None:
        return None
    return rate_per_gpu_second_down(checked_price(max_price, "max_price"), decimals)


def _image(wish: Wish, offers: Sequence[MarketOffer], standard: str | None) -> str:
    """The image named, else the configured one, else `process` where that is all there is."""
    if wish.image is not None:
        return wish.image
    if standard is not None:
        return standard
    able = [o for o in offers if o.eligible] or offers
    if able and all(offer.runtime == "process" for offer in able):
        return "process"
    if not able:
        raise InvalidRequest(
            "No image was named, and no provider is there to choose one for.",
            next_step="Name it with image= (--image).",
        )
    raise ConfigurationError(
        "No image was named, and none is configured.",
        next_step="Give image='name@sha256:...' (--image), or set TALLYSTICK_IMAGE.",
    )
