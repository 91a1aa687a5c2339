"""Inputs in, results out: the two places where a stranger's bytes meet this disk.

Inputs are fetched by digest and unpacked without trust: no links, no path out of the directory, no
more bytes than ordered. Results are read the same way, because the program that wrote them is a
stranger too: links are not followed, pipes not opened.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import httpx

from tallystick.protocol.errors import SealError
from tallystick.protocol.hashing import StreamDigest
from tallystick.protocol.sealing import SealingKey, decrypt_bundle, open_input_key
from tallystick.protocol.types import Digest, TaskId
from tallystick_provider.errors import BundleError

MIB = 1024 * 1024
CHUNK = 64 * 1024
MAX_FILES = 100_000
HEADER_BYTES = MIB
"""Longest thing a tar reader may ask for at once; a header that claims more is an attack."""


MAX_DEPTH = 64
"""Directories inside each other in a result: as many are open at once while one looks."""
MAX_PATH_BYTES = 3_000
"""Below what the kernel takes (4,096) by more than the place where a task's directory lies."""


@dataclass(frozen=True, slots=True)
class OutputSize:
    size_bytes: int
    files: int
    hidden: bool = False
    """Something in it lies too deep to be looked at, or is closed."""

    def over(self, limit_mib: int) -> bool:
        return self.hidden or self.size_bytes > limit_mib * MIB or self.files > MAX_FILES

    def why_over(self, limit_mib: int) -> str:
        if self.hidden:
            return (
                f"the output holds what cannot be looked at: more than {MAX_DEPTH} directories "
                f"deep, a path of more than {MAX_PATH_BYTES} bytes, or a closed directory; write "
                "flatter, or an archive"
            )
        return (
            f"the output grew over the ordered {limit_mib} MiB ({self.size_bytes} bytes in "
            f"{self.files} files); order more max_output_mib or write less to /task/out"
        )


async def fetch(http: httpx.AsyncClient, url: str, digest: Digest, limit_bytes: int) -> bytes:
    """The sealed bundle, whole and with the ordered digest. Network trouble raises httpx errors."""
    seen = StreamDigest()
    pieces: list[bytes] = []
    async with http.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise httpx.HTTPStatusError(
                f"the input store answered {answer.status_code}",
                request=answer.request,
                response=answer,
            )
        async for piece in answer.aiter_bytes(CHUNK):
            seen.update(piece)
            if seen.size_bytes > limit_bytes:
                raise BundleError(
                    f"the input bundle is larger than the ordered disk of {limit_bytes} bytes; "
                    "order more disk_mib or send less"
                )
            pieces.append(piece)
    if seen.digest() != digest:
        raise BundleError(
            f"the input bundle has the digest {seen.digest()}, the order says {digest}"
        )
    return b"".join(pieces)


def open_input(
    sealed: bytes, key: SealingKey, task_id: TaskId, fence: int, sealed_key: str | None
) -> bytes:
    """Decrypts with the content key that was sealed to this provider for this task and fence."""
    if sealed_key is None:
        raise BundleError("the offer carries no key for the input; the consumer must seal one")
    try:
        content_key = open_input_key(key, task_id, fence, bytes.fromhex(sealed_key[2:]))
        return decrypt_bundle(content_key, sealed)
    except SealError as error:
        raise BundleError(f"the input cannot be opened: {error}") from None


def extract(bundle: bytes, into: Path, limit_bytes: int) -> None:
    """Unpacks a tar.gz. `into` must be empty; whatever is refused leaves no file outside of it."""
    into.mkdir(parents=True, exist_ok=True)
    flat = into.parent / f"{into.name}.tar"
    try:
        _inflate(bundle, flat, limit_bytes + MIB)
        with flat.open("rb") as file:
            _extract_tar(file, into, limit_bytes)
    finally:
        flat.unlink(missing_ok=True)


def _inflate(bundle: bytes, flat: Path, limit_bytes: int) -> None:
    """To disk first: its size is then known before a header is believed."""
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(bundle)) as packed, flat.open("wb") as file:
            while piece := packed.read(CHUNK):
                size += len(piece)
                if size > limit_bytes:
                    raise BundleError(
                        f"the input unpacks to more than {limit_bytes} bytes; order more disk_mib"
                    )
                file.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BundleError(f"the input bundle is no tar.gz: {error}") from None


class _Headers:
    """A file for `tarfile` that refuses reads longer than any honest header or copy step."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise BundleError(f"the input bundle has a header of {size} bytes; repack it")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _extract_tar(file: BinaryIO, into: Path, limit_bytes: int) -> None:
    left, count = limit_bytes, 0
    reader: Any = _Headers(file)
    try:
        with tarfile.open(fileobj=reader, mode="r:") as archive:
            for member in archive:
                count += 1
                if count > MAX_FILES:
                    raise BundleError(f"the input bundle has more than {MAX_FILES} entries")
                path = into.joinpath(*_safe_parts(member))
                if member.isdir():
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise BundleError(f"the input's files exceed {limit_bytes} bytes")
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _write_file(archive, member, path)
    except tarfile.TarError as error:
        raise BundleError(f"the input bundle is no tar archive: {error}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BundleError(f"the input bundle names {error.filename} twice; repack it") from None
    except (UnicodeError, ValueError, OverflowError) as error:
        raise BundleError(f"the input bundle is damaged: {error}") from None
    except OSError as error:
        raise BundleError(f"the input bundle cannot be laid out: {error.strerror}") from None


def _safe_parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    name = member.name
    if not (member.isreg() or member.isdir()) or member.sparse is not None:
        raise BundleError(f"the input bundle's {name!r} is neither a plain file nor a directory")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise BundleError(f"the input bundle's {name!r} leads out of the task's directory")
    if not parts and not member.isdir():
        raise BundleError("the input bundle has a file without a name")
    return parts


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    content = archive.extractfile(member)
    if content is None:
        raise BundleError(f"the input bundle's {member.name!r} cannot be read")
    with content, os.fdopen(os.open(path, flags, mode), "wb") as target:
        while piece := content.read(CHUNK):
            target.write(piece)


def output_size(output: Path) -> OutputSize:
    """What the task has written so far; files that vanish meanwhile do not count."""
    size, files = 0, 0
    with closing(_entries(output)) as entries:
        for _path, status in entries:
            if status is None:
                return OutputSize(size, files, hidden=True)
            files += 1
            if stat.S_ISREG(status.st_mode):
                # A hole costs no disk but would be packed as zeros: the larger figure counts.
                size += max(status.st_size, status.st_blocks * 512)
            if files > MAX_FILES:
                break
    return OutputSize(size, files)


def _entries(root: Path) -> Generator[tuple[str, os.stat_result | None], None, None]:
    """Paths in `root`, never through a link, although the program may put one in a directory's
    place meanwhile: every directory is opened in the one above it. No status for what cannot be
    looked at."""
    inside: list[tuple[int, str, Any]] = []

    def enter(name: str, above: int | None, prefix: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.open(name, flags, dir_fd=above)
        try:
            inside.append((here, prefix, os.scandir(here)))
        except BaseException:
            os.close(here)
            raise

    try:
        with suppress(FileNotFoundError):
            enter(str(root), None, "")
        while inside:
            here, prefix, names = inside[-1]
            entry = next(names, None)
            if entry is None:
                inside.pop()
                names.close()
                os.close(here)
                continue
            path = prefix + entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if len(os.fsencode(path)) > MAX_PATH_BYTES:
                yield path, None
                continue
            yield path, status
            if not stat.S_ISDIR(status.st_mode):
                continue
            if len(inside) == MAX_DEPTH:
                yield path, None
                continue
            try:
                enter(entry.name, here, path + "/")
            except PermissionError:
                yield path, None
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
    finally:
        for here, _, names in inside:
            names.close()
            os.close(here)


def pack_result(output: Path, facts: dict[str, Any], limit_bytes: int) -> bytes:
    """`out/...` and `tallystick.json` as tar.gz. The same files give the same bytes."""
    size = output_size(output)
    if size.over(limit_bytes // MIB):
        raise BundleError(size.why_over(limit_bytes // MIB))
    target = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=target, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, "tallystick.json", json.dumps(facts, sort_keys=True).encode())
        for path in sorted(path for path, _ in _entries(output)):
            _add_file(archive, f"{output}/{path}", f"out/{path}", limit_bytes)
    return target.getvalue()


def _add_file(archive: tarfile.TarFile, path: str, name: str, limit_bytes: int) -> None:
    try:
        # Neither follow a link nor wait at a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit_bytes:
        os.close(descriptor)
        return
    with os.fdopen(descriptor, "rb") as file:
        entry = _entry(name, status.st_size)
        entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
        archive.addfile(entry, file)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_entry(name, len(content)), io.BytesIO(content))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def keep(path: Path, content: bytes) -> None:
    """On disk for sure, whole or not at all: a receipt may be signed over it next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
