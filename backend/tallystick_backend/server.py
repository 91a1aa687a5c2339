"""The process that answers HTTP: one application behind uvicorn, until it is told to end."""

from __future__ import annotations

import gc
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tallystick_backend.app import create_app, load_deployment
from tallystick_backend.connections import GuardedHttp
from tallystick_backend.dispatch.nats_config import bus_keys_of
from tallystick_backend.settings import Settings


def run(settings: Settings) -> None:
    """Returns when SIGTERM or Ctrl-C came; raises `SettingsError` for what is missing."""
    load_deployment(settings)
    bus_keys_of(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=GuardedHttp.within(settings.head_timeout_s),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=15,
        limit_concurrency=settings.max_streams + 2000,
    )
    _spare_the_collector()
    _Server(config, app).run()


def _spare_the_collector() -> None:
    """What is imported by now stays for good. To look through all of it again and again took a
    tenth of the time of a busy gateway, in pauses of some ten milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Server(uvicorn.Server):
    """Open event streams end when the signal comes: the server would wait for them first and tell
    the application only after."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        backend = self._app.state.backend
        if backend is not None:
            backend.stopping.set()
        super().handle_exit(sig, frame)
