"""What the agent tells the backend. `Backend` is the promise; `inbox.Inbox` keeps it over NATS."""

from __future__ import annotations

from typing import Protocol

from tallystick.protocol import wire
from tallystick_provider.errors import ProviderError


class Offline(ProviderError):
    """The backend cannot be told now; whoever asked keeps it and tries again."""


class Backend(Protocol):
    """Every message names task and fence: a repeat is harmless. Each may raise Offline."""

    async def announce(self, announcement: wire.Announcement) -> wire.AnnouncementReply: ...

    async def heartbeat(self, beat: wire.Heartbeat) -> wire.HeartbeatReply: ...

    async def log(self, chunk: wire.LogChunk) -> wire.Ack: ...

    async def finished(self, finished: wire.Finished) -> wire.Ack: ...

    async def failed(self, failed: wire.Failed) -> wire.Ack: ...
