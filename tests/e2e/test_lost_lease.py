"""A provider that was frozen past its lease wakes up and wants its money (case 92, law L11).

stopped (SIGSTOP) while the task runs, replaced, continued
    its proof under the old lease is refused by the contract, whatever it signs
    only the provider that took over is paid
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tallystick import Job
from tallystick.devnet import people
from tallystick.protocol import contracts, messages
from tallystick.protocol.deployments import load
from tallystick.protocol.errors import ContractError
from tallystick.protocol.pricing import charge_up
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tallystick.protocol.web3 import close, connect
from tests.e2e.scenario import PATIENCE_S, Scenario


def test_a_woken_provider_earns_nothing(scenario: Scenario, tmp_path: Path) -> None:
    job = scenario.submit(steps=40, step_seconds=0.5)
    first = scenario.running(job)
    frozen = scenario.number_of(first.provider)
    credit = scenario.credit(frozen)
    scenario.pause(f"provider-{frozen}")

    second = scenario.wait_for(job, "running", when=lambda now: now.provider != first.provider)
    scenario.resume(f"provider-{frozen}")
    with pytest.raises(ContractError) as refusal:
        asyncio.run(prove_under_the_old_lease(scenario, job, frozen, first.fence or 0))
    assert refusal.value.name == "LeaseOver"

    scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    scenario.wait_for(job, "settled")
    scenario.assert_paid_once(job, second.provider)
    assert scenario.credit(frozen) == credit


async def prove_under_the_old_lease(scenario: Scenario, job: Job, number: int, fence: int) -> None:
    """What a dishonest agent would send: a receipt for the lost fence, signed with its own key."""
    deployment = load(scenario.market.deployment_file)
    lease = lease_row(scenario.market.plan.directory / "backend.db", job.id, fence)
    terms = messages.TaskTerms.from_body(job.terms)
    started_at_ms = lease["lease_from_s"] * 1000
    receipt = messages.Receipt(
        provider=people.provider(number).address,
        route=Digest(job.id),
        seq=fence,
        prev=ZERO_DIGEST,
        request=terms.spec,
        result=Digest("0x" + "11" * 32),
        gpu_set=Digest("0x" + "22" * 32),
        started_at_ms=started_at_ms,
        ended_at_ms=started_at_ms + 1000,
        calls=1,
        gpu_ms=1000,
        usage_root=ZERO_DIGEST,
        total=charge_up(terms, 1, 1000),
    )
    key = people.operator(number)
    web3 = connect(scenario.market.rpc_url)
    try:
        proof = contracts.LeasedProof(
            terms=terms,
            usage=contracts.Usage.of(receipt),
            lease_from=lease["lease_from_s"],
            lease_until=lease["lease_until_s"],
            receipt_signature=messages.sign(deployment.domain, receipt, key.private_key),
            assignment=lease["assignment_signature"],
        )
        assert time.time() > lease["lease_until_s"]
        call = contracts.Market(web3, deployment.market).prove_alone(proof)
        await contracts.call_contract(web3, call, sender=key.address)
    finally:
        await close(web3)


def lease_row(database: Path, task_id: str, fence: int) -> dict[str, Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute(
            "SELECT * FROM lease WHERE task_id = ? AND fence = ?", (task_id, fence)
        ).fetchone()
        return dict(found)
    finally:
        connection.close()
