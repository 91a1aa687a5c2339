"""Where the contracts of one deployment are, and what was frozen into them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from tallystick.protocol.errors import DeploymentError, ProtocolError
from tallystick.protocol.messages import Domain
from tallystick.protocol.money import UINT128_MAX
from tallystick.protocol.types import ZERO_ADDRESS, Address, to_address

__all__ = ["DIRECTORY_VARIABLE", "Deployment", "from_json", "load", "to_json"]

DIRECTORY_VARIABLE: Final = "TALLYSTICK_DEPLOYMENTS"
"""Folder of `<chain id>.json` files that is looked at before the ones in this package."""


@dataclass(frozen=True, slots=True)
class Deployment:
    chain_id: int
    token: Address
    """What tasks are paid in."""
    staking_token: Address
    escrow: Address
    market: Address
    staking: Address
    court: Address
    treasury: Address
    deployer: Address
    block: int
    """First block that can hold an event of these contracts."""
    protocol_fee_bps: int
    pool_share_bps: int
    """Part of the protocol fees that goes to the payee's staking pool, if it has one."""
    close_seconds: int
    """From the request to close a channel until anyone may close it."""
    stake_unit: int
    """Own stake per GPU, smallest unit of the staking token."""
    unbonding_seconds: int
    retired_key_seconds: int
    commission_notice_seconds: int
    jail_seconds: int
    stream_seconds: int
    """Over which a pool's fees reach its delegators."""
    cancel_seconds: int
    min_challenge_seconds: int
    max_challenge_seconds: int
    court_seconds: int
    bond_floor: int
    """The part of a dispute's bond that does not depend on the charge."""
    commit_seconds: int
    reveal_seconds: int
    seat_seconds: int
    """How long it takes to take a seat, or to leave it."""
    registry: Address = ZERO_ADDRESS
    """Zero in a deployment from before there was one."""
    notice_seconds: int = 0
    """How long before it takes effect the registry has a price change announced."""

    @property
    def domain(self) -> Domain:
        return Domain(self.chain_id, self.escrow)


def load(path_or_chain_id: str | Path | int) -> Deployment:
    """From a file, or by chain id from `TALLYSTICK_DEPLOYMENTS` and then from this package."""
    if isinstance(path_or_chain_id, int):
        return _load_chain(path_or_chain_id)
    path = Path(path_or_chain_id)
    try:
        text = path.read_text()
    except OSError as failure:
        raise DeploymentError(
            f"the deployment file {path} cannot be read ({failure.strerror}): name another"
        ) from failure
    return _parse(text, str(path))


def from_json(content: dict[str, Any]) -> Deployment:
    """Raises `DeploymentError` for a missing, extra or malformed entry."""
    frozen = content.get("constructor")
    flat = {name: value for name, value in content.items() if name != "constructor"}
    flat |= frozen if isinstance(frozen, dict) else {}
    names = dict(JSON_NAMES)
    missing = set(names.values()) - set(flat)
    # A deployment has the registry with its notice, or neither.
    if missing == LATER:
        missing = set()
    wrong = missing | set(flat) - set(names.values())
    if wrong:
        listed = ", ".join(sorted(wrong))
        raise DeploymentError(f"the deployment has missing or unknown entries: {listed}")
    values = {}
    for name, json_name in names.items():
        if json_name in flat:
            values[name] = _entry(name, json_name, flat[json_name])
    return Deployment(**values)


def to_json(deployment: Deployment) -> dict[str, Any]:
    """What the deploying script writes, and `load` reads."""
    content: dict[str, Any] = {}
    frozen: dict[str, Any] = {}
    for name, json_name in JSON_NAMES:
        value = getattr(deployment, name)
        (frozen if json_name in FROZEN else content)[json_name] = (
            str(value) if name in AMOUNTS else value
        )
    return {**content, "constructor": frozen}


JSON_NAMES: Final = (
    ("chain_id", "chainId"),
    ("token", "token"),
    ("staking_token", "stakingToken"),
    ("escrow", "escrow"),
    ("staking", "staking"),
    ("market", "market"),
    ("court", "court"),
    ("registry", "registry"),
    ("treasury", "treasury"),
    ("deployer", "deployer"),
    ("block", "block"),
    ("protocol_fee_bps", "protocolFeeBps"),
    ("pool_share_bps", "poolShareBps"),
    ("close_seconds", "closeSeconds"),
    ("stake_unit", "unit"),
    ("unbonding_seconds", "unbondingSeconds"),
    ("retired_key_seconds", "retiredKeySeconds"),
    ("commission_notice_seconds", "commissionNoticeSeconds"),
    ("jail_seconds", "jailSeconds"),
    ("stream_seconds", "streamSeconds"),
    ("cancel_seconds", "cancelSeconds"),
    ("min_challenge_seconds", "minChallengeSeconds"),
    ("max_challenge_seconds", "maxChallengeSeconds"),
    ("court_seconds", "courtSeconds"),
    ("bond_floor", "bondFloor"),
    ("commit_seconds", "commitSeconds"),
    ("reveal_seconds", "revealSeconds"),
    ("seat_seconds", "seatSeconds"),
    ("notice_seconds", "noticeSeconds"),
)
FROZEN: Final = frozenset(json_name for _, json_name in JSON_NAMES[11:])
AMOUNTS: Final = frozenset({"stake_unit", "bond_floor"})
LATER: Final = frozenset({"registry", "noticeSeconds"})
ADDRESSES: Final = frozenset(
    {
        *("token", "staking_token", "escrow", "market", "staking", "court", "registry"),
        *("treasury", "deployer"),
    }
)


def _entry(name: str, json_name: str, value: object) -> Any:
    if name in ADDRESSES:
        try:
            return to_address(str(value))
        except ProtocolError as failure:
            raise DeploymentError(f"the deployment's {json_name}: {failure}") from failure
    if name in AMOUNTS and isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is not int or not 0 <= value <= UINT128_MAX:
        raise DeploymentError(
            f"the deployment's {json_name} is {value!r}: expected a whole number, not negative"
        )
    return value


def _load_chain(chain_id: int) -> Deployment:
    places = []
    folder = os.environ.get(DIRECTORY_VARIABLE)
    if folder:
        places.append(Path(folder) / f"{chain_id}.json")
    packaged = resources.files("tallystick.protocol") / "deployments" / f"{chain_id}.json"
    for place in (*places, packaged):
        if place.is_file():
            found = _parse(place.read_text(), str(place))
            if found.chain_id != chain_id:
                raise DeploymentError(f"{place} is for chain {found.chain_id}, not for {chain_id}")
            return found
    raise DeploymentError(
        f"no deployment is known for chain {chain_id}: name its file, or put {chain_id}.json into "
        f"the folder that {DIRECTORY_VARIABLE} names"
    )


def _parse(text: str, place: str) -> Deployment:
    try:
        content = json.loads(text)
    except ValueError as failure:
        raise DeploymentError(f"{place} is not JSON: {failure}") from failure
    if not isinstance(content, dict):
        raise DeploymentError(f"{place} is not a deployment: expected a JSON object")
    return from_json(content)
