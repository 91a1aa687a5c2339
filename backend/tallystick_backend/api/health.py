"""Whether the process lives, whether it can serve, and what it measures."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy.exc import SQLAlchemyError

from tallystick.protocol.wire import HealthBody
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.problems import problems
from tallystick_backend.store.repositories import chain, views
from tallystick_backend.store.session import StoreError

router = APIRouter(tags=["health"])

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/healthz",
    operation_id="getLiveness",
    summary="The process answers",
    responses=problems(),
)
async def healthz() -> HealthBody:
    return HealthBody(status="ok", checks={"process": "ok"})


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="The process can serve",
    description="Database, index, message bus and every supervised part; 503 names what is wrong.",
    responses={
        **problems(),
        503: {"model": HealthBody, "description": "Degraded: `checks` says which part and why."},
    },
)
async def readyz(backend: Ctx, response: Response) -> HealthBody:
    body = await health(backend)
    if body.status != "ok":
        response.status_code = 503
    return body


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {METRICS_TYPE: {"schema": {"type": "string"}}}},
        **problems(),
    },
)
async def metrics(backend: Ctx) -> Response:
    async with backend.database.read() as session:
        figures = await views.figures(session, seen_since_ms=backend.seen_since_ms())
    backend.metrics.gateway_stands(*backend.gateway.figures())
    page = backend.metrics.show(figures, backend.parts(), backend.streams.open_streams)
    return Response(page, media_type=METRICS_TYPE)


async def health(backend: Backend) -> HealthBody:
    checks = {"database": "ok", **backend.parts()}
    head = indexed = None
    try:
        async with backend.database.read() as session:
            cursor = await chain.cursor(session)
            doubt = await chain.doubt(session)
    except (SQLAlchemyError, StoreError, OSError) as error:
        checks["database"] = f"cannot be read ({type(error).__name__})"
    else:
        checks["chain"] = "ok" if cursor is not None else "nothing indexed yet"
        if cursor is not None:
            head, indexed = cursor.head_number, cursor.block_number
            lag = head - indexed - backend.settings.confirmations
            if cursor.degraded is not None:
                checks["chain"] = f"the index stopped: {cursor.degraded}"
            elif lag > backend.settings.max_lag_blocks:
                checks["chain"] = f"the index is {lag} blocks behind"
            checks["books"] = "ok" if doubt is None or cursor.degraded is not None else doubt
    fine = all(check == "ok" for check in checks.values())
    return HealthBody(
        status="ok" if fine else "degraded", checks=checks, chain_head=head, indexed_block=indexed
    )
