"""What can be called: an app's version with its manifest, and what it costs at any second.

Read from the rows once and then kept; a moment later it is read again behind the calls, so that no
call waits for the database. Prices change after a notice of days, so a second is soon enough.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import structlog

from tallystick.protocol.app_manifest import AppManifest, read_app_manifest
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.calls import CallLimits
from tallystick.protocol.errors import WireError
from tallystick.protocol.input_schemas import (
    InputNotValid,
    InputSchema,
    SchemaRefused,
    schema_of,
)
from tallystick.protocol.types import AppId, Digest
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import InputRefused, InvalidInput, ManifestMissing
from tallystick_backend.store.repositories import apps, calls
from tallystick_backend.store.session import Database

log = structlog.get_logger(__name__)

FRESH_MS: Final = 1_000
STALE_MS: Final = 15_000
"""Older than this is not used without a new look."""
_KEPT: Final = 4096
_JSON: Final = "application/json"
_MAX_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """One version, ready to be called."""

    app_id: AppId
    version: int
    manifest: AppManifest
    manifest_text: str
    limits: CallLimits
    history: AppHistory
    """Of this version; whichever version is asked for, it answers this one's price."""
    input_schema: InputSchema | None = None

    @property
    def gpu_class(self) -> str:
        return self.manifest.resources.gpu_class

    def require_input(self, media_type: str, body: bytes) -> None:
        """Raises `InvalidInput`, or `InputRefused` for bytes where a schema asks for JSON."""
        if self.input_schema is None:
            return
        if media_type != _JSON:
            raise InputRefused(f"the media type is {media_type} and the app's schema is for JSON")
        try:
            self.input_schema.check(body)
        except InputNotValid as misfit:
            raise InvalidInput(misfit.place, misfit.why) from None


class UnknownTarget(Exception):
    """No such app, or no such version; `latest` is 0 for the first."""

    def __init__(self, app_id: str, latest: int, version: int) -> None:
        super().__init__(app_id, latest, version)
        self.app_id, self.latest, self.version = app_id, latest, version


class Shelf:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], tuple[int, Target]] = OrderedDict()
        self._looking: dict[tuple[str, int], asyncio.Task[Target]] = {}

    async def get(self, app_id: str, version: int | None, *, fresh: bool = False) -> Target:
        """Raises `UnknownTarget` or `ManifestMissing`."""
        key = (app_id, version or 0)
        kept = self._kept.get(key)
        if kept is None or fresh:
            return await self._look(key)
        read_at_ms, target = kept
        age_ms = self._clock.now_ms() - read_at_ms
        if age_ms >= STALE_MS:
            return await self._look(key)
        if age_ms >= FRESH_MS and key not in self._looking:
            self._start(key)
        return target

    def _start(self, key: tuple[str, int]) -> asyncio.Task[Target]:
        task = asyncio.create_task(self._read(key))
        self._looking[key] = task

        def ended(done: asyncio.Task[Target]) -> None:
            self._looking.pop(key, None)
            if not done.cancelled() and done.exception() is not None:
                self._kept.pop(key, None)

        task.add_done_callback(ended)
        return task

    async def _look(self, key: tuple[str, int]) -> Target:
        return await asyncio.shield(self._looking.get(key) or self._start(key))

    async def _read(self, key: tuple[str, int]) -> Target:
        app_id, wanted = key
        now_ms = self._clock.now_ms()
        async with self._database.read() as session:
            row = await apps.app(session, app_id)
            if row is None:
                raise UnknownTarget(app_id, 0, wanted)
            version = wanted or row.versions
            known = await apps.version(session, app_id, version)
            if known is None:
                raise UnknownTarget(app_id, row.versions, version)
            points = await apps.prices(session, app_id, version=version, limit=_MAX_POINTS)
            announced = await apps.discounts(session, app_id, limit=_MAX_POINTS)
            file = await calls.manifest(session, known.manifest_digest)
        if file is None:
            raise ManifestMissing(app_id, version, known.manifest_digest)
        kept = self._kept.get(key)
        if kept is not None and kept[1].manifest_text == file.text:
            manifest, schema = kept[1].manifest, kept[1].input_schema
        else:
            try:
                manifest = read_app_manifest(
                    file.text.encode(), expected=Digest(known.manifest_digest)
                )
                schema = schema_of(manifest)
            except (WireError, SchemaRefused) as failure:
                log.error("manifest_broken", digest=known.manifest_digest, why=str(failure))
                raise ManifestMissing(app_id, version, known.manifest_digest) from failure
        # Only this version is ever asked for, so it may stand in every place.
        history = apps.app_history(row, (apps.version_history(known, points),) * version, announced)
        target = Target(
            AppId(Digest(app_id)),
            version,
            manifest,
            file.text,
            CallLimits.of(manifest),
            history,
            schema,
        )
        self._kept[key] = (now_ms, target)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return target
