"""Sealed bundles on disk, named by the keccak-256 of their bytes.

A bundle is written beside its place and moved there when every byte has come and the digest is
right, so that nobody ever reads half of one. Bytes never pass through the database.

BlobError
├── UnknownBlob      no such bundle, or not yours
├── DigestMismatch   the bytes are not those of the name
├── BlobTooLarge     more bytes than allowed
└── StorageFull      more bytes than one consumer may keep
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from tallystick.protocol.hashing import StreamDigest
from tallystick.protocol.types import Digest
from tallystick_backend.errors import BackendError

_WRITE_AT_ONCE = 1024 * 1024


class BlobStore:
    """A directory; two letters of the digest make the folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def prepare(self) -> None:
        """Makes the directory and clears away what an earlier process left half-written."""
        (self.directory / "partial").mkdir(parents=True, exist_ok=True)
        for left in (self.directory / "partial").iterdir():
            left.unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        return self.directory / digest[2:4] / digest[2:]

    async def receive(self, pieces: AsyncIterator[bytes], digest: Digest, limit_bytes: int) -> int:
        """Takes the bytes in, answers how many; on any failure nothing is left behind."""
        partial = self.directory / "partial" / secrets.token_hex(16)
        try:
            size_bytes = await self._write(partial, pieces, digest, limit_bytes)
            await asyncio.to_thread(_move, partial, self.path(digest))
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
        return size_bytes

    async def _write(
        self, partial: Path, pieces: AsyncIterator[bytes], digest: Digest, limit_bytes: int
    ) -> int:
        found = StreamDigest()
        buffer = bytearray()
        with partial.open("xb") as file:
            async for piece in pieces:
                found.update(piece)
                if found.size_bytes > limit_bytes:
                    raise BlobTooLarge(limit_bytes)
                buffer += piece
                if len(buffer) >= _WRITE_AT_ONCE:
                    await asyncio.to_thread(file.write, bytes(buffer))
                    buffer.clear()
            await asyncio.to_thread(_finish, file, bytes(buffer))
        if found.digest() != digest:
            raise DigestMismatch(digest, found.digest(), found.size_bytes)
        return found.size_bytes


def _finish(file: BinaryIO, rest: bytes) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())


def _move(partial: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    partial.replace(place)


# --- errors -----------------------------------------------------------------------------------


class BlobError(BackendError):
    """A bundle cannot be taken or given."""


class UnknownBlob(BlobError):
    next_step = "Check the digest; a bundle is shown to who uploaded it and to the task's parties."

    def __init__(self, digest: str) -> None:
        super().__init__(f"there is no bundle {digest}")


class DigestMismatch(BlobError):
    next_step = "Send exactly the bytes whose keccak-256 is in the path."

    def __init__(self, expected: str, actual: str, size_bytes: int) -> None:
        super().__init__(f"the {size_bytes} bytes received hash to {actual}, expected {expected}")


class BlobTooLarge(BlobError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the bundle has more than {limit_bytes} bytes",
            next_step=f"Send {limit_bytes} bytes or fewer.",
        )


class StorageFull(BlobError):
    next_step = "Ask the operator of this backend for more room."

    def __init__(self, stored_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"you keep {stored_bytes} of {limit_bytes} bytes here; this is too much")
