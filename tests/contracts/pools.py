"""Delegators, fees and verdicts, for tests of the staking contract."""

from __future__ import annotations

from typing import Any

from tallystick.protocol.shares import Pot
from tests.contracts.stage import Stage, digest_of

EVERYTHING = 2**128 - 1


class Pools:
    """The staking contract of a stage, as its delegators, its escrow and its court see it."""

    def __init__(self, stage: Stage, delegator: Any, court: Any) -> None:
        from brownie import accounts, web3

        self.stage = stage
        self.staking = stage.staking
        self.provider = stage.provider
        self.delegator = delegator
        self.court = court
        self._offences = 0
        # Fees come from the escrow alone: here it speaks for itself.
        self.escrow = accounts.at(stage.escrow.address, force=True)
        web3.provider.make_request("anvil_setBalance", [stage.escrow.address, hex(10**20)])

    # ------------------------------------------------------------------ acts

    def delegate(self, amount: int, by: Any = None, provider: Any = None) -> Any:
        person = by or self.delegator
        self.stage.token.approve(self.staking, amount, {"from": person})
        return self.staking.delegate(provider or self.provider, amount, 0, {"from": person})

    def undelegate(self, shares: int, by: Any = None, provider: Any = None) -> Any:
        sent = self.staking.requestUndelegate(
            provider or self.provider, shares, 0, {"from": by or self.delegator}
        )
        return sent.events["UndelegateRequested"]

    def add_fees(self, amount: int, provider: Any = None) -> Any:
        """As the escrow does: tokens first, then the word."""
        self.stage.token.transfer(self.staking, amount, {"from": self.stage.consumer})
        return self.staking.addFees(provider or self.provider, amount, {"from": self.escrow})

    def slash(
        self,
        amount: int,
        *,
        provider: Any = None,
        offence: str | None = None,
        to: tuple[Any, ...] = (),
    ) -> Any:
        self._offences += 1
        return self.staking.slash(
            provider or self.provider,
            amount,
            offence or digest_of(f"offence {self._offences}"),
            list(to),
            {"from": self.court},
        )

    # ------------------------------------------------------------------ reading

    # Brownie's own results do not compare with tuples in its compiled form.

    def pool(self, provider: Any = None) -> Pot:
        tokens, shares, generation, _ = self.staking.poolOf(provider or self.provider)
        return Pot(int(tokens), int(shares), int(generation))

    def undelegating(self, provider: Any = None) -> int:
        return int(self.staking.poolOf(provider or self.provider)[3])

    def delegation(self, person: Any = None, provider: Any = None) -> tuple[int, int]:
        """Shares and what they are worth."""
        shares, amount = self.staking.delegationOf(
            provider or self.provider, person or self.delegator
        )
        return int(shares), int(amount)

    def request(self, request_id: int, person: Any = None) -> tuple[int, int]:
        """What an undelegation is worth, and when."""
        _, amount, at = self.staking.undelegateRequest(person or self.delegator, request_id)
        return int(amount), int(at)

    def unbond_request(self, request_id: int, person: Any = None) -> tuple[int, int]:
        amount, at = self.staking.unbondRequest(person or self.provider, request_id)
        return int(amount), int(at)

    def rewards(self, person: Any = None, provider: Any = None) -> int:
        return int(self.staking.rewardsOf(provider or self.provider, person or self.delegator))

    def stream(self, provider: Any = None) -> tuple[int, int]:
        """What has not flowed, and when it will have."""
        remaining, ends_at = self.staking.streamOf(provider or self.provider)
        return int(remaining), int(ends_at)
