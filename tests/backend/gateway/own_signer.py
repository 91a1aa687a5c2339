"""A consumer that keeps its session key: it opens channels, reads what waits, signs, hands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from tallystick.protocol import messages
from tallystick.protocol.call_views import UnsignedView
from tallystick.protocol.messages import Channel, Domain, Voucher, channel_id
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import Digest, to_address
from tallystick.protocol.wire import SignedVoucherBody
from tallystick_backend.store.tables import ChannelRow
from tests.backend.gateway.market import DOMAIN, PAST_S, Market, new_block
from tests.support.anvil import CONSUMER

KEY = "0x" + "5e" * 32


@dataclass
class OwnSigner:
    market: Market
    key: str = KEY
    salts: int = 0

    @property
    def signer(self) -> str:
        return address_of(self.key)

    async def opens(self, provider: str = "", deposited: int = 100, payer: str = "") -> Channel:
        """As the index has it after `ComputeEscrow.fund`."""
        self.salts += 1
        channel = Channel(
            to_address(payer or CONSUMER.address),
            to_address(self.signer),
            to_address(provider or self.market.provider.name),
            self.salts,
        )
        row = ChannelRow(
            channel_id=channel_id(channel),
            payer=channel.payer.lower(),
            signer=channel.signer.lower(),
            provider=channel.provider.lower(),
            salt=channel.salt,
            opened_at_s=PAST_S + self.salts,
            deposited=deposited,
        )
        async with self.market.database.transaction() as session:
            session.add(row)
            await new_block(session)
        return channel

    async def call(self, content: bytes = b"1", **headers: str) -> httpx.Response:
        return await self.market.call(content, Tallystick_Signer=self.signer, **headers)

    async def unsigned(self, channel: Channel) -> UnsignedView:
        answer = await self.market.get(f"/v1/channels/{channel_id(channel)}/unsigned")
        assert answer.status_code == 200, answer.text
        return UnsignedView.model_validate_json(answer.content)

    async def due(self, channel: Channel) -> Voucher:
        view = await self.unsigned(channel)
        assert view.voucher is not None
        return Voucher.from_body(view.voucher)

    def signed(
        self, voucher: Voucher, *, key: str | None = None, domain: Domain = DOMAIN
    ) -> SignedVoucherBody:
        signature = messages.sign(domain, voucher, key or self.key)
        return SignedVoucherBody(voucher=voucher.to_body(), signature=signature)

    async def post(self, channel: Channel | Digest, body: SignedVoucherBody) -> httpx.Response:
        name = channel_id(channel) if isinstance(channel, Channel) else channel
        return await self.market.http.post(
            f"/v1/channels/{name}/vouchers",
            content=body.model_dump_json(),
            headers={
                "Authorization": f"Bearer {self.market.token}",
                "Content-Type": "application/json",
            },
        )

    async def signs(self, channel: Channel) -> dict[str, Any]:
        """What waits; answers the voucher that is held then."""
        answer = await self.post(channel, self.signed(await self.due(channel)))
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["voucher"])
