"""Which app versions are served here, at whose word and at what price.

A gateway brings the manifest's file; that it is the registry's, and what a call costs, is read on
chain here. Accepted ones are remembered, so that a provider that was started again serves on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import structlog

from tallystick.protocol.app_manifest import (
    AppManifest,
    HttpHandler,
    image_digest,
    read_app_manifest,
)
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.calls import CallLimits, call_charge_up
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.types import AppId
from tallystick_provider.calls.workers import AppWorkers, WorkerTools
from tallystick_provider.errors import AppRefused, RuntimeFailure
from tallystick_provider.runtime import SOCKET_PATH
from tallystick_provider.runtime.container import check_image_name, check_socket_path
from tallystick_provider.settings import Settings

EVERY = "*"

log = structlog.get_logger()


class AppSource(Protocol):
    """What is asked of the chain; `follow.ChainView` answers."""

    async def app(self, app_id: AppId) -> AppHistory: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A version that calls may come for."""

    app_id: AppId
    version: int
    manifest: AppManifest
    limits: CallLimits
    workers: AppWorkers


class Apps:
    def __init__(self, settings: Settings, tools: WorkerTools, source: AppSource) -> None:
        self._settings = settings
        self._tools = tools
        self._source = source
        self._served: dict[tuple[AppId, int], Served] = {}
        self._histories: dict[AppId, AppHistory] = {}
        self._retired: list[Served] = []

    def get(self, app_id: AppId, version: int) -> Served | None:
        return self._served.get((app_id, version))

    def history(self, app_id: AppId) -> AppHistory | None:
        return self._histories.get(app_id)

    def all(self) -> Collection[Served]:
        return tuple(self._served.values())

    async def accept(self, app_id: AppId, version: int, file: bytes, now_s: int) -> Served:
        """Raises AppRefused, in words for the gateway. A repeat changes nothing."""
        wanted = self._settings.apps
        if EVERY not in wanted and app_id not in wanted:
            raise AppRefused("this provider serves other apps only (TALLYSTICK_PROVIDER_APPS)")
        found = await self._source.app(app_id)
        self._histories[app_id] = found
        if not 1 <= version <= len(found.versions):
            raise AppRefused(f"the app has versions 1 to {len(found.versions)}, not {version}")
        known = self._served.get((app_id, version))
        if known is not None:
            return known
        published = found.versions[version - 1]
        try:
            manifest = read_app_manifest(file, expected=published.manifest_digest)
            digest = image_digest(manifest.image)
        except ProtocolError as problem:
            raise AppRefused(str(problem)) from None
        if digest != published.image_digest:
            raise AppRefused(
                f"the manifest's image has the digest {digest}, the registry says "
                f"{published.image_digest}"
            )
        self._require_possible(manifest)
        require_worth(manifest, found, version, now_s, self._settings)
        served = Served(
            app_id,
            version,
            manifest,
            CallLimits.of(manifest),
            AppWorkers(self._tools, f"{app_id[:10]} v{version}", manifest),
        )
        self._served[app_id, version] = served
        served.workers.begin()
        return served

    async def look_again(self, app_id: AppId) -> None:
        """After the registry told something of it."""
        if app_id in self._histories:
            self._histories[app_id] = await self._source.app(app_id)

    def require_worth(self, now_s: int) -> None:
        """A version whose price fell below the floor, or that was retired, is served no more; its
        workers finish what they have."""
        for key, served in list(self._served.items()):
            try:
                history = self._histories[served.app_id]
                require_worth(served.manifest, history, served.version, now_s, self._settings)
            except AppRefused as error:
                log.info("app_given_up", app=served.app_id, version=served.version, why=str(error))
                del self._served[key]
                served.workers.retire()
                self._retired.append(served)

    async def close(self) -> None:
        every = (*self._served.values(), *self._retired)
        await asyncio.gather(*(served.workers.close() for served in every))

    def _require_possible(self, manifest: AppManifest) -> None:
        handler, runtime = manifest.handler, self._tools.runtime.kind
        if (manifest.image == "process") != (runtime == "process"):
            raise AppRefused(f"image {manifest.image[:80]!r} does not run on the {runtime} runtime")
        if manifest.environment:
            raise AppRefused(
                f"the app expects the variables {', '.join(manifest.environment)[:100]}, and a "
                "provider has no values for them"
            )
        if isinstance(handler, HttpHandler) and handler.socket is None:
            raise AppRefused(
                f"the app listens on port {handler.port}, and a worker has no network: nothing "
                "outside of it reaches a port. Let it listen on a Unix socket and say so: "
                'handler.socket = "/run/app/app.sock" instead of handler.port'
            )
        try:
            check_socket_path(
                handler.socket
                if isinstance(handler, HttpHandler) and handler.socket
                else SOCKET_PATH
            )
            if manifest.image != "process":
                check_image_name(manifest.image)
        except RuntimeFailure as error:
            raise AppRefused(str(error)) from None
        if manifest.image == "process":
            self._require_project(manifest)
        self._require_size(manifest)

    def _require_project(self, manifest: AppManifest) -> None:
        """The development runtime has no images: the code lies on this machine."""
        apps_dir = self._tools.apps_dir
        if isinstance(manifest.handler, HttpHandler):
            raise AppRefused("the process runtime serves functions only, no servers of their own")
        if apps_dir is None:
            raise AppRefused(
                "image 'process' names no code, and TALLYSTICK_PROVIDER_APPS_DIR says of no folder "
                "where it lies"
            )
        name = manifest.name
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise AppRefused(f"the app's name {name!r} is no name of a folder in {apps_dir}")
        if not (apps_dir / name / "tallystick.toml").is_file():
            raise AppRefused(f"there is no project {name} in {apps_dir} on this provider")

    def _require_size(self, manifest: AppManifest) -> None:
        """Whether a worker would fit if this machine had nothing else to do."""
        wanted, settings = manifest.resources, self._settings
        for what, total, asked in (
            ("CPU (milli)", settings.cpu_milli, wanted.cpu_milli),
            ("memory (MiB)", settings.memory_mib, wanted.memory_mib),
            ("disk (MiB)", settings.disk_mib, wanted.disk_mib),
        ):
            if asked > total:
                raise AppRefused(f"{what}: a worker needs {asked}, this provider has {total}")
        fitting = [
            card
            for card in self._tools.cards.offered()
            if card.gpu_class == wanted.gpu_class and card.memory_mib >= wanted.gpu_memory_mib
        ]
        if len(fitting) < wanted.gpus:
            raise AppRefused(
                f"a worker needs {wanted.gpus} GPUs of class {wanted.gpu_class!r} with "
                f"{wanted.gpu_memory_mib} MiB, this provider has {len(fitting)}"
            )


def require_worth(
    manifest: AppManifest, app: AppHistory, version: int, now_s: int, settings: Settings
) -> None:
    """Even the longest call must earn what the provider asks for its cards; without a card any
    price will do. Raises AppRefused."""
    gpus = manifest.resources.gpus
    gpu_class = manifest.resources.gpu_class if gpus else ""
    floor = settings.rate.get(gpu_class)
    if floor is None:
        raise AppRefused(f"this provider asks no price for the class {gpu_class!r}")
    # A version is served from its publication on, whatever our clock says of that moment.
    at_s = max(now_s, app.versions[version - 1].prices[0].from_s)
    try:
        price = app.price_at(at_s, version=version)
        longest_ms = gpus * manifest.timeout_s * 1000
        earned = call_charge_up(price, 1, longest_ms)
    except ProtocolError as problem:
        raise AppRefused(str(problem)) from None
    asked = floor * gpus * manifest.timeout_s
    if earned < asked:
        raise AppRefused(
            f"a call of {manifest.timeout_s} s earns {earned}, the floor for its {gpus} GPUs is "
            f"{asked}"
        )
