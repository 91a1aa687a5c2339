"""Vouchers of consumers that keep their session key: what waits for a signature, and handing one
in. The gateway checks, writes down and passes on; it cannot sign these."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from tallystick.protocol.call_views import UnsignedView
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import SignatureError
from tallystick.protocol.wire import SignedVoucherBody
from tallystick_backend.api.callers import CallReader, CallWriter
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.schemas import ChannelIdPath
from tallystick_backend.api.writes import IdempotencyKey
from tallystick_backend.gateway import errors as gateway
from tallystick_backend.store.repositories import apps

router = APIRouter(prefix="/v1/channels", tags=["calls"])


@router.get(
    "/{channel}/unsigned",
    operation_id="getUnsigned",
    summary="What waits for my signature",
    description="Of a channel that the caller pays and whose session key it keeps. `call_id` is "
    "the call whose receipt waits: check `GET /v1/calls/{call_id}/receipt`, then sign `voucher`. "
    "Also after a restart on either side.",
    responses=problems(LOGGED_IN, gateway.UnknownOwnChannel, gateway.GatewayNotReady),
)
async def get_unsigned(backend: Ctx, caller: CallReader, channel: ChannelIdPath) -> UnsignedView:
    await _require_mine(backend, caller.address, channel)
    waiting = await backend.gateway.parts.own.unsigned(caller.address, channel)
    return UnsignedView(
        channel=waiting.channel.to_body(),
        call_id=waiting.call_id,
        seq=waiting.seq,
        voucher=None if waiting.voucher is None else waiting.voucher.to_body(),
        last=None if waiting.last is None else waiting.last.to_body(),
    )


@router.post(
    "/{channel}/vouchers",
    operation_id="handInVoucher",
    summary="Hand in my voucher for the last call",
    description="Signed by the channel's signer, for the receipt that the gateway holds, over its "
    "total. It is written down, then sent to the provider; the answer is the voucher that is held. "
    "The same voucher again changes nothing, any other is refused.",
    responses=problems(
        WRITES,
        gateway.UnknownOwnChannel,
        gateway.VoucherRefused,
        gateway.JournalFailed,
        gateway.GatewayNotReady,
        SignatureError,
    ),
)
async def hand_in_voucher(
    backend: Ctx,
    caller: CallWriter,
    channel: ChannelIdPath,
    body: Annotated[SignedVoucherBody, Body()],
    idempotency_key: IdempotencyKey = None,
) -> SignedVoucherBody:
    """A repeat is harmless by itself: the key only has to be one."""
    await _require_mine(backend, caller.address, channel)
    held = await backend.gateway.parts.own.take(
        caller.address, channel, SignedVoucher.from_body(body)
    )
    return held.to_body()


async def _require_mine(backend: Backend, account: str, channel: str) -> None:
    """Before the gateway is asked, which may not be up."""
    async with backend.database.read() as session:
        row = await apps.channel(session, channel)
    if row is None or row.payer != account.lower():
        raise gateway.UnknownOwnChannel(channel)
