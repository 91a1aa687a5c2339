"""What the custom elements `<tallystick-task>` and `<tallystick-gpu>` show on pages of others.

Public facts alone, with the token's name so that a page needs no second question. Any origin may
read these (`api.pages`); nothing else of this API.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from tallystick.protocol.market_views import EmbeddedGpus, EmbeddedTask
from tallystick_backend import tasks
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.explorer import chain_task
from tallystick_backend.api.prices import gpu_prices
from tallystick_backend.api.problems import problems
from tallystick_backend.api.schemas import TaskIdPath
from tallystick_backend.chain import RpcUnavailable

router = APIRouter(prefix="/v1/embed", tags=["embedding"])


@router.get(
    "/tasks/{task_id}",
    operation_id="getEmbeddedTask",
    summary="A task for a page elsewhere",
    dependencies=[Public],
    responses=problems(tasks.UnknownTask, RpcUnavailable),
)
async def embedded_task(backend: Ctx, task_id: TaskIdPath) -> EmbeddedTask:
    task = await chain_task(backend, task_id)
    token = (await backend.config()).token
    return EmbeddedTask(
        id=task.id,
        state=task.state,
        provider=task.provider,
        max_charge=task.max_charge,
        charge=task.charge,
        end=task.end,
        block=task.block,
        token_symbol=token.symbol,
        token_decimals=token.decimals,
    )


@router.get(
    "/gpus",
    operation_id="listEmbeddedGpus",
    summary="Prices of cards for a page elsewhere",
    dependencies=[Public],
    responses=problems(RpcUnavailable),
)
async def embedded_gpus(
    backend: Ctx,
    gpu_class: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Only this class.")
    ] = None,
) -> EmbeddedGpus:
    prices = await gpu_prices(backend)
    token = (await backend.config()).token
    return EmbeddedGpus(
        at_ms=prices.at_ms,
        items=tuple(row for row in prices.items if gpu_class in (None, row.gpu_class)),
        token_symbol=token.symbol,
        token_decimals=token.decimals,
    )
