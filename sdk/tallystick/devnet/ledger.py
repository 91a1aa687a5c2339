"""Reads a local market's chain beside its index: balances, transactions, payments, agreement.

Deliberately on its own: it asks the chain with plain calls and the index with plain HTTP, so that
what it finds does not rest on the code it checks.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from web3 import HTTPProvider, Web3

from tallystick.devnet import people
from tallystick.devnet.processes import DevnetError
from tallystick.protocol import codec
from tallystick.protocol.money import format_amount

if TYPE_CHECKING:
    from tallystick.devnet.market import LocalMarket
    from tallystick.jobs import CheckedReceipt

_DECIMALS = 18
_INDEX_TIMEOUT_S = 180.0
_PLACES: dict[codec.ContractName, str] = {
    "TallyToken": "token",
    "ComputeEscrow": "escrow",
    "TaskMarket": "market",
    "ProviderStaking": "staking",
    "AppRegistry": "registry",
}
"""Contracts and what the deployment file calls them."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One mined transaction to a contract of ours."""

    block: int
    act: str
    sender: str
    gas_used: int
    hash: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a charge, as people read it."""

    label: str
    quantity: str
    price: str
    amount: str


class Ledger:
    """What the chain of a local market says, from the block at which the ledger was opened."""

    def __init__(self, market: LocalMarket) -> None:
        self._market = market
        provider = HTTPProvider(market.rpc_url)
        provider.global_ccip_read_enabled = False
        self._web3 = Web3(provider)
        deployment = market.deployment()
        self._contracts: dict[str, Any] = {
            name: self._web3.eth.contract(
                address=Web3.to_checksum_address(deployment[key]), abi=codec.abi(name)
            )
            for name, key in _PLACES.items()
        }
        self._names = self._who_is_who()
        self._first_block = self._web3.eth.block_number + 1

    # --- money -------------------------------------------------------------------------------

    def money(self, units: int) -> str:
        """In whole tokens, all digits; the local market's token is TALLY."""
        return format_amount(units, _DECIMALS)

    def balances(self) -> dict[str, dict[str, int]]:
        """Smallest units by person and place: wallet, available, locked, credit."""
        escrow, token = self._contracts["ComputeEscrow"], self._contracts["TallyToken"]
        found = {}
        for address, name in self._names.items():
            if name.startswith("operator"):
                continue
            available, locked = escrow.functions.accountOf(address).call()
            credit, _fees = escrow.functions.payeeOf(address).call()
            found[name] = {
                "wallet": token.functions.balanceOf(address).call(),
                "available": available,
                "locked": locked,
                "credit": credit,
            }
        return found

    def payments(self, task_id: str) -> list[dict[str, Any]]:
        """Every `TaskSettled` of this task on the chain."""
        event = self._contracts["TaskMarket"].events.TaskSettled
        logs = event.get_logs(from_block=0, argument_filters={"taskId": task_id})
        return [
            {
                "provider": log["args"]["provider"],
                "charge": str(log["args"]["charge"]),
                "tx": Web3.to_hex(log["transactionHash"]),
            }
            for log in logs
        ]

    def charge_lines(self, task_id: str, receipt: CheckedReceipt) -> list[ChargeLine]:
        """How the charge comes about, and who gets which part of it."""
        event = self._contracts["TaskMarket"].events
        created = event.TaskCreated.get_logs(from_block=0, argument_filters={"taskId": task_id})
        settled = event.TaskSettled.get_logs(from_block=0, argument_filters={"taskId": task_id})
        terms, paid = created[0]["args"]["terms"], settled[0]["args"]
        rate, gpu_ms = terms["ratePerGpuSecond"], receipt.body.gpu_ms
        for_time = -(-rate * gpu_ms // 1000)
        share = paid["dispatcherShare"]
        return [
            ChargeLine("flat", "1", self.money(terms["flat"]), self.money(terms["flat"])),
            ChargeLine(
                "calls",
                str(receipt.body.calls),
                self.money(terms["feePerCall"]),
                self.money(terms["feePerCall"] * receipt.body.calls),
            ),
            ChargeLine(
                "GPU time",
                f"{receipt.gpu_seconds} GPU-s",
                f"{self.money(rate)} / GPU-s",
                self.money(for_time),
            ),
            ChargeLine(
                "charge",
                "",
                f"at most {self.money(terms['maxCharge'])}",
                self.money(paid["charge"]),
            ),
            ChargeLine(
                "  to the dispatcher", "", f"{terms['dispatcherBps'] / 100:g} %", self.money(share)
            ),
            ChargeLine("  to the provider", "", "", self.money(paid["charge"] - share)),
        ]

    # --- chain -------------------------------------------------------------------------------

    def transactions(self) -> list[Transaction]:
        """Every transaction to a contract of ours since the ledger was opened."""
        by_address = {contract.address: contract for contract in self._contracts.values()}
        found = []
        for number in range(self._first_block, self._web3.eth.block_number + 1):
            entries: Any = self._web3.eth.get_block(number, full_transactions=True)["transactions"]
            for entry in entries:
                contract = by_address.get(entry.get("to"))
                if contract is None:
                    continue
                receipt = self._web3.eth.get_transaction_receipt(entry["hash"])
                function, _ = contract.decode_function_input(entry["input"])
                found.append(
                    Transaction(
                        block=number,
                        act=function.fn_name + ("" if receipt["status"] else " (reverted)"),
                        sender=self._names.get(entry["from"], entry["from"]),
                        gas_used=receipt["gasUsed"],
                        hash=Web3.to_hex(entry["hash"]),
                    )
                )
        return found

    # --- the index beside it -----------------------------------------------------------------

    def wait_until_indexed(self, task_id: str) -> None:
        """Returns when the index has seen the block that is newest now."""
        head = self._web3.eth.block_number
        deadline = time.monotonic() + _INDEX_TIMEOUT_S
        while self._indexed_block() < head:
            if time.monotonic() > deadline:
                raise DevnetError(
                    f"The index has not reached block {head} of task {task_id}.",
                    next_step="See logs/backend.log in the market's directory.",
                )
            time.sleep(0.1)

    def disagreements(self) -> list[str]:
        """What index and chain say differently of anybody's money; empty when they agree."""
        found = []
        for name, held in self.balances().items():
            address = next(a for a, other in self._names.items() if other == name)
            indexed = self._index(f"/v1/accounts/{address}")
            for place in ("available", "locked", "credit"):
                if int(indexed[place]) != held[place]:
                    found.append(f"{name}.{place}: chain {held[place]}, index {indexed[place]}")
        return found

    def _indexed_block(self) -> int:
        try:
            return self._index("/readyz")["indexed_block"] or 0
        except urllib.error.HTTPError:  # it says what is late, on a machine that stood still
            return 0

    def _index(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self._market.url + path, timeout=60) as answer:
            body: dict[str, Any] = json.load(answer)
            return body

    def _who_is_who(self) -> dict[str, str]:
        everybody = [people.CONSUMER, people.DISPATCHER, people.TREASURY, people.DEPLOYER]
        for number in range(1, len(self._market.plan.providers) + 1):
            everybody += [people.provider(number), people.operator(number)]
        return {who.address: who.name for who in everybody}
