"""A provider at work, for its own eyes; and what a new one's agent has to know of this market."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick.protocol import deployments
from tallystick.protocol.market_views import AgentSettings, ServingBody, ServingTask
from tallystick.protocol.types import to_address, to_digest
from tallystick.protocol.wire import Announcement
from tallystick_backend.api.callers import Public, Reader
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.tables import LeaseRow, ReceiptRow, TaskChainRow

router = APIRouter(prefix="/v1", tags=["providers"])

MOST_TASKS = 100


@router.get(
    "/agent-settings",
    operation_id="getAgentSettings",
    summary="What a provider's agent has to know of this market",
    description="`tallystick-provider join` asks this once. The agent reads the contracts on a "
    "node of its own choice and believes nothing else of it.",
    dependencies=[Public],
    responses=problems(),
)
async def agent_settings(backend: Ctx) -> AgentSettings:
    return AgentSettings(
        deployment=deployments.to_json(backend.contracts),
        nats_url=backend.settings.provider_nats_url,
        rpc_url=backend.settings.browser_rpc_url,
    )


@router.get(
    "/serving",
    operation_id="getServing",
    summary="My agent: what its doctor finds, and what it runs",
    description="For the provider itself: findings name files and balances of its machine. Empty "
    "for an account whose agent was never heard of.",
    responses=problems(LOGGED_IN),
)
async def serving(backend: Ctx, caller: Reader) -> ServingBody:
    async with backend.database.read() as session:
        row = await work.announcement(session, caller.address.lower())
        leases = await work.leases_of(session, caller.address, MOST_TASKS)
        ids = [lease.task_id for lease in leases]
        receipts = await work.receipts(session, ids)
        on_chain = await chain.tasks(session, ids)
    said = None if row is None else Announcement.model_validate(row.body)
    report = None if said is None else said.doctor
    return ServingBody(
        provider=caller.address,
        online=row is not None and row.last_seen_ms >= backend.seen_since_ms(),
        last_seen_ms=None if row is None else row.last_seen_ms,
        agent_version=None if row is None else row.agent_version,
        operator_key=None if row is None else to_address(row.operator_key),
        checked_at_ms=None if report is None else report.at_ms,
        findings=() if report is None else report.findings,
        tasks=tuple(
            _task(lease, receipts.get(lease.task_id), on_chain.get(lease.task_id))
            for lease in leases
        ),
    )


def _task(
    lease: LeaseRow, receipt: ReceiptRow | None, on_chain: TaskChainRow | None
) -> ServingTask:
    mine = receipt is not None and receipt.fence == lease.fence
    tx = None if on_chain is None else on_chain.settled_tx
    return ServingTask(
        task_id=to_digest(lease.task_id),
        fence=lease.fence,
        state=lease.state,
        stage=lease.stage,
        percent=lease.percent,
        message=lease.message,
        gpus=lease.gpus,
        gpu_class=lease.gpu_class,
        lease_from=lease.lease_from_s,
        updated_at_ms=lease.updated_at_ms,
        gpu_ms=lease.gpu_ms,
        charge=int(receipt.receipt["total"]) if receipt is not None and mine else None,
        chain_state=None if on_chain is None else on_chain.state,
        settled_tx=None if tx is None else to_digest(tx),
    )
