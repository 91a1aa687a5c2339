"""What the caller's calls and tasks came to, by the hour or the day: JSON, or CSV for a
spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tallystick.protocol.call_views import Grouping, Spending, SummaryPage, SummaryRow, SummarySums
from tallystick.protocol.types import to_address
from tallystick_backend import summaries
from tallystick_backend.api.callers import CallBooks
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.receipts import AppFilter, KeyFilter, ProviderFilter
from tallystick_backend.store.repositories import settlements, usage
from tallystick_backend.store.repositories.usage import CallFilter
from tallystick_backend.summaries import Calendar, Span, Summary

router = APIRouter(prefix="/v1/summaries", tags=["calls"])

_DEFAULT_DAYS: dict[summaries.Bar, int] = {"hour": 1, "day": 30}
_DAY_MS = 86_400_000
_FIELD: dict[Grouping, str] = {
    "app": "app_id",
    "provider": "provider",
    "gpu": "gpu_class",
    "key": "key_id",
    "channel": "channel_id",
}
CSV = "text/csv"


class SummaryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: Annotated[Literal["hour", "day"], Field(description="One row for each.")] = "day"
    time_zone: Annotated[
        str,
        Field(
            max_length=80,
            description="Whose hours and days: a name of the IANA list, such as Europe/Berlin.",
        ),
    ] = "UTC"
    kind: Annotated[
        tuple[Spending, ...],
        Field(
            min_length=1,
            max_length=2,
            description="Sums of these: may be given repeatedly. Tasks need the scope tasks:read.",
        ),
    ] = ("call",)
    group: Annotated[
        tuple[Grouping, ...],
        Field(max_length=5, description="A row for each of these, too; may be given repeatedly."),
    ] = ()
    from_ms: Annotated[
        int | None,
        Field(
            ge=0,
            le=4_102_444_800_000,
            description="First moment, widened to a whole hour or day. Without it 30 days, or one "
            "by the hour.",
        ),
    ] = None
    until_ms: Annotated[
        int | None,
        Field(
            ge=0,
            le=4_102_444_800_000,
            description="Moment after the last, widened in the same way; without it now.",
        ),
    ] = None
    app: AppFilter = None
    provider: ProviderFilter = None
    key: KeyFilter = None
    format: Annotated[
        Literal["json", "csv"] | None,
        Field(description="Without it `Accept: text/csv` asks for CSV."),
    ] = None


@router.get(
    "",
    operation_id="listSummaries",
    summary="What my calls and tasks came to",
    description="Sums are exact: those of the rows are the sum of the calls' receipts and of what "
    "the chain settled for the tasks. A call counts in the hour or day in which it was asked for, "
    "a task in that of its settlement on the chain; a task is no app's, no channel's and no API "
    "key's. At most 20,000 rows.",
    response_model=SummaryPage,
    responses={
        200: {"content": {CSV: {"schema": {"type": "string"}}}},
        **problems(
            LOGGED_IN,
            summaries.UnknownTimeZone,
            summaries.RangeTooLong,
            summaries.RangeEmpty,
            summaries.TooManyRows,
        ),
    },
)
async def list_summaries(
    backend: Ctx,
    caller: CallBooks,
    query: Annotated[SummaryQuery, Query()],
    accept: Annotated[str, Header(max_length=1000)] = "",
) -> Any:
    calendar = Calendar(query.by, summaries.time_zone(query.time_zone))
    kinds = tuple(dict.fromkeys(query.kind))
    if "task" in kinds:
        caller.require("tasks:read")
    group = tuple(dict.fromkeys(query.group))
    now_ms = backend.clock.now_ms()
    until_ms = now_ms + 1 if query.until_ms is None else query.until_ms
    default_ms = max(0, until_ms - _DEFAULT_DAYS[query.by] * _DAY_MS)
    from_ms = default_ms if query.from_ms is None else query.from_ms
    from_ms, until_ms = summaries.whole_range(calendar, from_ms, until_ms)
    wanted = CallFilter(
        account=caller.address,
        app_id=query.app,
        provider=query.provider,
        key_id=query.key,
        from_ms=from_ms,
        until_ms=until_ms,
    )
    summary = Summary(calendar)
    await backend.gateway.projected()
    async with backend.database.read() as session:
        if "call" in kinds:
            async for batch in usage.usage(session, wanted, group):
                summary.add(batch)
        if "task" in kinds:
            async for batch in settlements.settlements(session, wanted, group):
                summary.add(batch)
    page = SummaryPage(
        kinds=kinds,
        by=query.by,
        time_zone=query.time_zone,
        group=group,
        from_ms=from_ms,
        until_ms=until_ms,
        items=tuple(
            _row(span, kind, group, named, sums) for span, kind, named, sums in summary.in_order()
        ),
        sums=SummarySums(**asdict(summary.all)),
    )
    if query.format == "csv" or (query.format is None and CSV in accept):
        return Response(
            csv_text(page),
            media_type=f"{CSV}; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="tallystick-summary.csv"'},
        )
    return page


def _row(
    span: Span,
    kind: Spending,
    group: tuple[Grouping, ...],
    named: tuple[str, ...],
    sums: summaries.Sums,
) -> SummaryRow:
    names: dict[str, str] = {_FIELD[by]: name for by, name in zip(group, named, strict=True)}
    if names.get("provider"):
        names["provider"] = to_address(names["provider"])
    fields = {"start": span.start, "start_ms": span.start_ms, "end_ms": span.end_ms}
    return SummaryRow.model_validate({"kind": kind} | fields | asdict(sums) | names)


def csv_text(page: SummaryPage) -> str:
    """One line for each row; amounts in the token's smallest unit, so that no program rounds."""
    named = [_FIELD[by] for by in page.group]
    sums = list(SummarySums.model_fields)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["start", "start_ms", "end_ms", "kind", *named, *sums[:-1], "charge_units"])
    for item in page.items:
        values = [getattr(item, name) for name in named]
        writer.writerow(
            [
                item.start,
                item.start_ms,
                item.end_ms,
                item.kind,
                *map(inert, values),
                *(getattr(item, name) for name in sums),
            ]
        )
    return text.getvalue()


def inert(text: str) -> str:
    """Spreadsheets run what begins like a formula; others chose some of these texts."""
    runs = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n"))
    return "'" + text if runs else text
