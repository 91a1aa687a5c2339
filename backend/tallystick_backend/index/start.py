"""Refuses to index the wrong chain, before a row is written."""

from __future__ import annotations

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.types import ZERO_ADDRESS, Address
from tallystick_backend.chain import Chain, RpcInconsistent
from tallystick_backend.index.errors import WrongChain
from tallystick_backend.index.project import FOLD
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database


def followed(deployment: Deployment) -> tuple[Address, ...]:
    """The contracts whose logs are read."""
    contracts = (
        deployment.escrow,
        deployment.market,
        deployment.staking,
        deployment.registry,
        deployment.court,
    )
    # A deployment from before there was a registry has none, and one without a court has none.
    return tuple(contract for contract in contracts if contract != ZERO_ADDRESS)


async def check(database: Database, chain: Chain, deployment: Deployment) -> str:
    """Raises `WrongChain` unless node, deployment and database belong together; answers the hash
    of the chain's first block."""
    genesis_hash = await _check_node(chain, deployment)
    await _check_contracts(chain, deployment)
    await _check_database(database, deployment, genesis_hash)
    return genesis_hash


async def _check_node(chain: Chain, deployment: Deployment) -> str:
    chain_id = await chain.chain_id()
    if chain_id != deployment.chain_id:
        raise WrongChain(
            f"the deployment is on chain {deployment.chain_id}, the node is on chain {chain_id}"
        )
    genesis = await chain.header(0)
    if genesis is None:
        raise WrongChain("the node does not know the first block of its chain")
    if await chain.header(0) != genesis:  # kept for good: not from a single answer
        raise RpcInconsistent("the node tells of the chain's first block in two ways")
    return genesis.hash


async def _check_contracts(chain: Chain, deployment: Deployment) -> None:
    for name in ("escrow", "market", "staking"):
        address: Address = getattr(deployment, name)
        if not await chain.has_code(address):
            raise WrongChain(f"there is no contract at {address}, where {name} should be")
    if deployment.registry != ZERO_ADDRESS:
        notice = await chain.number_of(deployment.registry, "noticeSeconds()")
        if notice != deployment.notice_seconds:
            raise WrongChain(
                f"registry.noticeSeconds() should answer {deployment.notice_seconds}, it answers "
                f"{notice}"
            )
    neighbours = (
        ("market", "escrow()", deployment.escrow),
        ("market", "staking()", deployment.staking),
        ("escrow", "market()", deployment.market),
        ("escrow", "token()", deployment.token),
    )
    for name, view, expected in neighbours:
        actual = await chain.address_of(getattr(deployment, name), view)
        if actual is None or actual.lower() != expected.lower():
            raise WrongChain(f"{name}.{view} should answer {expected}, it answers {actual}")
    unit = await chain.number_of(deployment.staking, "unit()")
    if unit != deployment.stake_unit:
        raise WrongChain(f"staking.unit() should answer {deployment.stake_unit}, it answers {unit}")


async def _check_database(database: Database, deployment: Deployment, genesis_hash: str) -> None:
    async with database.read() as session:
        cursor = await rows.cursor(session)
    if cursor is None:
        return
    if cursor.app_registry is None:
        raise WrongChain(
            "the database was filled before apps and channels were followed",
            next_step="Run `tallystick-backend reindex`: the next start reads the chain again.",
        )
    if cursor.fold != FOLD:
        raise WrongChain(
            "the database was filled before all was followed that is followed now",
            next_step="Run `tallystick-backend reindex`: the next start reads the chain again.",
        )
    facts = (
        ("chain id", cursor.chain_id, deployment.chain_id),
        ("first block", cursor.genesis_hash, genesis_hash),
        ("escrow", cursor.escrow, deployment.escrow.lower()),
        ("market", cursor.market, deployment.market.lower()),
        ("staking", cursor.staking, deployment.staking.lower()),
        ("registry", cursor.app_registry, deployment.registry.lower()),
    )
    for what, stored, actual in facts:
        if stored != actual:
            raise WrongChain(f"the database was filled from {what} {stored}, this is {actual}")
