"""Structured logs: the event's name first, ids as fields. Secrets and payloads are never fields;
one that slips in by its name is struck out."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from tallystick.protocol.log_stream import LogStream, strike_secrets, without_secrets


def configure(level: str, *, as_json: bool) -> None:
    """Once, at the start of the process."""
    render: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The rich one prints local variables, and with them every secret in reach.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    stream: Any = LogStream(sys.stderr)
    number: int = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            strike_secrets,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Struck("%(levelname)s:%(name)s:%(message)s"))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Struck(logging.Formatter):
    """For what libraries say, their tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
