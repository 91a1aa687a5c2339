"""Whether a sealing key is the provider's. Asked before anything is sealed to it, because the
backend names the keys: it could name its own, and read what only the provider may.

With a chain endpoint the chain says which keys a provider signs with, and that it has stake; an
address made up for the purpose has none. Without one there is only the backend's own list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tallystick.errors import NotFound, VerificationFailed
from tallystick.jobs import MarketOffer
from tallystick.prices import takes_or_queues
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.sealing_key import hpke_key_signer
from tallystick.protocol.types import Address, to_address
from tallystick.protocol.wire import ProviderBody
from tallystick.session import Session

KNOWN_FOR_S = 600.0
"""How long the chain's word on a provider's key is not asked for again."""

ASKED_AT_ONCE = 8


async def key_problem(session: Session, provider: str, hpke_key: str, signature: str) -> str:
    """Why nothing may be sealed to this key for this provider; empty when it is the provider's."""
    owner = to_address(provider.lower())
    try:
        signer = hpke_key_signer(await session.domain(), owner, hpke_key, signature)
    except ProtocolError as problem:
        return f"the sealing key shown for {owner} proves nothing: {problem}"
    if await _serves_with(session, signer, owner):
        return ""
    return (
        f"the sealing key shown for {owner} is signed by {signer}, which is no key of a provider "
        "with stake at that address"
    )


async def checked_offers(
    session: Session, offers: Sequence[MarketOffer]
) -> tuple[MarketOffer, ...]:
    """The same offers, each with what is wrong with its sealing key."""
    places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def check(offer: MarketOffer) -> MarketOffer:
        async with places:
            problem = await key_problem(
                session, offer.provider, offer.hpke_key, offer.hpke_signature
            )
        return replace(offer, key_problem=problem)

    return tuple(await asyncio.gather(*map(check, offers)))


async def split(
    session: Session, offers: Sequence[MarketOffer]
) -> tuple[tuple[MarketOffer, ...], tuple[str, ...]]:
    """Those an input may be sealed to, and what is wrong with the others. Raises
    VerificationFailed when a provider is there for the task and none of them is to be believed."""
    checked = await checked_offers(session, offers)
    trusted = tuple(offer for offer in checked if not offer.key_problem)
    refused = tuple(offer for offer in checked if offer.key_problem)
    if any(map(takes_or_queues, refused)) and not any(map(takes_or_queues, trusted)):
        raise refusal([offer.key_problem for offer in refused])
    return trusted, tuple(offer.key_problem for offer in refused)


def refusal(problems: Sequence[str]) -> VerificationFailed:
    return VerificationFailed(
        f"The input was sealed to nobody: {'; '.join(problems)}.",
        next_step="Do not trust this backend with inputs before its operator has explained it; "
        "`tallystick market offers` shows other providers.",
        problems=list(problems),
    )


async def _serves_with(session: Session, signer: Address, provider: Address) -> bool:
    known_at_s = session.known_signers.get((signer, provider))
    if known_at_s is not None and session.now() - known_at_s < KNOWN_FOR_S:
        return True
    chain = await session.chain()
    if chain is not None:
        serves = await chain.serves_with(signer, provider)
    else:
        serves = signer == provider or signer in await _keys_shown(session, provider)
    if serves:  # a refusal is asked again: a key may be bound in the next block
        session.known_signers[(signer, provider)] = session.now()
    return serves


async def _keys_shown(session: Session, provider: Address) -> tuple[Address, ...]:
    try:
        shown = await session.connection.get(f"/v1/providers/{provider}", ProviderBody, public=True)
    except NotFound:
        return ()
    return tuple(to_address(key.lower()) for key in shown.operator_keys)
