"""shareFees: to the payee's staking pool and the treasury, in a fixed proportion.

shareFees
├── by anyone; the pool's part is rounded down, the treasury has the rest, nothing is left (law 2)
├── the staking is told after the tokens arrived, and of as many (case 54)
├── no pool: all to the treasury
├── proportions of nothing and of everything (case 32)
├── credit of the payee stays where it is
└── reverts without fees
constructor
└── refuses a proportion above the whole, and close periods of no use (cases 32 and 56)
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import Channel, Domain, sign
from tallystick.protocol.types import Address
from tests.contracts.channels import row_of
from tests.contracts.stage import CLOSE_S, NO_DIGEST, TALLY, reverts_with


class Shop:
    """An escrow whose staking has a pool for the provider; 5 % fee."""

    def __init__(self, people: dict[str, Any], token: Any, pool_share_bps: int) -> None:
        from brownie import ComputeEscrow, FeePool, chain

        self.people = people
        self.token = token
        deployer, provider = people["deployer"], people["provider"]
        self.pool = deployer.deploy(FeePool, token, provider, people["operator"])
        self.escrow = deployer.deploy(
            ComputeEscrow,
            *(token, deployer, self.pool, people["treasury"]),
            *(500, pool_share_bps, CLOSE_S),
        )
        self.domain = Domain(chain.id, Address(self.escrow.address))

    def earn(self, payee: Any, total: int) -> None:
        """Credit by a voucher, withdrawn."""
        payer = self.people["consumer"]
        self.token.approve(self.escrow, total, {"from": payer})
        channel = Channel(Address(payer.address), Address(payer.address), Address(payee.address), 0)
        shown = (channel.payer, channel.signer, channel.provider, 0)
        self.escrow.depositToChannel(shown, total, {"from": payer})
        voucher = channel.voucher(total, NO_DIGEST)
        rows = [row_of(voucher, sign(self.domain, voucher, payer.private_key))]
        self.escrow.withdrawCredit(payee, rows, {"from": payer})


@pytest.fixture
def cast(
    deployer: Any, consumer: Any, provider: Any, operator: Any, treasury: Any
) -> dict[str, Any]:
    names = ("deployer", "consumer", "provider", "operator", "treasury")
    return dict(zip(names, (deployer, consumer, provider, operator, treasury), strict=True))


@pytest.mark.parametrize(
    ("pool_share_bps", "total", "to_pool"),
    [(5_000, 2_020, 50), (5_000, 20, 0), (0, 2_000, 0), (10_000, 2_020, 101), (3_333, 2_000, 33)],
)
def test_shared_to_the_unit(
    cast: dict[str, Any], token: Any, pool_share_bps: int, total: int, to_pool: int, stranger: Any
) -> None:
    """Cases 32 and 54, law 2."""
    shop = Shop(cast, token, pool_share_bps)
    shop.earn(cast["provider"], total)
    fees = total * 500 // 10_000
    before = token.balanceOf(cast["treasury"])
    sent = shop.escrow.shareFees(cast["provider"], {"from": stranger})
    event = sent.events["FeesShared"]
    assert (event["toPool"], event["toTreasury"]) == (to_pool, fees - to_pool)
    assert [int(part) for part in sent.return_value] == [to_pool, fees - to_pool]
    assert token.balanceOf(cast["treasury"]) - before == fees - to_pool
    assert int(shop.pool.told()) == int(shop.pool.arrived()) == to_pool
    assert int(token.balanceOf(shop.pool)) == to_pool
    assert int(token.balanceOf(shop.escrow)) == 0
    with reverts_with("NoFees", cast["provider"]):
        shop.escrow.shareFees(cast["provider"], {"from": stranger})


def test_without_a_pool_the_treasury_has_all(
    cast: dict[str, Any], token: Any, stranger: Any
) -> None:
    shop = Shop(cast, token, 5_000)
    shop.earn(cast["operator"], 2_000)
    before = token.balanceOf(cast["treasury"])
    shop.escrow.shareFees(cast["operator"], {"from": stranger})
    assert token.balanceOf(cast["treasury"]) - before == 100
    assert int(token.balanceOf(shop.pool)) == 0


def test_credit_stays(cast: dict[str, Any], token: Any, stranger: Any) -> None:
    shop = Shop(cast, token, 5_000)
    shop.earn(cast["provider"], 2_000)
    payer, payee = cast["consumer"], cast["provider"]
    channel = Channel(Address(payer.address), Address(payer.address), Address(payee.address), 1)
    token.approve(shop.escrow, TALLY, {"from": payer})
    shop.escrow.depositToChannel((payer, payer, payee, 1), TALLY, {"from": payer})
    voucher = channel.voucher(TALLY, NO_DIGEST)
    rows = [row_of(voucher, sign(shop.domain, voucher, payer.private_key))]
    shop.escrow.redeem(payee, rows, {"from": stranger})
    shop.escrow.shareFees(payee, {"from": stranger})
    assert [int(part) for part in shop.escrow.payeeOf(payee)] == [TALLY, 0]


def test_the_constructor_refuses_what_cannot_be_meant(cast: dict[str, Any], token: Any) -> None:
    """Cases 32 and 56: bounded, and there is no setter."""
    from brownie import ComputeEscrow

    deployer = cast["deployer"]
    neighbours = (token, deployer, deployer, cast["treasury"])
    with reverts_with("PoolShareTooHigh", 10_000, 10_001):
        deployer.deploy(ComputeEscrow, *neighbours, 100, 10_001, CLOSE_S)
    for close_s in (0, 3_599, 2_592_001, 2**32 - 1):
        with reverts_with("ClosePeriodOutOfRange", 3_600, 2_592_000, close_s):
            deployer.deploy(ComputeEscrow, *neighbours, 100, 5_000, close_s)
    for close_s in (3_600, 2_592_000):
        deployer.deploy(ComputeEscrow, *neighbours, 500, 10_000, close_s)
