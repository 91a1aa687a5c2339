"""People who act on a chain whose blocks are taken back: transactions wait together for a block,
and after a reorganisation some are gone, the others in another order and in other blocks."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eth_account import Account

from tallystick.protocol import messages
from tallystick.protocol.contracts import Call, SignedVoucher, Token
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError
from tallystick.protocol.types import Address
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DEPLOYER,
    OTHER_OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    STAKE_UNIT,
    STRANGER,
    TOKEN,
    LocalChain,
    Person,
    bind_key,
    digest_of_word,
    fund,
    send,
    stake,
)
from tests.support.story import Story

_GAS = 3_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    block: int
    """The newest one when it was sent: it was mined above."""
    sender: Person
    call: Call


class Acts(Story):
    """As `Story`, with delegators and a second provider, and many transactions to a block."""

    def __init__(self, chain: LocalChain, deployment: Deployment, seed: str) -> None:
        chain.rpc("evm_setAutomine", True)
        chain.rpc("evm_setBlockGasLimit", hex(10**9))
        self.sent: list[Sent] = []
        self.waiting = 0
        self.highest = 0
        self._nonces: dict[Address, int] = {}
        self._together = False
        super().__init__(chain, deployment, 0)
        token = Token(_NO_WEB3, deployment.token)
        stake(chain, deployment, OTHER_PROVIDER, gpu_ids=("GPU-9",), units=2)
        bind_key(chain, deployment, OTHER_PROVIDER, OTHER_OPERATOR)
        for someone in (STRANGER, APP_OWNER):
            fund(chain, deployment, someone, 100 * STAKE_UNIT)
            send(chain, someone, token.approve(deployment.staking, 100 * STAKE_UNIT))
        send(chain, CONSUMER, token.approve(deployment.escrow, 10**30))
        self.random = random.Random(seed)
        # An anvil mines empty blocks anew as they were; here they differ by their times.
        chain.mine(66)
        self.base = chain.head()
        self.highest = self.base
        self._together = True
        chain.rpc("evm_setAutomine", False)

    def go_on(self, acts: int) -> None:
        more = (
            self._delegate,
            self._delegate,
            self._undelegate,
            self._commission,
            self._share_fees,
            self._claim,
            self._stake_more,
            self._payout,
            self._redeem_two,
        )
        for _ in range(acts):
            if self.random.random() < 0.3:
                with suppress(ContractError):
                    self.random.choice(more)()
            else:
                super().go_on(1)
            if self.random.random() < 0.5:
                self.seal()
        self.seal()

    def seal(self) -> None:
        """A block with what waits."""
        self._set_time(self.random.choice([1, 1, 2, 7]))
        self.chain.mine()
        self.waiting = 0
        self.highest = max(self.highest, self.chain.head())

    def reorganise(self, depth: int) -> None:
        """The newest `depth` blocks go; a branch of about that length, or more, takes their place.
        What was in them comes back in part."""
        head = self.chain.head()
        ancestor = head - depth
        lost = [sent for sent in self.sent if sent.block >= ancestor]
        self.sent = [sent for sent in self.sent if sent.block < ancestor]
        self.chain.rpc("anvil_dropAllTransactions")
        self.chain.rpc("anvil_rollback", depth)
        self._nonces.clear()
        fate = self.random.choice(["dropped", "same order", "another order", "another order"])
        back = [] if fate == "dropped" else [s for s in lost if self.random.random() < 0.7]
        if fate == "another order":
            self.random.shuffle(back)
        length = max(1, depth + self.random.choice([-1, 0, 1, 1, 3]))
        if depth > 64:
            length = depth + 1
        blocks = sorted(self.random.randrange(length) for _ in back)
        self._set_time(self.random.randrange(1, 60))
        if length > 100:
            self.chain.mine()
            self.chain.mine(length - 1)
            self.highest = max(self.highest, self.chain.head())
            return
        for number in range(length):
            while blocks and blocks[0] == number:
                blocks.pop(0)
                again = back.pop(0)
                self._send(again.sender, again.call)
            self.chain.mine()
        self.highest = max(self.highest, self.chain.head())

    def deepest(self) -> int:
        """How deep a reorganisation may be now so that no block is lost that was final."""
        return self.chain.head() - max(self.base - 60, self.highest - 64)

    # --- more acts ----------------------------------------------------------------------------

    def _delegate(self) -> None:
        who, provider = self._pair()
        amount = self.random.choice([STAKE_UNIT // 10, STAKE_UNIT, 7 * TOKEN + 3])
        self._send(who, self.staking.delegate(provider.address, amount, 0))

    def _undelegate(self) -> None:
        who, provider = self._pair()
        shares = self.random.randint(1, STAKE_UNIT)
        self._send(who, self.staking.request_undelegate(provider.address, shares, 0))

    def _commission(self) -> None:
        provider = self.random.choice([PROVIDER, OTHER_PROVIDER])
        self._send(provider, self.staking.set_commission(self.random.randint(0, 3000)))

    def _share_fees(self) -> None:
        payee = self.random.choice([PROVIDER, OTHER_PROVIDER, APP_OWNER])
        self._send(STRANGER, self.escrow.share_fees(payee.address))

    def _claim(self) -> None:
        who, provider = self._pair()
        self._send(who, self.staking.claim_rewards(provider.address, who.address))

    def _stake_more(self) -> None:
        amount = self.random.randint(1, STAKE_UNIT)
        token = Token(_NO_WEB3, self.deployment.token)
        self._send(DEPLOYER, token.transfer(PROVIDER.address, amount))
        self._send(PROVIDER, token.approve(self.deployment.staking, amount))
        self._send(PROVIDER, self.staking.stake(amount))

    def _payout(self) -> None:
        self._send(PROVIDER, self.escrow.set_payout_address(PROVIDER.address, STRANGER.address))

    def _redeem_two(self) -> None:
        """Both channels in one transaction, the second voucher perhaps with nothing new."""
        rows = []
        for _ in range(2):
            voucher = self._channel().voucher(
                self.random.randint(0, 5 * TOKEN), digest_of_word(self.random.randint(1, 9))
            )
            signature = messages.sign(self.deployment.domain, voucher, CONSUMER.key)
            rows.append(SignedVoucher(voucher, signature))
        self._send(STRANGER, self.escrow.redeem(PROVIDER.address, rows))

    def _pair(self) -> tuple[Person, Person]:
        return (
            self.random.choice([STRANGER, APP_OWNER]),
            self.random.choice([PROVIDER, OTHER_PROVIDER]),
        )

    # --- sending ------------------------------------------------------------------------------

    def _send(self, sender: Person, call: Call) -> None:
        """What the contracts refuse is mined as refused, and on another branch perhaps taken."""
        if not self._together:
            send(self.chain, sender, call)
            return
        nonce = self._nonces.get(sender.address)
        if nonce is None:
            nonce = int(self.chain.rpc("eth_getTransactionCount", sender.address, "pending"), 16)
        self._nonces[sender.address] = nonce + 1
        transaction = {
            "type": 2,
            "chainId": self.chain.chain_id,
            "nonce": nonce,
            "to": call.to,
            "data": call.data,
            "value": 0,
            "gas": _GAS,
            "maxFeePerGas": 10**12,
            "maxPriorityFeePerGas": 0,
        }
        raw = Account.sign_transaction(transaction, sender.key).raw_transaction
        self.chain.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
        self.sent.append(Sent(self.chain.head(), sender, call))
        self.waiting += 1

    def _set_time(self, seconds: int) -> None:
        self.chain.rpc("evm_setNextBlockTimestamp", hex(self.chain.now_s() + seconds))


_NO_WEB3: Any = None
