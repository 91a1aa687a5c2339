"""Which contracts this backend serves."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick.protocol.market_views import ConfigBody
from tallystick.protocol.wire import DeploymentBody
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import problems
from tallystick_backend.chain import RpcUnavailable

router = APIRouter(prefix="/v1", tags=["market"])


@router.get(
    "/deployment",
    operation_id="getDeployment",
    summary="Contracts, token and terms of this dispatcher",
    description="Everything a stranger needs to check the rest on chain for itself.",
    dependencies=[Public],
    responses=problems(RpcUnavailable),
)
async def deployment(backend: Ctx) -> DeploymentBody:
    return await backend.deployment()


@router.get(
    "/config",
    operation_id="getConfig",
    summary="What a page needs to begin",
    description="Chain, contracts, tokens with their signing domains, terms, and the addresses of "
    "a node and a block explorer where the operator names them.",
    dependencies=[Public],
    responses=problems(RpcUnavailable),
)
async def config(backend: Ctx) -> ConfigBody:
    return await backend.config()
