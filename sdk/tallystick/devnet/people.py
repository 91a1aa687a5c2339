"""Who is who on the local chain.

The keys are anvil's published development keys: everybody in the world knows them, so they are good
for nothing but a chain on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account import Account

from tallystick.protocol.types import Address

_MNEMONIC = "test test test test test test test test test test test junk"


@dataclass(frozen=True)
class Person:
    """A development account: its role here, its address and its key."""

    name: str
    address: Address
    private_key: str


def person(name: str, index: int) -> Person:
    """The account at `m/44'/60'/0'/0/<index>` of anvil's development mnemonic."""
    Account.enable_unaudited_hdwallet_features()
    account = Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return Person(name, Address(account.address), "0x" + bytes(account.key).hex())


DEPLOYER = person("deployer", 0)
TREASURY = person("treasury", 1)
DISPATCHER = person("dispatcher", 2)
CONSUMER = person("consumer", 3)

_FIRST_PROVIDER = 10


def provider(number: int) -> Person:
    """Provider `number` (from 1): the cold key, which owns the stake."""
    return person(f"provider-{number}", _FIRST_PROVIDER + 2 * (number - 1))


def operator(number: int) -> Person:
    """The hot key of provider `number`: signs receipts and pays for gas, and nothing else."""
    return person(f"operator-{number}", _FIRST_PROVIDER + 2 * (number - 1) + 1)


ACCOUNTS_NEEDED = 40
"""How many funded accounts anvil is asked for; room for ten providers."""
