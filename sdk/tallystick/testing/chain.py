"""A chain in memory: balances, locked tasks and transactions that are mined at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tallystick.chain import Account
from tallystick.errors import ChainError
from tallystick.jobs import Sent
from tallystick.protocol import messages
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel, Domain, TaskTerms
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, Digest, to_address
from tallystick.wallet import Wallet

if TYPE_CHECKING:
    from tallystick.protocol.contracts import KeyState


@dataclass
class _Held:
    wallet: int = 0
    available: int = 0
    locked: int = 0
    credit: int = 0


@dataclass
class InMemoryChain:
    """Answers `tallystick.chain.Chain`; its time is the clock it is given."""

    domain: Domain
    now_s: Callable[[], int]
    on_created: Callable[[str, str], None] = lambda task_id, tx: None
    on_cancelled: Callable[[str], None] = lambda task_id: None
    open_tasks: dict[str, TaskTerms] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    used_nonces: set[tuple[str, int]] = field(default_factory=set)
    operator_keys: dict[str, str] = field(default_factory=dict)
    """Key -> provider, both in lower case."""
    stake_units: dict[str, int] = field(default_factory=dict)
    """Provider in lower case -> units of stake; who has none serves nobody."""
    channels: dict[str, ChannelState] = field(default_factory=dict)
    funded: dict[str, Channel] = field(default_factory=dict)
    """Channels that their payer opened itself."""
    apps: dict[str, AppHistory] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    """Allowances, by digest."""
    refuse_next: str | None = None
    """Set to a sentence, the next transaction reverts with it."""
    _held: dict[str, _Held] = field(default_factory=dict)
    _block: int = 0

    def held(self, owner: str) -> _Held:
        return self._held.setdefault(owner.lower(), _Held())

    async def account(self, owner: Address) -> Account:
        h = self.held(owner)
        return Account(h.wallet, h.available, h.locked, h.credit)

    async def deposit(self, wallet: Wallet, units: int) -> Sent:
        h = self.held(wallet.address)
        self._require(h.wallet >= units, f"The wallet holds {h.wallet}, needed {units}.")
        sent = self._mine()
        h.wallet -= units
        h.available += units
        return sent

    async def withdraw(self, wallet: Wallet, units: int, to: Address) -> Sent:
        h = self.held(wallet.address)
        self._require(h.available >= units, f"Available are {h.available}, needed {units}.")
        sent = self._mine()
        h.available -= units
        self.held(to).wallet += units
        return sent

    async def create_task(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        h, task_id = self.held(terms.consumer), self._id(terms)
        self._require(wallet.address == terms.consumer, "Only the consumer may create it.")
        nonce = (terms.consumer.lower(), terms.nonce)
        self._require(nonce not in self.used_nonces, f"Nonce {terms.nonce} is used.")
        self._require(
            h.available >= terms.max_charge,
            f"Available are {h.available}, needed {terms.max_charge}.",
        )
        sent = self._mine()
        self.used_nonces.add(nonce)
        h.available -= terms.max_charge
        h.locked += terms.max_charge
        self.open_tasks[task_id] = terms
        self.ends[task_id] = terms.deadline
        self.on_created(task_id, sent.tx)
        return sent

    async def cancel_task(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        task_id = self._id(terms)
        self._require(task_id in self.open_tasks, "The task is not open.", "WrongStatus")
        self._require(task_id not in self.cancelled, "It is cancelled.", "AlreadyCancelled")
        sent = self._mine()
        self.cancelled.add(task_id)
        self.ends[task_id] = min(self.ends[task_id], self.now_s() + 3600)
        self.on_cancelled(task_id)
        return sent

    async def reclaim(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        task_id = self._id(terms)
        self._require(task_id in self.open_tasks, "The task is not open.")
        end = self.ends[task_id]
        self._require(self.now_s() > end, f"The task can be proven until {end}.")
        sent = self._mine()
        h = self.held(terms.consumer)
        h.locked -= terms.max_charge
        h.available += terms.max_charge
        del self.open_tasks[task_id]
        return sent

    def settle(self, terms: TaskTerms, charge: int, provider: str) -> str:
        """What `prove` with an acceptance does to the balances; returns the transaction."""
        h, task_id = self.held(terms.consumer), self._id(terms)
        if self.open_tasks.pop(task_id, None) is not None:
            h.locked -= terms.max_charge
            h.available += terms.max_charge
        self._require(h.available >= charge, f"Available are {h.available}, needed {charge}.")
        h.available -= charge
        share = charge * terms.dispatcher_bps // 10_000
        self.held(terms.dispatcher).credit += share
        self.held(provider).credit += charge - share
        return self._mine().tx

    async def answers_for(self, signer: Address, provider: Address) -> bool:
        return self._binds(signer, provider)

    async def serves_with(self, signer: Address, provider: Address) -> bool:
        return self._binds(signer, provider) and self.stake_units.get(provider.lower(), 0) > 0

    def _binds(self, signer: Address, provider: Address) -> bool:
        return signer == provider or self.operator_keys.get(signer.lower()) == provider.lower()

    async def channel_state(self, channel: Channel) -> ChannelState:
        return self.channels.get(messages.channel_id(channel), ChannelState(0, 0, 0))

    async def bound_key(self, key: Address) -> KeyState:
        from tallystick.protocol.contracts import KeyState

        provider = self.operator_keys.get(key.lower())
        return KeyState(ZERO_ADDRESS if provider is None else to_address(provider), 0)

    async def app_at(self, app_id: AppId, version: int, time_s: int) -> AppHistory:
        return self.apps.get(app_id, AppHistory(app_id, ZERO_ADDRESS, ZERO_ADDRESS, 0))

    async def revoke_allowance(self, wallet: Wallet, allowance: Digest) -> Sent:
        self._require(True, "")
        self.revoked.add(allowance)
        return self._mine()

    async def fund_channel(self, wallet: Wallet, channel: Channel, units: int) -> Sent:
        held, place = self.held(channel.payer), messages.channel_id(channel)
        self._require(wallet.address == channel.payer, "Only the payer may fund it.")
        self._require(held.available >= units, f"Available are {held.available}, needed {units}.")
        sent = self._mine()
        held.available -= units
        state = self.channels.get(place, ChannelState(0, 0, 0))
        self.channels[place] = replace(state, deposited=state.deposited + units)
        self.funded[place] = channel
        return sent

    async def request_close(self, wallet: Wallet, channel: Channel) -> Sent:
        place = messages.channel_id(channel)
        self._require(wallet.address == channel.payer, "Only the payer may request it.")
        self._require(place in self.channels, "Nothing is in the channel.")
        close_at = self.now_s() + 3 * 86_400
        self.channels[place] = replace(self.channels[place], close_at=close_at)
        return self._mine()

    async def close_channel(self, wallet: Wallet, channel: Channel) -> Sent:
        place = messages.channel_id(channel)
        found = self.channels.get(place, ChannelState(0, 0, 0))
        self._require(0 < found.close_at <= self.now_s(), f"It closes at {found.close_at}.")
        self.held(channel.payer).available += found.unclaimed
        self.channels[place] = ChannelState(found.claimed, found.claimed, 0)
        return self._mine()

    async def close(self) -> None:
        return None

    def _id(self, terms: TaskTerms) -> str:
        return messages.task_id(self.domain, terms)

    def _mine(self) -> Sent:
        self._block += 1
        tx = digest_of(b"in-memory transaction" + self._block.to_bytes(8, "big"))
        return Sent(tx=tx, gas_used=21_000, block=self._block)

    def _require(self, holds: bool, sentence: str, error: str = "") -> None:
        if self.refuse_next is not None:
            sentence, self.refuse_next, holds, error = self.refuse_next, None, False, ""
        if not holds:
            next_step = "Look at the balance and the task first."
            raise ChainError(sentence, next_step=next_step, error=error)
