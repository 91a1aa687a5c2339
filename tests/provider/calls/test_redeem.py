"""When vouchers go to the chain
├── one batch, then a pause in which more comes together; what is urgent does not wait
└── more than a batch goes one behind the other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.messages import channel_id
from tallystick.protocol.serving import ServingChannel
from tallystick.protocol.types import Digest
from tallystick_provider.calls import redeem
from tallystick_provider.calls.redeem import PAUSE_S, Redeemer
from tests.protocol.calling import CHANNEL, funded, provider_end
from tests.protocol.test_serving import CHARGE, paid

END = paid(provider_end())


@dataclass
class Books:
    """Channels and the chain, as far as the redeemer asks them."""

    held: dict[Digest, ServingChannel] = field(default_factory=dict)
    sent: list[list[int]] = field(default_factory=list)

    def ends(self) -> list[tuple[Digest, ServingChannel]]:
        return list(self.held.items())

    def end(self, channel: Digest) -> ServingChannel:
        return self.held[channel]

    async def look_again(self, channel: Digest) -> None:
        assert channel in self.held

    def redemption(self, vouchers: Sequence[SignedVoucher]) -> Any:
        self.sent.append([signed.voucher.salt for signed in vouchers])
        return self.sent[-1]


def of_salt(salt: int, **state: int) -> tuple[Digest, ServingChannel]:
    channel = replace(CHANNEL, salt=salt)
    assert END.voucher is not None
    voucher = replace(END.voucher, voucher=replace(END.voucher.voucher, salt=salt))
    return channel_id(channel), replace(
        END, channel=channel, chain=funded(**state), voucher=voucher
    )


def redeemer(books: Any, clock: list[float]) -> Any:
    return Redeemer(books, books, 1, CHARGE - 1, 10_000, seconds=lambda: clock[0])


async def test_rests_after_a_batch_and_urgent_ones_do_not_wait() -> None:
    books, clock = Books(dict([of_salt(1)])), [100.0]
    maker = redeemer(books, clock)
    assert await maker.next_call() == [1]
    books.held |= dict([of_salt(2)])
    clock[0] += PAUSE_S - 0.1
    assert await maker.next_call() is None
    books.held |= dict([of_salt(3, close_at=5)])
    assert await maker.next_call() == [3]
    clock[0] += 0.1
    assert await maker.next_call() == [3, 1, 2]


async def test_nothing_due_is_no_rest() -> None:
    books, clock = Books(dict([of_salt(1, claimed=CHARGE)])), [100.0]
    maker = redeemer(books, clock)
    assert await maker.next_call() is None
    books.held |= dict([of_salt(2)])
    assert await maker.next_call() == [2]


async def test_more_than_a_batch_goes_on_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(redeem, "BATCH", 2)
    books, clock = Books(dict(of_salt(salt) for salt in (1, 2, 3))), [100.0]
    maker = redeemer(books, clock)
    assert await maker.next_call() == [1, 2]
    books.held = dict(of_salt(salt) for salt in (3,))
    assert await maker.next_call() == [3]
    assert await maker.next_call() is None
