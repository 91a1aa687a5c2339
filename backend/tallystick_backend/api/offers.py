"""Who could run a task like this, at what price, and why the others could not."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tallystick.protocol.wire import OfferBody
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import problems
from tallystick_backend.dispatch import explain, match

router = APIRouter(prefix="/v1", tags=["market"])


class OfferQuery(BaseModel):
    """What the task will need; what is left out is not asked of anybody."""

    model_config = ConfigDict(extra="forbid")

    gpu_class: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Class of GPU, such as `gpu1`.")
    ] = ""
    gpus: Annotated[int, Field(ge=0, le=64, description="How many of them.")] = 0
    seconds: Annotated[
        int, Field(ge=0, le=2**32 - 1, description="How long; no provider limits it today.")
    ] = 0
    gpu_memory_mib: Annotated[int, Field(ge=0, le=2**31)] = 0
    cpu_milli: Annotated[int, Field(ge=0, le=256_000)] = 0
    memory_mib: Annotated[int, Field(ge=0, le=4_194_304)] = 0
    disk_mib: Annotated[int, Field(ge=0, le=4_194_304)] = 0
    max_output_mib: Annotated[
        int, Field(ge=0, le=65_536, description="Largest result; it takes disk beside `disk_mib`.")
    ] = 0
    image: Annotated[
        str,
        Field(
            pattern=r"^[\x21-\x7e]{0,200}$",
            description="Image; without one, providers of the development runtime count too.",
        ),
    ] = ""
    rate_per_gpu_second: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,39}$",
            description="Most you would pay, smallest unit per GPU-second; empty asks any price.",
        ),
    ] = None


@router.get(
    "/offers",
    operation_id="listOffers",
    summary="Providers for a task like this, best first",
    description="Each with its price, or with the first constraint it fails and the cheapest "
    "change that would pass it.",
    dependencies=[Public],
    responses=problems(),
)
async def offers(backend: Ctx, query: Annotated[OfferQuery, Query()]) -> tuple[OfferBody, ...]:
    request = match.Request(
        gpu_class=query.gpu_class if query.gpus else "",
        gpus=query.gpus,
        gpu_memory_mib=query.gpu_memory_mib,
        cpu_milli=query.cpu_milli,
        memory_mib=query.memory_mib,
        disk_mib=query.disk_mib,
        max_output_mib=query.max_output_mib,
        image=query.image,
        rate_per_gpu_second=(
            None if query.rate_per_gpu_second is None else int(query.rate_per_gpu_second)
        ),
        # Whether a container is wanted is known only once an image is named.
        allow_process_runtime=query.image == "",
    )
    async with backend.database.read() as session:
        return await explain.offers(
            session, request, now_ms=backend.clock.now_ms(), settings=backend.dispatch
        )
