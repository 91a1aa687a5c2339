"""Bundles: what goes to the provider and what comes back, as tar.gz without surprises.

Packing is deterministic (same files, same bytes), so that a repeated submit gives the same digest.
Unpacking trusts nothing: no absolute path, no "..", no link, no device, no size bomb; it writes
into a fresh directory beside the target and moves it there whole.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from tallystick.errors import InvalidRequest, VerificationFailed

MIB = 1024 * 1024
MAX_MEMBERS = 100_000
MAX_INPUT_MIB = 4096
TAR_OVERHEAD_BYTES = 64 * MIB
"""Headers and padding of the archive itself, beside the files."""

Inputs = Mapping[str, str | Path] | Iterable[str | Path]


def collect_files(script: Path | None, inputs: Inputs) -> dict[str, Path]:
    """Name in the task (below /task/in) -> file here. Directories are taken whole."""
    found: dict[str, Path] = {}
    if script is not None:
        _add(found, script.name, _existing_file(script))
    if isinstance(inputs, str | Path):
        inputs = (inputs,)
    named = inputs.items() if isinstance(inputs, Mapping) else ((Path(p).name, p) for p in inputs)
    for name, given in named:
        path = Path(given).expanduser()
        if path.is_dir():
            root = path.resolve()
            for file in sorted(path.rglob("*")):
                if file.is_file() and file.resolve().is_relative_to(root):
                    _add(found, f"{name or root.name}/{file.relative_to(path).as_posix()}", file)
        else:
            _add(found, name, _existing_file(path))
    return found


def pack(files: Mapping[str, Path | bytes]) -> bytes:
    """tar.gz of the files, sorted by name, without times, owners or modes of this machine."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            source = files[name]
            content = source if isinstance(source, bytes) else _read(source)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def unpack(bundle: bytes, to: Path, *, max_mib: int) -> tuple[str, ...]:
    """Writes the bundle's files below `to` (absent or empty) and returns their names, sorted."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidRequest(
            f"The directory {to} is there already and not empty.",
            next_step="Name another one with `to=` (--to), or move this one away.",
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        names = _extract(bundle, draft, max_mib * MIB)
        draft.chmod(0o755)
        if to.exists():
            to.rmdir()
        draft.rename(to)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return names


def unpack_files(bundle: bytes, *, max_mib: int) -> dict[str, bytes]:
    """The bundle's files in memory, under the same rules as `unpack`."""
    with tempfile.TemporaryDirectory(prefix="tallystick-") as place:
        to = Path(place) / "bundle"
        return {name: (to / name).read_bytes() for name in unpack(bundle, to, max_mib=max_mib)}


def _extract(bundle: bytes, root: Path, max_bytes: int) -> tuple[str, ...]:
    names: list[str] = []
    written = 0
    try:
        plain = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(bundle)), max_bytes + TAR_OVERHEAD_BYTES)
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    root.joinpath(*_safe_parts(member.name)).mkdir(parents=True, exist_ok=True)
                    continue
                if not member.isreg():
                    raise _unsafe(f"{member.name!r} is a link or a device, not a plain file")
                written += member.size
                if written > max_bytes:
                    raise _unsafe(f"it unpacks to more than {max_bytes // MIB} MiB")
                if len(names) >= MAX_MEMBERS:
                    raise _unsafe(f"it holds more than {MAX_MEMBERS} files")
                target = root.joinpath(*_safe_parts(member.name))
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(member)
                with target.open("xb") as file:
                    shutil.copyfileobj(source or io.BytesIO(), file, MIB)
                names.append(PurePosixPath(member.name).as_posix())
        while plain.read(MIB):
            pass  # to the end, where the checksum is
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise _unsafe(f"it is no readable tar.gz: {problem}") from problem
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as problem:
        raise _unsafe("it names the same file twice") from problem
    return tuple(sorted(names))


class _Bounded(io.RawIOBase):
    """A reader that stops a bomb before it is in memory, whatever the archive's headers claim."""

    def __init__(self, source: gzip.GzipFile, max_bytes: int) -> None:
        self._source = source
        self._left = max_bytes

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise _unsafe("it unpacks to more than the task was allowed to write")
        return content


def _safe_parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    parts = tuple(p for p in path.parts if p != ".")
    if path.is_absolute() or ".." in parts or not parts or "\0" in name or "\\" in name:
        raise _unsafe(f"the name {name!r} leads out of the directory")
    return parts


def _unsafe(what: str) -> VerificationFailed:
    return VerificationFailed(
        f"The result bundle was not unpacked: {what}.",
        next_step="Nothing was accepted or paid; report the provider and run the task elsewhere.",
    )


def _existing_file(path: Path) -> Path:
    path = path.expanduser()
    if path.is_file():
        return path
    what = "is a directory" if path.is_dir() else "does not exist"
    raise InvalidRequest(
        f"The file {str(path)!r} {what}.",
        next_step="Give the path of a script; whole directories go into `inputs=` (--input).",
        file=str(path),
    )


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    parts = PurePosixPath(name).parts
    if not name or PurePosixPath(name).is_absolute() or ".." in parts:
        raise InvalidRequest(
            f"{name!r} cannot be the name of an input.",
            next_step="Names are relative paths below /task/in, such as 'data/train.csv'.",
        )
    if name in found and found[name].resolve() != path.resolve():
        raise InvalidRequest(
            f"Two inputs would both be /task/in/{name}: {found[name]} and {path}.",
            next_step="Give one of them another name: inputs={'other-name': path}.",
        )
    found[name] = path
    if len(found) > MAX_MEMBERS:
        raise InvalidRequest(
            f"There are more than {MAX_MEMBERS} input files.",
            next_step="Pack them into one archive and unpack it in the task.",
        )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_INPUT_MIB * MIB:
            raise InvalidRequest(
                f"{path} has {size // MIB} MiB; a bundle carries up to {MAX_INPUT_MIB} MiB.",
                next_step="Split the data, or build it into the image.",
            )
        return path.read_bytes()
    except OSError as problem:
        raise InvalidRequest(
            f"The input {path} cannot be read: {problem.strerror}.",
            next_step="Check its permissions.",
        ) from problem
