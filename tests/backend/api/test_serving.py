"""A provider's own desk
├── an account without an agent: empty, not an error
├── what the doctor found, and the leases with their charge
├── a stranger sees nothing of it, and the public page neither
└── what a new agent has to know is public, and loads as a deployment
"""

from __future__ import annotations

from tallystick.protocol.deployments import from_json
from tallystick.protocol.wire import Announcement, DoctorReport, FindingBody
from tallystick_backend.store.tables import AnnouncementRow
from tests.backend.api.world import Consumer, World
from tests.support.anvil import PROVIDER

FINDING = FindingBody(name="disk", ok=False, found="1 MiB free for /secret", fix="free some space")


async def told(world: World, *findings: FindingBody) -> None:
    """The provider's agent announces what its doctor found."""
    async with world.database.transaction() as session:
        row = await session.get(AnnouncementRow, PROVIDER.address.lower())
        assert row is not None
        report = DoctorReport(at_ms=world.clock.now_ms(), findings=findings)
        said = Announcement.model_validate(row.body).model_copy(update={"doctor": report})
        row.body = said.model_dump(mode="json")
        session.add(row)


async def test_an_account_without_an_agent_has_an_empty_desk(
    world: World, consumer: Consumer
) -> None:
    desk = (await consumer.get("/v1/serving")).json()
    assert desk["provider"] == consumer.address
    assert (desk["online"], desk["last_seen_ms"], desk["checked_at_ms"]) == (False, None, None)
    assert (desk["findings"], desk["tasks"]) == ([], [])


async def test_a_provider_sees_findings_and_what_it_runs(world: World, consumer: Consumer) -> None:
    await world.has_provider()
    task = await world.ordered(consumer)
    await world.finished(task)
    await told(world, FINDING)
    provider = await world.consumer(PROVIDER)
    desk = (await provider.get("/v1/serving")).json()
    assert desk["online"]
    assert desk["findings"] == [FINDING.model_dump(mode="json")]
    assert desk["checked_at_ms"] == world.clock.now_ms()
    [lease] = desk["tasks"]
    assert lease["task_id"] == task["id"]
    assert lease["state"] == "finished"
    receipt = (await consumer.get(f"/v1/tasks/{task['id']}/receipt")).json()
    assert lease["charge"] == receipt["receipt"]["total"]


async def test_nobody_else_sees_the_findings(world: World, consumer: Consumer) -> None:
    await world.has_provider()
    await told(world, FINDING)
    assert "/secret" not in (await consumer.get("/v1/serving")).text
    public = await world.http.get(f"/v1/providers/{PROVIDER.address}")
    assert public.status_code == 200
    assert "/secret" not in public.text
    assert (await world.http.get("/v1/serving")).status_code == 401


async def test_an_agent_learns_where_the_contracts_are(world: World) -> None:
    told = (await world.http.get("/v1/agent-settings")).json()
    assert from_json(told["deployment"]).domain == world.backend.domain
    assert told["nats_url"] == ""
