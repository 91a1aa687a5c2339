"""People who do something with the contracts, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tallystick.protocol import apps, merkle, messages
from tallystick.protocol.contracts import (
    Call,
    Escrow,
    Market,
    Registry,
    SignedVoucher,
    Staking,
    Token,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError
from tallystick.protocol.messages import Channel, TaskTerms
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, to_digest
from tests.protocol.examples import accepted, leased, receipt_of, terms_of
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    STAKE_UNIT,
    STRANGER,
    TOKEN,
    LocalChain,
    Person,
    bind_key,
    deposit,
    digest_of_word,
    fund,
    send,
    stake,
)

_NO_WEB3: Any = None


class Story:
    """People who do something on chain, drawn by a seed; what the contracts refuse is no event."""

    def __init__(self, chain: LocalChain, deployment: Deployment, seed: int) -> None:
        self.chain = chain
        self.deployment = deployment
        self.random = random.Random(seed)
        self.terms: list[TaskTerms] = []
        self.escrow = Escrow(_NO_WEB3, deployment.escrow)
        self.market = Market(_NO_WEB3, deployment.market)
        self.staking = Staking(_NO_WEB3, deployment.staking)
        self.registry = Registry(_NO_WEB3, deployment.registry)
        self.apps: list[AppId] = []
        fund(chain, deployment, CONSUMER, 200 * TOKEN)
        deposit(chain, deployment, CONSUMER, 100 * TOKEN)
        stake(chain, deployment, PROVIDER, gpu_ids=("GPU-1", "GPU-2"), units=4)
        bind_key(chain, deployment, PROVIDER, OPERATOR)
        # No reorganisation below reaches what all acts stand on.
        chain.mine(8)

    def go_on(self, acts: int) -> None:
        possible = (
            self._create,
            self._create,
            self._settle,
            self._settle,
            self._prove_alone,
            self._cancel,
            self._withdraw,
            self._withdraw_credit,
            self._fund_channel,
            self._redeem,
            self._release,
            self._deposit_into_channel,
            self._request_close,
            self._cancel_close,
            self._close,
            self._publish,
            self._announce,
            self._announce,
            self._unbond,
            self._register,
            self._quiet,
        )
        for _ in range(acts):
            with suppress(ContractError):
                self.random.choice(possible)()

    def _new_terms(self) -> TaskTerms:
        royalty = self.random.choice([{}, {"royalty_to": APP_OWNER.address, "royalty_bps": 250}])
        terms = terms_of(
            self.chain,
            nonce=self.random.getrandbits(64),
            max_charge=self.random.choice([TOKEN // 100, TOKEN]),
            **royalty,
        )
        self.terms.append(terms)
        return terms

    def _create(self) -> None:
        self._send(CONSUMER, self.market.create_task(self._new_terms()))

    def _settle(self) -> None:
        """Created before, or straight from a signed order."""
        terms = self.random.choice([self._new_terms(), *self.terms[:-1]])
        self.chain.wait(30)
        receipt = receipt_of(self.deployment, terms, started_s=self.chain.now_s() - 20, seconds=15)
        self._send(STRANGER, self.market.prove(accepted(self.deployment, terms, receipt)))

    def _prove_alone(self) -> None:
        terms = self._new_terms()
        self._send(CONSUMER, self.market.create_task(terms))
        lease_from = self.chain.now_s()
        self.chain.wait(30)
        receipt = receipt_of(self.deployment, terms, started_s=lease_from, seconds=20)
        proof = leased(
            self.deployment, terms, receipt, lease_from=lease_from, lease_until=lease_from + 60
        )
        self._send(PROVIDER, self.market.prove_alone(proof))

    def _cancel(self) -> None:
        if self.terms:
            self._send(CONSUMER, self.market.cancel(self.random.choice(self.terms)))

    def _withdraw(self) -> None:
        amount = self.random.randint(1, TOKEN)
        self._send(CONSUMER, self.escrow.withdraw(amount, CONSUMER.address))

    def _withdraw_credit(self) -> None:
        payee = self.random.choice([PROVIDER, DISPATCHER, APP_OWNER])
        self._send(STRANGER, self.escrow.withdraw_credit(payee.address))

    def _fund_channel(self) -> None:
        self._send(CONSUMER, self.escrow.fund(self._channel(), self.random.randint(1, TOKEN)))

    def _redeem(self) -> None:
        """Into credit, or with the credit into the wallet."""
        voucher = self._channel().voucher(self.random.randint(0, 5 * TOKEN), digest_of_word(1))
        signature = messages.sign(self.deployment.domain, voucher, CONSUMER.key)
        acts: list[Callable[..., Call]] = [self.escrow.redeem, self.escrow.withdraw_credit]
        act = self.random.choice(acts)
        self._send(STRANGER, act(PROVIDER.address, [SignedVoucher(voucher, signature)]))

    def _release(self) -> None:
        self._send(OPERATOR, self.escrow.release(self._channel(), self.random.randint(1, TOKEN)))

    def _channel(self) -> Channel:
        return Channel(
            CONSUMER.address, CONSUMER.address, PROVIDER.address, self.random.randint(0, 1)
        )

    def _deposit_into_channel(self) -> None:
        """Out of the wallet, for nothing that was available before."""
        amount = self.random.randint(1, TOKEN)
        self._send(
            CONSUMER, Token(_NO_WEB3, self.deployment.token).approve(self.escrow.address, amount)
        )
        self._send(CONSUMER, self.escrow.deposit_to_channel(self._channel(), amount))

    def _request_close(self) -> None:
        self._send(CONSUMER, self.escrow.request_close(self._channel()))

    def _cancel_close(self) -> None:
        self._send(CONSUMER, self.escrow.cancel_close(self._channel()))

    def _close(self) -> None:
        self.chain.wait(self.deployment.close_seconds)
        self._send(STRANGER, self.escrow.close(self._channel()))

    def _publish(self) -> None:
        salt = to_digest(self.random.randbytes(32))
        self.apps.append(
            apps.app_id(self.chain.chain_id, self.registry.address, APP_OWNER.address, salt)
        )
        call = self.registry.publish(
            salt, digest_of_word(1), digest_of_word(2), "ipfs://m", Price(7)
        )
        self._send(APP_OWNER, call)

    def _announce(self) -> None:
        """A version, a price, a discount or the end."""
        if not self.apps:
            return
        app_id, now_s = self.random.choice(self.apps), self.chain.now_s()
        price = Price(self.random.randint(0, 9), self.random.randint(0, 9), 2**128 - 1)
        digests = digest_of_word(3), digest_of_word(4)
        call = self.random.choice(
            [
                self.registry.add_version(app_id, *digests, "ipfs://n", price),
                self.registry.set_price(app_id, 1, price),
                self.registry.set_discount(app_id, 2500, now_s + 100, now_s + 9999),
                self.registry.retire(app_id),
                self.registry.renounce(app_id),
            ]
        )
        self._send(APP_OWNER, call)

    def _unbond(self) -> None:
        self._send(PROVIDER, self.staking.request_unbond(self.random.randint(1, STAKE_UNIT // 4)))

    def _register(self) -> None:
        ids = [f"GPU-{n}" for n in range(self.random.randint(1, 2))]
        self._send(PROVIDER, self.staking.register_gpus(merkle.gpu_set_root(ids), len(ids)))

    def _quiet(self) -> None:
        self.chain.mine(self.random.randint(1, 2))

    def _send(self, sender: Person, call: Call) -> None:
        send(self.chain, sender, call)
